//! Clients that ask for what takes long and hang up at once: what they asked for is done once, and
//! keeps nobody waiting for long.

use crate::divergences::rewritten;
use crate::start;
use std::thread;
use std::time::{Duration, Instant};
use world::{Keep, Mirror, Package, Repo, World, computed, raw, tar_gz};

#[test]
fn a_divergence_that_many_ask_for_and_nobody_waits_for_is_explained_once() {
    let (_world, mut keep, id) = hard_to_compare();
    let begun = Instant::now();
    keep.run(&["divergences", "show", &id]).ok();
    let once = begun.elapsed();
    let (client, pid) = (keep.raw(), keep.pid());
    let before = computed(pid);
    ask_and_hang_up(&client, &format!("/divergences/{id}"), 60);
    for path in ["/readyz", "/livez", "/ledger/checkpoint"] {
        let begun = Instant::now();
        assert_eq!(client.get(path).expect("an answer").status, 200, "{path}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}: {:?}", begun.elapsed());
    }
    let answer = client.get(&format!("/api/v1/divergences/{id}")).expect("an answer");
    let text = String::from_utf8(answer.body().expect("a whole body")).expect("text");
    assert!(text.contains("\"explanation\":\""), "{text}");
    let took = computed(pid) - before;
    assert!(took < once * 6 + LITTLE, "{took:?}, and {once:?} are enough");
}

#[test]
fn packages_that_many_ask_for_and_nobody_waits_for_are_read_once() {
    let packages =
        |count: usize| Repo::new((0..count).map(|n| Package::new(&format!("package-{n}"), "1.0")));
    let world = World::start();
    world.publish(&packages(3_000));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let (client, pid) = (keep.raw(), keep.pid());
    settle(pid);
    let before = computed(pid);
    assert_eq!(client.get("/packages").expect("an answer").status, 200);
    let once = computed(pid) - before;
    world.publish(&packages(3_001));
    keep.refresh().ok();
    settle(pid);
    let before = computed(pid);
    ask_and_hang_up(&client, "/packages", 60);
    let answer = client.get("/packages?q=package-3000").expect("an answer");
    let text = String::from_utf8(answer.body().expect("a whole body")).expect("text");
    assert!(text.contains("package-3000"), "{text}");
    let took = computed(pid) - before;
    assert!(took < once * 6 + LITTLE, "{took:?}, and {once:?} are enough");
}

fn ask_and_hang_up(client: &raw::Client, path: &str, times: usize) {
    for _ in 0..times {
        let mut connection = client.connect().expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.write(request.as_bytes()).expect("it reads");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a server has nothing to do.
fn settle(pid: i32) {
    for _ in 0..60 {
        let before = computed(pid);
        thread::sleep(Duration::from_millis(500));
        if computed(pid) - before < Duration::from_millis(30) {
            return;
        }
    }
}

/// A mirror, and a divergence of two archives with texts of which no line is where it was.
pub(crate) fn hard_to_compare() -> (World, Keep, String) {
    let text = |mut seed: u32| {
        let mut text = String::new();
        for _ in 0..LINES {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(&format!("{}\n", seed >> 24));
        }
        text
    };
    let [first, second] = [1, 2].map(|seed| tar_gz([("hello/README", text(seed).as_bytes())]));
    rewritten(first, second)
}

/// As many as are still compared line by line.
const LINES: usize = 31_000;
/// For the connections themselves.
const LITTLE: Duration = Duration::from_millis(400);
