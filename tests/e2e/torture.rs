//! kill -9 at random moments of everything that writes, again and again: what was acknowledged is
//! there, every start finds a sound store, and an outside witness sees a ledger that only grows.
//!
//! In passing for a minute; `OPAM_KEEP_KILLS=500 cargo test --test e2e torture` takes longer.

use crate::start;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use world::{Keep, Kind, Lie, Mirror, Package, Repo, Witness, World, raw};

#[test]
fn g3_nothing_that_was_acknowledged_is_lost_however_often_it_is_killed() {
    let kills = std::env::var("OPAM_KEEP_KILLS").ok().and_then(|kills| kills.parse().ok());
    let begun = Instant::now();
    let is_enough = |killed: usize| match kills {
        Some(kills) => killed >= kills,
        None => begun.elapsed() >= IN_PASSING,
    };
    let mut torture = Torture::new();
    let mut killed = 0;
    while !is_enough(killed) {
        torture.round(killed);
        killed += 1;
    }
    torture.without_catalog();
    torture.tell(killed);
}

/// A mirror that is killed, and what others remember of it.
struct Torture {
    world: World,
    keep: Keep,
    chance: Chance,
    witness: Mutex<Witness>,
    outside: Outside,
}

/// What upstream has, and what the mirror promised to clients and administrators.
#[derive(Default)]
struct Outside {
    published: Mutex<Vec<Package>>,
    /// Archives that clients or imports got acknowledged, by path.
    archives: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Divergences that are decided, with how.
    decisions: Mutex<BTreeSet<(u64, String)>>,
    /// How often each command ended well, and how often it was cut off.
    commands: Mutex<BTreeMap<&'static str, (usize, usize)>>,
    fetches_cut: AtomicUsize,
    over: AtomicBool,
}

impl Torture {
    fn new() -> Self {
        let world = World::start();
        let outside = Outside::default();
        let mut chance = Chance::new();
        outside.publish(&world, &mut chance);
        let mirror = Mirror::of(&world)
            .set("upstream.per_host", 8)
            .set("upstream.retry_after", "1s")
            .set("access.misses_per_minute", 1_000_000);
        let mut keep = start(&mirror);
        keep.index();
        Self { world, keep, chance, witness: Mutex::default(), outside }
    }

