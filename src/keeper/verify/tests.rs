//! What a check finds, and what it does not take for damage.

use super::*;
use crate::clock::Clock;
use crate::digest::Digests;
use crate::ledger::entry::{Pin, Strength};
use crate::store::Store;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

/// A store with one pinned archive, which nobody owns any more.
async fn store() -> (TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    let store = Store::open(layout.clone(), 0, &Clock::system()).await.unwrap();
    store.blobs().put(ARCHIVE).unwrap();
    let digests = Digests::of(ARCHIVE);
    let pin = Pin {
        at: Clock::system().now(),
        repository: "default".to_owned(),
        packages: Vec::new(),
        url: URL.to_owned(),
        src: None,
        from: URL.to_owned(),
        sha256: digests.sha256,
        sha512: digests.sha512,
        md5: digests.md5,
        size: digests.size,
        declared: Vec::new(),
        strength: Strength::None,
        agreed: Vec::new(),
        import: None,
    };
    store.append(Entry::Pin(pin)).await.unwrap();
    (directory, layout)
}

fn problems(layout: &Layout) -> Vec<String> {
    let report = verify(layout, &|_| {});
    report
        .problems
        .into_iter()
        .map(|found| format!("{}: {}", found.subject, found.problem))
        .collect()
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test]
async fn a_lost_head_is_told() {
    let (_directory, layout) = store().await;
    assert_eq!(problems(&layout), Vec::<String>::new());
    std::fs::remove_file(layout.ledger().join("checkpoint")).unwrap();
    assert_eq!(problems(&layout), ["ledger/checkpoint: missing, although there are entries"]);
}

#[tokio::test]
async fn a_head_that_nobody_could_read_is_told_and_not_waited_for() {
    let (_directory, layout) = store().await;
    std::fs::remove_file(layout.ledger().join("checkpoint")).unwrap();
    fifo(&layout.ledger().join("checkpoint"));
    assert_eq!(problems(&layout), ["ledger/checkpoint: is no regular file"]);
}

#[tokio::test]
async fn what_is_no_file_where_a_blob_belongs_is_told_and_not_waited_for() {
    let (directory, layout) = store().await;
    let pinned = Digests::of(ARCHIVE).sha256;
    std::fs::remove_file(layout.blob(&pinned)).unwrap();
    fifo(&layout.blob(&pinned));
    let [link, folder, other] = [b"link", b"fold", b"fifo"].map(|bytes| Sha256::of(bytes));
    symlink(directory.path().join("nowhere"), layout.blob(&link)).unwrap();
    std::fs::create_dir(layout.blob(&folder)).unwrap();
    fifo(&layout.blob(&other));
    let found = problems(&layout);
    assert_eq!(found.len(), 4, "{found:?}");
    for name in [pinned, link, folder, other] {
        let told = format!("blob {name}: is no regular file");
        assert!(found.iter().any(|problem| problem.ends_with(&told)), "{found:?}");
    }
}

#[tokio::test]
async fn files_that_a_server_is_about_to_rename_are_no_damage() {
    let (_directory, layout) = store().await;
    let ledger = layout.ledger();
    let entries = ledger.join("tile/entries");
    let being_written = [&ledger, &entries, &entries.join("000.p"), &layout.keys()];
    for directory in being_written {
        std::fs::write(directory.join(".tmp-aB3x9Z"), b"half").unwrap();
    }
    assert_eq!(problems(&layout), Vec::<String>::new());
    // Nor does one stand for entries in a ledger that is just being made.
    std::fs::remove_file(ledger.join("checkpoint")).unwrap();
    std::fs::remove_file(entries.join("000.p/2")).unwrap();
    assert!(!has_lost_its_head(&ledger));
}

const ARCHIVE: &[u8] = b"archive";
const URL: &str = "https://host.example/archive.tar.gz";
