//! Each step of everything that a store writes, made to fail in every way: what was acknowledged is
//! there, the ledger only grew, and the store goes on by itself.

use super::super::tests::{URL, open, pin, vouched_for};
use super::super::{Accepted, Appended, Store};
use super::*;
use crate::digest::Sha256;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::edge::Edge;
use crate::ledger::entry::{Entry, Strength};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

#[tokio::test]
async fn g3_a_step_that_fails_without_effect_loses_nothing() {
    every_step(Fault::NotDone).await;
}

#[tokio::test]
async fn g3_a_step_that_fails_after_its_effect_loses_nothing() {
    every_step(Fault::Done).await;
}

#[tokio::test]
async fn g3_what_a_step_that_only_seemed_to_fail_did_may_be_lost_later() {
    every_step(Fault::DoneAndLost).await;
}

#[tokio::test]
async fn g3_a_power_loss_that_takes_all_that_is_not_durable_loses_nothing() {
    every_step(Fault::PowerLoss(Lost::All)).await;
}

#[tokio::test]
async fn g3_a_power_loss_that_takes_some_of_it_loses_nothing() {
    every_step(Fault::PowerLoss(Lost::Some)).await;
}

#[tokio::test]
async fn g3_a_death_before_any_step_loses_nothing() {
    every_step(Fault::PowerLoss(Lost::Nothing)).await;
}

/// What others remember of a store.
#[derive(Default)]
struct Memory {
    pinned: BTreeMap<String, Vec<u8>>,
    /// Of these it was said that other bytes are told of.
    told: Vec<String>,
    heads: Vec<Checkpoint>,
}

async fn every_step(fault: Fault) {
    for at in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Memory::default();
        // Making a store has steps by the hundred: those fail below.
        drop(open(&directory).await.unwrap());
        let disk = FailingDisk::new(directory.path(), at, fault);
        let opened = open(&directory).await;
        if let Ok(store) = &opened {
            fill(store, "before", &mut memory).await;
            if !matches!(fault, Fault::PowerLoss(_)) {
                let pinned = memory.pinned.len();
                fill(store, "after", &mut memory).await;
                let healthy = !disk.has_failed() || memory.pinned.len() > pinned;
                assert!(healthy, "{fault:?} at step {at}: it does not go on");
            }
        }
        drop(opened);
        let has_failed = disk.has_failed();
        disk.mend();
        check(&directory, &memory, &format!("{fault:?} at step {at}")).await;
        if !has_failed {
            assert!(at > 30, "{fault:?}: there are only {at} steps");
            return;
        }
    }
}

#[tokio::test]
async fn g3_a_store_that_could_not_be_made_can_be_made_later() {
    for fault in [Fault::NotDone, Fault::Done, Fault::PowerLoss(Lost::All)] {
        // The 256 directories of blobs are all alike.
        for at in (1..20).chain(500..560) {
            let directory = tempfile::tempdir().unwrap();
            let disk = FailingDisk::new(directory.path(), at, fault);
            drop(open(&directory).await);
            disk.mend();
            check(&directory, &Memory::default(), &format!("{fault:?} at step {at}")).await;
        }
    }
}

/// Keeps and pins in each of the ways that there are.
async fn fill(store: &Store, what: &str, memory: &mut Memory) {
    for number in 0..4 {
        let bytes = format!("{what} {number}").into_bytes();
        let kept = match number {
            0 => store.blobs().put(&bytes).map(drop),
            1 => {
                let other = [bytes.clone(), b" and more".to_vec()].concat();
                let all = [&bytes, &other].map(|bytes| (Sha256::of(bytes), bytes.as_slice()));
                store.blobs().put_all(all.into_iter()).map(drop)
            }
            _ => store.blobs().writer().and_then(|mut writer| {
                writer.write(&bytes)?;
                store.blobs().keep(writer.finish())
            }),
        };
        let url = format!("{URL}{what}{number}");
        if kept.is_ok()
            && let Ok(Appended::New(_) | Appended::Known(_)) = store.append(pin(&url, &bytes)).await
        {
            memory.pinned.insert(url.clone(), bytes);
        }
        let other = vouched_for(&url, b"other bytes", Strength::Strong);
        if let Ok(pinned) = store.pin(other, Accepted::Never).await
            && memory.pinned.contains_key(&url)
        {
            assert!(pinned.changed.is_some(), "{url} is pinned twice, and nobody is told");
            memory.told.push(url);
        }
        if let Ok(Some((head, _))) = store.log().checkpoint() {
            memory.heads.push(head);
        }
    }
}

async fn check(directory: &TempDir, memory: &Memory, when: &str) {
    let store = open(directory).await.unwrap_or_else(|error| panic!("{when}: {error}"));
    for (url, bytes) in &memory.pinned {
        let kept = store.lookup(|catalog| catalog.pin(url)).unwrap();
        assert_eq!(kept.map(|kept| kept.sha256), Some(Sha256::of(bytes)), "{when}: {url}");
        assert_eq!(store.blobs().read(&Sha256::of(bytes), 1_000).unwrap(), *bytes, "{when}");
    }
    check_told(&store, memory, when);
    let size = store.log().size().unwrap();
    let mut edge = Edge::default();
    let mut roots = vec![edge.root()];
    for leaf in store.log().leaves(0, size) {
        let (_, leaf) = leaf.unwrap_or_else(|error| panic!("{when}: {error}"));
        edge = edge.grow(&[leaf]).unwrap().edge;
        roots.push(edge.root());
    }
    for head in &memory.heads {
        assert!(head.size <= size, "{when}: it went back from {} entries to {size}", head.size);
        assert_eq!(roots[head.size as usize], head.root, "{when}: it forked");
    }
    // And it goes on.
    store.blobs().put(b"afterwards").unwrap();
    store.append(pin(&format!("{URL}afterwards"), b"afterwards")).await.unwrap();
}

/// No URL is pinned to other bytes than the first ones before the ledger has told so.
fn check_told(store: &Store, memory: &Memory, when: &str) {
    let (mut pinned, mut told) = (BTreeMap::new(), BTreeSet::new());
    for entry in store.log().entries(0, store.log().size().unwrap()) {
        match entry.unwrap_or_else(|error| panic!("{when}: {error}")).1 {
            Entry::Divergence(divergence) => drop(told.insert(divergence.url)),
            Entry::Pin(pin) => {
                let first = pinned.entry(pin.url.clone()).or_insert(pin.sha256);
                let is_told = *first == pin.sha256 || told.contains(&pin.url);
                assert!(is_told, "{when}: {} is pinned twice, and nobody is told", pin.url);
            }
            _ => {}
        }
    }
    assert!(memory.told.iter().all(|url| told.contains(url)), "{when}: it was told, and is not");
}
