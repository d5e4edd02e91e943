//! `/at/<when>/`: repositories as they were served at a point in the past, and as upstream had them
//! before that.

use crate::{skip, start};
use jiff::{Timestamp, ToSpan as _};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use world::{
    Answer, Checkout, Index, Keep, Lie, Mirror, Opam, Package, Repo, Version, World, installed,
    within,
};

#[test]
fn opam_2_1_builds_with_the_packages_of_either_time() {
    if !builds_with_the_packages_of_either_time(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_3_builds_with_the_packages_of_either_time() {
    if !builds_with_the_packages_of_either_time(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_6_builds_with_the_packages_of_either_time() {
    if !builds_with_the_packages_of_either_time(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

/// Whether there is such a client at all; everything else is asserted.
fn builds_with_the_packages_of_either_time(version: Version) -> bool {
    let (world, mut keep, [first, second], [old, new]) = two_states();
    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    let url = keep.url();
    let content = || {
        let file = opam.share("default").join("hello/content");
        std::fs::read_to_string(file).expect("hello is installed")
    };
    assert_eq!(keep.index().packages(), ["hello.2.0"], "the present is served beside the past");

    opam.init(&format!("{url}/at/{}/", first.at)).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    assert_eq!(world.count(old.url()), 0);
    opam.run(&["install", "hello"]).ok();
    assert_eq!(content(), "This is hello 1.0.\n");
    assert_eq!(world.count(old.url()), 1, "only the past declares it, and it came from here");
    keep.ledger().pin(old.url());

    let set_url = |path: &str| {
        opam.run(&["repository", "set-url", "default", &format!("{url}{path}")]).ok();
        opam.run(&["update"]).ok();
        opam.run(&["upgrade", "hello"]).ok();
    };
    set_url(&format!("/at/{}/default/", second.at));
    assert_eq!(content(), "This is hello 2.0.\n");
    set_url(&format!("/at/{}", first.size));
    assert_eq!(content(), "This is hello 1.0.\n", "archives are shared");
    set_url("");
    assert_eq!(content(), "This is hello 2.0.\n");
    assert_eq!((world.count(old.url()), world.count(new.url())), (1, 1));
    true
}

#[test]
fn what_was_served_is_served_again_to_the_byte_and_for_ever() {
    for mode in ["managed", "verbatim"] {
        is_served_again_to_the_byte(mode);
    }
}

fn is_served_again_to_the_byte(mode: &str) {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world).of_repository("mode", mode));
    let then = [keep.index_at("/index.tar.gz"), keep.index_at("/default/repo")];
    let point = admitted(&keep, 0);
    over(&point.at);
    world.publish(&Repo::new([Package::new("hello", "1.0"), Package::new("hello", "2.0")]));
    keep.refresh().ok();
    over(&admitted(&keep, 1).at);
    let mut seen = Vec::new();
    for _ in 0..3 {
        for when in [point.at.clone(), point.at.replace(':', "%3a"), point.size.to_string()] {
            let answers = ["/index.tar.gz", "/default/repo"]
                .map(|path| keep.curl().get(&format!("/at/{when}{path}")));
            for (answer, then) in answers.iter().zip(&then) {
                assert!(answer.is_whole() && answer.body == *then, "{when}: {answer:?}");
                let fresh = answer.header("cache-control").unwrap_or_default();
                assert!(fresh.contains("immutable") && fresh.contains("max-age=31536000"));
            }
            let etag = answers[0].header("etag").expect("it has one").to_owned();
            assert!(etag.starts_with("\"sha256-"), "{etag}");
            let condition = format!("If-None-Match: {etag}");
            let path = format!("/at/{when}/index.tar.gz");
            assert_eq!(keep.curl().with(&["-H", &condition], &path).status, 304);
            seen.push(etag);
        }
        // A restart, and then one without what is derived.
        keep.stop();
        if seen.len() > 3 {
            std::fs::remove_dir_all(keep.store().join("catalog")).expect("it is there");
        }
        keep.restart();
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "g8: {seen:?}");
    assert_eq!(keep.index().packages(), ["hello.1.0", "hello.2.0"]);
    keep.run(&["verify"]).ok();
}

#[test]
fn each_repository_has_a_past_of_its_own() {
    let (hello, other) = (Package::new("hello", "1.0"), Package::new("other", "1.0"));
    let world = World::start();
    world.publish(&Repo::new([hello.clone()]));
    world.publish_at("https://second.example", &Repo::new([other.clone()]));
    let mut keep = start(&Mirror::of(&world).repository("second", "https://second.example"));
    keep.index();
    keep.index_at("/second/index.tar.gz");
    let size = keep.ledger().len();
    let mut get = |path: &str| keep.curl().get(&format!("/at/{size}{path}"));
    assert_eq!(packages(&get("/index.tar.gz")), ["hello.1.0"]);
    assert_eq!(packages(&get("/second/index.tar.gz")), ["other.1.0"]);
    let path = other.cache_path(world::Kind::Sha512);
    assert_eq!(get(&format!("/default{path}")).status, 404, "it is the other's");
    assert!(get(&path).is_whole());
    assert!(get(&format!("/second{}", other.cache_path(world::Kind::Sha256))).is_whole());
    assert_eq!((world.count(other.url()), world.count(hello.url())), (1, 0));
}

#[test]
fn a_point_that_could_still_change_or_is_none_is_refused_in_a_sentence() {
    let (_world, mut keep, [first, _], _) = two_states();
    let now = Timestamp::now();
    let day = |ahead: i64| {
        now.to_string()[..10]
            .parse::<jiff::civil::Date>()
            .map(|day| day.saturating_add(ahead.days()).to_string())
    };
    let day = |ahead| day(ahead).expect("it begins with a date");
    let size = keep.ledger().len();
    for (when, status, says) in [
        (day(1), 404, "not over"),
        (day(0), 404, "ask for a time"),
        ("2999-01-01".to_owned(), 404, "not over"),
        ("2999-01-01T00:00:00Z".to_owned(), 404, "lies ahead"),
        ((size + 1).to_string(), 404, "the ledger has"),
        ("99999999999999999999999".to_owned(), 404, "the ledger has"),
        ("0".to_owned(), 404, "is among the first 0"),
        ((first.size - 1).to_string(), 404, &format!("ask for {}", first.size)),
        ("2001-02-03".to_owned(), 404, &format!("the first one is of {}", first.at)),
        ("yesterday".to_owned(), 400, "after /at/ comes a date"),
        ("2026-02-30".to_owned(), 400, "after /at/ comes a date"),
        ("2026-05-20T12:00Z".to_owned(), 400, "after /at/ comes a date"),
        ("-1".to_owned(), 400, "after /at/ comes a date"),
    ] {
        for path in ["index.tar.gz", "default/repo"] {
            let answer = keep.curl().get(&format!("/at/{when}/{path}"));
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, status, "{when}: {text}");
            assert!(text.contains(says) && text.lines().count() == 1, "{when}: {text}");
            if status == 404 {
                let reason = answer.header("x-opam-keep-reason").unwrap_or_default();
                assert!(reason.starts_with("no-snapshot; "), "{reason}");
            }
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    assert_eq!(keep.curl().get("/at/2001-02-03/other/repo").status, 404);
    let undeclared = Package::new("other", "1.0");
    let path = format!("/at/{}{}", first.size, undeclared.cache_path(world::Kind::Sha256));
    let answer = keep.curl().get(&path);
    assert_eq!(answer.status, 404);
    assert!(answer.header("x-opam-keep-reason").unwrap_or_default().starts_with("undeclared"));
}

#[test]
fn a_hundred_clients_of_one_cold_state_cost_one_build() {
    let (_world, mut keep, [first, _], _) = two_states();
    keep.stop();
    keep.restart();
    let client = keep.raw();
    let together = Arc::new(Barrier::new(100));
    let ask = |number: usize| {
        let (client, together) = (client.clone(), Arc::clone(&together));
        let when = if number.is_multiple_of(2) { first.at.clone() } else { first.size.to_string() };
        std::thread::spawn(move || {
            together.wait();
            let answer = client.get(&format!("/at/{when}/index.tar.gz"));
            answer.and_then(|answer| answer.body()).expect("it is answered")
        })
    };
    let clients: Vec<_> = (0..100).map(ask).collect();
    for client in clients {
        let index = client.join().expect("a client does not panic");
        assert_eq!(Index::read(&index).packages(), ["hello.1.0"]);
    }
    let built = keep.logged().into_iter().filter(|line| line["message"] == "past state built");
    assert_eq!(built.count(), 1);
}

#[test]
fn g5_the_past_is_served_while_upstream_lies() {
    let (world, mut keep, [first, second], [old, new]) = two_states();
    assert!(keep.curl().get(&new.cache_path(world::Kind::Sha256)).is_whole());
    world.lie_everywhere(Some(Lie::HangUp));
    keep.stop();
    keep.restart();
    let get =
        |keep: &mut Keep, when: &str, path: &str| keep.curl().get(&format!("/at/{when}{path}"));
    assert_eq!(packages(&get(&mut keep, &first.at, "/index.tar.gz")), ["hello.1.0"]);
    assert_eq!(packages(&get(&mut keep, &second.at, "/index.tar.gz")), ["hello.2.0"]);
    let path = new.cache_path(world::Kind::Sha256);
    assert!(get(&mut keep, &second.at, &path).is_whole());
    assert!(get(&mut keep, &second.at, "/default/archive/hello.2.0").is_whole());
    let missing = get(&mut keep, &first.at, &old.cache_path(world::Kind::Sha256));
    assert_eq!(missing.status, 404);
    let reason = missing.header("x-opam-keep-reason").unwrap_or_default();
    assert!(reason.starts_with("unavailable"), "{reason}");
    let other = get(&mut keep, &first.at, "/archive/hello.2.0");
    assert_eq!(other.status, 404, "it was not declared then");
}

#[test]
fn a_git_upstreams_own_history_is_there_from_the_first_day() {
    let Some((world, checkout, mut keep)) = with_history() else { skip!("no git in PATH") };
    let get = |keep: &mut Keep, when: &str| keep.curl().get(&format!("/at/{when}/index.tar.gz"));
    for _ in 0..2 {
        for (when, expected) in [
            ("2020-06-01", &["hello.1.0"][..]),
            ("2020-01-01T12:00:00Z", &["hello.1.0"]),
            ("2021-01-01T11:59:59Z", &["hello.1.0"]),
            ("2021-01-01T12:00:00Z", &["hello.1.0", "hello.1.1"]),
            // A branch counts from when it was merged.
            ("2021-04-01", &["hello.1.0", "hello.1.1"]),
            ("2021-09-02", &["hello.1.0", "hello.1.1", "side.1.0"]),
            ("2022-06-01", &["hello.1.1", "hello.2.0", "side.1.0"]),
        ] {
            assert_eq!(packages(&get(&mut keep, when)), expected, "{when}");
        }
    }
    let early = get(&mut keep, "2019-01-01");
    assert_eq!(early.status, 404);
    let text = String::from_utf8_lossy(&early.body).into_owned();
    assert!(text.contains("history begins at 2020-01-01T12:00:00Z"), "{text}");
    let ledger = keep.ledger();
    let snapshots: Vec<_> = ledger.of_kind("snapshot").collect();
    let pasts = snapshots.iter().filter(|it| it["past"].is_object()).count();
    assert_eq!((snapshots.len(), pasts), (5, 4), "each state is admitted once");

    // What only old states declare is fetched like anything else.
    let hello = Package::new("hello", "1.0");
    let path = format!("/at/2020-06-01{}", hello.cache_path(world::Kind::Sha256));
    let answer = keep.curl().get(&path);
    assert!(answer.is_whole() && answer.body == hello.archive_bytes());
    assert_eq!(world.count(hello.url()), 1);
    keep.ledger().pin(hello.url());

    // The present goes on as if nothing had been brought in.
    let status = keep.run(&["status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["repositories"][0]["versions"], 3);
    keep.stop();
    let at_rest = keep.run(&["status", "--json"]).ok();
    let at_rest: serde_json::Value = serde_json::from_str(&at_rest).expect("JSON");
    assert_eq!(at_rest["repositories"][0]["entry"], status["repositories"][0]["entry"]);
    keep.restart();
    checkout.publish(&Repo::new([Package::new("hello", "3.0")]));
    keep.refresh().ok();
    let now = ["hello.1.1", "hello.2.0", "hello.3.0", "side.1.0"];
    assert_eq!(keep.index().packages(), now);
    assert_eq!(keep.ledger().of_kind("divergence").count(), 0);
    keep.run(&["verify"]).ok();
}

#[test]
fn g8_what_was_brought_in_stays_when_catalog_and_upstream_go() {
    let Some((_world, checkout, mut keep)) = with_history() else { skip!("no git in PATH") };
    let now = keep.index();
    let times = ["2022-06-01", "2021-06-01T00:00:00Z", "2020-06-01"];
    let get =
        |keep: &mut Keep| times.map(|when| keep.curl().get(&format!("/at/{when}/index.tar.gz")));
    let before = get(&mut keep);
    assert!(before.iter().all(Answer::is_whole), "{before:?}");
    std::fs::remove_dir_all(checkout.directory()).expect("it is there");
    keep.stop();
    std::fs::remove_dir_all(keep.store().join("catalog")).expect("it is there");
    keep.restart();
    for (before, after) in before.iter().zip(get(&mut keep)) {
        assert!(after.is_whole() && after.body == before.body);
        assert_eq!(after.header("etag"), before.header("etag"));
    }
    assert_eq!(keep.index(), now, "the present is what it was");
    let last = admitted(&keep, 3);
    over(&last.at);
    for when in [last.at, last.size.to_string()] {
        let index = keep.curl().get(&format!("/at/{when}/index.tar.gz"));
        assert_eq!(packages(&index), now.packages(), "what was brought in is not of its own time");
    }
    let other = keep.curl().get("/at/2021-10-01/index.tar.gz");
    assert_eq!(other.status, 404, "what was not brought in is gone with upstream");
    let reason = other.header("x-opam-keep-reason").unwrap_or_default();
    assert!(reason.starts_with("unavailable; "), "{reason}");
}

#[test]
fn g2_a_history_that_is_rewritten_later_changes_no_answer() {
    let Some((_world, checkout, mut keep)) = with_history() else { skip!("no git in PATH") };
    // A new commit that says to be an old one, and one that replaces what is there.
    checkout.publish_at(&Repo::new([Package::new("evil", "1.0")]), "2021-02-01T00:00:00Z");
    keep.refresh().ok();
    assert!(keep.index().packages().contains(&"evil.1.0"));
    let answer = keep.curl().get("/at/2021-03-01/index.tar.gz");
    assert_eq!(packages(&answer), ["hello.1.0", "hello.1.1"]);
}

#[test]
fn who_asks_for_history_that_takes_long_is_told_and_it_goes_on() {
    if !installed("git") {
        skip!("no git in PATH");
    }
    let Some((_world, _checkout, mut keep)) =
        with_history_and(|mirror| mirror.set("upstream.patience", "1ms"))
    else {
        skip!("no git in PATH")
    };
    let first = keep.curl().get("/at/2020-06-01/index.tar.gz");
    assert_eq!(first.status, 404);
    let reason = first.header("x-opam-keep-reason").unwrap_or_default();
    assert!(reason.starts_with("fetching"), "{reason}");
    let answer = within(Duration::from_secs(60), "it is brought in", || {
        let answer = keep.curl().get("/at/2020-06-01/index.tar.gz");
        answer.is_whole().then_some(answer)
    });
    assert_eq!(packages(&answer), ["hello.1.0"]);
    assert_eq!(keep.ledger().of_kind("snapshot").count(), 2);
}

/// A point in the ledger, by time and by size.
pub(crate) struct Point {
    pub(crate) at: String,
    pub(crate) size: usize,
}

/// A mirror that admitted two states, one after the other; both times are over.
pub(crate) fn two_states() -> (World, Keep, [Point; 2], [Package; 2]) {
    let packages = ["1.0", "2.0"].map(|version| Package::new("hello", version));
    let world = World::start();
    world.publish(&Repo::new([packages[1].clone()]));
    world.publish(&Repo::new([packages[0].clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let first = admitted(&keep, 0);
    over(&first.at);
    world.publish(&Repo::new([packages[1].clone()]));
    keep.refresh().ok();
    let second = admitted(&keep, 1);
    over(&second.at);
    (world, keep, [first, second], packages)
}

/// The snapshot of this number.
fn admitted(keep: &Keep, number: usize) -> Point {
    let ledger = keep.ledger();
    let mut seen = 0;
    let entry = ledger.index_of(|entry| {
        seen += usize::from(entry["kind"] == "snapshot");
        seen == number + 1
    });
    let at = ledger.at(entry)["at"].as_str().expect("an entry has a time").to_owned();
    Point { at, size: entry + 1 }
}

/// Waits until this second is over.
fn over(at: &str) {
    let at: Timestamp = at.parse().expect("it is a time");
    within(Duration::from_secs(10), "a second", || {
        (Timestamp::now().as_second() > at.as_second()).then_some(())
    });
}

/// A mirror of a git repository that had years of history before.
pub(crate) fn with_history() -> Option<(World, Checkout, Keep)> {
    with_history_and(|mirror| mirror)
}

fn with_history_and(more: impl FnOnce(Mirror) -> Mirror) -> Option<(World, Checkout, Keep)> {
    if !installed("git") {
        return None;
    }
    let world = World::start();
    let checkout = Checkout::new(world.directory().join("checkout"));
    let hello = |version: &str| Package::new("hello", version);
    checkout.publish_at(&Repo::new([hello("1.0")]), "2020-01-01T12:00:00Z");
    checkout.publish_at(&Repo::new([hello("1.1")]), "2021-01-01T12:00:00Z");
    checkout.git(&["checkout", "--quiet", "-b", "side"]).ok();
    checkout.publish_at(&Repo::new([Package::new("side", "1.0")]), "2021-03-01T12:00:00Z");
    checkout.git(&["checkout", "--quiet", "main"]).ok();
    let merge = ["merge", "--quiet", "--no-ff", "--message", "Merge", "side"];
    checkout.git_at(&merge, "2021-09-01T12:00:00Z").ok();
    checkout.remove("packages/hello/hello.1.0");
    checkout.publish_at(&Repo::new([hello("2.0")]), "2022-01-01T12:00:00Z");
    world.publish(&Repo::new(["1.0", "1.1", "2.0"].map(hello)));
    let upstream = format!("git+file://{}", checkout.path());
    let mut keep = start(&more(Mirror::of(&world)).of_repository("upstream", upstream.as_str()));
    keep.index();
    Some((world, checkout, keep))
}

fn packages(answer: &Answer) -> Vec<String> {
    assert!(answer.is_whole(), "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    Index::read(&answer.body).packages().into_iter().map(str::to_owned).collect()
}
