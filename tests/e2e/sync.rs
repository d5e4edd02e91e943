//! The store filled ahead of time, and a mirror that asks nobody any more.

use crate::{BINARY, skip, start};
use serde_json::Value;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use world::{
    Keep, Kind, Lie, Mirror, Opam, Package, Recorded, Repo, Trace, Version, World, installed, run,
    within,
};

#[test]
fn a_locked_project_gets_exactly_its_archives_and_a_second_run_asks_nobody() {
    let Some(recorded) = Recorded::find() else { skip!("no recorded world") };
    let world = World::start();
    recorded.publish(&world, &recorded.snapshots()[0]);
    let keep = stopped(&Mirror::of(&world));
    let depends = LOCKED.map(|(name, version)| format!("  \"{name}\" {{= \"{version}\"}}\n"));
    let lock = format!("opam-version: \"2.0\"\ndepends: [\n{}]\n", depends.concat());
    let file = keep.path("project.opam.locked");
    std::fs::write(&file, lock).expect("a file can be written");
    let file = file.display().to_string();

    let said = keep.run(&["sync", "--from", &file]).ok();
    let packages = LOCKED.iter().filter(|(_, version)| *version != "base");
    let packages: Vec<String> =
        packages.map(|(name, version)| format!("{name}.{version}")).collect();
    let mut expected: Vec<&str> = packages.iter().flat_map(|it| recorded.urls_of(it)).collect();
    expected.sort_unstable();
    expected.dedup();
    let archives = || {
        let asked = world.requests().into_iter().map(|request| request.url);
        let mut asked: Vec<String> = asked.filter(|url| !url.ends_with("/index.tar.gz")).collect();
        asked.sort_unstable();
        asked
    };
    let without_scheme = |url: &&str| url.split_once("://").map(|(_, rest)| rest.to_owned());
    let expected: Vec<String> = expected.iter().filter_map(without_scheme).collect();
    assert_eq!(archives(), expected, "{said}");
    assert!(said.contains("0 kept already") && said.contains("5 versions"), "{said}");
    assert_eq!(keep.ledger().of_kind("pin").count(), expected.len());

    world.forget_requests();
    let again = keep.run(&["sync", "--from", &file]).ok();
    assert_eq!(world.requests(), [], "{again}");
    assert!(again.contains(&format!("{} kept already, 0 fetched", expected.len())), "{again}");
}

#[test]
fn what_a_switch_export_names_installs_offline() {
    let (one, two) = (Package::new("one", "1.0"), Package::new("two", "1.0").depends("one"));
    let other = Package::new("one", "2.0");
    let world = World::start();
    world.publish(&Repo::new([one.clone(), two.clone()]));
    let mut first = start(&Mirror::of(&world));
    first.index();
    let Some(opam) = Opam::fresh(Version::System, first.ca()) else { skip!("no opam in PATH") };
    opam.init(&first.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "two"]).ok();
    let export = first.path("switch.export");
    std::fs::write(&export, opam.run(&["switch", "export", "-"]).ok()).expect("it can be written");

    world.publish(&Repo::new([one.clone(), other.clone(), two.clone()]));
    let mut second = start(&Mirror::of(&world));
    second.index();
    let synced = second
        .command(&["sync", "-"])
        .stdin(File::open(&export).expect("it was written"))
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&synced.stdout);
    assert!(synced.status.success() && said.contains("2 fetched"), "{said}");
    assert_eq!(world.count(other.url()), 0, "what is not installed is not fetched");
    second.stop();
    second.configure(&offline(&world).text(&second.store()));
    world.forget_requests();
    second.restart();
    let opam = Opam::fresh(Version::System, second.ca()).expect("it was there before");
    opam.init(&second.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["switch", "import", &export.display().to_string()]).ok();
    assert_eq!(world.requests(), []);
}

#[test]
fn a_first_snapshot_needs_no_more_open_files_than_a_shell_allows() {
    let world = World::start();
    let package = |number: usize| {
        let name = format!("package-{number}");
        Package::bare(&name, "1.0").synopsis(&name)
    };
    world.publish(&Repo::new((0..1_200).map(package)));
    let keep = stopped(&Mirror::of(&world));
    let sync = keep.command(&["sync", "--all", "--dry-run"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""]).arg(sync.get_program());
    shell.args(sync.get_args());
    let said = run(&mut shell, Duration::from_secs(60)).ok();
    assert!(said.contains("200 versions"), "{said}");
}

