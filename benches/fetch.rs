//! What a first fetch costs, and filling a whole mirror, from an upstream that is 30 ms away: beside
//! curl straight from there, and beside `opam admin cache`. `cargo bench --bench fetch [PART]`, of
//! which the parts are miss and sync.

use flate2::read::GzDecoder;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use world::{
    Distance, Keep, Kind, Mirror, Package, Recorded, Repo, UNBOUNDED, World, installed, run, tar_gz,
};

fn main() -> ExitCode {
    if !installed("curl") {
        println!("skipped: benches/fetch: no curl here");
        return ExitCode::SUCCESS;
    }
    let only = std::env::args().nth(1).filter(|part| !part.starts_with('-'));
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if is_wanted("miss") {
        miss("a line of 1 Gbit/s", 1e9 / 8.0);
        miss("a line without bound", UNBOUNDED);
    }
    if !is_wanted("sync") {
        return ExitCode::SUCCESS;
    }
    match (Recorded::find(), installed("opam")) {
        (Some(recorded), true) => sync(&recorded),
        (None, _) => println!("skipped: benches/fetch: no recorded world here"),
        (_, false) => println!("skipped: benches/fetch: no opam here"),
    }
    ExitCode::SUCCESS
}

/// Archives that nobody asked for before, each by a mirror that was just started and by curl, over a
/// line that carries so many bytes a second.
fn miss(line: &str, rate: f64) {
    let world = World::start();
    let packages: Vec<Package> = (0..ROUNDS).map(archive).collect();
    // curl asks no cache first, so neither does the mirror.
    world.publish(&Repo::new(packages.clone()).with_repo_file("opam-version: \"2.0\"\n"));
    let far = Distance::to(world.address(), ROUND_TRIP, rate);
    let mut mirror = Mirror::of(&world);
    for host in world.hosts() {
        mirror = mirror.resolve(&host, far.address());
    }
    let mut keep = Keep::start(env!("CARGO_BIN_EXE_opam-keep"), &mirror);
    keep.index();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for package in &packages {
        theirs.push(curl(&world.ca(), package.url(), Some(far.address())));
        keep.stop();
        keep.restart();
        keep.index();
        // It looks at its upstream at every start.
        std::thread::sleep(QUIET);
        let url = format!("{}{}", keep.url(), package.cache_path(Kind::Sha256));
        ours.push(curl(&keep.ca(), &url, None));
    }
    let (theirs, ours) = (median(theirs), median(ours));
    println!(
        "cold miss of 5 MB, upstream 30 ms away by {line}, to the last byte, median of {ROUNDS}:"
    );
    println!("  curl straight from there {:.1} ms", theirs * 1e3);
    println!("  through opam-keep        {:.1} ms, {:.2} of it", ours * 1e3, ours / theirs);
}

/// Every archive of the recorded world, by both.
fn sync(recorded: &Recorded) {
    let world = World::start();
    let files = packages(recorded);
    let snapshot = recorded.snapshots().last().expect("the recorded world has snapshots");
    recorded.publish(&world, snapshot);
    // Whatever was not recorded is not there, for both.
    for host in hosts(&files) {
        world.put(&format!("https://{host}/"), "");
    }
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let index = tar_gz(files);
    world.put(&format!("{}/index.tar.gz", World::OPAM), index.clone());
    let far = Distance::to(world.address(), ROUND_TRIP, UNBOUNDED);

    let directory = tempfile::tempdir().expect("a directory can be made");
    tar::Archive::new(GzDecoder::new(index.as_slice()))
        .unpack(directory.path())
        .expect("an index unpacks");
    let curl = format!("cacert = {:?}\nconnect-to = \"::{}\"\n", world.ca(), far.address());
    std::fs::write(directory.path().join(".curlrc"), curl).expect("a file can be written");
    let mut opam = Command::new("opam");
    opam.args(["admin", "cache", "--no-repo-update"]).current_dir(directory.path());
    opam.env("OPAMROOT", directory.path().join("root")).env("OPAMROOTISOK", "1");
    opam.env("CURL_HOME", directory.path());
    let begun = Instant::now();
    let said = run(&mut opam, PATIENCE).said();
    let theirs = begun.elapsed().as_secs_f64();
    let cached = count(&directory.path().join("cache"));
    assert!(cached > 0, "opam admin cache got nothing: {said}");

    let mut mirror = Mirror::of(&world);
    for host in world.hosts() {
        mirror = mirror.resolve(&host, far.address());
    }
    let keep = Keep::stopped(env!("CARGO_BIN_EXE_opam-keep"));
    keep.configure(&mirror.text(&keep.store()));
    let begun = Instant::now();
    let synced = keep.run(&["sync", "--all"]);
    let ours = begun.elapsed().as_secs_f64();
    let summary = synced.stdout.lines().last().unwrap_or_default().to_owned();
    println!("sync of the recorded world, upstream 30 ms away:");
    println!("  opam admin cache {theirs:.1} s, {cached} files");
    println!("  opam-keep sync   {ours:.1} s, {:.2} of it; {summary}", ours / theirs);
}

/// The files of all packages whose archives were recorded, and the `repo` file.
fn packages(recorded: &Recorded) -> BTreeMap<String, Vec<u8>> {
    let recorded_packages: BTreeSet<&str> = recorded.packages().collect();
    let snapshot = recorded.snapshots().last().expect("the recorded world has snapshots").index();
    let mut archive = tar::Archive::new(GzDecoder::new(snapshot.as_slice()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("a snapshot is a tar") {
        let mut entry = entry.expect("a snapshot's entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut parts = path.split('/');
        let package = parts.by_ref().nth(2).unwrap_or_default();
        if entry.header().entry_type().is_file()
            && (path == "repo" || recorded_packages.contains(package))
        {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("an entry can be read");
            files.insert(path, bytes);
        }
    }
    files
}

/// All hosts that something is declared to be at.
fn hosts(files: &BTreeMap<String, Vec<u8>>) -> BTreeSet<String> {
    let texts = files.values().map(|bytes| String::from_utf8_lossy(bytes));
    let hosts = texts.flat_map(|text| {
        let urls = text.split("://").skip(1).map(|rest| {
            let is_of_host = |it: &char| it.is_ascii_alphanumeric() || ".-".contains(*it);
            rest.chars().take_while(is_of_host).collect::<String>()
        });
        urls.collect::<Vec<_>>()
    });
    hosts.filter(|host| host.contains('.')).collect()
}

/// Seconds until the last byte, as curl tells them.
fn curl(ca: &Path, url: &str, connect_to: Option<SocketAddr>) -> f64 {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--output", "/dev/null", "--cacert"]).arg(ca);
    if let Some(address) = connect_to {
        curl.args(["--connect-to", &format!("::{address}")]);
    }
    curl.args(["--write-out", "%{time_total}", url]);
    run(&mut curl, PATIENCE).ok().parse().expect("curl tells the time")
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|it| if it.path().is_dir() { count(&it.path()) } else { 1 }).sum()
}

/// 5 MB that do not compress.
fn archive(number: usize) -> Package {
    let mut state = number as u32 + 1;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(5_000_000)
    .collect();
    Package::new(&format!("archive-{number}"), "1.0").bytes(noise, &[Kind::Sha256])
}

const ROUNDS: usize = 9;
const QUIET: Duration = Duration::from_millis(500);
const ROUND_TRIP: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(600);
