//! Rechecks: what is pinned is fetched again, and whatever upstream changed, lost or keeps back is
//! named rightly, once.

use crate::start;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World, tar_gz, within};

#[test]
fn g4_of_300_archives_exactly_those_that_upstream_changed_lost_or_keeps_back_are_named() {
    let packages: Vec<Package> = (0..300).map(|number| package(number, "hello")).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    world.put(HOOK, "ok");
    let hook = format!("url = \"{HOOK}\"\nbody = \"slack\"");
    let mut keep = start(&patient(&world).sink("webhook", &hook));
    keep.index();
    let client = keep.raw();
    for package in &packages {
        assert_eq!(client.get(&package.cache_path(Kind::Sha256)).expect("an answer").status, 200);
    }
    let entries = keep.ledger().len();
    let untouched = keep.run(&["recheck", "--all"]).ok();
    assert_eq!(untouched.trim(), "300 URLs: 300 same");
    assert_eq!(keep.ledger().len(), entries, "what is as it was is not worth an entry");

    let url = |number: usize| packages[number].url();
    world.put(url(10), compressed_anew(packages[10].archive_bytes()));
    world.put(url(20), archive("another-folder", "hello, 20\n"));
    world.put(url(30), archive("folder", "hallo, 30\n"));
    world.take_down(url(40));
    world.lie(url(50), Lie::Status(410));
    world.lie(url(60), Lie::StallMidBody);
    let run = keep.run(&["recheck", "--all", "--json"]);
    assert_eq!(run.code, 1, "{}", run.said());
    let found = findings(&run.stdout);
    let named = |number: usize| {
        let (outcome, detail) = &found[url(number)];
        (outcome.as_str(), detail.as_str())
    };
    assert_eq!(found.len(), 6, "{found:#?}");
    for (number, outcome, words) in SIX {
        assert_eq!(named(number).0, outcome, "{number}");
        assert!(named(number).1.contains(words), "{number}: {:?}", named(number));
    }
    let told = |keep: &Keep| {
        let ledger = keep.ledger();
        let rechecks: Vec<Value> = ledger.of_kind("recheck").cloned().collect();
        (rechecks, ledger.of_kind("divergence").count(), ledger.len())
    };
    let first = told(&keep);
    assert_eq!((first.0.len(), first.1, first.2), (6, 3, entries + 9));
    assert!(first.0.iter().all(|entry| entry["before"] == "same"), "{first:#?}");
    let is_delivered = || {
        let status: Value = serde_json::from_str(&keep.run(&["status", "--json"]).ok()).ok()?;
        (status["sinks"][0]["delivered"] == 6).then_some(())
    };
    within(Duration::from_secs(30), "six alerts", is_delivered);
    let alerts = alerts(&world);
    assert_eq!(alerts.len(), 6, "{alerts:#?}");
    for (number, kind, words) in SIX {
        let about = format!("p{number}.1.0");
        let named = |text: &&String| {
            text.starts_with(&format!("*{kind}: ")) && text.contains(&about) && text.contains(words)
        };
        assert_eq!(alerts.iter().filter(named).count(), 1, "{number}: {alerts:#?}");
    }
    for restarted in [false, true] {
        if restarted {
            keep.stop();
            keep.restart();
        }
        assert_eq!(keep.run(&["recheck", "--all"]).code, 1);
        assert_eq!(told(&keep), first, "nothing is told twice");
    }
    // The sink is told in the order of the ledger: after this one, nothing older comes.
    world.lie(url(70), Lie::Status(404));
    keep.run(&["recheck", "p70"]);
    let seventh = || Some(self::alerts(&world)).filter(|alerts| alerts.len() > 6);
    let alerts = within(Duration::from_secs(30), "one more alert", seventh);
    assert!(alerts.len() == 7 && alerts[6].contains("p70.1.0"), "{alerts:#?}");
    world.be_honest(url(70));
    keep.run(&["recheck", "p70"]).ok();
    let first = told(&keep);
    for package in &packages {
        let answer = keep.raw().get(&package.cache_path(Kind::Sha256)).expect("an answer");
        assert_eq!(answer.body().expect("a body"), package.archive_bytes(), "what was first stays");
    }
    keep.run(&["verify"]).ok();

    world.lie_everywhere(None);
    for package in &packages {
        world.be_honest(package.url());
        world.put(package.url(), package.archive_bytes().to_vec());
    }
    assert_eq!(keep.run(&["recheck", "--all"]).ok().trim(), "300 URLs: 300 same");
    let all = told(&keep).0.len() - first.0.len();
    assert_eq!(all, 6, "that all is well again is written down as well");
}

