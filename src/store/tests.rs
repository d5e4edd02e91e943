//! The store as a whole: what is acknowledged stays, whatever is lost beside it.

use super::*;
use crate::digest::Digests;
use crate::ledger::entry::{Action, Decision, Divergence, DivergenceKind, Observed, Pin, Strength};
use crate::opam::Checksum;
use tempfile::TempDir;

pub(super) fn pin(url: &str, bytes: &[u8]) -> Entry {
    Entry::Pin(vouched_for(url, bytes, Strength::None))
}

pub(super) fn vouched_for(url: &str, bytes: &[u8], strength: Strength) -> Pin {
    let digests = Digests::of(bytes);
    Pin {
        at: Clock::system().now(),
        repository: "default".to_owned(),
        packages: Vec::new(),
        url: url.to_owned(),
        src: None,
        from: url.to_owned(),
        sha256: digests.sha256,
        sha512: digests.sha512,
        md5: digests.md5,
        size: digests.size,
        declared: Vec::new(),
        strength,
        agreed: Vec::new(),
        import: None,
    }
}

fn divergence(bytes: &[u8]) -> Entry {
    let digests = Digests::of(bytes);
    Entry::Divergence(Divergence {
        at: Clock::system().now(),
        repository: "default".to_owned(),
        packages: Vec::new(),
        url: URL.to_owned(),
        src: None,
        from: URL.to_owned(),
        what: DivergenceKind::Mismatch,
        expected: Vec::new(),
        edits: Vec::new(),
        held: false,
        again: None,
        observed: Some(Observed { sha256: digests.sha256, size: digests.size }),
        evidence: None,
        detail: "sha256 differs".to_owned(),
    })
}

pub(super) async fn open(directory: &TempDir) -> Result<Store, StoreError> {
    let mut tries = 0;
    loop {
        let opened = Store::open(Layout::new(directory.path()), 0, &Clock::system()).await;
        match opened {
            // A program that another test begins to run holds all that is open until it runs.
            Err(StoreError::Lock(_)) if tries < 100 => tries += 1,
            opened => return opened,
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn g2_the_first_pin_of_a_url_stands_also_within_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let (first, again, other) = tokio::join!(
        store.append(pin(URL, b"first")),
        store.append(pin(URL, b"first")),
        store.append(pin(URL, b"other")),
    );
    assert_eq!(first.unwrap(), Appended::New(1));
    assert_eq!(again.unwrap(), Appended::Known(1));
    let Appended::PinnedOtherwise(kept) = other.unwrap() else { panic!("it was pinned again") };
    assert_eq!((kept.sha256, kept.entry), (Digests::of(b"first").sha256, 1));
    drop(store);
    let store = open(&directory).await.unwrap();
    assert!(matches!(
        store.append(pin(URL, b"other")).await,
        Ok(Appended::PinnedOtherwise(kept)) if kept.entry == 1
    ));
    assert_eq!(store.log().size().unwrap(), 3, "a divergence tells of the others, once");
}

#[tokio::test]
async fn g4_no_bytes_are_pinned_beside_the_first_ones_untold_however_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let pin = |bytes: &'static [u8], accepted| {
        store.pin(vouched_for(URL, bytes, Strength::Strong), accepted)
    };
    // In one batch, or in two.
    let (first, second) =
        tokio::join!(pin(b"first", Accepted::Never), pin(b"second", Accepted::Never));
    assert_eq!(first.unwrap(), Pinned { appended: Appended::New(1), changed: None });
    let told = Pinned { appended: Appended::New(3), changed: Some(Appended::New(2)) };
    assert_eq!(second.unwrap(), told);
    let again = Pinned { appended: Appended::Known(3), changed: Some(Appended::Known(2)) };
    assert_eq!(pin(b"second", Accepted::Never).await.unwrap(), again);
    assert_eq!(pin(b"first", Accepted::Never).await.unwrap().changed, None);
    let entry = store.log().entries(2, 3).next().unwrap().unwrap().1;
    let Entry::Divergence(divergence) = entry else { panic!("{entry:?}") };
    let sha256 = |bytes: &[u8]| Digests::of(bytes).sha256;
    assert_eq!(divergence.what, DivergenceKind::Changed);
    assert_eq!(divergence.expected, [format!("sha256={}", sha256(b"first"))]);
    assert_eq!(divergence.observed.unwrap().sha256, sha256(b"second"));

    // What is accepted over some bytes is not accepted over others.
    for (bytes, accepted, is_told) in [
        (&b"third"[..], Accepted::Over(sha256(b"first")), false),
        (b"fourth", Accepted::Over(sha256(b"second")), true),
    ] {
        let pinned = pin(bytes, accepted).await.unwrap();
        assert!(matches!(pinned.appended, Appended::New(_)), "{accepted:?}");
        assert_eq!(pinned.changed.is_some(), is_told, "{accepted:?}");
    }
    assert_eq!(pin(b"third", Accepted::Never).await.unwrap().changed, None, "it was accepted");
}

