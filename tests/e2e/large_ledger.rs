//! A ledger of a hundred thousand entries, checked by a program that shares no line of code with
//! opam-keep.

use crate::ledger::{verifier, verify_elsewhere};
use crate::many_pins::append;
use crate::{BINARY, skip};
use opam_keep::clock::Clock;
use opam_keep::store::Store;
use opam_keep::store::layout::Layout;
use std::fs;
use std::path::PathBuf;
use world::{Keep, Mirror, World, installed};

#[test]
fn g7_someone_elses_program_verifies_a_hundred_thousand_entries_and_that_they_only_grew() {
    if !installed("go") {
        skip!("no go in PATH");
    }
    if !crate::ledger::has_tlog() {
        skip!("no golang-golang-x-mod-dev");
    }
    let world = World::start();
    let mut keep = Keep::stopped(BINARY);
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    let older = fill(&keep);
    let older: Vec<_> = older.iter().map(PathBuf::as_path).collect();
    let verifier = verifier(&keep);
    let said = verify_elsewhere(&verifier, &keep, &older).ok();
    let size = said.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    assert!(size.is_some_and(|size: usize| size >= ENTRIES), "{said}");

    // What is served is what was verified.
    keep.restart();
    let curl = keep.curl();
    for path in ["checkpoint", "tile/0/123", "tile/1/000", "tile/entries/389"] {
        let answer = curl.get(&format!("/ledger/{path}"));
        let kept = fs::read(keep.store().join("ledger").join(path)).expect("it is there");
        assert!(answer.is_whole() && answer.body == kept, "{path}");
    }
    keep.stop();

    // A program that believed everything would be no check.
    let bundle = keep.store().join("ledger/tile/entries/201");
    let whole = fs::read(&bundle).expect("it is there");
    let mut other = whole.clone();
    other[whole.len() / 2] ^= 1;
    fs::write(&bundle, other).expect("it can be written");
    let refused = verify_elsewhere(&verifier, &keep, &[]);
    assert_ne!(refused.code, 0, "{}", refused.said());
    fs::write(&bundle, whole).expect("it can be written");
    let forked = older[1];
    let text = fs::read_to_string(forked).expect("it was copied").replacen("\n2", "\n3", 1);
    fs::write(forked, text).expect("it can be written");
    let refused = verify_elsewhere(&verifier, &keep, &[forked]);
    assert_ne!(refused.code, 0, "{}", refused.said());
}

/// Appends all entries, and keeps the checkpoints of some sizes in between.
fn fill(keep: &Keep) -> Vec<PathBuf> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let layout = Layout::new(keep.store());
    let opened = runtime.block_on(Store::open(layout, 0, &Clock::system()));
    let store = opened.expect("a store can be opened");
    let mut pinned = 0;
    let mut older = Vec::new();
    for size in [1, 255, 20_000, 65_536, ENTRIES] {
        runtime.block_on(append(&store, pinned..size));
        pinned = size;
        if size < ENTRIES {
            let copy = keep.path(&format!("checkpoint-{size}"));
            fs::copy(keep.store().join("ledger/checkpoint"), &copy).expect("there is one");
            older.push(copy);
        }
    }
    older
}

const ENTRIES: usize = 100_000;
