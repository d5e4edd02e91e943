//! What changes code under a published version is held until someone accepts it.

use crate::{skip, start};
use serde_json::{Value, json};
use std::time::Duration;
use world::{
    Checkout, Keep, Kind, Lie, Mirror, Opam, Package, Repo, Version, World, installed, tar_gz,
    within,
};

#[test]
fn a_rewritten_source_is_held_until_it_is_accepted_and_both_archives_stay() {
    let (world, mut keep, first, second) = rewritten();
    let new = Package::new("new", "1.0");
    world.publish(&Repo::new([second.clone(), new.clone()]));
    keep.refresh().ok();
    let index = keep.index();
    assert_eq!(index.packages(), ["hello.1.0", "new.1.0"], "everything else moves on");
    assert!(declares(&mut keep, &first) && !declares(&mut keep, &second));
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    assert_eq!(keep.curl().get(&second.cache_path(Kind::Sha256)).status, 404);
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("held") && status.contains("hello.1.0"), "{status}");

    keep.refresh().ok();
    keep.stop();
    keep.restart();
    assert!(declares(&mut keep, &first), "a restart is no decision");
    assert!(keep.run(&["status"]).ok().contains("hello.1.0"));
    let id = keep.divergence();
    let shown = keep.run(&["divergences", "show", &id]).ok();
    for text in ["edited", "source-rewritten", "hello.1.0", "accept"] {
        assert!(shown.contains(text), "{text} is not in {shown}");
    }

    let said = keep.run(&["divergences", "accept", &id, "--why", "the author said so"]).ok();
    let ledger = keep.ledger();
    let pins = ledger.pins(second.url());
    assert_eq!(pins.len(), 2, "the new archive is pinned beside the first: {said}");
    assert_eq!(pins[1]["sha256"], Kind::Sha256.of(second.archive_bytes()));
    assert!(said.contains("pinned by ledger entry"), "{said}");
    let open = keep.run(&["divergences", "list"]).ok();
    assert!(open.contains("no divergence is open"), "what was accepted is not told again: {open}");
    assert!(declares(&mut keep, &second) && !declares(&mut keep, &first));
    for package in [&first, &second] {
        let answer = keep.curl().get(&package.cache_path(Kind::Sha256));
        assert!(answer.is_whole() && answer.body == package.archive_bytes());
    }
    assert!(!keep.run(&["status"]).ok().contains("held"));
    keep.run(&["verify"]).ok();
    keep.stop();
    keep.restart();
    keep.refresh().ok();
    assert!(declares(&mut keep, &second), "what was accepted stays accepted");
}

