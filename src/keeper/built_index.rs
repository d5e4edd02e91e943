//! Indexes as they were last built, so that a start need not build them again.

use super::served::Served;
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::store::{Store, durable};
use bytes::Bytes;
use std::path::PathBuf;

/// A built index names its state and its own hash, so that a damaged or stale one is not found.
fn path(store: &Store, name: &str, served: &Served) -> PathBuf {
    let file = format!("{name} {} {}.tar.gz", served.snapshot.admitted, served.index_name);
    store.layout().built_indexes().join(file)
}

/// Keeps the index of what is served, in place of older ones.
pub(super) fn keep(store: &Store, name: &str, served: &Served) {
    let path = path(store, name, served);
    if served.snapshot.index.is_some() || path.exists() {
        return;
    }
    let directory = store.layout().built_indexes();
    let others = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let stale =
        others.filter(|file| file.file_name().to_string_lossy().starts_with(&format!("{name} ")));
    for file in stale {
        // A stale index is never read; removing it only saves space.
        let _ = std::fs::remove_file(file.path());
    }
    let kept = std::fs::create_dir_all(&directory)
        .and_then(|()| durable::write(&path, &served.index, 0o600));
    if let Err(error) = kept {
        tracing::warn!(%error, "the next start will build the index anew");
    }
}

/// The index of a snapshot, if it was kept and is sound.
pub(super) fn find(store: &Store, name: &str, snapshot: &Snapshot) -> Option<Bytes> {
    let prefix = format!("{name} {} ", snapshot.admitted);
    let directory = std::fs::read_dir(store.layout().built_indexes()).ok()?;
    for file in directory.flatten() {
        let file_name = file.file_name().into_string().unwrap_or_default();
        let hash = file_name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tar.gz"));
        if let Some(Ok(expected)) = hash.map(str::parse::<Sha256>) {
            let bytes = std::fs::read(file.path()).ok()?;
            return (Sha256::of(&bytes) == expected).then(|| Bytes::from(bytes));
        }
    }
    None
}
