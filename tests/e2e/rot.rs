//! Disks that forget: what rots is found, never served, and had again where someone still has it.

use crate::{BINARY, start};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World, run, within};

#[test]
fn a_rotten_blob_is_never_served_and_is_repaired_from_where_it_came() {
    let (world, mut keep) = filled();
    let blob = keep.blob(hello().archive_bytes());
    let path = hello().cache_path(Kind::Sha256);
    // What is in memory is sound.
    keep.stop();
    flip(&blob, 40);
    keep.restart();
    keep.index();
    assert_eq!(keep.curl().get(&path).status, 404, "it is damaged");
    let verified = keep.run(&["verify"]);
    assert!(verified.code == 1 && verified.stdout.contains("its bytes hash to"), "{verified:?}");
    let health = keep.run(&["health", "--ready"]);
    assert_eq!(health.code, 1, "{}", health.said());
    for told in [verified.stdout, keep.run(&["status"]).ok(), health.stdout] {
        assert!(told.contains("opam-keep repair"), "it leads to no repair: {told}");
    }
    let repaired = keep.run(&["repair"]);
    assert_eq!(repaired.code, 0, "{}", repaired.said());
    assert!(keep.run(&["health", "--ready"]).ok().contains("store: ok"));
    assert!(repaired.stdout.contains("repaired  hello.1.0"), "{}", repaired.stdout);
    assert!(repaired.stdout.contains(&format!("from {}", hello().url())), "{}", repaired.stdout);
    let answer = keep.curl().get(&path);
    assert!(answer.is_whole() && answer.body == hello().archive_bytes());
    keep.run(&["verify"]).ok();
    let again = keep.run(&["repair"]).ok();
    assert!(again.contains("nothing to repair"), "{again}");
    assert_eq!(keep.ledger().of_kind("pin").count(), 1);
    drop(world);
}

#[test]
fn g6_repair_asks_nobody_beside_a_server_that_asks_nobody() {
    let (world, mut keep) = filled();
    keep.stop();
    let offline = Mirror::of(&world).set("upstream.offline", true);
    keep.configure(&offline.text(&keep.store()));
    keep.restart();
    fs::remove_file(keep.blob(hello().archive_bytes())).expect("it can be removed");
    world.forget_requests();
    // By what it is told itself it might ask.
    let mut repair = keep.command(&["repair"]);
    let repair = run(repair.env("OPAM_KEEP_UPSTREAM__OFFLINE", "false"), LONG);
    assert!(repair.code == 1 && repair.stdout.contains("offline"), "{}", repair.said());
    assert_eq!(world.requests(), []);
}

#[test]
fn g6_repair_asks_nobody_beside_a_server_that_can_not_be_asked() {
    let (world, mut keep) = filled();
    fs::remove_file(keep.blob(hello().archive_bytes())).expect("it can be removed");
    world.forget_requests();
    let pid = keep.pid().to_string();
    let signal = |name: &str| run(Command::new("kill").args([name, &pid]), LONG).ok();
    signal("-STOP");
    let (repair, client) = (keep.run(&["repair"]), keep.run(&["client"]));
    signal("-CONT");
    assert!(repair.code == 1 && repair.stderr.contains("did not answer"), "{}", repair.said());
    assert_eq!(world.requests(), []);
    assert_eq!(client.code, 0, "{}", client.said());
}

#[test]
fn only_the_pinned_bytes_repair_a_blob() {
    let (world, mut keep) = filled();
    let blob = keep.blob(hello().archive_bytes());
    fs::remove_file(&blob).expect("it can be removed");
    for lie in [Lie::FlippedByte, Lie::Html, Lie::CutShort, Lie::Status(404), Lie::Endless] {
        world.lie(hello().url(), lie.clone());
        let run = keep.run(&["repair"]);
        assert_eq!(run.code, 1, "{lie:?}: {}", run.said());
        assert!(run.stdout.contains("lost      hello.1.0"), "{lie:?}: {}", run.stdout);
        assert!(!blob.exists(), "{lie:?}");
    }
    world.be_honest(hello().url());
    keep.stop();
    let run = keep.run(&["repair", "--json"]);
    assert_eq!(run.code, 0, "also while no server runs: {}", run.said());
    assert_eq!(fs::read(&blob).expect("it is back"), hello().archive_bytes());
    keep.run(&["verify"]).ok();
}