    /// Everything at once until it is killed, and then a look at what is left.
    fn round(&mut self, number: usize) {
        let client = self.keep.raw();
        let pid = self.keep.pid();
        let life = Duration::from_millis(self.chance.below(700));
        let seeds = [self.chance.next(), self.chance.next(), self.chance.next()];
        self.outside.over.store(false, Ordering::SeqCst);
        let (world, keep, outside) = (&self.world, &self.keep, &self.outside);
        let witness = &self.witness;
        thread::scope(|scope| {
            for seed in &seeds[1..] {
                scope.spawn(|| outside.fetch(&client, Chance(*seed)));
            }
            scope.spawn(|| outside.command(world, keep, Chance(seeds[0])));
            scope.spawn(|| {
                while !outside.over.load(Ordering::SeqCst) {
                    witness.lock().expect("no thread panicked").look(&client);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            thread::sleep(life);
            kill(pid);
            outside.over.store(true, Ordering::SeqCst);
        });
        self.keep.kill();
        // What a command without a server did may be newer than what the witness saw.
        self.keep.restart();
        let verified = self.keep.run(&["verify"]);
        assert_eq!(verified.code, 0, "round {number}: {}", verified.said());
        self.look(number);
    }

    /// The same without what can be made again.
    fn without_catalog(&mut self) {
        self.keep.kill();
        std::fs::remove_dir_all(self.keep.store().join("catalog")).expect("it can be removed");
        self.keep.restart();
        self.look(usize::MAX);
    }

    fn look(&mut self, round: usize) {
        let client = self.keep.raw();
        self.witness.lock().expect("no thread panicked").check(&client);
        let archives = self.outside.archives.lock().expect("no thread panicked");
        let mut connection = client.connect().expect("it listens");
        for (path, bytes) in archives.iter() {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = connection.send(request.as_bytes()).expect("it answers");
            assert_eq!(answer.status, 200, "round {round}: {path}");
            let (body, next) = answer.finish().expect("a whole body");
            assert!(body == *bytes, "round {round}: {path} has other bytes");
            connection = next;
        }
        let ledger = self.keep.ledger();
        assert_eq!(ledger.untold(), [0; 0], "round {round}: other bytes are pinned, untold");
        let decided: BTreeSet<(u64, String)> = ledger
            .of_kind("decision")
            .map(|entry| {
                let action = entry["action"].as_str().expect("an action").to_owned();
                (entry["divergence"].as_u64().expect("an index"), action)
            })
            .collect();
        for decision in self.outside.decisions.lock().expect("no thread panicked").iter() {
            assert!(decided.contains(decision), "round {round}: {decision:?} is not in the ledger");
        }
    }

    fn tell(&self, killed: usize) {
        let archives = self.outside.archives.lock().expect("no thread panicked").len();
        let decisions = self.outside.decisions.lock().expect("no thread panicked").len();
        let commands = self.outside.commands.lock().expect("no thread panicked");
        let fetches_cut = self.outside.fetches_cut.load(Ordering::SeqCst);
        let seen = self.witness.lock().expect("no thread panicked").seen();
        println!(
            "{killed} kills; {archives} archives and {decisions} decisions acknowledged, \
             {fetches_cut} fetches cut; {seen} checkpoints seen"
        );
        for (command, (done, cut)) in commands.iter() {
            println!("  {command:<8} {done:>5} done {cut:>5} cut off");
        }
        assert!(killed >= 10 && archives > killed && fetches_cut > 0, "that was no torture");
    }
}

impl Outside {
    /// Some more versions, one of an old version's edits, some of it slowly.
    fn publish(&self, world: &World, chance: &mut Chance) {
        let mut published = self.published.lock().expect("no thread panicked");
        let edited = chance.below(published.len().max(1) as u64) as usize;
        if let Some(package) = published.get_mut(edited) {
            // Another source under a published version: held, so there is something to accept.
            let bytes = format!("rewritten {}", chance.next());
            let checksum = format!("sha256={}", Kind::Sha256.of(bytes.as_bytes()));
            world.put(package.url(), bytes);
            *package = package.clone().declaring(&[checksum]);
        }
        let mut repo = Repo::new(published.clone());
        for _ in 0..NEW {
            let number = published.len();
            let size = 200 + chance.below(60_000) as usize;
            let bytes = [number.to_le_bytes().as_slice(), &vec![number as u8; size]].concat();
            let package = Package::new(&format!("package-{number}"), "1.0");
            published.push(package.bytes(bytes, &[Kind::Sha256]));
            repo = repo.with(published[number].clone());
        }
        world.put(&format!("{}/index.tar.gz", World::OPAM), repo.index());
        for package in &published[published.len() - NEW..] {
            world.put(package.url(), package.archive_bytes().to_vec());
            if chance.below(2) == 0 {
                world.lie_times(package.url(), Lie::Slow(40_000 + chance.below(400_000)), 1);
            }
        }
    }

    /// One of those that were published last.
    fn some_package(&self, chance: &mut Chance) -> Package {
        let published = self.published.lock().expect("no thread panicked");
        let newest = published.len() as u64;
        published[(newest - 1 - chance.below(newest.min(3 * NEW as u64))) as usize].clone()
    }

    /// A client that fetches one archive after the other.
    fn fetch(&self, client: &raw::Client, mut chance: Chance) {
        while !self.over.load(Ordering::SeqCst) {
            let path = self.some_package(&mut chance).cache_path(Kind::Sha256);
            let answer = client.get(&path);
            let body = match answer {
                Ok(answer) if answer.status == 200 => answer.body(),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            match body {
                Ok(body) => {
                    self.archives.lock().expect("no thread panicked").insert(path, body);
                }
                Err(_) => {
                    self.fetches_cut.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }

    /// An administrator who does one thing after the other.
    fn command(&self, world: &World, keep: &Keep, mut chance: Chance) {
        while !self.over.load(Ordering::SeqCst) {
            let package = self.some_package(&mut chance);
            match chance.below(6) {
                0 | 1 => {
                    self.publish(world, &mut chance);
                    self.run("refresh", keep.command(&["refresh"]), &mut chance);
                }
                2 => {
                    let truth = package.archive_bytes().to_vec();
                    world.put(package.url(), format!("changed {}", chance.next()));
                    let name = package.full_name();
                    self.run("recheck", keep.command(&["recheck", &name]), &mut chance);
                    world.put(package.url(), truth);
                }
                3 => {
                    let packages = [self.some_package(&mut chance), package];
                    let directory = keep.path("cache");
                    for package in &packages {
                        put(&directory, package);
                    }
                    let directory = directory.display().to_string();
                    let import = keep.command(&["import", "--cache", &directory, "--json"]);
                    self.run("import", import, &mut chance);
                }
                4 => {
                    let name = package.full_name();
                    self.run("sync", keep.command(&["sync", &name]), &mut chance);
                }
                _ => self.decide(keep, &mut chance),
            }
        }
    }

    fn decide(&self, keep: &Keep, chance: &mut Chance) {
        let listed = self.run("list", keep.command(&["divergences", "--json"]), chance);
        let open: Vec<u64> = listed
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["id"].as_u64())
            .collect();
        if open.is_empty() {
            return;
        }
        let id = open[chance.below(open.len() as u64) as usize];
        let (name, action) =
            [("accept", "accept"), ("ack", "acknowledge")][chance.below(2) as usize];
        let deciding = keep.command(&["divergences", name, &id.to_string(), "--why", "torture"]);
        if self.run(name, deciding, chance).is_some() {
            let decision = (id, action.to_owned());
            self.decisions.lock().expect("no thread panicked").insert(decision);
        }
    }

    /// What a command said that ended well; after the server's death it is killed as well.
    fn run(&self, name: &'static str, mut command: Command, chance: &mut Chance) -> Option<String> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().expect("the binary can be run");
        let is_whole = self.wait(&mut child, chance);
        let output = child.wait_with_output().expect("a child can be waited for");
        let mut commands = self.commands.lock().expect("no thread panicked");
        let (done, cut) = commands.entry(name).or_default();
        // A recheck that finds something else ends with 1, and so does what lost its server.
        let is_good = is_whole && output.status.success();
        match is_good || is_whole && !self.over.load(Ordering::SeqCst) {
            true => *done += 1,
            false => *cut += 1,
        }
        is_good.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether a command came to its end.
    fn wait(&self, child: &mut Child, chance: &mut Chance) -> bool {
        let mut until = None;
        loop {
            if child.try_wait().expect("a child can be waited for").is_some() {
                return true;
            }
            if self.over.load(Ordering::SeqCst) {
                let mercy = Duration::from_millis(chance.below(150));
                if Instant::now() >= *until.get_or_insert_with(|| Instant::now() + mercy) {
                    child.kill().expect("a child can be killed");
                    return false;
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Puts a package's archive where an opam client would have it.
fn put(cache: &std::path::Path, package: &Package) {
    let bytes = package.archive_bytes();
    let path = Kind::Sha256.cache_path(bytes);
    let file = cache.join(path.trim_start_matches("/cache/"));
    std::fs::create_dir_all(file.parent().expect("a file has a directory"))
        .and_then(|()| std::fs::write(file, bytes))
        .expect("a file can be written");
}

fn kill(pid: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = Pid::from_raw(pid).expect("a child has a pid");
    kill_process(pid, Signal::KILL).expect("a child can be killed");
}

/// Numbers that nobody foresees (xorshift64).
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        println!("seed {}", now.as_nanos() as u64 | 1);
        Self(now.as_nanos() as u64 | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// How long it is tortured in passing.
const IN_PASSING: Duration = Duration::from_secs(60);
/// How many versions are added at once.
const NEW: usize = 8;
