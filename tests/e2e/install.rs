//! Real opam installs through opam-keep, with upstream alive and with upstream dead.

use crate::{skip, start};
use world::{
    Index, Keep, Kind, Lie, Mirror, Opam, Package, Recorded, Repo, Version, World, installed,
};

#[test]
fn g5_recorded_packages_install_and_install_again_with_upstream_dead() {
    let Some(recorded) = Recorded::find() else { skip!("no ../shared/world") };
    for program in ["opam", "ocaml", "make", "gcc", "m4", "pkg-config"] {
        if !installed(program) {
            skip!("no {program} in PATH");
        }
    }
    let world = World::start();
    recorded.publish(&world, &recorded.snapshots()[0]);
    let mut keep = start(&Mirror::of(&world));
    keep.index();

    install_recorded(&mut keep);
    let ledger = keep.ledger();
    for url in RECORDED.iter().flat_map(|package| recorded.urls_of(package)) {
        assert_eq!(world.count(url), 1, "{url} was fetched exactly once");
        ledger.pin(url);
    }
    for url in recorded.urls() {
        assert!(world.count(url) <= 1, "{url} was fetched more than once");
    }

    world.kill();
    keep.stop();
    keep.restart();
    install_recorded(&mut keep);
    assert_eq!(keep.run(&["verify"]).code, 0);
}

#[test]
fn g5_opam_2_1_installs_with_upstream_alive_and_dead() {
    if !installs_with_upstream_alive_and_dead(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn g5_opam_2_3_installs_with_upstream_alive_and_dead() {
    if !installs_with_upstream_alive_and_dead(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn g5_opam_2_6_installs_with_upstream_alive_and_dead() {
    if !installs_with_upstream_alive_and_dead(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn the_commands_that_client_prints_are_the_ones_that_work() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    let said = keep.run(&["client"]).ok();
    for word in ["opam init", "opam repository", "ca.pem"] {
        assert!(said.contains(word), "`client` says nothing of {word}:\n{said}");
    }
    let page = keep.curl().get("/");
    assert!(page.is_whole());
    let page = String::from_utf8(page.body).expect("the front page is UTF-8");
    assert!(page.contains("opam init") || page.contains("opam repository"), "{page}");
}

/// Whether there is such a client at all; everything else is asserted.
fn installs_with_upstream_alive_and_dead(version: Version) -> bool {
    let extra = b"one more file".as_slice();
    let hello = Package::new("hello", "1.0");
    let goodbye = Package::bare("goodbye", "2.0")
        .archive("http://example.org/goodbye.tar.gz", &[Kind::Md5, Kind::Sha256])
        .extra_source("more/extra.txt", EXTRA, extra, &[Kind::Sha512])
        .depends("hello");
    let urls = [hello.url().to_owned(), goodbye.url().to_owned(), EXTRA.to_owned()];
    let world = World::start();
    world.publish(&Repo::new([hello, goodbye]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();

    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    install_goodbye(&opam, &keep.url());
    for url in &urls {
        assert_eq!(world.count(url), 1, "{url} was fetched exactly once");
    }

    world.lie_everywhere(Some(Lie::HangUp));
    world.forget_requests();
    keep.stop();
    keep.restart();
    let again = Opam::fresh(version, keep.ca()).expect("it was there before");
    install_goodbye(&again, &keep.url());
    let asked: Vec<_> = world.requests().into_iter().map(|request| request.url).collect();
    assert!(asked.iter().all(|url| url.ends_with("/index.tar.gz")), "{asked:?}");
    true
}

fn install_goodbye(opam: &Opam, url: &str) {
    opam.init(url).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "goodbye"]).ok();
    let content = std::fs::read_to_string(opam.share("default").join("goodbye/content"));
    assert_eq!(content.expect("goodbye is installed"), "This is goodbye 2.0.\n");
}

fn install_recorded(keep: &mut Keep) {
    let opam = Opam::fresh(Version::System, keep.ca()).expect("opam is in PATH");
    opam.init(&keep.url()).ok();
    opam.run(&["switch", "create", "default", "ocaml-system"]).ok();
    opam.run(&[&["install"], RECORDED.as_slice()].concat()).ok();
    let installed = opam.run(&["list", "--installed", "--short", "--columns=package"]).ok();
    for package in RECORDED {
        assert!(installed.lines().any(|line| line == package), "{package}: {installed}");
    }
}

#[test]
fn the_served_index_is_upstreams_with_archives_asked_here() {
    let world = World::start();
    let repo = Repo::new([Package::new("hello", "1.0"), Package::new("hello", "1.1")]);
    world.publish(&repo);
    let mut keep = start(&Mirror::of(&world));
    let served = keep.index();
    let upstream = Index::read(&repo.index());
    assert_eq!(served.packages(), upstream.packages());
    for package in upstream.packages() {
        assert_eq!(served.opam(package), upstream.opam(package));
    }
    assert!(served.repo().contains("opam-version: \"2.0\""), "{}", served.repo());
    assert!(served.repo().contains("archive-mirrors: \"cache\""), "{}", served.repo());
    assert_eq!(keep.index_at("/default/index.tar.gz"), keep.index_at("/index.tar.gz"));
    assert_eq!(keep.index_at("/default/repo"), served.repo().as_bytes());
}

const EXTRA: &str = "https://example.org/extra.txt";
const RECORDED: [&str; 8] = [
    "dune.2.9.3",
    "ocamlfind.1.9.6",
    "ocamlbuild.0.14.1",
    "cppo.1.6.9",
    "re.1.10.4",
    "zarith.1.12",
    "calendar.3.0.0",
    "stringext.1.6.0",
];
