//! What others see of the catalog while it is rebuilt.

use super::super::catalog::Kept;
use super::super::layout::Layout;
use super::super::medium::{Directory, LedgerMedium, SwapError};
use super::super::tests::{URL, open, pin};
use super::*;
use crate::clock::Clock;
use crate::ledger::entry::{Entry, KeyEntry};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A ledger during whose reading a question is asked.
struct Asking {
    ledger: Directory,
    catalog: Arc<Catalog>,
    answers: Mutex<Vec<Result<Option<Kept>, IndexError>>>,
}

impl Asking {
    fn of(root: &Path, catalog: &Arc<Catalog>) -> Arc<Self> {
        let (ledger, catalog) = (Directory::at(&root.join("ledger")), Arc::clone(catalog));
        Arc::new(Self { ledger, catalog, answers: Mutex::default() })
    }
}

impl LedgerMedium for Asking {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.answers.lock().unwrap().push(self.catalog.pin(URL));
        self.ledger.read(path)
    }

    fn write_all(&self, _: &[(String, Vec<u8>)]) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn swap_head(&self, _: Option<&[u8]>, _: &[u8]) -> Result<(), SwapError> {
        unreachable!("it is only read")
    }

    fn prune(&self, _: &[String]) {}
}

/// An entry that nothing is looked up for before it is appended.
fn key() -> Entry {
    let (name, vkey) = ("name".to_owned(), "vkey".to_owned());
    Entry::Key(KeyEntry { at: Clock::system().now(), name, vkey })
}

#[tokio::test]
async fn g8_while_the_catalog_is_rebuilt_it_never_says_that_there_is_no_pin() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(pin(URL, b"archive")).await.unwrap();
    let catalog = &store.inner.catalog;
    let medium = Asking::of(directory.path(), catalog);
    let log = LogReader::new(Arc::clone(&medium) as _, store.log().verifier().clone());
    rebuild(catalog, &log, "of this test").unwrap();
    let answers = medium.answers.lock().unwrap();
    assert!(answers.len() >= 3, "a head and a bundle are read");
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(catalog.pin(URL).unwrap().is_some());
}

#[tokio::test]
async fn g8_a_ledger_that_cant_be_read_leaves_a_catalog_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(pin(URL, b"archive")).await.unwrap();
    let (ledger, elsewhere) = (directory.path().join("ledger"), directory.path().join("elsewhere"));
    std::fs::rename(ledger.join("tile"), &elsewhere).unwrap();
    let catalog = &store.inner.catalog;
    rebuild(catalog, store.log(), "of this test").unwrap_err();
    assert!(store.lookup(|catalog| catalog.pin(URL)).is_err());
    std::fs::rename(&elsewhere, ledger.join("tile")).unwrap();
    assert!(store.lookup(|catalog| catalog.pin(URL)).unwrap().is_some());
}

#[tokio::test]
async fn g8_without_a_directory_the_catalog_is_whole_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(pin(URL, b"archive")).await.unwrap();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("catalog")).unwrap();
    std::fs::write(directory.path().join("catalog"), b"in the way").unwrap();
    let store = open(&directory).await.unwrap();
    assert!(store.inner.catalog.pin(URL).unwrap().is_some());
    store.append(key()).await.unwrap();
    assert_eq!(store.inner.catalog.ledger_size().unwrap(), store.log().size().unwrap());
}

#[tokio::test]
async fn entries_count_once_however_often_they_come_and_none_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let fresh = store.inner.catalog.fresh_in_memory();
    let entries = [key(), pin(URL, b"archive"), pin("https://host.example/other", b"other")];
    fresh.apply(1, &entries[1..]).unwrap_err();
    assert_eq!((fresh.ledger_size().unwrap(), fresh.pins().unwrap()), (0, 0));
    fresh.apply(0, &entries[..2]).unwrap();
    fresh.apply(0, &entries[..2]).unwrap();
    fresh.apply(0, &entries).unwrap();
    fresh.apply(1, &entries[1..]).unwrap();
    fresh.apply(0, &entries[..1]).unwrap();
    assert_eq!((fresh.ledger_size().unwrap(), fresh.pins().unwrap()), (3, 2));
    assert_eq!(fresh.pin("https://host.example/other").unwrap().unwrap().entry, 2);
}

