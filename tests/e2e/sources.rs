//! Where repositories come from, and what happens when one comes broken.

use crate::{skip, start};
use std::time::Duration;
use world::{Checkout, Index, Keep, Kind, Mirror, Package, Repo, World, installed, tar_gz, within};

#[test]
fn a_git_repository_is_mirrored_and_followed() {
    if !installed("git") {
        skip!("no git in PATH");
    }
    let world = World::start();
    let hello = Package::new("hello", "1.0");
    let repo = Repo::new([hello.clone()]);
    world.publish(&repo);
    let checkout = Checkout::new(world.directory().join("checkout"));
    checkout.publish(&repo);
    let upstream = format!("git+file://{}", checkout.path());
    let mut keep = start(&Mirror::of(&world).repository("from-git", &upstream));
    assert_eq!(Index::read(&keep.index_at("/from-git/index.tar.gz")).packages(), ["hello.1.0"]);
    let path = format!("/from-git{}", hello.cache_path(Kind::Sha512));
    assert!(keep.curl().get(&path).is_whole());

    checkout.publish(&repo.with(Package::new("hello", "1.1")));
    keep.run(&["refresh", "from-git"]).ok();
    let updated = Index::read(&keep.index_at("/from-git/index.tar.gz"));
    assert_eq!(updated.packages(), ["hello.1.0", "hello.1.1"]);
    assert_eq!(keep.index().packages(), ["hello.1.0"], "the other repository stays");
}

#[test]
fn a_directory_is_mirrored_and_watched() {
    let world = World::start();
    world.publish(&Repo::new([]));
    let checkout = world.directory().join("checkout");
    let repo = Repo::new([Package::new("hello", "1.0")]);
    repo.write(&checkout);
    let upstream = format!("file://{}", checkout.display());
    let mut keep = start(&Mirror::of(&world).repository("local", &upstream));
    assert_eq!(Index::read(&keep.index_at("/local/index.tar.gz")).packages(), ["hello.1.0"]);

    let next = repo.with(Package::new("hello", "1.1"));
    next.write(&checkout);
    let mut told = |expected: &[&str]| {
        // Less than the half minute after which it looks without having noticed anything.
        within(Duration::from_secs(20), "the new version, without being told", || {
            let index = Index::read(&keep.index_at("/local/index.tar.gz"));
            (index.packages() == expected).then_some(())
        });
    };
    told(&["hello.1.0", "hello.1.1"]);

    // Another directory comes in its place.
    let (renewed, before) = (world.directory().join("renewed"), world.directory().join("before"));
    let newer = next.with(Package::new("hello", "1.2"));
    newer.write(&renewed);
    let packages = checkout.join("packages");
    std::fs::rename(&packages, before).expect("it can be moved");
    std::fs::rename(renewed.join("packages"), &packages).expect("it can be moved");
    told(&["hello.1.0", "hello.1.1", "hello.1.2"]);
    newer.with(Package::new("hello", "1.3")).write(&checkout);
    told(&["hello.1.0", "hello.1.1", "hello.1.2", "hello.1.3"]);
}

#[test]
fn several_repositories_are_served_side_by_side() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("public", "1.0")]));
    let private = Package::new("private", "1.0");
    world.publish_at("https://corp.example", &Repo::new([private.clone()]));
    let mut keep = start(&Mirror::of(&world).repository("corp", "https://corp.example"));
    assert_eq!(keep.index().packages(), ["public.1.0"]);
    assert_eq!(Index::read(&keep.index_at("/default/index.tar.gz")).packages(), ["public.1.0"]);
    assert_eq!(Index::read(&keep.index_at("/corp/index.tar.gz")).packages(), ["private.1.0"]);
    let path = private.cache_path(Kind::Sha256);
    assert!(keep.curl().get(&format!("/corp{path}")).is_whole());
    assert_eq!(keep.curl().get("/nosuch/index.tar.gz").status, 404);
}

#[test]
fn a_repository_that_never_was_admitted_answers_503_and_the_others_200() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("public", "1.0")]));
    world.put("https://corp.example/nothing", b"".as_slice());
    let mut keep = start(&Mirror::of(&world).repository("corp", "https://corp.example"));
    keep.index();
    assert_eq!(keep.curl().get("/corp/index.tar.gz").status, 503);
}

#[test]
fn verbatim_is_byte_for_byte() {
    let world = World::start();
    let hello = Package::new("hello", "1.0");
    let signed = Repo::new([hello.clone()])
        .with_repo_file("opam-version: \"2.0\"\narchive-mirrors: \"https://evil.example/\"\n");
    world.publish(&Repo::new([]));
    world.publish_at("https://signed.example", &signed);
    let mirror = Mirror::of(&world)
        .repository("signed", "https://signed.example")
        .of_repository("mode", "verbatim");
    let mut keep = start(&mirror);
    assert!(keep.index_at("/signed/index.tar.gz") == signed.index(), "other bytes than upstream's");
    let path = format!("/signed{}", hello.cache_path(Kind::Sha256));
    assert!(keep.curl().get(&path).is_whole());
}