#[tokio::test]
async fn g4_a_source_that_gives_something_else_each_time_is_recorded_so_often_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    for number in 0..40u8 {
        let appended = store.append(divergence(&[number])).await.unwrap();
        let recorded = matches!(appended, Appended::New(_));
        assert_eq!(recorded, usize::from(number) < catalog::MAX_DIVERGENCES, "{number}");
    }
    assert!(matches!(store.append(divergence(&[0])).await, Ok(Appended::Known(1))));
}

#[tokio::test]
async fn what_was_accepted_is_noted_and_counted_once_also_within_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(divergence(b"one")).await.unwrap();
    let decide = |action| {
        let (at, by) = (Clock::system().now(), "me".to_owned());
        let decision = Decision { at, divergence: 1, action, by, why: None, with: None };
        store.append(Entry::Decision(decision))
    };
    let accepted = |store: &Store| store.lookup(|catalog| catalog.accepted_divergences()).unwrap();
    decide(Action::Acknowledge).await.unwrap();
    assert_eq!(accepted(&store), 0, "nothing more is let through");
    let (first, again) = tokio::join!(decide(Action::Accept), decide(Action::Accept));
    assert_eq!((first.unwrap(), again.unwrap()), (Appended::New(3), Appended::Known(3)));
    assert_eq!((accepted(&store), store.log().size().unwrap()), (1, 4));
    drop(store);
    std::fs::remove_dir_all(directory.path().join("catalog")).unwrap();
    assert_eq!(accepted(&open(&directory).await.unwrap()), 1);
}

#[tokio::test]
async fn g8_the_catalog_comes_back_from_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    for number in 0..300u16 {
        let url = format!("{URL}{number}");
        store.append(pin(&url, &number.to_be_bytes())).await.unwrap();
    }
    let checksum = Checksum::Md5(Digests::of(&7u16.to_be_bytes()).md5);
    let before = store.lookup(|catalog| catalog.kept(&checksum)).unwrap();
    assert!(before.is_some());
    drop(store);
    std::fs::remove_dir_all(directory.path().join("catalog")).unwrap();
    let store = open(&directory).await.unwrap();
    assert_eq!(store.lookup(|catalog| catalog.kept(&checksum)).unwrap(), before);
    assert_eq!(store.lookup(Catalog::pins).unwrap(), 300);
}

#[tokio::test]
async fn a_lost_key_is_never_replaced_by_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory).await.unwrap());
    let public = std::fs::read(directory.path().join("keys/ledger.pub")).unwrap();
    std::fs::remove_file(directory.path().join("keys/ledger.key")).unwrap();
    let error = open(&directory).await.err().expect("it was opened").to_string();
    assert!(error.contains("ledger.key: the key of this ledger is missing"), "{error}");
    assert_eq!(std::fs::read(directory.path().join("keys/ledger.pub")).unwrap(), public);
}

#[tokio::test]
async fn g7_a_ledger_without_its_head_is_never_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(pin(URL, b"first")).await.unwrap();
    drop(store);
    std::fs::remove_file(directory.path().join("ledger/checkpoint")).unwrap();
    let error = open(&directory).await.err().expect("it was opened").to_string();
    assert!(error.contains("checkpoint is missing"), "{error}");
}

