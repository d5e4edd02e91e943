//! A clock that jumps, by a year and either way, under a running server: what is kept is served,
//! upstreams are followed and rechecked, people are told, and nothing waits for the year to pass.

use crate::steady::Steady;
use crate::{BINARY, skip};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use world::{FakeClock, Keep, Kind, Lie, Mirror, Package, Repo, World, within};

#[test]
fn g5_a_clock_that_jumps_a_year_ahead_and_back_stops_nothing() {
    let Some(mut jumping) = Jumping::new() else { skip!("there is no libfaketime") };
    let clients = Steady::start(&mut jumping.keep, &kept());
    jumping.goes_on("before");
    let before = jumping.newest();
    jumping.clock.set("+365d");
    jumping.goes_on("ahead");
    let ahead = jumping.newest();
    assert!(ahead > before + 364 * DAY, "entries say what the clock said: {before} {ahead}");
    // What waits for a sink that fails waits for no clock.
    jumping.world.lie(HOOK, Lie::Status(500));
    jumping.lies("liar");
    within(PATIENCE, "an attempt", || (jumping.world.count(HOOK) > 0).then_some(()));
    jumping.clock.set("+0");
    let said = jumping.ready(503);
    assert!(said.contains("clock: off: it says"), "{said}");
    jumping.world.be_honest(HOOK);
    within(PATIENCE, "the alert", || {
        jumping.told().contains(&"divergence.mismatch".to_owned()).then_some(())
    });
    jumping.goes_on("back");
    let back = jumping.newest();
    assert!(back < before + DAY, "entries say what the clock says: {before} {back}");
    jumping.ready(200);
    clients.stop();
    jumping.keep.run(&["verify"]).ok();
    // Neither does a restart wait for that year.
    jumping.keep.kill();
    jumping.keep.restart();
    jumping.goes_on("after");
    let told = jumping.told();
    assert!(!told.iter().any(|kind| kind == "index.stale"), "upstream was there: {told:?}");
}

#[test]
fn g5_a_clock_that_jumps_a_year_back_and_forth_stops_nothing() {
    let Some(mut jumping) = Jumping::new() else { skip!("there is no libfaketime") };
    let clients = Steady::start(&mut jumping.keep, &kept());
    jumping.goes_on("before");
    jumping.clock.set("-365d");
    let said = jumping.ready(503);
    assert!(said.contains("clock: off: it says"), "{said}");
    jumping.goes_on("back");
    clients.stop();
    jumping.keep.stop();
    jumping.keep.restart();
    let clients = Steady::start(&mut jumping.keep, &kept());
    jumping.goes_on("restarted");
    jumping.clock.set("+0");
    jumping.goes_on("after");
    jumping.ready(200);
    clients.stop();
    jumping.keep.run(&["verify"]).ok();
    let told = jumping.told();
    assert!(!told.iter().any(|kind| kind == "index.stale"), "upstream was there: {told:?}");
}

#[test]
fn a_token_ends_by_the_clock_and_its_session_with_it() {
    let world = World::start();
    world.publish(&Repo::new([kept()]));
    let keep = Keep::stopped(BINARY);
    let Some(clock) = FakeClock::new(&keep.path("")) else { skip!("there is no libfaketime") };
    let mut keep = keep.by_clock(&clock);
    let mirror = Mirror::of(&world).set("access.read", "tokens");
    let mirror = mirror.set("access.failed_logins_per_minute", 1_000);
    keep.configure(&mirror.text(&keep.store()));
    keep.restart();
    let add = |arguments: &[&str]| {
        keep.run(&[&["token", "add"], arguments].concat()).ok().trim().to_owned()
    };
    let (short, ever) = (add(&["short", "--expires", "30d"]), add(&["ever"]));
    let jar = keep.path("cookies").display().to_string();
    let (url, curl) = (keep.url(), keep.curl());
    let log_in = curl.with(
        &["-c", &jar, "-d", &format!("token={short}"), "-H", &format!("origin: {url}")],
        "/login",
    );
    assert_eq!(log_in.status, 303);
    for (offset, good) in [("+0", true), ("+31d", false), ("+0", true), ("-365d", true)] {
        clock.set(offset);
        let by = |token: &str| {
            let bearer = format!("authorization: Bearer {token}");
            curl.with(&["-H", &bearer], "/api/v1/status").status
        };
        let expected = if good { 200 } else { 401 };
        assert_eq!((by(&short), by(&ever)), (expected, 200), "{offset}");
        let session = curl.with(&["-b", &jar], "/divergences").status;
        assert_eq!(session == 200, good, "{offset}: {session}");
    }
}

