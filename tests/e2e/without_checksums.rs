//! Archives that no checksum vouches for: the first bytes that came are what they are.

use crate::start;
use world::{Keep, Kind, Mirror, Package, Repo, World};

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
