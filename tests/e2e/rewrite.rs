//! Sources that point to the mirror itself, so that no client ever asks anyone else.

use crate::{BINARY, skip};
use std::net::{Ipv4Addr, TcpListener};
use world::{
    Index, Keep, Kind, Mirror, Network, Opam, Package, Repo, Trace, Version, World, installed,
};

#[test]
fn opam_2_1_in_a_network_of_its_own_dials_nothing_but_the_mirror() {
    if !dials_nothing_but_the_mirror(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_6_in_a_network_of_its_own_dials_nothing_but_the_mirror() {
    if !dials_nothing_but_the_mirror(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_1_rebuilds_nothing_when_sources_are_rewritten() {
    if !rebuilds_nothing(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_3_rebuilds_nothing_when_sources_are_rewritten() {
    if !rebuilds_nothing(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_6_rebuilds_nothing_when_sources_are_rewritten() {
    if !rebuilds_nothing(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn every_source_leads_to_an_archive_now_and_in_the_past_and_in_every_repository() {
    let world = World::start();
    world.publish(&repo());
    let own = Package::new("own", "1");
    world.publish_at("https://own.example", &Repo::new([own.clone()]));
    let port = free_port();
    let site = format!("https://localhost:{port}");
    let mirror =
        rewriting(&world, Ipv4Addr::LOCALHOST, port).repository("own", "https://own.example");
    let mirror = mirror.of_repository("rewrite_sources", true).set("policy.max_removed", "100%");
    let mut keep = stopped(&mirror);
    keep.restart();
    let served = keep.index();
    let is_first =
        |entry: &serde_json::Value| entry["kind"] == "snapshot" && entry["repository"] == "default";
    let past = keep.ledger().index_of(is_first) + 1;
    // Another one takes its place, which has other sources.
    world.publish(&Repo::new([Package::new("later", "1")]));
    keep.refresh().ok();
    let then = keep.index_at(&format!("/at/{past}/index.tar.gz"));
    let then = Index::read(&then);
    // Where the mirror is may change, so nobody is told to keep it for ever.
    let answer = keep.curl().get(&format!("/at/{past}/index.tar.gz"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));

    let of_then: Vec<&str> =
        then.packages().iter().flat_map(|package| sources(&then, package)).collect();
    assert_eq!(of_then.len(), 5, "{of_then:?}");
    for source in of_then {
        assert!(source.starts_with(&format!("{site}/at/{past}/archive/")), "{source}");
        let path = source.strip_prefix(&site).expect("it is on the mirror");
        let answer = keep.curl().get(path);
        assert!(answer.is_whole(), "{source}: {}", answer.status);
    }
    assert_eq!(sources(&served, "strong.1"), [format!("{site}/archive/strong.1/strong-1.tar.gz")]);
    let miss = keep.curl().get("/archive/strong.1/strong-1.tar.gz");
    assert_eq!(miss.status, 404, "what is declared no more is asked for in the past");
    let of_own = Index::read(&keep.index_at("/own/index.tar.gz"));
    assert_eq!(sources(&of_own, "own.1"), [format!("{site}/own/archive/own.1/own-1.tar.gz")]);
    assert!(keep.curl().get("/own/archive/own.1/own-1.tar.gz").is_whole());

    // What no checksum vouches for is pinned, and says so.
    let pin = keep.ledger().pin(bare().url()).clone();
    assert_eq!((&pin["strength"], &pin["packages"][0]), (&"none".into(), &"bare.1".into()));
    let extra = keep.ledger().pin(EXTRA).clone();
    assert_eq!(extra["packages"][0], "patched.1");
}

#[test]
fn a_rewritten_index_says_for_whom_it_is_and_stays_the_same() {
    let world = World::start();
    world.publish(&repo());
    let port = free_port();
    let mut keep = stopped(&rewriting(&world, Ipv4Addr::LOCALHOST, port));
    keep.restart();
    keep.index();
    let indexes = |keep: &mut Keep| {
        ["opam/2.1.2", "opam/2.6.0"].map(|agent| {
            let answer = keep.curl().with(&["--user-agent", agent], "/index.tar.gz");
            assert!(answer.is_whole());
            assert_eq!(answer.header("vary"), Some("user-agent"));
            answer.body
        })
    };
    let [old, new] = indexes(&mut keep);
    assert!(old != new);
    let (before, after) = (Index::read(&old), Index::read(&new));
    assert_eq!(sources(&before, "patched.1")[1], EXTRA);
    let extra = sources(&after, "patched.1")[1].to_owned();
    let place = format!("https://localhost:{port}/archive/patched.1/extra-source/");
    assert!(extra.starts_with(&place) && extra.ends_with("/more.txt"), "{extra}");
    world.kill();
    for drop_built in [false, true] {
        keep.stop();
        if drop_built {
            std::fs::remove_dir_all(keep.store().join("catalog")).expect("it can be removed");
        }
        keep.restart();
        assert!(indexes(&mut keep) == [old.clone(), new.clone()], "{drop_built}");
    }
}

#[test]
fn what_could_name_another_source_unseen_is_not_served() {
    let world = World::start();
    let directory = tempfile::tempdir().expect("a directory can be made");
    Repo::new([Package::new("strong", "1"), Package::bare("legacy", "1")]).write(directory.path());
    let files = [
        ("legacy/legacy.1/url", "archive: \"https://elsewhere.example/legacy.tgz\"\n"),
        ("unreadable/unreadable.1/opam", "url { src: \"https://elsewhere.example/x.tgz\"\n"),
    ];
    for (path, text) in files {
        let file = directory.path().join("packages").join(path);
        std::fs::create_dir_all(file.parent().expect("a file is in a directory"))
            .and_then(|()| std::fs::write(file, text))
            .expect("a file can be written");
    }
    let port = free_port();
    let upstream = format!("file://{}", directory.path().display());
    let plain = listening(&world, Ipv4Addr::LOCALHOST, port)
        .of_repository("upstream", upstream)
        .set("policy.unreadable", "allow");
    let mut keep = stopped(&plain);
    keep.restart();
    assert_eq!(keep.index().packages(), ["legacy.1", "strong.1", "unreadable.1"]);
    keep.stop();
    // What was admitted before sources were rewritten is served without them at once.
    keep.configure(&plain.of_repository("rewrite_sources", true).text(&keep.store()));
    keep.restart();
    assert_eq!(keep.index().packages(), ["strong.1"]);
    let past = keep.ledger().index_of(|entry| entry["kind"] == "snapshot") + 1;
    let past = Index::read(&keep.index_at(&format!("/at/{past}/index.tar.gz")));
    assert_eq!(past.packages(), ["strong.1"]);
    // And listed once upstream's state was looked at again, though nothing of it changed.
    keep.refresh().ok();
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("rewrite_sources") && status.contains("legacy.1"), "{status}");
}

#[test]
fn rewriting_needs_to_know_where_clients_reach_the_mirror() {
    let world = World::start();
    let refused = |mirror: Mirror, reason: &str| {
        let keep = stopped(&mirror.of_repository("rewrite_sources", true));
        let run = keep.run(&["serve"]);
        assert!(run.code == 2 && run.stderr.contains(reason), "{}", run.said());
    };
    refused(Mirror::of(&world), "set server.public_url");
    let verbatim = Mirror::of(&world).set("server.public_url", "https://keep.example");
    refused(verbatim.of_repository("mode", "verbatim"), "rewrite_sources can't be true");
}

/// Whether there is such a client at all; everything else is asserted.
fn dials_nothing_but_the_mirror(version: Version) -> bool {
    if !installed("strace") {
        return false;
    }
    let world = World::start();
    world.publish(&repo());
    let Some(network) = Network::start() else {
        println!("network namespaces are not to be had here");
        return false;
    };
    let port = free_port();
    let mut keep = stopped(&rewriting(&world, network.address(), port));
    keep.restart();
    keep.index();
    let url = format!("https://{}:{port}", network.address());
    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    let trace = Trace::of(&opam.program().display().to_string());
    let opam = opam.inside(&network, &trace);
    opam.init(&url).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "strong", "bare", "patched"]).ok();
    for name in ["strong", "bare", "patched"] {
        assert!(opam.share("default").join(name).join("content").exists(), "{name}");
    }
    keep.ledger().pin(bare().url());

    // One that upstream does not give any more is asked for nowhere else either.
    world.lie(gone().url(), world::Lie::Status(404));
    let failed = opam.run(&["install", "gone"]);
    assert_ne!(failed.code, 0, "{}", failed.said());
    let outwards = trace.outwards();
    let here = format!("sin_port=htons({port}), sin_addr=inet_addr(\"{}\")", network.address());
    let elsewhere: Vec<&String> = outwards.iter().filter(|line| !line.contains(&here)).collect();
    assert!(outwards.len() > elsewhere.len(), "the trace sees the mirror: {outwards:#?}");
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    true
}

/// Whether there is such a client at all; everything else is asserted.
fn rebuilds_nothing(version: Version) -> bool {
    let world = World::start();
    world.publish(&repo());
    let port = free_port();
    let plain = listening(&world, Ipv4Addr::LOCALHOST, port);
    let mut keep = stopped(&plain);
    keep.restart();
    keep.index();
    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    opam.init(&keep.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "strong", "patched"]).ok();
    let built = || {
        ["strong", "patched"].map(|name| {
            let content = opam.share("default").join(name).join("content");
            content.metadata().and_then(|it| it.modified()).expect("it is installed")
        })
    };
    let before = built();
    keep.stop();
    keep.configure(&plain.of_repository("rewrite_sources", true).text(&keep.store()));
    keep.restart();
    opam.run(&["update"]).ok();
    let shown = opam.run(&["show", "--raw", "strong"]).ok();
    assert!(shown.contains(&format!("https://localhost:{port}/archive/strong.1/")), "{shown}");
    let upgraded = opam.run(&["upgrade"]).ok();
    assert!(!upgraded.contains("recompile") && !upgraded.contains("reinstall"), "{upgraded}");
    assert_eq!(built(), before);
    true
}

/// The URLs in a served opam file, in its order.
fn sources<'a>(index: &'a Index, package: &str) -> Vec<&'a str> {
    let opam = index.opam(package).expect("it is served");
    let urls = opam.split("src: \"").skip(1);
    urls.map(|rest| rest.split('"').next().expect("a string ends")).collect()
}

fn rewriting(world: &World, address: Ipv4Addr, port: u16) -> Mirror {
    listening(world, address, port).of_repository("rewrite_sources", true)
}

/// A mirror that clients reach at a fixed port, here and from another network.
fn listening(world: &World, address: Ipv4Addr, port: u16) -> Mirror {
    let host = if address.is_loopback() { "localhost".to_owned() } else { address.to_string() };
    Mirror::of(world)
        .set("server.listen", vec![format!("0.0.0.0:{port}")])
        .set("server.hostnames", vec!["localhost".to_owned(), address.to_string()])
        .set("server.public_url", format!("https://{host}:{port}"))
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|it| it.local_addr());
    socket.expect("this machine has a free port").port()
}

fn stopped(mirror: &Mirror) -> Keep {
    let keep = Keep::stopped(BINARY);
    keep.configure(&mirror.text(&keep.store()));
    keep
}

fn repo() -> Repo {
    Repo::new([Package::new("strong", "1"), bare(), patched(), gone()])
}

fn bare() -> Package {
    Package::bare("bare", "1").archive("https://b.example/bare-1.tgz", &[])
}

fn patched() -> Package {
    Package::bare("patched", "1")
        .archive("https://p.example/patched.tar.gz", &[Kind::Md5, Kind::Sha256])
        .mirror("https://q.example/patched.tar.gz")
        .extra_source("dir/a b.txt", EXTRA, b"more", &[Kind::Sha256])
}

fn gone() -> Package {
    Package::bare("gone", "1").archive("https://g.example/gone.tgz", &[Kind::Sha256])
}

const EXTRA: &str = "https://p.example/more.txt";