/// A mirror that follows its upstream, rechecks its pins and tells a webhook, all by a clock of its
/// own.
struct Jumping {
    clock: FakeClock,
    keep: Keep,
    world: World,
    packages: Vec<Package>,
}

impl Jumping {
    fn new() -> Option<Self> {
        let world = World::start();
        world.publish(&Repo::new([kept()]));
        world.put(HOOK, "ok");
        let keep = Keep::stopped(BINARY);
        let clock = FakeClock::new(&keep.path(""))?;
        let mut keep = keep.by_clock(&clock);
        let mirror = Mirror::of(&world)
            .of_repository("refresh", "1s")
            .set("recheck.every", "4s")
            .set("upstream.retry_after", "1s")
            .set("alert.stale_after", "60s")
            .webhook(&world, "hook", HOOK);
        keep.configure(&mirror.text(&keep.store()));
        keep.restart();
        keep.index();
        assert!(keep.curl().get(&kept().cache_path(Kind::Sha256)).is_whole());
        Some(Self { clock, keep, world, packages: vec![kept()] })
    }

    /// A new version is admitted, fetched and pinned, and what is kept is rechecked.
    fn goes_on(&mut self, when: &str) {
        let new = self.publish(when);
        let answer = self.keep.curl().get(&new.cache_path(Kind::Sha256));
        assert!(answer.is_whole(), "{when}: {answer:?}");
        let rechecked = |world: &World| world.count(kept().url());
        let before = rechecked(&self.world);
        within(PATIENCE, &format!("rechecks {when}"), || {
            (rechecked(&self.world) >= before + 2).then_some(())
        });
    }

    /// A new version whose source lies.
    fn lies(&mut self, name: &str) {
        let new = self.publish(name);
        self.world.lie(new.url(), Lie::FlippedByte);
        assert_eq!(self.keep.curl().get(&new.cache_path(Kind::Sha256)).status, 404);
    }

    /// A new version, which the schedule finds.
    fn publish(&mut self, name: &str) -> Package {
        let new = Package::new(name, "1.0");
        self.packages.push(new.clone());
        self.world.publish(&Repo::new(self.packages.iter().cloned()));
        within(PATIENCE, &format!("the index {name}"), || {
            self.keep.index().packages().contains(&new.full_name().as_str()).then_some(())
        });
        new
    }

    /// What `/readyz` says, once it says it with this status.
    fn ready(&mut self, status: u16) -> String {
        let ready = within(PATIENCE, "readiness", || {
            Some(self.keep.curl().get("/readyz")).filter(|ready| ready.status == status)
        });
        String::from_utf8_lossy(&ready.body).into_owned()
    }

    /// When the newest pin was written, in seconds.
    fn newest(&mut self) -> i64 {
        let ledger = self.keep.ledger();
        let at = ledger.of_kind("pin").last().expect("a pin")["at"].as_str().expect("a time");
        at.parse::<Timestamp>().expect("a time").as_second()
    }

    /// What the webhook took.
    fn told(&self) -> Vec<String> {
        let requests = self.world.requests().into_iter();
        let posts = requests.filter(|it| it.method == "POST" && it.lie.is_none());
        let alerts = posts
            .filter(|it| HOOK.ends_with(&it.url))
            .map(|post| -> Value { serde_json::from_slice(&post.body).expect("JSON") });
        alerts.map(|alert| alert["type"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn kept() -> Package {
    Package::new("kept", "1.0")
}

const DAY: i64 = 24 * 60 * 60;
const HOOK: &str = "https://hooks.example/hook";
const PATIENCE: Duration = Duration::from_secs(90);