#[test]
fn what_only_a_cache_gave_is_rechecked_at_its_own_source_too() {
    let honest = package(1, "hello");
    let lying = package(2, "hello");
    let world = World::start();
    world.publish(&Repo::new([honest.clone(), lying.clone()]));
    for package in [&honest, &lying] {
        let path = package.cache_path(Kind::Sha512);
        world.put(&format!("{}{path}", World::OPAM), package.archive_bytes().to_vec());
    }
    world.put(lying.url(), archive("folder", "hallo"));
    let mut keep = start(&patient(&world));
    keep.index();
    for package in [&honest, &lying] {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    assert_eq!(world.count(honest.url()) + world.count(lying.url()), 0, "the cache had them");
    let run = keep.run(&["recheck", "p2.1.0", "--json"]);
    let found = findings(&run.stdout);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[lying.url()].0, "changed");
    let ledger = keep.ledger();
    let told = ledger.divergences(lying.url());
    assert_eq!((told.len(), &told[0]["what"]), (1, &"mismatch".into()), "{told:#?}");

    keep.run(&["recheck", "p1"]).ok();
    let ledger = keep.ledger();
    let sha256 = Kind::Sha256.of(honest.archive_bytes());
    assert_eq!(ledger.pin(honest.url())["sha256"], sha256, "its first fetch pins it");
    assert_eq!(ledger.pins(lying.url()).len(), 0);
    keep.run(&["verify"]).ok();
}

#[test]
fn a_source_that_redirects_to_another_place_is_told_as_moved() {
    let package = package(1, "hello");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    world.put("https://elsewhere.example/p.tar.gz", package.archive_bytes().to_vec());
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    let target = "https://elsewhere.example/p.tar.gz?signed=";
    for (query, outcome) in [("1", "moved"), ("2", "moved")] {
        world.put(&format!("{target}{query}"), package.archive_bytes().to_vec());
        world.lie(package.url(), Lie::Redirect(format!("{target}{query}")));
        let said = keep.run(&["recheck", package.url()]).ok();
        assert!(said.contains(outcome) && said.contains("elsewhere.example"), "{said}");
    }
    assert_eq!(keep.ledger().of_kind("recheck").count(), 1);
}

#[test]
fn g5_a_url_that_can_not_be_reached_counts_only_when_asked_for_twice() {
    let package = package(1, "hello");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&patient(&world).set("recheck.every", "60s"));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    world.forget_requests();
    world.lie(package.url(), Lie::HangUp);
    let wait = Duration::from_secs(120);
    within(wait, "the first look", || (world.count(package.url()) > 0).then_some(()));
    within(wait, "the entry", || keep.ledger().of_kind("recheck").next().cloned());
    assert!(world.count(package.url()) >= 2, "one failure alone says nothing");
    let ledger = keep.ledger();
    let told: Vec<&Value> = ledger.of_kind("recheck").collect();
    assert_eq!((told.len(), &told[0]["outcome"]), (1, &"unreachable".into()));
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("1 unreachable"), "{status}");
}