#[test]
fn who_accepts_an_archive_acknowledges_what_a_recheck_found_of_it_and_nothing_else() {
    let (first, second) = states();
    let [before, after] = ["one", "another"].map(|content| {
        let bytes = tar_gz([("other/content", content.as_bytes())]);
        Package::new("other", "1.0").bytes(bytes, &[Kind::Sha256])
    });
    let world = World::start();
    world.publish(&Repo::new([first.clone(), before.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    for package in [&first, &before] {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    world.publish(&Repo::new([second.clone(), before.clone()]));
    world.lie(after.url(), Lie::Bytes(after.archive_bytes().to_vec()));
    assert_eq!(keep.run(&["recheck", "--all"]).code, 1);
    keep.refresh().ok();
    let listed = keep.divergences();
    let about_hello = |what: &str| {
        let is_it = |it: &&Value| {
            it["divergence"]["what"] == what && it["divergence"]["packages"][0] == "hello.1.0"
        };
        listed.iter().find(is_it).expect("a divergence")["id"].to_string()
    };
    let [edited, changed] = ["edited", "changed"].map(about_hello);
    let said = keep.run(&["divergences", "accept", &edited]).ok();
    assert!(said.contains(&format!("Divergence {changed} told of the same bytes")), "{said}");
    let open = keep.run(&["divergences", "list"]).ok();
    assert!(open.contains("other.1.0") && !open.contains("hello.1.0"), "{open}");
    let shown = keep.run(&["divergences", "show", &changed]).ok();
    let why = format!("accepted with divergence {edited}");
    assert!(shown.contains("acknowledged") && shown.contains(&why), "{shown}");
    assert_eq!(keep.run(&["recheck", "hello"]).ok().trim(), "1 URL: 1 same");
}

#[test]
fn what_was_accepted_without_a_server_is_acknowledged_when_its_archive_comes() {
    let (world, mut keep, _, second) = rewritten();
    world.publish(&Repo::new([second.clone()]));
    assert_eq!(keep.run(&["recheck", "hello"]).code, 1);
    keep.refresh().ok();
    let [edited, changed] = ["edited", "changed"].map(|what| id_of(&keep, what));
    keep.stop();
    let said = keep.run(&["divergences", "accept", &edited, "--by", "someone"]).ok();
    assert!(said.contains("from the next refresh on"), "{said}");
    let open = keep.run(&["divergences", "list"]).ok();
    assert!(open.contains("changed"), "nobody has its archive yet: {open}");
    keep.restart();
    keep.refresh().ok();
    assert!(keep.curl().get(&second.cache_path(Kind::Sha256)).is_whole());
    let shown = keep.run(&["divergences", "show", &changed]).ok();
    assert!(
        shown.contains("by someone at ") && shown.contains(&format!("divergence {edited}")),
        "{shown}"
    );
    assert_eq!(keep.ledger().of_kind("divergence").count(), 2);
}

#[test]
fn a_recheck_of_accepted_bytes_that_came_from_a_cache_tells_nobody() {
    let (first, second) = states();
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    // Until then, its own URL goes on giving the first one.
    world.lie(second.url(), Lie::Bytes(first.archive_bytes().to_vec()));
    for kind in [Kind::Sha256, Kind::Sha512] {
        let cached = format!("{}{}", World::OPAM, second.cache_path(kind));
        world.put(&cached, second.archive_bytes().to_vec());
    }
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
    assert!(keep.curl().get(&second.cache_path(Kind::Sha256)).is_whole());
    world.lie(second.url(), Lie::Bytes(second.archive_bytes().to_vec()));
    assert_eq!(keep.run(&["recheck", "hello"]).ok().trim(), "2 URLs: 2 same");
    assert!(keep.run(&["divergences"]).ok().contains("no divergence is open"));
    assert_eq!(keep.ledger().pins(second.url()).len(), 2);
}

#[test]
fn a_decision_is_carried_out_to_its_end_whoever_goes_away() {
    let (world, mut keep, _, second) = rewritten();
    world.publish(&Repo::new([second.clone()]));
    assert_eq!(keep.run(&["recheck", "hello"]).code, 1);
    keep.refresh().ok();
    let id = id_of(&keep, "edited");
    // The archive takes three seconds.
    world.lie(second.url(), Lie::Slow(second.archive_bytes().len() as u64 / 3));
    let asked = world.count(second.url());
    let mut accept = keep.command(&["divergences", "accept", &id]).spawn().expect("it runs");
    within(Duration::from_secs(30), "the fetch", || {
        (world.count(second.url()) > asked).then_some(())
    });
    accept.kill().and_then(|()| accept.wait()).expect("it can be killed");
    within(Duration::from_secs(60), "both decisions", || {
        let open = keep.run(&["divergences", "list"]).ok();
        open.contains("no divergence is open").then_some(())
    });
    assert!(keep.curl().get(&second.cache_path(Kind::Sha256)).is_whole());
}

#[test]
fn who_accepts_an_edit_of_words_acknowledges_no_archive() {
    let (first, second) = states();
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mirror = Mirror::of(&world).set("policy.source_rewritten", "allow");
    let mut keep = start(&mirror.set("policy.description", "hold"));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    assert!(keep.curl().get(&second.cache_path(Kind::Sha256)).is_whole());
    world.publish(&Repo::new([second.clone().synopsis("in other words")]));
    keep.refresh().ok();
    let open = keep.run(&["divergences", "list"]).ok();
    assert!(open.contains("description") && open.contains("changed"), "{open}");
    let id = id_of(&keep, "edited");
    let said = keep.run(&["divergences", "accept", &id]).ok();
    assert!(!said.contains("acknowledged"), "{said}");
    let open = keep.run(&["divergences", "list"]).ok();
    assert!(open.contains("changed") && !open.contains("description"), "{open}");
}

#[test]
fn without_a_server_too_accepting_what_is_outdated_says_so_and_all_ids_are_looked_at_first() {
    let (world, mut keep, first, second) = rewritten();
    world.publish(&Repo::new([second]));
    keep.refresh().ok();
    let id = keep.divergence();
    world.publish(&Repo::new([first]));
    keep.refresh().ok();
    keep.stop();
    let before = keep.ledger().len();
    let both = keep.run(&["divergences", "accept", &id, "9999"]);
    assert_eq!((both.code, keep.ledger().len()), (2, before), "{}", both.said());
    let run = keep.run(&["divergences", "accept", &id]);
    assert!(run.code == 2 && run.stderr.contains("outdated"), "{}", run.said());
    assert_eq!(keep.ledger().len(), before, "nothing was decided");
}

#[test]
fn opam_installs_the_first_archive_until_the_second_is_accepted() {
    let (world, mut keep, first, second) = rewritten();
    let Some(opam) = Opam::fresh(Version::System, keep.ca()) else { skip!("no opam in PATH") };
    let content = || {
        let file = opam.share("default").join("hello/content");
        std::fs::read_to_string(file).expect("hello is installed")
    };
    opam.init(&keep.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "hello"]).ok();
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    opam.run(&["update"]).ok();
    opam.run(&["reinstall", "hello"]).ok();
    assert_eq!(content(), FIRST);
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    opam.run(&["update"]).ok();
    opam.run(&["reinstall", "hello"]).ok();
    assert_eq!(content(), SECOND);
    for package in [&first, &second] {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha512)).is_whole());
    }
}

