//! Every client gets the same bytes: curl, wget and opam, whole, in parts and conditionally.

use crate::{skip, start};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use world::{Keep, Kind, Mirror, Opam, Package, Repo, Run, Version, World, installed, run};

#[test]
fn curl_and_wget_get_the_same_bytes_whole_in_part_and_conditionally() {
    if !installed("wget") {
        skip!("no wget in PATH");
    }
    let (_world, mut keep, package) = mirror();
    let index = keep.index_at("/index.tar.gz");
    let curl = keep.curl();
    let archive = package.cache_path(Kind::Sha512);
    for (path, bytes) in [(archive.as_str(), package.archive_bytes()), ("/index.tar.gz", &index)] {
        for version in ["--http1.1", "--http2"] {
            let answer = curl.with(&[version], path);
            assert!(answer.is_whole() && answer.body == bytes, "{version} {path}");
        }
        let (ran, file) = wget(&mut keep, path, &[]);
        assert_eq!(ran.code, 0, "{path}: {}", ran.said());
        assert!(std::fs::read(&file).expect("it is there") == bytes, "{path}");

        // A download that was cut goes on where it stopped.
        let half = bytes.len() / 2;
        std::fs::write(&file, &bytes[..half]).expect("a file can be written");
        let (ran, file) = wget(&mut keep, path, &["--continue"]);
        assert_eq!((ran.code, ran.stderr.contains("206 Partial Content")), (0, true), "{path}");
        assert!(std::fs::read(&file).expect("it is there") == bytes, "{path}");
        std::fs::write(&file, &bytes[..half]).expect("a file can be written");
        let output = file.display().to_string();
        let resumed = Command::new("curl")
            .args(["-q", "-sS", "-C", "-", "-o", &output, "--cacert"])
            .arg(keep.ca())
            .arg(format!("{}{path}", keep.url()))
            .status();
        assert!(resumed.expect("curl can be run").success(), "{path}");
        assert!(std::fs::read(&file).expect("it is there") == bytes, "{path}");
        // One that is whole has nothing to go on with.
        let (ran, file) = wget(&mut keep, path, &["--continue"]);
        assert_eq!(ran.code, 0, "{path}: {}", ran.said());
        assert!(std::fs::read(&file).expect("it is there") == bytes, "{path}");

        let (ran, _) = wget(&mut keep, path, &["--spider"]);
        let length = format!("content-length: {}", bytes.len());
        assert!(ran.code == 0 && ran.stderr.contains(&length), "{path}: {}", ran.said());
        let head = curl.with(&["--head"], path);
        let tag = head.header("etag").expect("an ETag comes along").to_owned();
        assert!(ran.stderr.contains(&tag), "{path}: {}", ran.said());

        let condition = format!("If-None-Match: {tag}");
        let same = curl.with(&["-H", &condition], path);
        assert_eq!((same.status, same.body.len()), (304, 0), "{path}");
        let (ran, _) = wget(&mut keep, path, &["--header", &condition]);
        assert!(ran.stderr.contains("304 Not Modified"), "{path}: {}", ran.said());
        let (ran, file) = wget(&mut keep, path, &["--header", "If-None-Match: \"other\""]);
        assert_eq!(ran.code, 0, "{path}: {}", ran.said());
        assert!(std::fs::read(&file).expect("it is there") == bytes, "{path}");
    }
}

#[test]
fn opam_2_1_gets_the_bytes_that_curl_gets() {
    if !opam_gets_the_same_bytes(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_3_gets_the_bytes_that_curl_gets() {
    if !opam_gets_the_same_bytes(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_6_gets_the_bytes_that_curl_gets() {
    if !opam_gets_the_same_bytes(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

/// Whether there is such a client at all; everything else is asserted.
fn opam_gets_the_same_bytes(version: Version) -> bool {
    let (_world, mut keep, package) = mirror();
    let url = keep.url();
    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    opam.init(&url).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "--download-only", "hello"]).ok();
    let curl = keep.curl().get(&package.cache_path(Kind::Sha256));
    assert!(curl.body == package.archive_bytes());
    let cached = Kind::Sha256.cache_path(package.archive_bytes());
    let cached = cached.trim_start_matches("/cache/");
    let cached = std::fs::read(opam.root().join("download-cache").join(cached));
    assert!(cached.expect("opam keeps what it downloads") == curl.body);
    true
}

/// wget of `path`, and where it writes to.
fn wget(keep: &mut Keep, path: &str, more: &[&str]) -> (Run, PathBuf) {
    let file = keep.path("downloaded");
    if !more.contains(&"--continue") {
        // What was there before can be no answer.
        let _gone = std::fs::remove_file(&file);
    }
    let mut wget = Command::new("wget");
    wget.args(["--no-config", "--no-verbose", "--server-response", "--tries=1", "--no-hsts"])
        .arg("--ca-certificate")
        .arg(keep.ca())
        .arg("--output-document")
        .arg(&file)
        .args(more)
        .arg(format!("{}{path}", keep.url()));
    (run(&mut wget, Duration::from_secs(60)), file)
}

fn mirror() -> (World, Keep, Package) {
    let package = Package::new("hello", "1.0");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    (world, keep, package)
}
