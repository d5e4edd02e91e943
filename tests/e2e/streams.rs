//! Large archives that flow before all of them is verified, to clients that make it hard to tell
//! them that the rest will not come.

use crate::start;
use std::io::Read;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World, within};

#[test]
fn g1_a_slow_reader_never_takes_a_failed_sources_bytes_for_the_archive() {
    a_slow_reader_is_not_fooled(Lie::Slow, over_http_1_1);
}

#[test]
fn g1_a_slow_reader_of_unknown_length_never_takes_a_failed_sources_bytes_for_the_archive() {
    a_slow_reader_is_not_fooled(Lie::Unannounced, over_http_1_1);
}

#[test]
fn g1_a_slow_reader_over_http_2_never_takes_a_failed_sources_bytes_for_the_archive() {
    a_slow_reader_is_not_fooled(Lie::Slow, over_http_2);
}

#[test]
fn g1_a_slow_reader_of_unknown_length_over_http_2_never_takes_them_either() {
    a_slow_reader_is_not_fooled(Lie::Unannounced, over_http_2);
}

#[test]
fn g1_http_1_0_gets_no_unverified_body_that_only_the_connections_end_delimits() {
    let (world, mut keep, package) = cold();
    world.lie(package.url(), Lie::Unannounced(RATE));
    let request = format!("GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n", path(&package));
    let client = keep.raw();
    let early = client.send(request.as_bytes()).expect("it answers");
    assert_eq!(early.status, 404);
    let reason = early.header("x-opam-keep-reason").expect("a 404 has a reason");
    assert!(reason.starts_with("fetching"), "{reason}");
    assert!(!keep.blob(package.archive_bytes()).exists(), "it was asked for too late");

    let whole = within(PATIENCE, "the archive", || {
        let answer = client.send(request.as_bytes()).expect("it answers");
        (answer.status == 200).then_some(answer)
    });
    let length = package.archive_bytes().len().to_string();
    assert_eq!(whole.header("content-length"), Some(length.as_str()));
    assert!(whole.body().expect("a whole body") == package.archive_bytes());
    assert_eq!(world.count(package.url()), 1, "one fetch was enough");
}

#[test]
fn g1_who_wants_only_certain_bytes_gets_nothing_before_it_is_known_which_these_are() {
    let (world, mut keep, package) = cold();
    world.lie(package.url(), Lie::Slow(RATE));
    let curl = keep.curl();
    let ask = |tag: &str| curl.with(&["-H", &format!("If-Match: {tag}")], &path(&package));
    let early = ask("\"x\"");
    assert_eq!(early.status, 404);
    let reason = early.header("x-opam-keep-reason").expect("a 404 has a reason");
    assert!(reason.starts_with("fetching"), "{reason}");
    within(PATIENCE, "the archive", || (ask("*").status == 200).then_some(()));
    assert_eq!(ask("\"x\"").status, 412);
}

/// Reads a little of what a lying source gives, waits until a mirror's bytes are pinned, and reads
/// on.
fn a_slow_reader_is_not_fooled(slow: fn(u64) -> Lie, begin: fn(&mut Keep, &str) -> Box<dyn Read>) {
    let (world, mut keep, package) = cold();
    let good = package.archive_bytes();
    let mut wrong = good.to_vec();
    wrong[good.len() / 2] ^= 1;
    world.put(package.url(), wrong.clone());
    world.lie(package.url(), slow(RATE));

    let mut body = begin(&mut keep, &path(&package));
    let mut received = vec![0; 64 * 1024];
    body.read_exact(&mut received).expect("the archive flows");
    assert_eq!(world.count(MIRROR), 0, "it flowed too late");
    within(PATIENCE, "the mirror's bytes", || {
        let ledger = keep.ledger();
        (ledger.pins(MIRROR).len() == 1).then_some(())
    });
    let ended = body.read_to_end(&mut received);

    assert!(ended.is_err() || received == good, "wrong bytes looked whole");
    assert!(wrong.starts_with(&received) || good.starts_with(&received));
    let ledger = keep.ledger();
    assert_eq!(ledger.pin(MIRROR)["src"], package.url());
    assert_eq!(ledger.divergences(package.url()).len(), 1);
}

fn over_http_1_1(keep: &mut Keep, path: &str) -> Box<dyn Read> {
    let answer = keep.raw().with_little_room().get(path).expect("it answers");
    assert_eq!(answer.status, 200, "it flows before all of it is here");
    Box::new(answer)
}

fn over_http_2(keep: &mut Keep, path: &str) -> Box<dyn Read> {
    let connection = keep.raw().http2().expect("it listens");
    Box::new(connection.download(path).expect("it flows before all of it is here"))
}

/// A mirror of one large package with two sources, that nobody asked for yet.
fn cold() -> (World, Keep, Package) {
    let bytes: Vec<u8> = (0..SIZE / 4).flat_map(u32::to_le_bytes).collect();
    let package = Package::new("large", "1.0").bytes(bytes, &[Kind::Sha256]).mirror(MIRROR);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world).set("upstream.patience", "60s"));
    keep.index();
    (world, keep, package)
}

fn path(package: &Package) -> String {
    package.cache_path(Kind::Sha256)
}

const MIRROR: &str = "https://mirror.example.org/large.tar.gz";
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes per second, so that a client that asked comes in time.
const RATE: u64 = 16 << 20;
/// More than sockets take up while their client does not read.
const SIZE: u32 = 40 << 20;