#[test]
fn the_schedule_goes_on_after_a_restart_and_never_starts_over() {
    let packages: Vec<Package> = (0..20).map(|number| package(number, "hello")).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let mirror = patient(&world).set("recheck.every", "40s");
    let mut keep = start(&mirror);
    keep.index();
    for package in &packages {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    world.forget_requests();
    let asked = |least: usize| {
        let count = || packages.iter().filter(|package| world.count(package.url()) > 0).count();
        within(Duration::from_secs(90), "rechecks", || (count() >= least).then_some(()));
    };
    asked(5);
    keep.stop();
    keep.restart();
    asked(20);
    let most = packages.iter().map(|package| world.count(package.url())).max();
    assert!(most <= Some(3), "each has one turn a round: {most:?}");
    assert_eq!(keep.ledger().of_kind("recheck").count(), 0);
}

#[test]
fn a_recheck_works_without_a_server_and_says_what_it_can_not_mean() {
    let package = package(1, "hello");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    let rechecks = |keep: &Keep| {
        let status: Value =
            serde_json::from_str(&keep.run(&["status", "--json"]).ok()).expect("JSON");
        let text = keep.run(&["status"]).ok();
        let line = text.lines().find(|line| line.starts_with("rechecks")).map(str::to_owned);
        (status["rechecks"]["urls"].to_string(), line.expect("a line of rechecks"))
    };
    let none = ("{}".to_owned(), "rechecks     none yet; 0 due now".to_owned());
    assert_eq!(rechecks(&keep), none, "a first fetch is no recheck");
    for running in [true, false] {
        if !running {
            let one = (r#"{"same":1}"#.to_owned(), "rechecks     1 same; 0 due now".to_owned());
            assert_eq!(rechecks(&keep), one);
            keep.stop();
        }
        assert_eq!(keep.run(&["recheck", "p1.1.0"]).ok().trim(), "1 URL: 1 same");
        let due = keep.run(&["recheck"]).ok();
        assert_eq!(due.trim(), "nothing is due; --all rechecks everything");
        let unknown = keep.run(&["recheck", "nothing-like-it"]);
        assert_eq!(unknown.code, 2, "{}", unknown.said());
        assert!(unknown.stderr.contains("nothing is pinned of nothing-like-it"));
        assert_eq!(keep.run(&["recheck", "--all", "p1"]).code, 2);
    }
}

#[test]
fn bytes_that_were_accepted_once_are_told_when_metadata_declares_others_again() {
    let [first, second] = ["hello", "hallo"].map(|content| package(1, content));
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    let accept = |keep: &Keep, package: &Package| {
        world.publish(&Repo::new([package.clone()]));
        keep.refresh().ok();
        keep.run(&["divergences", "accept", &open(keep)]).ok();
    };
    let gives = |package: &Package| world.put(package.url(), package.archive_bytes().to_vec());
    accept(&keep, &second);
    assert_eq!(keep.run(&["recheck", "p1"]).ok().trim(), "1 URL: 1 same");
    gives(&first);
    let says = |keep: &Keep, words: &str| {
        let run = keep.run(&["recheck", "p1"]);
        assert!(run.code == 1 && run.stdout.contains(words), "{}", run.said());
    };
    says(&keep, "1 changed");
    let told = open(&keep);
    let shown = keep.run(&["divergences", "show", &told]).ok();
    let expected = Kind::Sha256.of(second.archive_bytes());
    assert!(shown.contains("changed") && shown.contains(&expected), "{shown}");

    // Once it is declared again, that it comes is no news any more, but that the other one does is.
    world.publish(&Repo::new([first.clone()]));
    keep.refresh().ok();
    let id: u64 = told.parse().expect("a number");
    let edited = keep.divergences().into_iter().find(|it| it["id"] != id);
    let said =
        keep.run(&["divergences", "accept", &edited.expect("an edit")["id"].to_string()]).ok();
    assert!(said.contains(&format!("Divergence {told} told of the same bytes")), "{said}");
    assert!(keep.divergences().is_empty());
    assert_eq!(keep.run(&["recheck", "p1"]).ok().trim(), "1 URL: 1 same");
    gives(&second);
    says(&keep, "1 changed");
    open(&keep);
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).body == first.archive_bytes());
}

#[test]
fn what_upstream_mended_and_broke_again_is_told_again_whoever_acknowledged_it() {
    let (first, second) = (package(1, "hello"), archive("folder", "hallo, 1\n"));
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    let mut before = String::new();
    for _ in 0..3 {
        world.put(first.url(), second.clone());
        for _ in 0..2 {
            assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
            let told = open(&keep);
            assert_ne!(told, before, "it was acknowledged before");
        }
        before = open(&keep);
        keep.run(&["divergences", "ack", &before]).ok();
        assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
        assert!(keep.divergences().is_empty(), "it goes on, and somebody knows");
        world.put(first.url(), first.archive_bytes().to_vec());
        assert_eq!(keep.run(&["recheck", "p1"]).ok().trim(), "1 URL: 1 same");
        // Whether it was away in between or not.
        world.lie(first.url(), Lie::Status(404));
        assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
        world.be_honest(first.url());
    }
    assert_eq!(keep.ledger().of_kind("divergence").count(), 3);
    // To have been away is not to be mended.
    world.put(first.url(), second);
    assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
    keep.run(&["divergences", "ack", &open(&keep)]).ok();
    for lie in [Some(Lie::Status(404)), None] {
        match lie {
            Some(lie) => world.lie(first.url(), lie),
            None => world.be_honest(first.url()),
        }
        assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
        assert!(keep.divergences().is_empty(), "somebody knows");
    }
}