#[tokio::test]
async fn g8_the_first_pin_of_a_url_counts_also_when_two_are_replayed_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let fresh = store.inner.catalog.fresh_in_memory();
    fresh.apply(0, &[key(), pin(URL, b"first"), pin(URL, b"second")]).unwrap();
    assert_eq!(fresh.pin(URL).unwrap().unwrap().entry, 1);
}

#[tokio::test]
async fn what_is_acknowledged_is_in_a_catalog_that_was_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    store.append(pin(URL, b"archive")).await.unwrap();
    let catalog = &store.inner.catalog;
    catalog.adopt(&catalog.fresh_in_memory());
    store.append(key()).await.unwrap();
    assert_eq!(catalog.ledger_size().unwrap(), store.log().size().unwrap());
    assert_eq!(catalog.pins().unwrap(), 1);
    assert!(catalog.pin(URL).unwrap().is_some());
}

#[tokio::test]
async fn an_entry_is_acknowledged_only_after_the_rebuild_that_it_met() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let catalog = Arc::clone(&store.inner.catalog);
    let over = Arc::new(AtomicBool::new(false));
    let (started, waits) = mpsc::channel();
    let rebuilding = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let _alone = alone(&catalog);
            catalog.retire("of this test");
            started.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            over.store(true, Ordering::SeqCst);
        }
    });
    waits.recv().unwrap();
    store.append(key()).await.unwrap();
    assert!(over.load(Ordering::SeqCst), "it went past the rebuild");
    assert_eq!(store.inner.catalog.ledger_size().unwrap(), store.log().size().unwrap());
    rebuilding.join().unwrap();
}

#[tokio::test]
async fn g8_what_was_acknowledged_is_found_while_the_catalog_is_rebuilt_over_and_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let rebuilding = std::thread::spawn({
        let (store, over) = (store.clone(), Arc::clone(&over));
        move || {
            while !over.load(Ordering::SeqCst) {
                store.inner.catalog.retire("of this test");
                store.lookup(Catalog::pins).unwrap();
            }
        }
    });
    for number in 0..60u8 {
        let url = format!("{URL}{number}");
        store.append(pin(&url, &[number])).await.unwrap();
        for number in 0..=number {
            let url = format!("{URL}{number}");
            assert!(store.lookup(|catalog| catalog.pin(&url)).unwrap().is_some(), "{url}");
        }
    }
    over.store(true, Ordering::SeqCst);
    rebuilding.join().unwrap();
    assert_eq!(store.lookup(Catalog::pins).unwrap(), 60);
}

#[tokio::test]
async fn a_start_reads_nothing_again_that_was_taken_in_before_the_store_was_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    for number in 0..MANY {
        let url = format!("{URL}/{number}");
        store.append(pin(&url, url.as_bytes())).await.unwrap();
    }
    let (layout, size) = (store.layout().clone(), store.log().size().unwrap());
    let ledger = store.log().verifier().name().to_owned();
    drop(store);
    assert_eq!(Catalog::open(&layout, &ledger, size).ledger_size().unwrap(), size);
}

#[tokio::test]
async fn what_a_crash_took_back_is_read_again_by_one_start_and_not_by_every() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let (layout, ledger) = (store.layout().clone(), store.log().verifier().name().to_owned());
    let index = layout.catalog().join("index.redb");
    drop(store);
    let before = std::fs::read(&index).unwrap();
    let store = open(&directory).await.unwrap();
    for number in 0..MANY {
        let url = format!("{URL}/{number}");
        store.append(pin(&url, url.as_bytes())).await.unwrap();
    }
    let size = store.log().size().unwrap();
    drop(store);
    std::fs::write(&index, before).unwrap();

    let store = open(&directory).await.unwrap();
    // As a crash now would leave it.
    let crashed = Layout::new(tempfile::tempdir().unwrap().keep());
    std::fs::create_dir_all(crashed.catalog()).unwrap();
    std::fs::copy(&index, crashed.catalog().join("index.redb")).unwrap();
    assert_eq!(Catalog::open(&crashed, &ledger, size).ledger_size().unwrap(), size);
    drop(store);
    std::fs::remove_dir_all(crashed.root()).unwrap();
}
