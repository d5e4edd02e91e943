//! Disks that are full, have no inode left, or turn read-only under a running server: what is kept
//! is served throughout, people are told what is wrong, nothing is damaged, and it goes on by
//! itself once it can.

use crate::steady::Steady;
use crate::{BINARY, skip};
use serde_json::Value;
use std::time::Duration;
use world::{Answer, Disk, Keep, Kind, Lie, Mirror, Package, ReadOnly, Repo, World, within};

#[test]
fn g5_a_disk_that_is_full_in_the_middle_of_a_first_fetch_loses_nothing_and_goes_on_by_itself() {
    let Some(mut small) = Small::with("size=24m") else { skip!("nothing can be mounted here") };
    // Too little for its bytes to flow on before all are there.
    let cold = Package::new("cold", "1.0").bytes(vec![3; 3 << 19], &[Kind::Sha256]);
    small.publish(small.repo.clone().with(cold.clone()));
    let clients = small.clients();
    small.disk.fill(1 << 20);
    small.is_refused(&cold);
    small.tells(1, "No space left on device");
    small.keep.run(&["verify"]).ok();
    small.disk.empty();
    small.gets(&cold);
    small.is_well_again(1);
    clients.stop();
    assert_eq!(small.keep.ledger().pins(cold.url()).len(), 1);
    small.keep.stop();
    small.keep.restart();
    small.gets(&cold);
    small.is_well_again(1);
}

#[test]
fn g1_who_is_sent_what_the_disk_can_not_take_is_cut_off() {
    let Some(mut small) = Small::with("size=40m") else { skip!("nothing can be mounted here") };
    let cold = Package::new("cold", "1.0").bytes(vec![3; 16 << 20], &[Kind::Sha256]);
    small.publish(small.repo.clone().with(cold.clone()));
    let path = cold.cache_path(Kind::Sha256);
    small.disk.fill(12 << 20);
    let cut = small.keep.curl().get(&path);
    assert!(cut.status == 200 && cut.exit != 0, "{} {}", cut.status, cut.exit);
    assert!(cut.body.len() < cold.archive_bytes().len(), "all of it came");
    assert!(!small.keep.blob(cold.archive_bytes()).exists());
    small.tells(1, "No space left on device");
    small.disk.empty();
    small.gets(&cold);
    small.is_well_again(1);
}

#[test]
fn g5_a_disk_that_is_full_in_the_middle_of_a_refresh_leaves_the_last_good_index() {
    let Some(mut small) = Small::with("size=24m") else { skip!("nothing can be mounted here") };
    let clients = small.clients();
    small.world.publish(&many(&small.repo));
    small.disk.fill(300 << 10);
    let refresh = small.keep.refresh();
    assert!(refresh.code == 1 && refresh.said().contains("No space left"), "{}", refresh.said());
    small.tells(1, "No space left on device");
    assert_eq!(small.keep.index().packages(), ["kept.1.0"]);
    small.disk.empty();
    small.keep.refresh().ok();
    clients.stop();
    assert_eq!(small.keep.index().packages().len(), 1 + MANY);
    small.is_well_again(1);
}

#[test]
fn g3_a_disk_that_is_full_in_the_middle_of_an_append_leaves_a_ledger_that_goes_on() {
    let Some(mut small) = Small::with("size=24m") else { skip!("nothing can be mounted here") };
    let liars: Vec<Package> =
        (0..STEPS).map(|number| Package::new(&format!("liar-{number}"), "1.0")).collect();
    small.publish(liars.iter().cloned().fold(small.repo.clone(), Repo::with));
    for liar in &liars {
        small.world.lie(liar.url(), Lie::FlippedByte);
        assert_eq!(small.keep.curl().get(&liar.cache_path(Kind::Sha256)).status, 404);
    }
    let clients = small.clients();
    let ledger = small.keep.ledger();
    let mut failures = 0;
    for (number, liar) in liars.iter().enumerate() {
        let is_it = |entry: &Value| entry["kind"] == "divergence" && entry["url"] == liar.url();
        let id = ledger.index_of(is_it).to_string();
        // So many pages are left for the files that an append writes.
        small.disk.fill(number as u64 * PAGE);
        let full = small.keep.run(&["divergences", "ack", &id]);
        let is_noted = full.code == 0;
        assert!(is_noted || full.said().contains("No space left"), "{}", full.said());
        failures += usize::from(!is_noted);
        small.disk.empty();
        small.keep.run(&["divergences", "ack", &id]).ok();
        small.keep.run(&["verify"]).ok();
    }
    clients.stop();
    assert!(failures > 1, "only {failures} appends failed");
    let ledger = small.keep.ledger();
    assert_eq!(ledger.of_kind("decision").count(), liars.len(), "each once");
    within(PATIENCE, "readiness", || (small.ready().status == 200).then_some(()));
    // How many of these short times were noticed is chance; that each was over is told.
    within(PATIENCE, "the end of the last one", || {
        told(&small.world).last().is_none_or(|kind| kind == "store.writable").then_some(())
    });
}