#[test]
fn a_redirect_to_where_nobody_may_go_is_told_once_however_often_it_is_acknowledged() {
    let first = package(1, "hello");
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    world.lie(first.url(), Lie::Redirect("http://elsewhere.example/a".to_owned()));
    assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
    keep.run(&["divergences", "ack", &open(&keep)]).ok();
    for _ in 0..2 {
        assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
        assert!(keep.divergences().is_empty(), "it goes on, and somebody knows");
    }
}

#[test]
fn what_upstream_mended_and_broke_otherwise_first_is_told_again_too() {
    let first = package(1, "hello");
    let [one, other] = ["hallo, 1\n", "salut, 1\n"].map(|content| archive("folder", content));
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    let breaks = |bytes: &Vec<u8>, is_told: bool| {
        world.put(first.url(), bytes.clone());
        assert_eq!(keep.run(&["recheck", "p1"]).code, 1);
        match is_told {
            true => drop(keep.run(&["divergences", "ack", &open(&keep)]).ok()),
            false => assert!(keep.divergences().is_empty(), "somebody knows"),
        }
    };
    breaks(&one, true);
    world.put(first.url(), first.archive_bytes().to_vec());
    assert_eq!(keep.run(&["recheck", "p1"]).ok().trim(), "1 URL: 1 same");
    breaks(&other, true);
    breaks(&one, true);
    breaks(&other, false);
    breaks(&one, false);
}

#[test]
fn a_source_that_never_gave_what_is_pinned_is_told_of_once() {
    let package = package(1, "hello").mirror("https://second.example/p1.tgz");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    world.put(package.url(), archive("folder", "hallo, 1\n"));
    let mut keep = start(&patient(&world));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    keep.run(&["divergences", "ack", &open(&keep)]).ok();
    for _ in 0..2 {
        assert_eq!(keep.run(&["recheck", "--all"]).code, 1);
        assert!(keep.divergences().is_empty(), "nothing was mended");
    }
}

/// The id of the only divergence that is open.
fn open(keep: &Keep) -> String {
    let open = keep.divergences();
    assert_eq!(open.len(), 1, "{open:#?}");
    open[0]["id"].to_string()
}

/// A mirror that does not wait long for an upstream that says nothing.
fn patient(world: &World) -> Mirror {
    Mirror::of(world).set("upstream.timeout", "1s")
}

fn package(number: usize, content: &str) -> Package {
    let name = format!("p{number}");
    let content = format!("{content}, {number}\n");
    Package::new(&name, "1.0").bytes(archive("folder", &content), &[Kind::Sha256, Kind::Sha512])
}

/// What the webhook was told, in order.
fn alerts(world: &World) -> Vec<String> {
    let requests = world.requests().into_iter().filter(|it| HOOK.ends_with(&it.url));
    let body = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON");
    requests.map(|it| body(&it.body)["text"].as_str().expect("a text").to_owned()).collect()
}

/// What is not the same, by URL: the outcome and the words.
fn findings(lines: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .filter(|line| line["outcome"] != "same")
        .map(|line| (text(&line["url"]), (text(&line["outcome"]), text(&line["detail"]))))
        .collect()
}

fn archive(folder: &str, content: &str) -> Vec<u8> {
    let paths = ["README", "src/main.ml"].map(|file| format!("{folder}/{file}"));
    tar_gz(paths.iter().map(|path| (path.as_str(), content.as_bytes())))
}

fn compressed_anew(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).expect("a gzip stream");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&tar).expect("memory takes everything");
    gzip.finish().expect("a gzip stream can be ended")
}

const HOOK: &str = "https://hooks.example/alerts";
/// What upstream does to six of the archives, and the words that tell it.
const SIX: [(usize, &str, &str); 6] = [
    (10, "changed", "recompressed: "),
    (20, "changed", "repacked: "),
    (30, "changed", "content: "),
    (40, "gone", "404"),
    (50, "gone", "410"),
    (60, "unreachable", "stalled"),
];