#[test]
fn what_would_lead_clients_away_is_not_passed_on_as_it_is_either() {
    let world = World::start();
    let repo = Repo::new([Package::new("hello", "1.0")]);
    world.publish(&repo);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    let index = keep.index_at("/index.tar.gz");
    let led = "opam-version: \"2.0\"\nredirect: \"https://elsewhere.example/\"\n";
    for away in [led, "opam-version: \"1.2\"\n"] {
        world.publish(&repo.clone().with_repo_file(away));
        let said = keep.refresh();
        assert!(said.code == 1 && said.stdout.contains("its file \"repo\""), "{said:?}");
        assert!(keep.index_at("/index.tar.gz") == index);
    }
}

#[test]
fn what_would_lead_clients_away_is_not_served() {
    let world = World::start();
    let repo = Repo::new([Package::new("hello", "1.0")]).with_repo_file(
        "opam-version: \"2.0\"\n\
         archive-mirrors: [\"https://elsewhere.example/cache\" \"/cache\"]\n\
         redirect: [\"https://elsewhere.example/\" {opam-version >= \"2.1\"}]\n\
         announce: \"Hello\"\n",
    );
    world.publish(&repo);
    let mut keep = start(&Mirror::of(&world));
    let served = keep.index();
    assert_eq!(served.packages(), ["hello.1.0"]);
    assert!(!served.repo().contains("redirect"), "{}", served.repo());
    assert!(!served.repo().contains("elsewhere"), "{}", served.repo());
    assert!(served.repo().contains("archive-mirrors: \"cache\""), "{}", served.repo());
    assert!(served.repo().contains("opam-version: \"2.0\""), "{}", served.repo());
}

#[test]
fn g5_an_empty_index_leaves_the_last_good_one_in_service() {
    the_last_good_one_stays(Vec::new());
    the_last_good_one_stays(tar_gz([]));
    the_last_good_one_stays(tar_gz([("repo", REPO)]));
}

#[test]
fn g5_a_misrooted_index_leaves_the_last_good_one_in_service() {
    let files = [
        ("opam-repository-master/repo", REPO),
        ("opam-repository-master/packages/hello/hello.2.0/opam", OPAM),
    ];
    the_last_good_one_stays(tar_gz(files));
}

#[test]
fn g5_a_truncated_index_leaves_the_last_good_one_in_service() {
    let whole = Repo::new([Package::new("hello", "2.0"), Package::new("hello", "3.0")]).index();
    the_last_good_one_stays(whole[..whole.len() / 2].to_vec());
    the_last_good_one_stays(whole[..whole.len() - 4].to_vec());
}

#[test]
fn g5_an_index_without_a_repo_file_leaves_the_last_good_one_in_service() {
    the_last_good_one_stays(tar_gz([("packages/hello/hello.2.0/opam", OPAM)]));
}

#[test]
fn g5_a_page_of_html_leaves_the_last_good_index_in_service() {
    the_last_good_one_stays(b"<!DOCTYPE html><title>Down for maintenance</title>".to_vec());
}

#[test]
fn an_opam_file_below_a_version_declares_nothing_for_another_one() {
    let world = World::start();
    let opam = |url: &str, bytes: &[u8]| {
        world.put(url, bytes.to_vec());
        let sum = Kind::Sha256.of(bytes);
        format!("opam-version: \"2.0\"\nurl {{ src: \"{url}\" checksum: \"sha256={sum}\" }}\n")
    };
    let good = opam("https://good.example/zed.tar.gz", b"good");
    let evil = opam("https://evil.example/zed.tar.gz", b"evil");
    let files = [
        ("repo", REPO),
        ("packages/a/a.1/files/zed.1/opam", evil.as_bytes()),
        ("packages/a/a.1/opam", OPAM),
        ("packages/zed/zed.1/opam", good.as_bytes()),
    ];
    world.put(INDEX, tar_gz(files));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let now = format!("/at/{}/default", keep.ledger().len());
    let cached = Kind::Sha256.cache_path(b"evil");
    for round in ["at first", "when the catalog was made again"] {
        for path in ["/archive/zed.1", &format!("{now}/archive/zed.1")] {
            let answer = keep.curl().get(path);
            assert_eq!(answer.body, b"good", "{round}: {path} gives {answer:?}");
        }
        assert_eq!(keep.curl().get(&cached).status, 404, "{round}");
        let page = keep.curl().get("/default/packages/zed/zed.1");
        assert!(!String::from_utf8_lossy(&page.body).contains("evil.example"), "{round}");
        let synced = keep.run(&["sync", "--all", "--dry-run"]).ok();
        assert!(synced.contains("2 versions"), "{round}: {synced}");
        keep.stop();
        std::fs::remove_dir_all(keep.store().join("catalog")).expect("it can be removed");
        keep.restart();
    }
}