#[test]
fn g5_a_disk_without_inodes_is_as_full_as_any() {
    let Some(mut small) = Small::with("size=64m,nr_inodes=3000") else {
        skip!("nothing can be mounted here")
    };
    let cold = Package::new("cold", "1.0");
    small.publish(small.repo.clone().with(cold.clone()));
    let clients = small.clients();
    small.disk.fill_inodes(0);
    small.is_refused(&cold);
    small.tells(1, "no inode left");
    small.disk.empty();
    small.gets(&cold);
    small.is_well_again(1);

    // So few that a refresh begins and does not end.
    small.world.publish(&many(&small.repo.clone().with(cold.clone())));
    small.disk.fill_inodes(MANY as u64 / 2);
    let refresh = small.keep.refresh();
    assert!(refresh.code == 1 && refresh.said().contains("No space left"), "{}", refresh.said());
    small.tells(2, "no inode is left");
    small.disk.empty();
    small.keep.refresh().ok();
    clients.stop();
    assert_eq!(small.keep.index().packages().len(), 2 + MANY);
    small.is_well_again(2);
}

#[test]
fn g5_a_file_system_that_turns_read_only_stops_nothing_that_is_kept() {
    let Some(mut small) = Small::with("size=24m") else { skip!("nothing can be mounted here") };
    let cold = Package::new("cold", "1.0");
    small.publish(small.repo.clone().with(cold.clone()));
    small.world.publish(&many(&small.repo));
    let clients = small.clients();
    let store = small.keep.store();
    let Some(read_only) = ReadOnly::over(&store) else { skip!("nothing can be mounted here") };
    small.is_refused(&cold);
    small.tells(1, "Read-only file system");
    let refresh = small.keep.refresh();
    assert!(refresh.code == 1 && refresh.said().contains("Read-only"), "{}", refresh.said());
    drop(read_only);
    small.gets(&cold);
    small.is_well_again(1);
    small.keep.refresh().ok();
    clients.stop();
    assert_eq!(small.keep.index().packages().len(), 2 + MANY);
    small.is_well_again(1);
}

#[test]
fn g5_a_start_on_a_full_disk_serves_what_is_kept() {
    let Some(mut small) = Small::with("size=24m") else { skip!("nothing can be mounted here") };
    let cold = Package::new("cold", "1.0");
    small.publish(small.repo.clone().with(cold.clone()));
    small.keep.kill();
    small.disk.fill(0);
    small.keep.restart();
    let clients = small.clients();
    small.is_refused(&cold);
    small.tells(1, "has 0 B of free space left");
    small.disk.empty();
    small.gets(&cold);
    clients.stop();
    small.is_well_again(1);
}

/// A mirror on a small disk, that kept one archive and tells a webhook what is wrong.
///
/// The disk goes first: what is mounted can't be removed with the mirror.
struct Small {
    disk: Disk,
    keep: Keep,
    world: World,
    repo: Repo,
}

impl Small {
    fn with(options: &str) -> Option<Self> {
        let mut keep = Keep::stopped(BINARY);
        let disk = Disk::mount(&keep.store(), options)?;
        let world = World::start();
        let repo = Repo::new([kept()]);
        world.publish(&repo);
        world.put(HOOK, "ok");
        let mirror = Mirror::of(&world)
            .set("store.min_free", "1B")
            .set("upstream.retry_after", "1s")
            // Conditions are looked for ten times as often.
            .set("alert.stale_after", "5s")
            .webhook(&world, "hook", HOOK);
        keep.configure(&mirror.text(&keep.store()));
        keep.restart();
        keep.index();
        assert!(keep.curl().get(&kept().cache_path(Kind::Sha256)).is_whole());
        Some(Self { disk, keep, world, repo })
    }