#[test]
fn what_the_policy_allows_is_served_and_what_it_warns_of_is_told() {
    for (rule, told) in [("allow", 0), ("warn", 1)] {
        let (first, second) = states();
        let world = World::start();
        world.publish(&Repo::new([first]));
        let mut keep = start(&Mirror::of(&world).set("policy.source_rewritten", rule));
        keep.index();
        world.publish(&Repo::new([second.clone()]));
        keep.refresh().ok();
        assert!(declares(&mut keep, &second), "{rule}");
        assert_eq!(keep.ledger().of_kind("divergence").count(), told, "{rule}");
    }
}

#[test]
fn a_version_that_comes_back_as_another_one_is_held_like_any_edit() {
    let (world, mut keep, first, second) = rewritten();
    let (other, new) = (Package::new("other", "1.0"), Package::new("new", "1.0"));
    for away in [Repo::new([other.clone()]), Repo::new([other.clone(), new.clone()])] {
        world.publish(&away);
        keep.refresh().ok();
        assert!(!keep.index().packages().contains(&"hello.1.0"), "it is gone");
        keep.stop();
        keep.restart();
    }
    let back = |hello: &Package| Repo::new([other.clone(), new.clone(), hello.clone()]);
    world.publish(&back(&second));
    for _ in 0..2 {
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["new.1.0", "other.1.0"]);
        keep.stop();
        keep.restart();
    }
    let id = keep.divergence();
    let shown = keep.run(&["divergences", "show", &id]).ok();
    assert!(shown.contains("source-rewritten"), "{shown}");
    world.publish(&back(&first));
    keep.refresh().ok();
    assert!(declares(&mut keep, &first), "as it was it may come back");
    world.publish(&back(&second));
    keep.refresh().ok();
    assert!(declares(&mut keep, &first));
    keep.run(&["divergences", "accept", &id]).ok();
    assert!(declares(&mut keep, &second));
    keep.run(&["verify"]).ok();
}

#[test]
fn an_edit_that_upstream_replaced_or_withdrew_is_outdated_and_accepting_it_says_so() {
    let (world, mut keep, first, second) = rewritten();
    let third = first.clone().bytes(b"a third archive".to_vec(), &[Kind::Sha256]);
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    let id = keep.divergence();
    world.publish(&Repo::new([third.clone()]));
    keep.refresh().ok();
    let list = keep.run(&["divergences", "list"]).ok();
    let outdated: Vec<_> = list.lines().filter(|line| line.contains("outdated")).collect();
    assert!(outdated.len() == 1 && outdated[0].trim_start().starts_with(&id), "{list}");
    let shown = keep.run(&["divergences", "show", &id]).ok();
    assert!(shown.contains("outdated") && !shown.contains("accept "), "{shown}");
    let page = keep.curl().get(&format!("/divergences/{id}"));
    let page = String::from_utf8_lossy(&page.body);
    assert!(page.contains("Upstream says something else by now"), "{page}");

    let said = keep.run(&["divergences", "accept", &id]);
    assert!(said.code == 2 && said.stderr.contains("outdated"), "{said:?}");
    assert!(declares(&mut keep, &first), "neither was that served, nor what upstream says now");
    let other = current(&keep);
    assert_ne!(other, id);
    world.publish(&Repo::new([first.clone()]));
    keep.refresh().ok();
    let list = keep.run(&["divergences", "list"]).ok();
    assert!(list.contains("outdated, held, edited"), "it was withdrawn: {list}");
    let said = keep.run(&["divergences", "accept", &other]);
    assert!(said.code == 2 && declares(&mut keep, &first), "{said:?}");

    world.publish(&Repo::new([third.clone()]));
    keep.refresh().ok();
    assert_eq!(current(&keep), other, "it is the same once more");
    keep.run(&["divergences", "accept", &other]).ok();
    assert!(declares(&mut keep, &third), "it is what was accepted");
    let shown = keep.run(&["divergences", "show", &other]).ok();
    assert!(shown.contains("is served since it was accepted"), "{shown}");
}

#[test]
fn an_accepted_edit_whose_archive_is_not_to_be_had_is_served_all_the_same() {
    let (world, mut keep, _, second) = rewritten();
    let gone = second.url();
    world.publish(&Repo::new([second.clone()]));
    world.take_down(gone);
    keep.refresh().ok();
    let said = keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert!(said.contains("It is served; the archive of hello.1.0 is not pinned yet"), "{said}");
    assert!(declares(&mut keep, &second));
}

