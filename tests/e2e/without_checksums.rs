//! Archives that no checksum vouches for: the first bytes that came are what they are.

use crate::start;
use std::fs;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World};

const GOOD: &[u8] = b"good";
const EVIL: &[u8] = b"evil";
const SRC: &str = "https://src.example/foo.tgz";
const MIRROR: &str = "https://mirror.example/foo.tgz";

#[test]
fn g2_they_stay_what_they_were_whatever_their_other_urls_give_later() {
    let foo = Package::bare("foo", "1").archive(SRC, &[]).bytes(GOOD, &[]).mirror(MIRROR);
    let world = World::start();
    world.publish(&Repo::new([foo.clone()]));
    let mirror = Mirror::of(&world);
    world.take_down(SRC);
    let mut keep = start(&mirror);
    keep.index();
    assert_eq!(archive(&mut keep), GOOD);
    let then = keep.ledger().len();

    // Someone else's archive lies where it never was found.
    let new = Package::bare("new", "1").archive(SRC, &[]).bytes(EVIL, &[Kind::Sha256]);
    world.publish(&Repo::new([foo.clone(), new.clone()]));
    world.put(MIRROR, EVIL);
    keep.refresh().ok();
    assert!(keep.curl().get(&new.cache_path(Kind::Sha256)).is_whole());
    assert_eq!(archive(&mut keep), GOOD);
    assert_eq!(keep.curl().get(&format!("/at/{then}/archive/foo.1")).body, GOOD);

    // Another set of URLs, or checksums, is another archive as far as anyone knows.
    let served = keep.index();
    let only_src = Package::bare("foo", "1").archive(SRC, &[]).bytes(EVIL, &[]);
    let declared = foo.bytes(EVIL, &[Kind::Sha256]).mirror(MIRROR);
    for (edited, told) in [(only_src, 1), (declared, 2)] {
        world.publish(&Repo::new([edited, new.clone()]));
        keep.refresh().ok();
        assert_eq!(keep.index().opam("foo.1"), served.opam("foo.1"));
        assert_eq!(archive(&mut keep), GOOD);
        assert_eq!(keep.divergences().len(), told);
    }
}

#[test]
fn g2_the_first_pin_stands_also_where_another_url_is_pinned_while_one_is_fetched() {
    let foo = Package::bare("foo", "1").archive(SRC, &[]).bytes(GOOD, &[]).mirror(MIRROR);
    let evil = Package::bare("evil", "1").archive(SRC, &[]).bytes(EVIL, &[]);
    let world = World::start();
    world.publish(&Repo::new([evil, foo]));
    let mirror = Mirror::of(&world);
    world.take_down(SRC);
    world.put(MIRROR, GOOD);
    world.lie(MIRROR, Lie::Slow(2));
    let mut keep = start(&mirror);
    keep.index();
    let curl = keep.curl();
    let first = std::thread::spawn(move || curl.get("/archive/foo.1"));
    let asked = || (world.count(MIRROR) > 0).then_some(());
    world::within(Duration::from_secs(10), "the mirror is asked", asked);
    world.put(SRC, EVIL);
    assert_eq!(keep.curl().get("/archive/evil.1").body, EVIL);
    let first = first.join().expect("curl ends");
    assert!(!first.is_whole(), "whoever asks next gets other bytes: {first:?}");
    assert_eq!(archive(&mut keep), EVIL);
    let told = keep.divergences();
    assert_eq!(told[0]["divergence"]["what"], "disagreement", "{told:?}");
}

#[test]
fn g4_an_edit_that_comes_to_contradict_a_pin_is_told_anew_and_not_accepted_with_what_it_was() {
    let foo = Package::bare("foo", "1").archive(SRC, &[]).bytes(GOOD, &[]);
    let world = World::start();
    world.publish(&Repo::new([foo.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.checksum_added", "hold"));
    keep.index();
    world.publish(&Repo::new([foo.clone().bytes(EVIL, &[Kind::Sha256])]));
    world.put(SRC, GOOD);
    keep.refresh().ok();
    let told = keep.divergences();
    assert_eq!(told[0]["divergence"]["edits"], serde_json::json!(["checksum-added"]));
    assert_eq!(archive(&mut keep), GOOD);
    world.put(SRC, EVIL);
    let said = keep.run(&["divergences", "accept", &told[0]["id"].to_string()]).said();
    assert!(said.contains("not served"), "{said}");
    let told = keep.divergences();
    assert_eq!(told.len(), 1, "{told:#?}");
    let edits = serde_json::json!(["checksum-added", "source-rewritten"]);
    assert_eq!(told[0]["divergence"]["edits"], edits);
    assert_eq!(archive(&mut keep), GOOD);
    keep.run(&["divergences", "accept", &told[0]["id"].to_string()]).ok();
    assert_eq!(archive(&mut keep), EVIL, "it is what was told of");
    assert!(keep.divergences().is_empty());
}

#[test]
fn g2_a_static_export_has_what_the_server_gives() {
    let foo = Package::bare("foo", "1").archive(SRC, &[]).bytes(GOOD, &[]).mirror(MIRROR);
    let world = World::start();
    world.publish(&Repo::new([foo.clone()]));
    let mirror = Mirror::of(&world).set("server.public_url", "https://keep.example");
    world.take_down(SRC);
    let mut keep = start(&mirror.of_repository("rewrite_sources", true));
    keep.index();
    assert_eq!(archive(&mut keep), GOOD);
    let evil = Package::bare("evil", "1").archive(SRC, &[]).bytes(EVIL, &[]);
    world.publish(&Repo::new([evil, foo]));
    world.put(SRC, EVIL);
    keep.refresh().ok();
    assert_eq!(keep.curl().get("/archive/evil.1").body, EVIL);
    let exported = keep.path("exported");
    keep.run(&["export", "--static", &exported.display().to_string()]).ok();
    let file = exported.join("archive/foo.1/foo.tgz");
    assert_eq!(fs::read(file).expect("it is exported"), GOOD);
}

#[test]
fn g2_they_are_those_of_the_repository_that_they_were_asked_of() {
    let foo = Package::bare("foo", "1").archive(SRC, &[]).bytes(GOOD, &[]);
    let stays = Package::bare("stays", "1");
    let world = World::start();
    world.publish(&Repo::new([foo.clone(), stays.clone()]));
    let other = "https://other.example";
    world.publish_at(other, &Repo::new([stays.clone()]));
    world.put("https://evil.example/foo.tgz", EVIL);
    let mut keep = start(&Mirror::of(&world).repository("other", other));
    keep.index();
    assert_eq!(archive(&mut keep), GOOD);
    world.publish(&Repo::new([stays.clone()]));
    let evil = Package::bare("foo", "1").archive("https://evil.example/foo.tgz", &[]);
    world.publish_at(other, &Repo::new([evil.bytes(EVIL, &[]), stays]));
    keep.refresh().ok();
    assert_eq!(keep.curl().get("/other/archive/foo.1").body, EVIL);
    assert_eq!(keep.curl().get("/archive/foo.1").status, 404, "it is gone");
}

fn archive(keep: &mut Keep) -> Vec<u8> {
    keep.curl().get("/archive/foo.1").body
}
