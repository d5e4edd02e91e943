//! `snapshots`: the states that can be gone back to, as the command line tells of them.

use crate::at::{two_states, with_history};
use crate::{BINARY, skip, start};
use world::{Keep, Mirror, Package, Repo, World};

#[test]
fn snapshots_are_listed_shown_and_compared_with_and_without_a_server() {
    let (_world, mut keep, [first, second], _) = two_states();
    let numbers = [first.size - 1, second.size - 1].map(|number| number.to_string());
    for _ in 0..2 {
        let listed = keep.run(&["snapshots"]).ok();
        assert_eq!(listed, keep.run(&["snapshots", "list"]).ok());
        assert_eq!(listed.lines().count(), 2, "{listed}");
        assert!(listed.lines().all(|line| line.ends_with("served")), "{listed}");
        assert!(listed.contains(&first.at) && listed.contains("1 version"), "{listed}");
        let last = keep.run(&["snapshots", "--last", "1", "--repository", "default"]).ok();
        assert!(last.trim().starts_with(&numbers[1]) && last.lines().count() == 1, "{last}");
        let none = keep.run(&["snapshots", "--repository", "other"]);
        assert!(none.code == 2 && none.said().contains("no repository \"other\""), "{none:?}");
        let json = keep.run(&["snapshots", "--json"]).ok();
        let json: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(json[0]["entry"].to_string(), numbers[0]);
        assert_eq!(json[1]["snapshot"]["versions"], 1);

        let shown = keep.run(&["snapshots", "show", &numbers[0]]).ok();
        let recipe = format!("/at/{}/default", first.size);
        assert!(shown.contains("opam repository set-url") && shown.contains(&recipe), "{shown}");
        let shown = keep.run(&["snapshots", "show", &numbers[0], "--json"]).ok();
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert!(shown["url"].as_str().unwrap_or_default().ends_with(&recipe), "{shown}");
        let refused = keep.run(&["snapshots", "show", "0"]);
        assert!(refused.code == 2 && refused.stderr.contains("is no snapshot"), "{refused:?}");
        assert_eq!(keep.run(&["snapshots", "show", "x"]).code, 2);

        let diff = keep.run(&["snapshots", "diff", &numbers[0], &numbers[1]]).ok();
        assert!(diff.contains("hello.1.0: version-removed"), "{diff}");
        assert!(diff.contains("hello.2.0: version-added"), "{diff}");
        let diff = keep.run(&["snapshots", "diff", "--json", &numbers[1], &numbers[0]]).ok();
        assert_eq!(diff.lines().count(), 2, "{diff}");
        if keep.is_running() {
            keep.stop();
        }
    }
}

#[test]
fn a_comparison_of_two_repositories_says_that_it_is_one() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    world.publish_at("https://lab.example", &Repo::new([Package::new("other", "1.0")]));
    let mut keep = start(&Mirror::of(&world).repository("lab", "https://lab.example"));
    keep.index();
    keep.index_at("/lab/index.tar.gz");
    let ledger = keep.ledger();
    let of = |name: &str| {
        let index = ledger.index_of(|it| it["kind"] == "snapshot" && it["repository"] == name);
        index.to_string()
    };
    let said = keep.run(&["snapshots", "diff", &of("default"), &of("lab")]);
    assert!(said.stderr.contains("two repositories: default and lab"), "{}", said.said());
}

#[test]
fn snapshots_of_upstreams_history_say_when_they_were() {
    let Some((_world, _checkout, mut keep)) = with_history() else { skip!("no git in PATH") };
    assert!(keep.curl().get("/at/2021-03-01/repo").is_whole());
    let listed = keep.run(&["snapshots"]).ok();
    let line = listed.lines().find(|line| line.contains("past, 2021-01-01T12:00:00Z"));
    let line = line.unwrap_or_else(|| panic!("{listed}"));
    let number = line.split_whitespace().next().expect("a number");
    let shown = keep.run(&["snapshots", "show", number]).ok();
    assert!(shown.contains("/at/2021-01-01T12:00:00Z/default"), "{shown}");
    let logged = keep.run(&["log", "--kind", "snapshot"]).ok();
    assert!(logged.contains("as upstream had it at 2021-01-01T12:00:00Z"), "{logged}");
}

#[test]
fn without_a_store_snapshots_says_so() {
    let keep = Keep::stopped(BINARY);
    keep.configure("");
    let run = keep.run(&["--store", "nowhere", "snapshots"]);
    assert!(run.code == 2 && run.stderr.contains("holds no opam-keep store"), "{run:?}");
}