#[test]
fn edits_of_one_commit_are_accepted_one_after_another() {
    let names = ["one", "two"];
    let first = names.map(|name| Package::new(name, "1.0"));
    let second = first.clone().map(|it| it.bytes(b"other".to_vec(), &[Kind::Sha256]));
    let from_git = from_git(&Repo::new(first));
    let Some((world, checkout, mut keep)) = from_git else { skip!("no git in PATH") };
    checkout.publish(&Repo::new(second.clone()));
    world.publish(&Repo::new(second.clone()));
    keep.refresh().ok();
    for name in names {
        let id = open_about(&keep, &format!("{name}.1.0"));
        keep.run(&["divergences", "accept", &id]).ok();
    }
    let index = keep.index();
    for package in &second {
        let sha256 = Kind::Sha256.of(package.archive_bytes());
        assert!(index.opam(&package.full_name()).expect("it is served").contains(&sha256));
    }
    let ledger = keep.ledger();
    let seen: Vec<_> = ledger.of_kind("divergence").map(|it| it["what"].clone()).collect();
    assert_eq!(seen, ["edited", "edited"], "accepting is no going back");
    keep.run(&["verify"]).ok();
}

#[test]
fn a_repository_that_went_back_is_held_as_a_whole_until_it_is_accepted() {
    let hello = |version: &str| Package::new("hello", version);
    let from_git = from_git(&Repo::new([hello("1.0")]));
    let Some((_world, checkout, mut keep)) = from_git else { skip!("no git in PATH") };
    checkout.publish(&Repo::new([hello("1.1")]));
    keep.refresh().ok();
    checkout.git(&["reset", "--quiet", "--hard", "HEAD~1"]).ok();
    for _ in 0..2 {
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["hello.1.0", "hello.1.1"]);
        keep.stop();
        keep.restart();
    }
    let id = keep.divergence();
    let shown = keep.run(&["divergences", "show", &id]).ok();
    for text in ["rolled-back", "was there before", "- hello.1.1 is gone"] {
        assert!(shown.contains(text), "{text} is not in {shown}");
    }
    keep.run(&["divergences", "accept", &id]).ok();
    assert_eq!(keep.index().packages(), ["hello.1.0"]);
    checkout.publish(&Repo::new([hello("1.2")]));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0", "hello.1.2"]);
    assert_eq!(keep.ledger().of_kind("divergence").count(), 1);
}

#[test]
fn g4_what_was_acknowledged_and_withdrawn_is_told_anew_when_it_comes_again() {
    let (first, second) = states();
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    // Acknowledged before it is withdrawn, or when it is of the past already.
    for (number, is_seen_at_once) in (1..).zip([true, false, true, false]) {
        world.publish(&Repo::new([second.clone()]));
        for _ in 0..2 {
            keep.refresh().ok();
            assert_eq!(keep.ledger().of_kind("divergence").count(), number);
            keep.stop();
            keep.restart();
        }
        let id = keep.divergence();
        let acknowledge = || keep.run(&["divergences", "ack", &id]).ok();
        if is_seen_at_once {
            acknowledge();
            // Who knows of it is told no more, as long as it goes on.
            keep.refresh().ok();
            assert_eq!(keep.ledger().of_kind("divergence").count(), number);
        }
        world.publish(&Repo::new([first.clone()]));
        keep.refresh().ok();
        if !is_seen_at_once {
            acknowledge();
        }
        assert!(declares(&mut keep, &first));
    }
}

#[test]
fn g4_what_was_warned_of_and_withdrawn_is_told_anew_whenever_it_was_acknowledged() {
    let (first, second) = states();
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.source_rewritten", "warn"));
    keep.index();
    for (number, state) in (1..).zip([&second, &first, &second, &first, &second]) {
        world.publish(&Repo::new([state.clone()]));
        keep.refresh().ok();
        assert_eq!(keep.ledger().of_kind("divergence").count(), number);
        if number % 2 == 0 {
            for told in keep.divergences() {
                keep.run(&["divergences", "ack", &told["id"].to_string()]).ok();
            }
        }
        assert!(declares(&mut keep, state));
    }
}

#[test]
fn g4_a_repository_that_goes_back_again_is_told_again_whoever_acknowledged_it() {
    let hello = |version: &str| Package::new("hello", version);
    let from_git = from_git(&Repo::new([hello("1.0")]));
    let Some((_world, checkout, mut keep)) = from_git else { skip!("no git in PATH") };
    checkout.publish(&Repo::new([hello("1.1")]));
    keep.refresh().ok();
    for number in 1..3 {
        checkout.git(&["reset", "--quiet", "--hard", "HEAD~1"]).ok();
        for _ in 0..2 {
            keep.refresh().ok();
            assert_eq!(keep.index().packages(), ["hello.1.0", "hello.1.1"]);
            assert_eq!(keep.ledger().of_kind("divergence").count(), number);
        }
        keep.run(&["divergences", "ack", &keep.divergence()]).ok();
        checkout.git(&["reset", "--quiet", "--hard", "HEAD@{1}"]).ok();
        keep.refresh().ok();
    }
}

