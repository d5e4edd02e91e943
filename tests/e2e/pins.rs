//! Whose URL is pinned to what: nobody can pin another's, and what a strong checksum vouches for is
//! served whatever was pinned before.

use crate::start;
use world::{Kind, Mirror, Package, Repo, World};

#[test]
fn g2_no_package_can_pin_the_url_of_another_to_bytes_of_its_own() {
    let victim = Package::new("victim", "1.0");
    let mut squatter = Package::bare("squatter", "1.0")
        .archive(victim.url(), &[Kind::Sha256])
        .mirror("https://squatter.example/own.tgz");
    let world = World::start();
    world.publish(&Repo::new([squatter.clone(), victim.clone()]));
    // Its own bytes are at its mirror only; what it calls its source is the victim's.
    world.put(victim.url(), victim.archive_bytes().to_vec());
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let answer = keep.curl().get(&squatter.cache_path(Kind::Sha256));
    assert!(answer.is_whole() && answer.body == squatter.archive_bytes());
    assert_eq!(keep.ledger().pins(victim.url()).len(), 0);
    let answer = keep.curl().get(&victim.cache_path(Kind::Sha256));
    assert!(answer.is_whole() && answer.body == victim.archive_bytes());
    let ledger = keep.ledger();
    assert_eq!(ledger.pin(victim.url())["sha256"], Kind::Sha256.of(victim.archive_bytes()));
    assert_eq!(ledger.pin("https://squatter.example/own.tgz")["src"], victim.url());

    // Nor can what it did make a package without any checksum serve the squatter's bytes.
    squatter = Package::bare("trusting", "1.0").archive(victim.url(), &[]);
    world.publish(&Repo::new([squatter.clone(), victim.clone()]));
    world.put(victim.url(), victim.archive_bytes().to_vec());
    keep.refresh().ok();
    let answer = keep.curl().get("/default/archive/trusting.1.0");
    assert!(answer.is_whole() && answer.body == victim.archive_bytes());
}

#[test]
fn g2_a_checksum_that_metadata_corrects_is_pinned_beside_the_first_and_told() {
    let first = Package::new("rewritten", "1.0");
    let second = first.clone().bytes(*b"other bytes", &[Kind::Sha256, Kind::Sha512]);
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.source_rewritten", "allow"));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    for _ in 0..2 {
        for package in [&first, &second] {
            for kind in [Kind::Sha256, Kind::Sha512] {
                let answer = keep.curl().get(&package.cache_path(kind));
                assert!(answer.is_whole() && answer.body == package.archive_bytes());
            }
        }
        keep.stop();
        keep.restart();
    }
    let ledger = keep.ledger();
    let pins = ledger.pins(first.url());
    assert_eq!(pins.len(), 2);
    assert_eq!(pins[0]["sha256"], Kind::Sha256.of(first.archive_bytes()));
    let told = ledger.divergences(first.url());
    assert_eq!((told.len(), &told[0]["what"]), (1, &"changed".into()));
    keep.run(&["verify"]).ok();
}

#[test]
fn an_archive_whose_checksums_contradict_each_other_is_never_served_for_either() {
    let real = Package::new("real", "1.0");
    let kinds = [Kind::Sha256, Kind::Md5];
    let [sha256, _] =
        kinds.map(|kind| format!("{}={}", kind.name(), kind.of(real.archive_bytes())));
    let md5 = format!("md5={}", Kind::Md5.of(b"something else"));
    let confused = Package::bare("confused", "1.0")
        .archive(real.url(), &[Kind::Sha256])
        .declaring(&[sha256, md5]);
    let world = World::start();
    world.publish(&Repo::new([confused, real.clone()]));
    world.put(real.url(), real.archive_bytes().to_vec());
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&real.cache_path(Kind::Sha256)).is_whole());
    let answer = keep.curl().get(&Kind::Md5.cache_path(b"something else"));
    assert_eq!((answer.exit, answer.status), (0, 404));
}
