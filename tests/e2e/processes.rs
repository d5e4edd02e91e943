//! Two processes and one store: whoever comes second is told who has it, and nothing is lost,
//! however the first one ends.

use crate::{BINARY, start};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, Run, World, within};

#[test]
fn g2_a_server_beside_a_command_that_owns_the_store_is_refused_and_loses_nothing() {
    let packages: Vec<Package> = (0..4).map(package).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    for package in &packages {
        world.lie(package.url(), Lie::Slow(SIZE as u64 / 8));
    }
    let mut keep = Keep::stopped(BINARY);
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    let mut sync = keep.command(&["sync", "--all"]);
    let mut sync = sync.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    within(PATIENCE, "a fetch", || (world.count(packages[0].url()) > 0).then_some(()));
    let holder = format!("in use by process {} (opam-keep", sync.id());
    for command in [&["serve"][..], &["sync", "--all"], &["recheck", "--all"]] {
        refused(&keep.run(command), &holder);
    }
    let ended = within(PATIENCE, "the end", || sync.try_wait().expect("it can be waited for"));
    assert!(ended.success(), "{ended}");
    keep.restart();
    world.kill();
    keep.index();
    for package in &packages {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    assert_eq!(keep.ledger().of_kind("pin").count(), packages.len());
    keep.run(&["verify"]).ok();
}

#[test]
fn g3_what_a_killed_server_left_keeps_nobody_out() {
    let packages: Vec<Package> = (0..2).map(package).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&packages[0].cache_path(Kind::Sha256)).is_whole());
    keep.kill();
    assert!(keep.store().join("admin.sock").exists() && keep.store().join("lock").exists());
    // A command has the store to itself, and the next server what the command did.
    keep.run(&["sync", "--all"]).ok();
    keep.run(&["verify"]).ok();
    keep.restart();
    world.kill();
    keep.index();
    assert!(keep.curl().get(&packages[1].cache_path(Kind::Sha256)).is_whole());
    assert_eq!(keep.ledger().of_kind("pin").count(), 2);
}

#[test]
fn g2_a_server_that_stands_still_has_its_store_to_itself() {
    let world = World::start();
    world.publish(&Repo::new([package(0)]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let (pid, entries) = (keep.pid(), keep.ledger().len());
    let signal = |signal| {
        kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("it runs");
    };
    signal(Signal::STOP);
    let second = Keep::stopped(BINARY);
    second.configure(&Mirror::of(&world).text(&keep.store()));
    refused(&second.run(&["serve"]), &format!("in use by process {pid} (opam-keep"));
    for command in [&["health"][..], &["status"], &["alerts"]] {
        let run = keep.run(command);
        assert!(run.code == 1 && run.stderr.contains("did not answer"), "{}", run.said());
    }
    signal(Signal::CONT);
    keep.run(&["health"]).ok();
    assert!(keep.curl().get(&package(0).cache_path(Kind::Sha256)).is_whole());
    assert_eq!(keep.ledger().len(), entries + 1);
    keep.run(&["verify"]).ok();
}

/// One sentence that says who has the store, and exit code 2: it can't work as called.
fn refused(run: &Run, holder: &str) {
    assert_eq!(run.code, 2, "{}", run.said());
    assert!(run.stderr.contains(holder) && run.stderr.contains("store.path"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

fn package(number: usize) -> Package {
    let bytes = vec![u8::try_from(number).expect("few packages"); SIZE];
    Package::new(&format!("package-{number}"), "1.0").bytes(bytes, &[Kind::Sha256])
}

const PATIENCE: Duration = Duration::from_secs(90);
const SIZE: usize = 100_000;