#[test]
fn another_mirror_or_a_backup_repairs_what_upstream_has_no_more() {
    let (world, mut keep) = filled();
    let mut other = start(&Mirror::of(&world));
    other.index();
    assert!(other.curl().get(&hello().cache_path(Kind::Sha256)).is_whole());
    let backup = keep.path("backup");
    copy(&keep.store().join("blobs"), &backup);
    world.take_down(hello().url());
    world.kill();

    let blob = keep.blob(hello().archive_bytes());
    fs::remove_file(&blob).expect("it can be removed");
    let run = keep.run(&["repair"]);
    assert_eq!(run.code, 1, "{}", run.said());
    // The other mirror is on a loopback address, which has to be allowed.
    let cache = format!("{}/cache", other.url());
    let mirror = Mirror::of(&world)
        .set("upstream.extra_ca", other.ca().display().to_string())
        .set("upstream.allow_addresses", vec!["127.0.0.0/8", "::1/128"]);
    keep.stop();
    keep.configure(&mirror.text(&keep.store()));
    let run = keep.run(&["repair", "--from", &cache]);
    assert_eq!(run.code, 0, "{}", run.said());
    assert!(run.stdout.contains(&cache), "{}", run.stdout);

    // All of it, metadata too: only a backup has that.
    for blob in blobs(&keep.store()) {
        flip(&blob, 0);
    }
    let run = keep.run(&["repair", "--from", &backup.display().to_string()]);
    assert_eq!(run.code, 0, "{}", run.said());
    assert!(run.stdout.contains("metadata or evidence"), "{}", run.stdout);
    keep.run(&["verify"]).ok();
    keep.restart();
    assert_eq!(keep.index().packages(), ["hello.1.0"]);

    let run = keep.run(&["repair", "--from", &keep.path("").display().to_string()]);
    assert!(run.code == 2 && run.stderr.contains("sha256"), "{}", run.said());
}

#[test]
fn a_rotten_ledger_is_not_served_and_not_started_from() {
    let (_world, mut keep) = filled();
    let ledger = keep.store().join("ledger");
    let size = keep.ledger().len();
    let bundle = format!("tile/entries/000.p/{size}");
    let tile = format!("tile/0/000.p/{size}");
    for (path, at) in [(bundle.as_str(), 30), (tile.as_str(), 3), ("checkpoint", 40)] {
        let file = ledger.join(path);
        let sound = fs::read(&file).expect("it is there");
        flip(&file, at);
        let served = keep.curl().get(&format!("/ledger/{path}"));
        // The server knows the head that it wrote.
        let is_known = path == "checkpoint" && served.body == sound;
        assert!(is_known || served.status == 500, "{path}: {}", served.status);
        let verified = keep.run(&["verify"]);
        assert_eq!(verified.code, 1, "{path}: {}", verified.said());
        assert!(verified.stdout.contains("ledger/"), "{path}: {}", verified.stdout);
        let repaired = keep.run(&["repair"]);
        assert_eq!(repaired.code, 1, "only a backup has the ledger: {}", repaired.said());
        keep.kill();
        let refused = keep.run(&["serve"]);
        assert_eq!(refused.code, 2, "{path}: {}", refused.said());
        assert!(refused.stderr.contains("opam-keep verify"), "{path}: {}", refused.stderr);
        fs::write(&file, sound).expect("a backup can be put back");
        keep.restart();
        assert!(keep.curl().get(&format!("/ledger/{path}")).is_whole(), "{path}");
    }
}

#[test]
fn g8_a_catalog_that_rots_is_rebuilt_and_nothing_observable_differs() {
    let (_world, mut keep) = filled();
    let entries = keep.ledger().len();
    for round in 0..6 {
        keep.stop();
        let mut flipped = 0;
        for file in files(&keep.store().join("catalog")) {
            let length = fs::metadata(&file).expect("it is there").len() as usize;
            // Here and there in each file, in another place each time.
            for at in (round * 7..length).step_by((length / 40).clamp(1, 997)) {
                flip(&file, at);
                flipped += 1;
            }
        }
        assert!(flipped > 10, "the catalog is in files");
        keep.restart();
        let path = hello().cache_path(Kind::Sha512);
        let answer = within(Duration::from_secs(20), "an answer", || {
            let answer = keep.curl().get(&path);
            answer.is_whole().then_some(answer)
        });
        assert_eq!(answer.body, hello().archive_bytes(), "round {round}");
        assert_eq!(keep.index().packages(), ["hello.1.0"], "round {round}");
        assert_eq!(keep.ledger().len(), entries, "round {round}");
        keep.run(&["verify"]).ok();
    }
}

/// A mirror that pinned one archive.
fn filled() -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mut keep = Keep::start(BINARY, &Mirror::of(&world).set("upstream.retry_after", "1s"));
    keep.index();
    assert!(keep.curl().get(&hello().cache_path(Kind::Sha256)).is_whole());
    (world, keep)
}

fn hello() -> Package {
    Package::new("hello", "1.0")
}

/// Makes one bit of a file another one, as a disk would.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("it is there");
    let Some(byte) = bytes.get_mut(at) else { return };
    *byte ^= 1;
    fs::set_permissions(file, Permissions::from_mode(0o644))
        .and_then(|()| fs::write(file, bytes))
        .expect("a file can be written");
}

fn blobs(store: &Path) -> Vec<PathBuf> {
    files(&store.join("blobs"))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("it is below"));
        fs::create_dir_all(target.parent().expect("a file has a directory"))
            .and_then(|()| fs::copy(&file, target))
            .expect("a file can be copied");
    }
}

const LONG: Duration = Duration::from_secs(30);
