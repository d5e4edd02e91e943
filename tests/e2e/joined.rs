//! Many clients, one cold archive, one fetch.

use crate::start;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use world::{Keep, Kind, Lie, Memory, Mirror, Package, Repo, World, hex, raw, within};

#[test]
fn two_hundred_clients_of_one_cold_archive_cost_one_fetch_and_little_memory() {
    let (world, mut keep, package) = cold(20 * MEBIBYTE);
    world.lie(package.url(), Lie::Slow(10 * MEBIBYTE as u64));
    let memory = Memory::of(keep.pid());

    let expected = Kind::Sha256.of(package.archive_bytes());
    let path = package.cache_path(Kind::Sha512);
    let client = keep.raw();
    let together = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, path) = (client.clone(), path.clone());
            let together = Arc::clone(&together);
            thread::spawn(move || {
                together.wait();
                downloaded(&client, &path)
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("a client does not panic"), expected);
    }

    let grown = memory.grown();
    assert_eq!(world.count(package.url()), 1, "one fetch for all");
    println!("memory grew by {} MiB", grown / MEBIBYTE);
    assert!(grown < 64 * MEBIBYTE);
}

#[test]
fn a_client_that_hangs_up_does_not_cancel_the_fetch() {
    let (world, mut keep, package) = cold(2 * MEBIBYTE);
    world.lie(package.url(), Lie::Slow(MEBIBYTE as u64));
    let path = package.cache_path(Kind::Sha256);
    let mut connection = keep.raw().connect().expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.write(request.as_bytes()).expect("a request can be sent");
    within(PATIENCE, "the fetch begins", || (world.count(package.url()) == 1).then_some(()));
    drop(connection);

    let blob = keep.blob(package.archive_bytes());
    within(PATIENCE, "the archive is kept all the same", || blob.exists().then_some(()));
    let answer = keep.curl().get(&path);
    assert!(answer.is_whole() && answer.body == package.archive_bytes());
    assert_eq!(world.count(package.url()), 1, "one fetch was enough");
}

#[test]
fn clients_that_ask_by_different_kinds_share_one_fetch() {
    let (world, mut keep, package) = cold(MEBIBYTE);
    world.lie(package.url(), Lie::Slow(MEBIBYTE as u64));
    let expected = Kind::Sha256.of(package.archive_bytes());
    let client = keep.raw();
    let clients: Vec<_> = Kind::ALL
        .map(|kind| {
            let (client, path) = (client.clone(), package.cache_path(kind));
            thread::spawn(move || downloaded(&client, &path))
        })
        .into();
    for client in clients {
        assert_eq!(client.join().expect("a client does not panic"), expected);
    }
    assert_eq!(world.count(package.url()), 1, "one fetch for all");
}

#[test]
fn a_fetch_that_goes_on_over_reloads_is_the_one_that_clients_wait_for() {
    let (world, mut keep, package) = cold(3 * MEBIBYTE);
    world.lie(package.url(), Lie::Slow(MEBIBYTE as u64 / 2));
    let expected = Kind::Sha256.of(package.archive_bytes());
    let (client, path) = (keep.raw(), package.cache_path(Kind::Sha256));
    let first = {
        let (client, path) = (client.clone(), path.clone());
        thread::spawn(move || downloaded(&client, &path))
    };
    within(PATIENCE, "the fetch begins", || (world.count(package.url()) == 1).then_some(()));
    for reloads in 1..=2 {
        let changed = mirror(&world).set("upstream.retry_after", format!("{reloads}h").as_str());
        keep.configure(&changed.text(&keep.store()));
        within(PATIENCE, "a reload", || (reloaded(&mut keep) == reloads).then_some(()));
    }
    let blob = keep.blob(package.archive_bytes());
    assert!(!blob.exists(), "the fetch goes on");
    assert_eq!(downloaded(&client, &path), expected);
    assert_eq!(first.join().expect("a client does not panic"), expected);
    assert_eq!(world.count(package.url()), 1, "one fetch for all");
}

#[test]
fn a_fetch_under_other_settings_of_upstream_is_another_one() {
    let (world, mut keep, package) = cold(MEBIBYTE);
    world.lie(package.url(), Lie::StallMidBody);
    let (client, path) = (keep.raw(), package.cache_path(Kind::Sha256));
    let _waiting = {
        let (client, path) = (client.clone(), path.clone());
        thread::spawn(move || downloaded(&client, &path))
    };
    within(PATIENCE, "the fetch begins", || (world.count(package.url()) == 1).then_some(()));
    let changed = mirror(&world).set("upstream.max_archive_size", "1KiB");
    keep.configure(&changed.text(&keep.store()));
    within(PATIENCE, "a reload", || (reloaded(&mut keep) == 1).then_some(()));
    world.be_honest(package.url());
    assert_eq!(downloaded(&client, &path), "status 404", "it is too large by now");
    assert_eq!(world.count(package.url()), 2);
}

/// A mirror of one package that nobody asked for yet.
fn cold(size: usize) -> (World, Keep, Package) {
    let package = Package::new("big", "1.0").bytes(incompressible(size), &Kind::ALL);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&mirror(&world));
    keep.index();
    (world, keep, package)
}

fn mirror(world: &World) -> Mirror {
    Mirror::of(world).set("upstream.patience", "60s")
}

/// How often the configuration was read again.
fn reloaded(keep: &mut Keep) -> usize {
    let is_reload =
        |line: &&Value| line["message"] == "reloaded" && line["what"] == "configuration";
    keep.logged().iter().filter(is_reload).count()
}

/// The sha256 of what is at `path`, or a sentence that says what went wrong instead.
fn downloaded(client: &raw::Client, path: &str) -> String {
    let attempt = || -> std::io::Result<String> {
        let mut answer = client.get(path)?;
        if answer.status != 200 {
            return Ok(format!("status {}", answer.status));
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = answer.read(&mut buffer)?;
            if read == 0 {
                return Ok(hex(&hash.finalize()));
            }
            hash.update(&buffer[..read]);
        }
    };
    attempt().unwrap_or_else(|error| error.to_string())
}

/// Xorshift: different at every offset, the same in every run.
fn incompressible(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(size).collect()
}

const CLIENTS: usize = 200;
const MEBIBYTE: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);