#[test]
fn a_repository_that_went_back_to_fewer_versions_is_told_as_both_and_both_are_accepted() {
    let hello = |number: usize| Package::new("hello", &number.to_string());
    let from_git = from_git(&Repo::new([hello(0)]));
    let Some((_world, checkout, mut keep)) = from_git else { skip!("no git in PATH") };
    checkout.publish(&Repo::new((0..5).map(hello)));
    keep.refresh().ok();
    checkout.git(&["reset", "--quiet", "--hard", "HEAD~1"]).ok();
    keep.refresh().ok();
    for (number, what) in [(5, "gutted"), (5, "rolled-back")] {
        assert_eq!(keep.index().packages().len(), number);
        keep.run(&["divergences", "accept", &id_of(&keep, what)]).ok();
    }
    assert_eq!(keep.index().packages(), ["hello.0"]);
    assert!(keep.divergences().is_empty());
}

#[test]
fn g4_what_was_accepted_once_is_told_anew_when_it_comes_again() {
    for rule in ["hold", "warn"] {
        let (first, second) = states();
        let world = World::start();
        world.publish(&Repo::new([first.clone()]));
        let mut keep = start(&Mirror::of(&world).set("policy.source_rewritten", rule));
        keep.index();
        let states = [&second, &first, &second, &first, &second];
        for (number, state) in (1..).zip(states) {
            let before = if number % 2 == 1 { &first } else { &second };
            world.publish(&Repo::new([state.clone()]));
            for _ in 0..2 {
                keep.refresh().ok();
                assert_eq!(declares(&mut keep, before), rule == "hold", "{rule}, {number}");
                assert_eq!(keep.ledger().of_kind("divergence").count(), number, "{rule}");
                keep.stop();
                keep.restart();
            }
            if rule == "hold" {
                keep.run(&["divergences", "accept", &keep.divergence()]).ok();
                assert!(declares(&mut keep, state), "{number}");
            }
        }
        // Also when the catalog forgot all.
        keep.stop();
        std::fs::remove_dir_all(keep.store().join("catalog")).expect("it can be removed");
        keep.restart();
        keep.refresh().ok();
        assert_eq!(keep.ledger().of_kind("divergence").count(), states.len(), "{rule}");
        world.publish(&Repo::new([first.clone()]));
        keep.refresh().ok();
        assert_eq!(keep.ledger().of_kind("divergence").count(), states.len() + 1, "{rule}");
    }
}

#[test]
fn g4_however_often_upstream_changes_its_mind_what_it_says_now_can_be_accepted() {
    let world = World::start();
    let hello = Package::new("hello", "1.0");
    let says = |text: &str| Repo::new([hello.clone().synopsis(text)]);
    world.publish(&says("as it was"));
    let mut keep = start(&Mirror::of(&world).set("policy.description", "hold"));
    keep.index();
    for number in 0..20 {
        world.publish(&says(&format!("as of {number}")));
        keep.refresh().ok();
    }
    assert_eq!(keep.ledger().of_kind("divergence").count(), 20);
    keep.run(&["divergences", "accept", &current(&keep)]).ok();
    let index = keep.index();
    assert!(index.opam("hello.1.0").expect("it is served").contains("as of 19"));
}