#[test]
fn a_package_outside_of_packages_is_never_served() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let files = [
        ("repo", REPO),
        ("packages/hello/hello.1.0/opam", OPAM),
        ("packages/hello/hello.2.0/opam", OPAM),
        ("etc/passwd", b"root"),
    ];
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    world.put(INDEX, tar_gz(files));
    let refreshed = keep.refresh();
    assert!(matches!(refreshed.code, 0 | 1), "{}", refreshed.said());
    let served = keep.index_at("/index.tar.gz");
    let mut names = tar::Archive::new(flate2::read::GzDecoder::new(served.as_slice()));
    for entry in names.entries().expect("it is a tarball") {
        let entry = entry.expect("it is whole");
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("it is UTF-8");
        assert!(path == "repo" || path.starts_with("packages/"), "{path}");
        let header = entry.header();
        assert!(header.entry_type().is_file(), "{path} is no regular file");
        assert_eq!(header.mode().expect("a mode"), 0o644, "{path}");
        assert_eq!(header.uid().expect("a uid") + header.gid().expect("a gid"), 0, "{path}");
    }
}

#[test]
fn g5_a_version_that_no_index_can_hold_is_left_out_and_the_rest_served() {
    let world = World::start();
    world.publish(&Repo::new([]));
    let checkout = world.directory().join("checkout");
    Repo::new([Package::new("hello", "1.0"), Package::new("long", "1.0")]).write(&checkout);
    let files = checkout.join("packages/long/long.1.0/files");
    std::fs::create_dir(&files).expect("a directory can be made");
    std::fs::write(files.join("x".repeat(120)), "patch").expect("a file can be written");
    let upstream = format!("file://{}", checkout.display());
    let mut keep = start(&Mirror::of(&world).repository("local", &upstream));
    assert_eq!(Index::read(&keep.index_at("/local/index.tar.gz")).packages(), ["hello.1.0"]);
    let status = keep.run(&["status"]).said();
    assert!(status.contains("long.1.0") && status.contains("too long for an index"), "{status}");
}

#[test]
fn g5_a_repository_that_is_damaged_in_the_store_keeps_no_other_from_being_served() {
    let world = World::start();
    let (public, private) = (Package::new("public", "1.0"), Package::new("private", "1.0"));
    world.publish(&Repo::new([public.clone()]));
    world.publish_at("https://corp.example", &Repo::new([private.clone()]));
    let mut keep = start(&Mirror::of(&world).repository("corp", "https://corp.example"));
    keep.index();
    keep.index_at("/corp/index.tar.gz");
    keep.stop();
    world.kill();
    let ledger = keep.ledger();
    let snapshot = ledger.of_kind("snapshot").find(|entry| entry["repository"] == "corp");
    let list = snapshot.expect("corp was admitted")["admitted"].as_str().expect("it has a name");
    let blob = keep.blob_named(list);
    std::fs::remove_file(&blob).expect("it is there");
    std::fs::write(&blob, "rot").expect("it can be written");
    keep.restart();
    assert_eq!(keep.index().packages(), ["public.1.0"]);
    assert_eq!(keep.curl().get("/corp/index.tar.gz").status, 503);
    let said = keep.run(&["status"]).said();
    assert!(said.contains("can't be read back") || said.contains("is damaged"), "{said}");
}

/// A mirror that has admitted one index is then given `bad`.
fn the_last_good_one_stays(bad: Vec<u8>) {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    let good = keep.index_at("/index.tar.gz");
    world.put(INDEX, bad);
    let refreshed = keep.refresh();
    assert_eq!(refreshed.code, 1, "{}", refreshed.said());
    still_served(&mut keep, &good);
    keep.stop();
    keep.restart();
    still_served(&mut keep, &good);
    assert_eq!(keep.ledger().of_kind("snapshot").count(), 1);

    world.publish(&Repo::new([Package::new("hello", "2.0")]));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.2.0"], "a good one is taken again");
}

fn still_served(keep: &mut Keep, good: &[u8]) {
    assert!(keep.index_at("/index.tar.gz") == good, "another index is served");
}

const INDEX: &str = "https://opam.ocaml.org/index.tar.gz";
const OPAM: &[u8] = b"opam-version: \"2.0\"\nsynopsis: \"Hello\"\n";
const REPO: &[u8] = b"opam-version: \"2.0\"\n";
