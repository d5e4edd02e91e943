//! Sinks of alerts that take a message and never say so: nobody else waits for them, what waits
//! stays within bounds, and nothing of it is lost.

use crate::start;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World, within};

#[test]
fn g4_sinks_of_every_kind_that_hang_keep_nobody_waiting_and_are_told_in_the_end() {
    let packages = ["kept", "liar", "cold"].map(|name| Package::new(name, "1.0"));
    let [kept, liar, cold] = &packages;
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    world.put(STUCK, "ok");
    world.put(WELL, "ok");
    world.lie(STUCK, Lie::NoHead);
    world.lie(liar.url(), Lie::FlippedByte);
    let mail = world.mail_server();
    mail.hang(true);
    let (gate, taken) = (world.directory().join("gate"), world.directory().join("taken"));
    // The command ends once the gate is there; until then it would run for ever.
    let script =
        format!("until [ -e {} ]; do sleep 0.1; done; cat >> {}", gate.display(), taken.display());
    let mirror = Mirror::of(&world)
        .set("alert.timeout", "1h")
        .set("upstream.timeout", "10s")
        .webhook(&world, "stuck-hook", STUCK)
        .webhook(&world, "well", WELL)
        .sink("command", &format!("name = \"stuck-command\"\nrun = [\"sh\", \"-c\", \"{script}\"]"))
        .sink(
            "email",
            &format!(
                "name = \"stuck-mail\"\nserver = \"smtp://{}\"\nfrom = \"a@b.example\"\n\
             to = [\"c@d.example\"]",
                mail.address()
            ),
        );
    let mut keep = start(&mirror);
    keep.index();
    assert!(keep.curl().get(&kept.cache_path(Kind::Sha256)).is_whole());
    assert_eq!(keep.curl().get(&liar.cache_path(Kind::Sha256)).status, 404);
    within(PATIENCE, "the sink that is well", || (world.count(WELL) == 1).then_some(()));
    within(PATIENCE, "the one that hangs", || (world.count(STUCK) == 1).then_some(()));
    // Requests and rechecks go on.
    assert!(keep.curl().get(&kept.cache_path(Kind::Sha256)).is_whole());
    assert!(keep.curl().get(&cold.cache_path(Kind::Sha256)).is_whole());
    assert_eq!(keep.run(&["recheck", "--all"]).ok().trim(), "2 URLs: 2 same");
    world.lie(kept.url(), Lie::FlippedByte);
    assert_eq!(keep.run(&["recheck", "--all"]).code, 1);
    within(PATIENCE, "the next alert", || (world.count(WELL) == 2).then_some(()));
    // What hangs holds up no stop, and waits over it.
    keep.stop();
    keep.restart();
    let waiting = |keep: &Keep| {
        let listed = keep.run(&["alerts", "--json"]).ok();
        listed.matches("\"entry\":").count()
    };
    // One of them may have been stopped before it queued the last alert; it does so now.
    within(PATIENCE, "all that waits", || (waiting(&keep) == 3 * 2).then_some(()));
    // The attempts under way hang on; those after the next start do not.
    keep.stop();
    world.be_honest(STUCK);
    fs::write(&gate, "").expect("a file can be written");
    mail.hang(false);
    keep.restart();
    within(PATIENCE, "nothing that waits", || (waiting(&keep) == 0).then_some(()));
    assert_eq!((mail.taken().len(), world.count(WELL)), (2, 2));
    let commands = fs::read_to_string(&taken).expect("the command took something");
    assert_eq!(ids(&commands).len(), 2, "{commands}");
}

#[test]
fn g4_thousands_of_divergences_wait_for_a_sink_that_hangs_within_bounds_and_none_is_lost() {
    let count = number_of_divergences();
    let package = |number: usize| Package::new(&format!("package-{number}"), "1.0");
    let packages: Vec<Package> = (0..count).map(package).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    world.put(STUCK, "ok");
    world.lie(STUCK, Lie::NoHead);
    let mirror = Mirror::of(&world).set("alert.timeout", "2s").webhook(&world, "hook", STUCK);
    let mut keep = start(&mirror);
    keep.index();
    // Every one of them is rewritten at once.
    let rewritten = |package: Package| package.bytes("something else", &[Kind::Sha256]);
    world.publish(&Repo::new(packages.into_iter().map(rewritten)));
    keep.refresh().ok();
    let divergences = keep.ledger().of_kind("divergence").count();
    assert_eq!(divergences, count);
    let queue = keep.store().join("alerts/sinks/hook");
    within(PATIENCE, "a queue", || (files(&queue) > 100).then_some(()));
    keep.kill();
    keep.restart();
    within(PATIENCE, "another attempt", || (world.count(STUCK) > 1).then_some(()));
    assert!(files(&queue) <= MOST_FILES, "{} files", files(&queue));
    assert_eq!(keep.index().packages().len(), count);

    world.be_honest(STUCK);
    let told = |world: &World| {
        let posts = world.requests().into_iter().filter(|it| it.method == "POST");
        let taken = posts.filter(|it| it.lie.is_none());
        taken.map(|post| id(&post.body)).collect::<Vec<String>>()
    };
    within(PATIENCE, "some of them", || (told(&world).len() > count / 4).then_some(()));
    keep.kill();
    keep.restart();
    within(LONG_PATIENCE, "all of them", || {
        keep.run(&["alerts"]).ok().contains("nothing waits").then_some(())
    });
    let told = told(&world);
    let once: BTreeSet<&String> = told.iter().collect();
    assert_eq!(once.len(), count, "each is told");
    // An acknowledgement that the kill took is asked for once more, under the same id.
    assert!(told.len() <= count + 1, "{} times", told.len());
    assert!(files(&queue) <= 1, "the state alone is left");
}

fn number_of_divergences() -> usize {
    let set = std::env::var("OPAM_KEEP_DIVERGENCES").ok();
    set.map_or(1_000, |number| number.parse().expect("OPAM_KEEP_DIVERGENCES is a number"))
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn id(body: &[u8]) -> String {
    let alert: Value = serde_json::from_slice(body).expect("JSON");
    alert["id"].as_str().expect("an id").to_owned()
}

/// The ids in JSON objects one after the other.
fn ids(text: &str) -> BTreeSet<String> {
    let alerts = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    alerts.map(|alert| alert.expect("JSON")["id"].to_string()).collect()
}

const LONG_PATIENCE: Duration = Duration::from_secs(900);
/// Those that wait, the state, and one that is being written.
const MOST_FILES: usize = 256 + 2;
const PATIENCE: Duration = Duration::from_secs(120);
const STUCK: &str = "https://stuck.example/hook";
const WELL: &str = "https://well.example/hook";