#[test]
fn g4_who_accepts_bytes_for_one_package_accepts_them_for_no_other() {
    let (theirs, before) = (at_shared("theirs", "first"), Package::new("hello", "1.0"));
    let after = at_shared("hello", "second");
    let world = World::start();
    world.publish(&Repo::new([theirs.clone(), before.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    for package in [&theirs, &before] {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    world.publish(&Repo::new([theirs.clone(), after.clone()]));
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
    assert!(keep.curl().get(&after.cache_path(Kind::Sha256)).is_whole());
    let told = keep.ledger().divergences(SHARED).len();
    assert_eq!(told, 1, "who uses the URL for the first bytes is told of the others");
    let open = keep.run(&["divergences"]).ok();
    assert!(open.contains("changed"), "nobody accepted them for theirs: {open}");
}

#[test]
fn g4_who_accepts_bytes_for_one_package_accepts_them_for_none_that_came_to_the_url_later() {
    for is_rechecked_first in [false, true] {
        let [before, later, after] = [("a", FIRST), ("b", FIRST), ("a", SECOND)]
            .map(|(name, content)| at_shared(name, content));
        let world = World::start();
        world.publish(&Repo::new([before.clone()]));
        let keep = start(&Mirror::of(&world));
        keep.run(&["sync", "a"]).ok();
        world.publish(&Repo::new([before, later.clone()]));
        keep.refresh().ok();
        keep.run(&["sync", "b"]).ok();
        assert_eq!(keep.ledger().pin(SHARED)["packages"], json!(["a.1.0"]));
        assert_eq!(keep.run(&["recheck", "b"]).ok().trim(), "1 URL: 1 same");
        world.publish(&Repo::new([later, after.clone()]));
        if is_rechecked_first {
            assert_eq!(keep.run(&["recheck", "b.1.0"]).code, 1);
        }
        keep.refresh().ok();
        keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
        let told = |keep: &Keep| {
            let open = keep.divergences();
            open.iter().map(|it| it["divergence"]["packages"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(told(&keep), [json!(["a.1.0", "b.1.0"])], "nobody accepted them for b");
        world.publish(&Repo::new([at_shared("b", SECOND), after]));
        keep.refresh().ok();
        keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
        assert_eq!(told(&keep), [json!(null); 0], "they are accepted for both");
    }
}

#[test]
fn g4_bytes_that_a_cache_gave_first_are_accepted_for_no_other_package_either() {
    let [before, later, after] =
        [("a", FIRST), ("b", FIRST), ("a", SECOND)].map(|(name, content)| at_shared(name, content));
    let world = World::start();
    for package in [&before, &after] {
        let cached = format!("{}{}", World::OPAM, package.cache_path(Kind::Sha256));
        world.put(&cached, package.archive_bytes().to_vec());
    }
    world.publish(&Repo::new([before]));
    let keep = start(&Mirror::of(&world));
    keep.run(&["sync", "a"]).ok();
    world.publish(&Repo::new([later, after]));
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
    assert!(keep.ledger().pins(SHARED).is_empty(), "only the cache was asked");
    assert_eq!(keep.run(&["recheck", "--all"]).code, 1);
    let told = &keep.divergences()[0]["divergence"];
    assert_eq!(told["what"], "mismatch");
    assert_eq!(told["packages"], json!(["a.1.0", "b.1.0"]), "nobody accepted them for b");
    keep.run(&["recheck", "--all"]).ok();
}

#[test]
fn g4_who_accepts_bytes_for_one_repository_accepts_them_for_no_other() {
    let [before, after] = [FIRST, SECOND].map(|content| at_shared("a", content));
    let world = World::start();
    let other = "https://other.example";
    world.publish_at(other, &Repo::new([before.clone()]));
    world.publish(&Repo::new([before]));
    let keep = start(&Mirror::of(&world).repository("other", other));
    keep.run(&["sync", "a"]).ok();
    world.publish(&Repo::new([after]));
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
    assert_eq!(keep.ledger().pins(SHARED).len(), 2);
    let open = keep.run(&["divergences"]).ok();
    assert!(open.contains("changed"), "nobody accepted them for the other one: {open}");
}

#[test]
fn bytes_are_accepted_by_the_opam_file_of_the_version_and_by_no_other() {
    let (world, mut keep, first, second) = rewritten();
    let (opam, other) = (second.opam(), first.opam());
    let directory = "packages/hello/hello.1.0";
    world.put(second.url(), second.archive_bytes().to_vec());
    world.put(
        &format!("{}/index.tar.gz", World::OPAM),
        tar_gz([
            ("repo", b"opam-version: \"2.0\"\n".as_slice()),
            (&format!("{directory}/files/opam"), other.as_bytes()),
            (&format!("{directory}/opam"), opam.as_bytes()),
        ]),
    );
    assert_eq!(keep.run(&["recheck", "hello"]).code, 1);
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &id_of(&keep, "edited")]).ok();
    assert!(declares(&mut keep, &second));
    let open = keep.run(&["divergences"]).ok();
    assert!(open.contains("no divergence is open"), "{open}");
}

#[test]
fn verbatim_waits_as_a_whole() {
    let (first, second) = states();
    let world = World::start();
    let other = Package::new("other", "1.0");
    world.publish(&Repo::new([first, other.clone()]));
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    let index = keep.index_at("/index.tar.gz");
    let other = other.bytes(b"other".to_vec(), &[Kind::Sha256]);
    let next = Repo::new([second, other, Package::new("new", "1.0")]);
    world.publish(&next);
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == index, "its bytes are signed as one");
    keep.stop();
    keep.restart();
    assert!(keep.index_at("/index.tar.gz") == index);
    let said = keep.run(&["divergences", "accept", &open_about(&keep, "other.1.0")]).ok();
    assert!(said.contains("not served yet: all that is held of the same state"), "{said}");
    assert!(keep.index_at("/index.tar.gz") == index);
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert!(keep.index_at("/index.tar.gz") == next.index());
}

#[test]
fn what_is_only_warned_of_in_a_state_that_waits_is_told_once() {
    let (first, second) = states();
    let world = World::start();
    let gone = Package::new("gone", "1.0");
    let (before, after) = (Repo::new([first, gone.clone()]), Repo::new([second.clone()]));
    world.publish(&before);
    let mirror = Mirror::of(&world).of_repository("mode", "verbatim");
    let mirror = mirror.set("policy.version_removed", "warn").set("policy.max_removed", "100%");
    let mut keep = start(&mirror);
    keep.index_at("/index.tar.gz");
    let told = |keep: &mut Keep, state: &Repo| {
        world.publish(state);
        keep.refresh().ok();
        keep.ledger().of_kind("divergence").count()
    };
    for _ in 0..3 {
        assert_eq!(told(&mut keep, &after), 2, "an edit that is held, a removal that is warned of");
        assert_eq!(told(&mut keep, &before), 2);
    }
    // Once it was served, what is said again is told anew.
    assert_eq!(told(&mut keep, &after), 2);
    keep.run(&["divergences", "accept", &open_about(&keep, "hello.1.0")]).ok();
    assert!(keep.index_at("/index.tar.gz") == after.index());
    assert_eq!(told(&mut keep, &Repo::new([second, gone])), 3, "with what was accepted");
    assert_eq!(told(&mut keep, &after), 4);
}

#[test]
fn what_is_served_is_told_also_if_it_was_told_before_and_withdrawn() {
    let (first, second) = states();
    let gone = Package::new("gone", "1.0");
    let world = World::start();
    world.publish(&Repo::new([first.clone(), gone.clone()]));
    let mirror = Mirror::of(&world).of_repository("mode", "verbatim");
    let mirror = mirror.set("policy.version_removed", "warn").set("policy.max_removed", "100%");
    let mut keep = start(&mirror);
    keep.index_at("/index.tar.gz");
    for (state, told) in
        [(Repo::new([second.clone()]), 2), (Repo::new([second, gone]), 2), (Repo::new([first]), 3)]
    {
        world.publish(&state);
        keep.refresh().ok();
        assert_eq!(keep.ledger().of_kind("divergence").count(), told);
    }
    assert_eq!(keep.index().packages(), ["hello.1.0"]);
}

#[test]
fn what_comes_again_is_told_anew_also_behind_what_holds_the_whole_state() {
    let (first, second) = states();
    let many = || (0..10).map(|number| Package::bare("many", &number.to_string()));
    let repo = |hello: &Package, many: Vec<Package>| Repo::new(many).with(hello.clone());
    let world = World::start();
    world.publish(&repo(&first, many().collect()));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let turn = |keep: &mut Keep, hello: &Package, accepts: bool| {
        world.publish(&repo(hello, many().collect()));
        keep.refresh().ok();
        if accepts {
            keep.run(&["divergences", "accept", &open_about(keep, "hello.1.0")]).ok();
        }
        assert_eq!(declares(keep, hello), accepts);
    };
    turn(&mut keep, &second, true);
    turn(&mut keep, &first, true);
    world.publish(&repo(&second, many().take(2).collect()));
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &id_of(&keep, "gutted")]).ok();
    assert_eq!(keep.index().packages().len(), 3, "it is accepted");
    assert!(declares(&mut keep, &first), "it was not asked about that");
    open_about(&keep, "hello.1.0");
}

#[test]
fn what_is_warned_of_again_is_told_when_it_is_served_with_something_that_waited() {
    let (first, second) = states();
    let gone = Package::new("gone", "1.0");
    let world = World::start();
    let all = Repo::new([first.clone(), gone]);
    world.publish(&all);
    let mirror = Mirror::of(&world).of_repository("mode", "verbatim");
    let mirror = mirror.set("policy.version_removed", "warn").set("policy.max_removed", "100%");
    let mut keep = start(&mirror);
    keep.index_at("/index.tar.gz");
    for (state, told) in [(&Repo::new([first]), 1), (&all, 1), (&Repo::new([second]), 2)] {
        world.publish(state);
        keep.refresh().ok();
        assert_eq!(keep.ledger().of_kind("divergence").count(), told);
    }
    keep.run(&["divergences", "accept", &open_about(&keep, "hello.1.0")]).ok();
    assert_eq!(keep.index().packages(), ["hello.1.0"]);
    assert_eq!(keep.ledger().of_kind("divergence").count(), 3);
}

#[test]
fn what_was_held_is_told_anew_when_it_is_only_warned_of_and_served() {
    let (world, mut keep, first, second) = rewritten();
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    assert!(declares(&mut keep, &first));
    keep.stop();
    let warns = Mirror::of(&world).set("policy.source_rewritten", "warn");
    keep.configure(&warns.text(&keep.store()));
    keep.restart();
    keep.refresh().ok();
    assert!(declares(&mut keep, &second));
    let held = |told: &[serde_json::Value]| -> Vec<bool> {
        told.iter().map(|it| it["divergence"]["held"] == true).collect()
    };
    let edited = |keep: &Keep| -> Vec<serde_json::Value> {
        let told = keep.divergences().into_iter();
        told.filter(|it| it["divergence"]["what"] == "edited").collect()
    };
    assert_eq!(held(&edited(&keep)), [true, false]);
    // Back, and once more: each is told.
    for (hello, told) in [(first, 3), (second, 4)] {
        world.publish(&Repo::new([hello.clone()]));
        keep.refresh().ok();
        assert!(declares(&mut keep, &hello));
        assert_eq!(edited(&keep).len(), told);
    }
}

#[test]
fn what_was_only_warned_of_is_told_anew_when_it_comes_to_be_held() {
    let (first, second) = states();
    let world = World::start();
    let (one, other) = (Package::bare("one", "1.0"), Package::bare("one", "1.00"));
    world.publish(&Repo::new([first.clone(), one]));
    let mirror = Mirror::of(&world).of_repository("mode", "verbatim");
    let mirror = mirror.set("policy.version_removed", "warn").set("policy.max_removed", "100%");
    let mut keep = start(&mirror);
    keep.index_at("/index.tar.gz");
    for (state, told) in [(Repo::new([second]), 2), (Repo::new([first, other]), 4)] {
        for _ in 0..2 {
            world.publish(&state);
            keep.refresh().ok();
            assert_eq!(keep.ledger().of_kind("divergence").count(), told);
        }
    }
    for package in ["one.1.00", "one.1.0"] {
        let held = keep.divergences().into_iter().rfind(|it| {
            it["divergence"]["held"] == true && it["divergence"]["packages"][0] == package
        });
        let id = held.expect("it is held")["id"].to_string();
        keep.run(&["divergences", "accept", &id]).ok();
    }
    assert_eq!(keep.index().packages(), ["hello.1.0", "one.1.00"]);
}

#[test]
fn g4_many_edits_at_once_are_each_told_once() {
    let packages = |bytes: &[u8]| {
        let package = |number: u32| {
            let package = Package::new("many", &number.to_string());
            package.bytes(bytes.to_vec(), &[Kind::Sha256])
        };
        Repo::new((0..60).map(package))
    };
    let world = World::start();
    world.publish(&packages(b"first"));
    let mut keep = start(&Mirror::of(&world));
    let before = keep.index();
    world.publish(&packages(b"second"));
    for _ in 0..2 {
        keep.refresh().ok();
        assert_eq!(keep.index(), before);
        assert_eq!(keep.ledger().of_kind("divergence").count(), 60);
        keep.stop();
        keep.restart();
    }
}

#[test]
fn a_new_version_that_clients_could_not_read_is_held() {
    let world = World::start();
    let hello = Package::new("hello", "1.0");
    world.publish(&Repo::new([hello.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let broken = Package::bare("broken", "1.0")
        .archive("https://a.example/b.tgz", &[Kind::Sha256])
        .declaring(&["sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned()]);
    world.publish(&Repo::new([hello, broken]));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0"]);
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("held") && status.contains("broken.1.0"), "{status}");
    let shown = keep.run(&["divergences", "show", &keep.divergence()]).ok();
    assert!(shown.contains("unreadable") && shown.contains("sha1"), "{shown}");
}

/// A mirror that pinned a package's archive, and the same package with another archive at the
/// same URL, not published yet.
fn rewritten() -> (World, Keep, Package, Package) {
    let (first, second) = states();
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    (world, keep, first, second)
}

/// A mirror of a git repository that begins with this.
fn from_git(repo: &Repo) -> Option<(World, Checkout, Keep)> {
    if !installed("git") {
        return None;
    }
    let world = World::start();
    let checkout = Checkout::new(world.directory().join("checkout"));
    checkout.publish(repo);
    world.publish(repo);
    let upstream = format!("git+file://{}", checkout.path());
    let mut keep = start(&Mirror::of(&world).of_repository("upstream", upstream.as_str()));
    keep.index();
    Some((world, checkout, keep))
}

/// The first version of a package, whose archive is at a URL that others have too.
fn at_shared(name: &str, content: &str) -> Package {
    let package = Package::bare(name, "1.0").archive(SHARED, &[Kind::Sha256]);
    package.bytes(tar_gz([("content", content.as_bytes())]), &[Kind::Sha256])
}

fn states() -> (Package, Package) {
    let first = Package::new("hello", "1.0");
    let other = world::tar_gz([("hello-1.0/content", SECOND.as_bytes())]);
    let second = first.clone().bytes(other, &[Kind::Sha256, Kind::Sha512]);
    (first, second)
}

/// Whether the served index declares this archive of hello.1.0.
fn declares(keep: &mut Keep, package: &Package) -> bool {
    let index = keep.index();
    let opam = index.opam("hello.1.0").expect("it is served");
    opam.contains(&Kind::Sha256.of(package.archive_bytes()))
}

/// The id of the open divergence about this package.
fn open_about(keep: &Keep, package: &str) -> String {
    let open = keep.divergences();
    let found = open.iter().find(|it| it["divergence"]["packages"][0] == package);
    found.expect("it is open")["id"].to_string()
}

/// The id of the one open divergence that upstream still says.
fn current(keep: &Keep) -> String {
    let mut current = keep.divergences();
    current.retain(|it| it["outdated"] == false);
    assert_eq!(current.len(), 1, "{current:#?}");
    current[0]["id"].to_string()
}

/// The id of the open divergence of this kind.
fn id_of(keep: &Keep, what: &str) -> String {
    let open = keep.divergences();
    let found = open.iter().find(|it| it["divergence"]["what"] == what);
    found.expect("it is open")["id"].to_string()
}

const SHARED: &str = "https://github.com/world/shared/shared.tar.gz";
const FIRST: &str = "This is hello 1.0.\n";
const SECOND: &str = "something else\n";
