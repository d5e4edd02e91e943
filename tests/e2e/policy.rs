//! What nothing, or only an md5, vouches for.

use crate::start;
use world::{Keep, Kind, Mirror, Package, Repo, World};

#[test]
fn an_archive_that_only_an_md5_vouches_for_is_pinned_as_weak_where_that_is_allowed() {
    for policy in ["allow", "warn"] {
        let (world, mut keep, package) = mirror(&[Kind::Md5], "policy.weak_checksum", policy);
        let answer = keep.curl().get(&package.cache_path(Kind::Md5));
        assert!(answer.is_whole() && answer.body == package.archive_bytes(), "{policy}");
        assert_eq!(world.count(package.url()), 1);

        let strong = keep.curl().get(&strong().cache_path(Kind::Sha256));
        assert!(strong.is_whole());
        let ledger = keep.ledger();
        let (weak, strong) = (ledger.pin(package.url()), ledger.pin(self::strong().url()));
        assert_ne!(weak["strength"], strong["strength"], "{policy}");
        let sha256 = Kind::Sha256.of(package.archive_bytes());
        assert_eq!(weak["sha256"], sha256, "a weak pin is a pin of bytes all the same");
        assert!(!weak["declared"].to_string().contains("sha256"), "{weak}");
    }
}

#[test]
fn an_archive_that_only_an_md5_vouches_for_is_refused_where_that_is_the_policy() {
    let (_world, mut keep, package) = mirror(&[Kind::Md5], "policy.weak_checksum", "refuse");
    let answer = keep.curl().get(&package.cache_path(Kind::Md5));
    assert_eq!((answer.exit, answer.status), (0, 404));
    let reason = answer.header("x-opam-keep-reason").expect("a refusal says why");
    assert!(!reason.is_empty());
    assert_eq!(keep.ledger().pins(package.url()).len(), 0);
    assert!(!keep.blob(package.archive_bytes()).exists());
    assert!(keep.curl().get(&strong().cache_path(Kind::Sha256)).is_whole());
}

#[test]
fn a_repository_of_which_the_policy_leaves_nothing_is_not_served_as_an_empty_one() {
    let world = World::start();
    let weak =
        Package::bare("weak", "1.0").archive("https://github.com/world/weak.tgz", &[Kind::Md5]);
    world.publish(&Repo::new([weak.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.weak_checksum", "refuse"));
    let refused = keep.refresh();
    assert_eq!(refused.code, 1, "{}", refused.said());
    assert!(refused.said().contains("weak.1.0"), "{}", refused.said());
    assert_eq!(keep.curl().get("/index.tar.gz").status, 503);
    let status = keep.run(&["status"]).said();
    assert!(status.contains("weak.1.0") && status.contains("left out"), "{status}");

    world.publish(&Repo::new([weak, strong()]));
    keep.refresh().ok();
    assert_eq!(keep.curl().get("/index.tar.gz").status, 200);
}

#[test]
fn a_weak_pin_is_never_replaced_by_what_upstream_says_later() {
    let (world, mut keep, package) = mirror(&[Kind::Md5], "policy.weak_checksum", "allow");
    let path = package.cache_path(Kind::Md5);
    assert!(keep.curl().get(&path).is_whole());
    world.put(package.url(), b"something else".as_slice());
    let again = keep.curl().get(&path);
    assert!(again.is_whole() && again.body == package.archive_bytes());
    keep.ledger().pin(package.url());
}

#[test]
fn an_archive_that_nothing_vouches_for_is_listed_and_never_pinned_where_that_is_refused() {
    let (world, mut keep, package) = mirror(&[], "policy.no_checksum", "refuse");
    assert!(keep.index().opam(&package.full_name()).is_some());
    for kind in Kind::ALL {
        assert_eq!(keep.curl().get(&package.cache_path(kind)).status, 404);
    }
    assert_eq!(world.count(package.url()), 0, "nobody asked for it, and nobody may");
    assert_eq!(keep.ledger().pins(package.url()).len(), 0);
}

#[test]
fn an_archive_that_nothing_vouches_for_is_pinned_by_package_with_the_sources_that_agree() {
    let mirror_url = "https://mirror.example/weak.tgz";
    let (world, mut keep, package) = mirrored(&[], mirror_url);
    let path = format!("/default/archive/{}", package.full_name());
    for _ in 0..2 {
        let answer = keep.curl().get(&path);
        assert!(answer.is_whole() && answer.body == package.archive_bytes());
    }
    assert_eq!((world.count(package.url()), world.count(mirror_url)), (1, 1));
    let ledger = keep.ledger();
    let pin = ledger.pin(package.url());
    assert_eq!(pin["strength"], "none");
    assert_eq!(pin["agreed"], serde_json::json!([mirror_url]));
    assert_eq!(keep.curl().get("/default/archive/nosuch.1.0").status, 404);
}

#[test]
fn sources_that_disagree_about_what_nothing_vouches_for_pin_nothing() {
    let mirror_url = "https://mirror.example/weak.tgz";
    let (world, mut keep, package) = mirrored(&[], mirror_url);
    world.put(mirror_url, b"something else".as_slice());
    let path = format!("/default/archive/{}", package.full_name());
    for _ in 0..2 {
        let answer = keep.curl().get(&path);
        let reason = answer.header("x-opam-keep-reason").unwrap_or_default().to_owned();
        assert!(answer.status == 404 && reason.starts_with("diverged; "), "{reason}");
    }
    let ledger = keep.ledger();
    assert_eq!(ledger.pins(package.url()).len(), 0);
    let divergences = ledger.divergences(package.url());
    assert_eq!(divergences.len(), 1);
    assert_eq!(divergences[0]["what"], "disagreement");
}

/// A mirror of one package with these checksums and a second place to get it from.
fn mirrored(kinds: &[Kind], mirror: &str) -> (World, Keep, Package) {
    let package = Package::bare("weak", "1.0")
        .archive("https://github.com/world/weak.tgz", kinds)
        .mirror(mirror);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep, package)
}

/// A mirror under one policy, of one package with these checksums and of [`strong`].
fn mirror(kinds: &[Kind], key: &str, policy: &str) -> (World, Keep, Package) {
    let package = Package::bare("weak", "1.0").archive("https://github.com/world/weak.tgz", kinds);
    let world = World::start();
    world.publish(&Repo::new([package.clone(), strong()]));
    let mut keep = start(&Mirror::of(&world).set(key, policy));
    keep.index();
    (world, keep, package)
}

fn strong() -> Package {
    Package::new("strong", "1.0")
}
