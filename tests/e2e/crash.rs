//! kill -9 in the middle of fetches: what was acknowledged is there, and nothing is broken.

use crate::start;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Package, Repo, World, raw, within};

#[test]
fn g3_what_was_acknowledged_before_kill_9_is_there_afterwards() {
    let packages: Vec<_> = (0..PACKAGES).map(package).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    for package in &packages {
        world.lie(package.url(), Lie::Slow(4 * SIZE as u64));
    }
    let mirror = Mirror::of(&world).set("upstream.per_host", 8).set("upstream.retry_after", "1s");
    let mut keep = start(&mirror);
    keep.index();

    let acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        let share = &packages[round * PER_ROUND..(round + 1) * PER_ROUND];
        let clients = Clients::start(&keep.raw(), share, &acknowledged);
        // A later death each round: before anything, in the middle, near the end.
        let enough = round * PER_ROUND / ROUNDS;
        let before = acknowledged.len();
        within(PATIENCE, "some archives", || (acknowledged.len() >= before + enough).then_some(()));
        keep.kill();
        clients.stop();
        keep.restart();
        let verified = keep.run(&["verify"]);
        assert_eq!(verified.code, 0, "round {round}: {}", verified.said());
        everything_is_there(&mut keep, &acknowledged, round);
    }

    let hit = packages
        .iter()
        .filter(|package| world.count(package.url()) > 0 && !acknowledged.contains(&path(package)));
    assert!(hit.count() >= ROUNDS / 2, "too few of the kills hit a fetch");
    world.kill();
    everything_is_there(&mut keep, &acknowledged, ROUNDS);
    assert!(acknowledged.len() > PACKAGES / 4, "only {} were acknowledged", acknowledged.len());
    let ledger = keep.ledger();
    for (path, package) in packages.iter().map(|package| (path(package), package)) {
        let pins = ledger.pins(package.url()).len();
        assert!(pins <= 1, "{} is pinned {pins} times", package.url());
        assert!(pins == 1 || !acknowledged.contains(&path), "{path} has no pin");
    }
}

#[test]
fn g3_a_store_that_was_killed_while_it_was_made_starts_again() {
    let world = World::start();
    world.publish(&Repo::new([package(0)]));
    let mut keep = start(&Mirror::of(&world));
    for _ in 0..ROUNDS {
        keep.kill();
        keep.restart();
    }
    keep.index();
    assert_eq!(keep.run(&["verify"]).code, 0);
}

#[test]
fn a_stop_lets_a_running_download_finish() {
    let package = package(0);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    world.lie(package.url(), Lie::Slow(SIZE as u64));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let client = keep.raw();
    let wanted = path(&package);
    let download = thread::spawn(move || client.get(&wanted)?.body());
    within(PATIENCE, "the fetch begins", || (world.count(package.url()) == 1).then_some(()));
    keep.stop();
    let body = download.join().expect("a client does not panic").expect("a whole body");
    assert_eq!(body, package.archive_bytes());
}

/// What clients got whole, by path.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Acknowledged {
    fn add(&self, path: &str, bytes: Vec<u8>) {
        self.0.lock().expect("no client panicked").insert(path.to_owned(), bytes);
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no client panicked").len()
    }

    fn contains(&self, path: &str) -> bool {
        self.0.lock().expect("no client panicked").contains_key(path)
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().expect("no client panicked").clone()
    }
}

/// Clients that fetch one archive after the other until they are told to stop.
struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(client: &raw::Client, packages: &[Package], acknowledged: &Acknowledged) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = packages.chunks(PER_ROUND / THREADS).map(|share| {
            let (client, acknowledged) = (client.clone(), acknowledged.clone());
            let over = Arc::clone(&over);
            let paths: Vec<_> = share.iter().map(path).collect();
            thread::spawn(move || {
                for path in paths {
                    while !over.load(Ordering::Relaxed) {
                        let Ok(answer) = client.get(&path) else { continue };
                        if answer.status != 200 {
                            continue;
                        }
                        if let Ok(body) = answer.body() {
                            acknowledged.add(&path, body);
                            break;
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { over, threads }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
    }
}

/// Asks again for all that was acknowledged: it comes whole, and it is what it was.
fn everything_is_there(keep: &mut Keep, acknowledged: &Acknowledged, round: usize) {
    keep.index_at("/index.tar.gz");
    let client = keep.raw();
    for (path, bytes) in acknowledged.all() {
        assert!(keep.blob(&bytes).exists(), "round {round}: {path} has no blob");
        let answer = client.get(&path).expect("it answers");
        assert_eq!(answer.status, 200, "round {round}: {path}");
        assert!(answer.body().expect("a whole body") == bytes, "round {round}: {path}");
    }
}

fn package(number: usize) -> Package {
    let byte = u8::try_from(number % 256).expect("a remainder fits");
    let bytes = [number.to_le_bytes().as_slice(), &vec![byte; SIZE]].concat();
    Package::new(&format!("package-{number}"), "1.0").bytes(bytes, &[Kind::Sha256])
}

fn path(package: &Package) -> String {
    package.cache_path(Kind::Sha256)
}

const PACKAGES: usize = ROUNDS * PER_ROUND;
const PATIENCE: Duration = Duration::from_secs(60);
const PER_ROUND: usize = 16;
const ROUNDS: usize = 12;
const SIZE: usize = 128 * 1024;
const THREADS: usize = 4;