    /// Publishes and admits something else.
    fn publish(&mut self, repo: Repo) {
        self.world.publish(&repo);
        self.repo = repo;
        self.keep.refresh().ok();
    }

    fn clients(&mut self) -> Steady {
        Steady::start(&mut self.keep, &kept())
    }

    /// Asks for what can't be kept.
    fn is_refused(&mut self, package: &Package) {
        let answer = self.keep.curl().get(&package.cache_path(Kind::Sha256));
        assert_eq!((answer.exit, answer.status), (0, 404), "{answer:?}");
        let reason = answer.header("x-opam-keep-reason").unwrap_or_default();
        assert!(reason.starts_with("store; "), "{reason}");
        assert!(!self.keep.blob(package.archive_bytes()).exists());
    }

    /// `/readyz` and the `number`th alert say why nothing new is kept.
    fn tells(&mut self, number: usize, why: &str) {
        let ready = self.ready();
        let said = String::from_utf8_lossy(&ready.body).into_owned();
        assert_eq!(ready.status, 503, "{said}");
        let store = said.lines().find(|line| line.starts_with("store: ")).unwrap_or_default();
        assert!(store.contains(why), "{said}");
        let alerts = within(PATIENCE, "the alert", || {
            let alerts = alerts(&self.world);
            let begun = alerts.iter().filter(|alert| alert["type"] == "store.unwritable");
            (begun.count() >= number).then_some(alerts)
        });
        let last = alerts.last().expect("there is one");
        assert_eq!(last["type"], "store.unwritable");
        assert!(last["text"].as_str().is_some_and(|text| text.contains(why)), "{last:#}");
    }

    /// What could not be kept is, after a while and without anyone's doing.
    fn gets(&mut self, package: &Package) {
        let answer = within(PATIENCE, "the archive", || {
            let answer = self.keep.curl().get(&package.cache_path(Kind::Sha256));
            answer.is_whole().then_some(answer)
        });
        assert_eq!(answer.body, package.archive_bytes());
        assert!(self.keep.blob(package.archive_bytes()).exists());
    }

    /// All is well, nothing is damaged, and each of so many times was told once when it began and
    /// once when it was over.
    fn is_well_again(&mut self, times: usize) {
        within(PATIENCE, "readiness", || (self.ready().status == 200).then_some(()));
        self.keep.run(&["verify"]).ok();
        let expected = ["store.unwritable", "store.writable"].repeat(times);
        within(PATIENCE, "the last alert", || {
            (told(&self.world).len() >= expected.len()).then_some(())
        });
        within(PATIENCE, "an empty queue", || {
            self.keep.run(&["alerts"]).ok().contains("nothing waits").then_some(())
        });
        assert_eq!(told(&self.world), expected);
    }

    fn ready(&mut self) -> Answer {
        self.keep.curl().get("/readyz")
    }
}

/// The same repository with many packages more.
fn many(repo: &Repo) -> Repo {
    (0..MANY).fold(repo.clone(), |repo, number| {
        repo.with(Package::new(&format!("one-of-many-{number}"), "1.0"))
    })
}

fn kept() -> Package {
    Package::new("kept", "1.0")
}

/// Every alert about the store that the webhook was told.
fn alerts(world: &World) -> Vec<Value> {
    let requests = world.requests().into_iter();
    let posts = requests.filter(|it| it.method == "POST" && HOOK.ends_with(&it.url));
    let alerts = posts.map(|post| serde_json::from_slice(&post.body).expect("JSON"));
    alerts.filter(|alert| kind(alert).starts_with("store.")).collect()
}

/// What they were about.
fn told(world: &World) -> Vec<String> {
    alerts(world).iter().map(kind).collect()
}

fn kind(alert: &Value) -> String {
    alert["type"].as_str().unwrap_or_default().to_owned()
}

const HOOK: &str = "https://hooks.example/hook";
const MANY: usize = 300;
const PAGE: u64 = 4_096;
const PATIENCE: Duration = Duration::from_secs(90);
/// How many sizes of what is left are tried: from nothing to more than enough.
const STEPS: usize = 12;