#[test]
fn a_plan_says_how_much_and_whose_hosts_and_fetches_nothing() {
    let here = Package::new("here", "1.0");
    let there = Package::bare("there", "1.0")
        .archive("https://there.example/there.tar.gz", &[Kind::Sha256])
        .extra_source("x", "https://extra.example/x", b"x", &[Kind::Sha256]);
    let world = World::start();
    world.publish(&Repo::new([here.clone(), there]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&here.cache_path(Kind::Sha256)).is_whole());
    world.forget_requests();
    let planned = keep.run(&["sync", "--all", "--dry-run"]).ok();
    assert_eq!(
        planned,
        "      1  extra.example\n      1  there.example\n\
         3 archives of 2 versions: 1 kept already, 2 to fetch\n"
    );
    let planned = keep.run(&["sync", "there", "--dry-run", "--json"]).ok();
    let planned: Value = serde_json::from_str(&planned).expect("JSON");
    assert_eq!((&planned["archives"], &planned["hosts"]["there.example"]), (&2.into(), &1.into()));
    assert_eq!(world.requests(), []);
    keep.run(&["sync", "th*"]).ok();
    assert_eq!(world.count("https://there.example/there.tar.gz"), 1);
    assert_eq!(world.count("https://extra.example/x"), 1);
    assert_eq!(world.count(here.url()), 0);
}

#[test]
fn a_cache_that_is_slow_has_a_turn_left_for_clients() {
    let package = |name: &str, number: &str| {
        let url = format!("https://host{number}.example/{name}.tgz");
        Package::new(name, number).archive(&url, &[Kind::Sha256])
    };
    let many: Vec<Package> = (0..6).map(|number| package("many", &number.to_string())).collect();
    let wanted = package("wanted", "9");
    let world = World::start();
    world.publish(&Repo::new(many.clone()).with(wanted.clone()));
    let cached = |package: &Package| format!("{}{}", World::OPAM, package.cache_path(Kind::Sha256));
    many.iter().for_each(|package| world.lie(&cached(package), Lie::NoHead));
    let mut keep = start(&Mirror::of(&world).set("upstream.per_host", 3));
    keep.index();
    let mut sync = keep.command(&["sync", "many"]);
    let mut sync = sync.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    let asked = || many.iter().map(|package| world.count(&cached(package))).sum::<usize>();
    within(PATIENCE, "two are asked for", || (asked() == 2).then_some(()));

    let begun = Instant::now();
    assert!(keep.curl().get(&wanted.cache_path(Kind::Sha256)).is_whole());
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    assert_eq!((asked(), world.count(&cached(&wanted))), (2, 1));

    // What a client comes to wait for is not behind what no client waits for.
    let queued =
        many.iter().find(|package| world.count(&cached(package)) == 0).expect("one is left");
    world.be_honest(&cached(queued));
    assert!(keep.curl().get(&queued.cache_path(Kind::Sha256)).is_whole());
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    sync.kill().expect("it can be killed");
    sync.wait().expect("it ends");
}

#[test]
fn what_can_not_be_had_is_named_with_its_reason_and_asked_for_again() {
    let packages = ["one", "two"].map(|name| Package::new(name, "1.0"));
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    world.lie(packages[0].url(), Lie::Status(404));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let failed = keep.run(&["sync", "one", "two.1.0", "three.*"]);
    assert_eq!(failed.code, 1, "{}", failed.said());
    for text in ["1 archive could not be had", "one.1.0", "404", "not in the repository: three.*"] {
        assert!(failed.stdout.contains(text), "{text} is not in {}", failed.stdout);
    }
    let lines = keep.run(&["sync", "one", "--json"]);
    let lines: Vec<Value> =
        lines.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines[0]["problem"].as_str().is_some_and(|why| why.starts_with("unavailable")));
    assert_eq!(lines[1]["missing"], 1);
    // A failure that was just remembered keeps nobody from asking again.
    world.be_honest(packages[0].url());
    keep.run(&["sync", "one"]).ok();
    assert!(keep.curl().get(&packages[0].cache_path(Kind::Sha256)).is_whole());
}