#[tokio::test]
async fn a_rewritten_entry_makes_the_start_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(pin(URL, b"first")).await.unwrap();
    drop(store);
    let bundle = directory.path().join("ledger/tile/entries/000.p/2");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(6).position(|six| six == b"\"none\"").unwrap();
    bytes[at..at + 6].copy_from_slice(b"\"weak\"");
    std::fs::write(&bundle, bytes).unwrap();
    let error = open(&directory).await.err().expect("it was opened").to_string();
    assert!(error.contains("tile/entries/000.p/2: entry 1 was rewritten"), "{error}");
}

#[tokio::test]
async fn whatever_file_of_the_ledger_rots_is_never_believed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let pins: Vec<_> = (0..600u16)
        .map(|number| store.append(pin(&format!("{URL}{number}"), &number.to_be_bytes())))
        .collect();
    futures_util::future::join_all(pins)
        .await
        .into_iter()
        .for_each(|pinned| assert!(pinned.is_ok()));
    let paths = ["tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"];
    let partial = ["tile/entries/002.p/89", "tile/0/002.p/89", "tile/1/000.p/2"];
    for path in paths.into_iter().chain(partial) {
        let log = LogReader::new(
            Arc::new(Directory::at(&directory.path().join("ledger"))),
            store.log().verifier().clone(),
        );
        let file = directory.path().join("ledger").join(path);
        let sound = std::fs::read(&file).unwrap();
        let tile = path.parse().unwrap();
        assert_eq!(log.tile(&tile).unwrap().as_ref(), Some(&sound), "{path}");
        for at in [0, 3, sound.len() / 2, sound.len() - 1] {
            let mut rotten = sound.clone();
            rotten[at] ^= 1;
            std::fs::write(&file, rotten).unwrap();
            assert!(log.tile(&tile).is_err(), "byte {at} of {path}");
            assert!(store.log().tile(&tile).is_err(), "byte {at} of {path}");
        }
        std::fs::write(&file, &sound[..sound.len() - 32]).unwrap();
        assert!(log.tile(&tile).is_err(), "{path}, shorter");
        std::fs::write(&file, &sound).unwrap();
    }
}

#[tokio::test]
async fn an_old_entry_that_was_rewritten_makes_the_start_refuse_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let pins = (0..300u16).map(|number| store.append(pin(&format!("{URL}{number}"), b"x")));
    let pins: Vec<_> = pins.collect();
    futures_util::future::join_all(pins)
        .await
        .into_iter()
        .for_each(|pinned| assert!(pinned.is_ok()));
    drop(store);
    let bundle = directory.path().join("ledger/tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let places = bytes.windows(6).enumerate().filter(|(_, six)| *six == b"\"none\"");
    let at = places.map(|(at, _)| at).nth(41).unwrap();
    bytes[at..at + 6].copy_from_slice(b"\"weak\"");
    std::fs::write(&bundle, bytes).unwrap();
    let error = open(&directory).await.err().expect("it was opened").to_string();
    assert!(error.contains("tile/entries/000: entry 42 was rewritten"), "{error}");
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_removed_at_the_next_start_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let written =
        ["ledger", "ledger/tile/0", "ledger/tile/entries/000.p", "keys", "tls", "catalog/indexes"];
    let left = written.map(|below| {
        let below = directory.path().join(below);
        std::fs::create_dir_all(&below).unwrap();
        let left = below.join(".tmp-aB3x9Z");
        std::fs::write(&left, b"half").unwrap();
        left
    });
    assert!(open(&directory).await.is_err(), "two own it");
    assert!(left.iter().all(|file| file.exists()));
    drop(store);
    let store = open(&directory).await.unwrap();
    assert!(!left.iter().any(|file| file.exists()));
    assert_eq!(store.log().size().unwrap(), 1);
}

pub(super) const URL: &str = "https://host.example/archive.tar.gz";
