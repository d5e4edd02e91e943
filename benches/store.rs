//! What a store costs as it grows: starts, verification, pins by the million. Beside sha256sum where
//! there is something to compare with. `cargo bench --bench store [PART]`, of which the parts are
//! start, verify and pins.

#[path = "../tests/e2e/many_pins.rs"]
mod many_pins;

use many_pins::{append, digests};
use opam_keep::clock::Clock;
use opam_keep::opam::Checksum;
use opam_keep::store::Store;
use opam_keep::store::layout::Layout;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use world::{Keep, Kind, Mirror, Package, Repo, World, raw, resident, run};

fn main() -> ExitCode {
    let only = std::env::args().nth(1).filter(|part| !part.starts_with('-'));
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if is_wanted("start") || is_wanted("verify") {
        let filled = Filled::new();
        if is_wanted("start") {
            filled.start();
        }
        if is_wanted("verify") {
            filled.verify();
        }
    }
    if is_wanted("pins") {
        pins();
    }
    ExitCode::SUCCESS
}

/// A store with 20,000 versions and, their metadata included, 30,000 blobs.
struct Filled {
    keep: Keep,
    port: u16,
    path: String,
    _world: World,
}

impl Filled {
    fn new() -> Self {
        let world = World::start();
        let packages: Vec<Package> = (0..VERSIONS).map(package).collect();
        let path = packages[0].cache_path(Kind::Sha256);
        world.publish(&Repo::new(packages));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = port.expect("this machine has a free port").port();
        let mirror = Mirror::of(&world)
            .set("server.listen", vec![format!("127.0.0.1:{port}")])
            .set("upstream.per_host", 16);
        let keep = Keep::stopped(env!("CARGO_BIN_EXE_opam-keep")).without_access_log();
        keep.configure(&mirror.text(&keep.store()));
        let mut sync = keep.command(&["sync", "--all", "--quiet"]);
        run(&mut sync, Duration::from_secs(900)).ok();
        let blobs = count(&keep.store().join("blobs"));
        println!("a store with {VERSIONS} versions and {blobs} blobs:");
        Self { keep, port, path, _world: world }
    }

    fn start(&self) {
        let (mut times, mut sizes) = (Vec::new(), Vec::new());
        // The first start makes the certificate.
        for round in 0..=ROUNDS {
            let begun = Instant::now();
            let mut serve = self.keep.command(&["serve"]);
            let serve = serve.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = serve.spawn().expect("the binary can be run");
            let address = ([127, 0, 0, 1], self.port).into();
            // The first start listens before it has a certificate.
            while !(is_listening(address) && self.keep.ca().exists()) {
                std::thread::sleep(Duration::from_micros(500));
            }
            let client = raw::Client::new(address, &self.keep.ca());
            let answer = client.get(&self.path).expect("it answers");
            assert_eq!(answer.status, 200);
            answer.body().expect("a whole body");
            if round > 0 {
                times.push(begun.elapsed());
                sizes.push(resident(child.id().try_into().expect("a pid fits")));
            }
            child.kill().and_then(|()| child.wait()).expect("a child can be killed");
        }
        times.sort_unstable();
        sizes.sort_unstable();
        println!(
            "  start to first hit {:.0} ms (median of {ROUNDS}; {:.0} to {:.0}), then {:.0} MB resident",
            times[ROUNDS / 2].as_secs_f64() * 1e3,
            times[0].as_secs_f64() * 1e3,
            times[ROUNDS - 1].as_secs_f64() * 1e3,
            sizes[ROUNDS / 2] as f64 / 1e6
        );
    }

    fn verify(&self) {
        let blobs = self.keep.store().join("blobs");
        let sums = "find . -type f -print0 | xargs -0 -P2 -n64 sha256sum > /dev/null";
        let theirs =
            best(|| run(Command::new("sh").args(["-c", sums]).current_dir(&blobs), LONG).ok());
        let ours = best(|| run(&mut self.keep.command(&["verify", "--quiet"]), LONG).ok());
        println!(
            "  verify {:.2} s; sha256sum over the same blobs, xargs -P2: {:.2} s; {:.2} of it",
            ours.as_secs_f64(),
            theirs.as_secs_f64(),
            ours.as_secs_f64() / theirs.as_secs_f64()
        );
    }
}

/// Whether someone listens there; a port that is nobody's may be taken by the very connection that
/// looks for it.
fn is_listening(address: SocketAddr) -> bool {
    let local = TcpStream::connect(address).and_then(|stream| stream.local_addr());
    local.is_ok_and(|local| local != address)
}

/// Appends and lookups in ledgers of very different sizes, and what a start makes of the largest.
fn pins() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let layout = Layout::new(directory.path());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let open = || {
        let begun = Instant::now();
        let store = runtime.block_on(Store::open(layout.clone(), 0, &Clock::system()));
        (store.expect("a store can be opened"), begun.elapsed())
    };
    let (mut store, _) = open();
    println!("{:<12}{:>20}{:>16}", "pins", "appended by second", "lookup, µs");
    let mut pinned = 0;
    for size in [10_000, 100_000, 1_000_000] {
        runtime.block_on(append(&store, pinned..size));
        // What is kept in memory follows from the size at the start.
        drop(store);
        store = open().0;
        let begun = Instant::now();
        runtime.block_on(append(&store, size..size + MEASURED));
        let appended = MEASURED as f64 / begun.elapsed().as_secs_f64();
        pinned = size + MEASURED;
        let begun = Instant::now();
        for number in 0..LOOKUPS {
            // All over the ledger.
            let checksum = Checksum::Sha256(digests(number * 7_919 % pinned).sha256);
            let kept = store.lookup(|catalog| catalog.kept(&checksum)).expect("it can be read");
            assert!(kept.is_some(), "it is pinned");
        }
        let lookup = begun.elapsed().as_secs_f64() / LOOKUPS as f64;
        println!("{size:<12}{appended:>20.0}{:>16.1}", lookup * 1e6);
    }
    drop(store);
    let (store, started) = open();
    drop(store);
    std::fs::remove_dir_all(layout.catalog()).expect("it can be removed");
    let (store, rebuilt) = open();
    assert_eq!(store.lookup(|catalog| catalog.pins()).expect("it can be read"), pinned as u64);
    println!(
        "with {pinned} pins: opened in {:.2} s, its catalog rebuilt in {:.1} s",
        started.as_secs_f64(),
        rebuilt.as_secs_f64()
    );
}

/// Every other one with an archive.
fn package(number: usize) -> Package {
    let name = format!("package-{number}");
    if number % 2 == 1 {
        return Package::bare(&name, "1.0").synopsis(&name);
    }
    // Most archives are small, and most bytes are in large ones.
    let size = if number.is_multiple_of(400) { 5_000_000 } else { 20_000 };
    let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
    Package::new(&name, "1.0").bytes(bytes, &[Kind::Sha256, Kind::Sha512])
}

fn best<T>(work: impl Fn() -> T) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    times.min().expect("there are rounds")
}

fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|it| if it.path().is_dir() { count(&it.path()) } else { 1 }).sum()
}

const VERSIONS: usize = 20_000;
const ROUNDS: usize = 5;
const LONG: Duration = Duration::from_secs(300);
const MEASURED: usize = 10_000;
const LOOKUPS: usize = 50_000;