#[test]
fn g3_a_run_that_was_killed_goes_on_where_it_was() {
    let packages: Vec<Package> =
        (0..8).map(|number| Package::new("many", &number.to_string())).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    world.lie(packages[7].url(), Lie::StallMidBody);
    let keep = stopped(&Mirror::of(&world));
    let mut child = keep
        .command(&["sync", "--all"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let is_pinned = |package: &Package| keep.blob(package.archive_bytes()).exists();
    within(PATIENCE, "all but one", || packages[..7].iter().all(is_pinned).then_some(()));
    child.kill().expect("a child can be killed");
    child.wait().expect("a killed child ends");
    world.be_honest(packages[7].url());
    world.forget_requests();
    keep.run(&["sync", "--all"]).ok();
    // The last few may be on disk and not in the ledger yet.
    assert!(world.count(packages[7].url()) == 1 && world.requests().len() < 8);
    assert_eq!(keep.ledger().of_kind("pin").count(), 8);
    keep.run(&["verify"]).ok();
}

#[test]
fn what_names_no_package_is_one_sentence() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("one", "1.0")]));
    let keep = stopped(&Mirror::of(&world));
    std::fs::write(keep.path("one.opam"), "depends: [\"dune\" {>= \"3\"}]").expect("written");
    for (arguments, expected) in [
        (&["sync"][..], "say what"),
        (&["sync", "a/b"], "\"a/b\" is no package"),
        (&["sync", "one.opam", "--from", "nowhere"], "nowhere: No such file"),
        (&["sync", "--from", "one.opam"], "which version of dune"),
        (&["sync", "--all", "--repository", "other"], "these are: default"),
    ] {
        let run = keep.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?} {}", run.said());
        assert!(run.stderr.contains(expected) && run.stderr.lines().count() == 1, "{}", run.said());
    }
}

#[test]
fn g6_offline_opens_no_socket_outwards_and_says_so() {
    if !installed("strace") {
        skip!("no strace in PATH");
    }
    let (kept, missing) = (Package::new("kept", "1.0"), Package::new("missing", "1.0"));
    let world = World::start();
    world.publish(&Repo::new([kept.clone(), missing.clone()]));
    let filled = stopped(&Mirror::of(&world));
    filled.run(&["sync", "kept"]).ok();
    let trace = Trace::of(BINARY);
    // No fixed addresses: a name would have to be asked for.
    let mirror = Mirror::of(&world)
        .set("upstream.resolve", toml::Table::new())
        .set("upstream.offline", true)
        .set("recheck.every", "1s")
        .of_repository("refresh", "1s");
    let mut keep = Keep::stopped(&trace.program().display().to_string());
    std::fs::rename(filled.store(), keep.store()).expect("a store can be moved");
    keep.configure(&mirror.text(&keep.store()));
    keep.restart();
    assert!(keep.curl().get(&kept.cache_path(Kind::Sha256)).is_whole());
    let miss = keep.curl().get(&missing.cache_path(Kind::Sha256));
    assert_eq!(miss.status, 404);
    assert!(miss.header("x-opam-keep-reason").is_some_and(|why| why.starts_with("offline")));
    let refreshed = keep.refresh();
    assert!(refreshed.code == 1 && refreshed.stdout.contains("offline"), "{}", refreshed.said());
    let rechecked = keep.run(&["recheck", "--all"]);
    assert!(rechecked.code == 2 && rechecked.stderr.contains("offline"), "{}", rechecked.said());
    let synced = keep.run(&["sync", "--all"]);
    assert!(synced.code == 1 && synced.stdout.contains("offline;"), "{}", synced.said());
    assert!(keep.run(&["status"]).ok().contains("offline"));
    std::thread::sleep(Duration::from_secs(3));
    keep.stop();
    assert_eq!(trace.outwards(), [""; 0]);
    assert_eq!(trace.sockets().len(), 1, "only the listener: {:#?}", trace.sockets());
}

#[test]
fn offline_is_a_flag_too() {
    let world = World::start();
    let package = Package::new("one", "1.0");
    world.publish(&Repo::new([package.clone()]));
    let keep = stopped(&Mirror::of(&world));
    let run = keep.run(&["--offline", "sync", "--all"]);
    assert!(run.code == 1 && run.stderr.contains("upstream.offline is set"), "{}", run.said());
    assert_eq!(world.requests(), []);
    keep.run(&["sync", "--all"]).ok();
    let again = keep.run(&["--offline", "sync", "--all"]).ok();
    assert!(again.contains("1 kept already"), "{again}");
}

fn stopped(mirror: &Mirror) -> Keep {
    let keep = Keep::stopped(BINARY);
    keep.configure(&mirror.text(&keep.store()));
    keep
}

fn offline(world: &World) -> Mirror {
    Mirror::of(world).set("upstream.offline", true)
}

/// Less than a host that says nothing is waited for.
const SHORT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(30);
const LOCKED: [(&str, &str); 5] = [
    ("dune", "2.9.3"),
    ("ocamlfind", "1.9.6"),
    ("zarith", "1.12"),
    ("cppo", "1.6.9"),
    ("base-unix", "base"),
];
