//! The fake upstream itself: a lie that is not told would let every other test pass.

use std::time::Duration;
use world::{Answer, Curl, Index, Kind, Lie, Opam, Package, Repo, Version, World};

const URL: &str = "https://github.com/world/a.tar.gz";
const TRUTH: &[u8] = &[7; 100_000];

#[test]
fn every_host_answers_over_tls_and_plain_http() {
    let world = World::start();
    for host in ["github.com", "opam.ocaml.org", "a.b.c.example"] {
        for scheme in ["https", "http"] {
            world.put(&format!("{scheme}://{host}/x"), host.as_bytes());
            let answer = ask(&world, &[], &format!("{scheme}://{host}/x"));
            assert!(answer.is_whole(), "{answer:?}");
            assert_eq!(answer.body, host.as_bytes());
        }
        assert_eq!(world.count(&format!("https://{host}/x")), 2);
    }
    assert_eq!(ask(&world, &[], "https://github.com/y").status, 404);
}

#[test]
fn an_entity_tag_that_still_holds_is_answered_with_304() {
    let world = World::start();
    world.put(URL, TRUTH);
    let etag = ask(&world, &[], URL).header("etag").expect("an ETag comes along").to_owned();
    let condition = format!("If-None-Match: {etag}");
    assert_eq!(ask(&world, &["-H", &condition], URL).status, 304);
    world.put(URL, b"other".as_slice());
    assert_eq!(ask(&world, &["-H", &condition], URL).status, 200);
    assert_eq!(world.requests()[1].header("if-none-match"), Some(etag.as_str()));
}

#[test]
fn lies_that_look_whole_are_whole() {
    for (lie, length) in [(Lie::FlippedByte, TRUTH.len()), (Lie::Half, TRUTH.len() / 2)] {
        let answer = lied_to(lie, &[]);
        assert!(answer.is_whole(), "{answer:?}");
        assert_eq!(answer.body.len(), length);
        assert_ne!(answer.body, TRUTH);
    }
    let page = lied_to(Lie::Html, &[]);
    assert!(page.is_whole() && page.body.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(page.header("content-type"), Some("text/html"));
    assert_eq!(lied_to(Lie::Bytes(b"short".to_vec()), &[]).body, b"short");
}

#[test]
fn lies_that_break_off_break_off() {
    let answer = lied_to(Lie::CutShort, &[]);
    assert_eq!((answer.exit, answer.status), (18, 200), "a partial transfer, to curl");
    assert_eq!(answer.body, TRUTH[..TRUTH.len() / 2]);
    assert_eq!(lied_to(Lie::HangUp, &[]).exit, 52, "an empty reply, to curl");
}

#[test]
fn lies_that_stall_stall() {
    let short = ["--max-time", "1"];
    assert_eq!(lied_to(Lie::NoHead, &short).status, 0);
    let answer = lied_to(Lie::StallMidBody, &short);
    assert_eq!((answer.exit, answer.body.len()), (28, TRUTH.len() / 2));
    let answer = lied_to(Lie::Slow(200_000), &[]);
    assert!(answer.took > Duration::from_millis(400), "{:?}", answer.took);
    assert_eq!(answer.body, TRUTH);
}

#[test]
fn an_endless_body_begins_with_the_truth() {
    let answer = lied_to(Lie::Endless, &["--max-time", "1", "--limit-rate", "1M"]);
    assert_eq!(answer.exit, 28, "not over yet, to curl");
    assert!(answer.body.len() > TRUTH.len() && answer.body.starts_with(TRUTH));
}

#[test]
fn lies_about_the_way_lead_astray() {
    let answer = lied_to(Lie::Redirect("http://evil.example/".to_owned()), &[]);
    assert_eq!((answer.status, answer.header("location")), (302, Some("http://evil.example/")));
    assert_eq!(lied_to(Lie::Status(503), &[]).status, 503);
}

#[test]
fn a_lie_told_so_many_times_is_then_told_no_more() {
    let world = World::start();
    world.put(URL, TRUTH);
    world.lie_times(URL, Lie::Status(503), 2);
    let statuses = [(); 4].map(|()| ask(&world, &[], URL).status);
    assert_eq!(statuses, [503, 503, 200, 200]);
    world.lie(URL, Lie::Unstable);
    let etags = [(); 2].map(|()| ask(&world, &[], URL).header("etag").map(str::to_owned));
    assert_ne!(etags[0], etags[1]);
    world.lie_everywhere(Some(Lie::Status(500)));
    assert_eq!(ask(&world, &[], "https://nowhere.example/").status, 500);
}

#[test]
fn a_killed_world_refuses_connections() {
    let world = World::start();
    world.put(URL, TRUTH);
    assert!(ask(&world, &[], URL).is_whole());
    world.kill();
    assert_eq!(ask(&world, &[], URL).exit, 7, "connection refused, to curl");
}

#[test]
fn real_opam_installs_from_the_world_itself() {
    let world = World::start();
    let extra = b"one more file".as_slice();
    let hello = Package::new("hello", "1.0");
    let goodbye = Package::bare("goodbye", "2.0")
        .archive("http://example.org/goodbye.tar.gz", &[Kind::Md5, Kind::Sha256])
        .extra_source("more/extra.txt", "https://example.org/extra.txt", extra, &[Kind::Sha512])
        .depends("hello");
    let repo = Repo::new([hello.clone(), goodbye]);
    world.publish(&repo);
    assert_eq!(Index::read(&repo.index()).packages(), ["goodbye.2.0", "hello.1.0"]);

    let Some(opam) = Opam::fresh(Version::System, world.ca()) else {
        crate::skip!("no opam in PATH");
    };
    let opam = opam.connect_to(world.address());
    opam.init(World::OPAM).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "goodbye"]).ok();
    let installed = std::fs::read_to_string(opam.share("default").join("goodbye/content"));
    assert_eq!(installed.expect("goodbye is installed"), "This is goodbye 2.0.\n");
    assert_eq!(world.count(hello.url()), 1);
    assert_eq!(world.count("https://example.org/extra.txt"), 1);
}

fn lied_to(lie: Lie, arguments: &[&str]) -> Answer {
    let world = World::start();
    world.put(URL, TRUTH);
    world.lie(URL, lie);
    ask(&world, arguments, URL)
}

fn ask(world: &World, arguments: &[&str], url: &str) -> Answer {
    let everywhere = format!("::{}", world.address());
    let arguments = [&["--connect-to", everywhere.as_str()], arguments].concat();
    Curl::new("", world.ca()).with(&arguments, url)
}
