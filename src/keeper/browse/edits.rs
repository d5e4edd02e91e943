//! Tells the catalog how each version changed from snapshot to snapshot, as they come.

use super::super::repository::{apart, read_list};
use crate::keeper::differing::Differing;
use crate::keeper::file_list::FileList;
use crate::keeper::refresh::RefreshError;
use crate::keeper::{Keeper, Repository};
use crate::ledger::entry::{Entry, Snapshot};
use crate::opam::Package;
use crate::store::Store;
use crate::store::catalog::{FileEdit, VersionEdit};
use std::sync::Arc;

impl Keeper {
    /// Goes on for ever.
    pub(in crate::keeper) async fn follow_edits(&self) {
        let mut growth = self.store.growth();
        loop {
            for repository in &self.repositories {
                if let Err(error) = self.catch_up_with_edits(repository).await {
                    let repository = repository.name();
                    tracing::warn!(repository, %error, "how versions changed is not known");
                }
            }
            if growth.changed().await.is_err() {
                return;
            }
        }
    }

    async fn catch_up_with_edits(&self, repository: &Repository) -> Result<(), RefreshError> {
        let mut before = None;
        loop {
            let (store, name) = (self.store.clone(), repository.name().to_owned());
            let noting = apart(move || note_next(&store, &name, before)).await;
            match noting?? {
                Some(next) => before = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// A snapshot's list, kept for the one that follows.
struct Last {
    entry: u64,
    snapshot: Snapshot,
    files: Arc<FileList>,
}

/// Takes in what the first snapshot that is not known yet changed; `None` when all are.
fn note_next(
    store: &Store,
    repository: &str,
    before: Option<Last>,
) -> Result<Option<Last>, RefreshError> {
    let known = store.lookup(|catalog| catalog.edits_known_to(repository))?;
    let Some(entry) = store.lookup(|catalog| catalog.snapshot_after(repository, known))? else {
        return Ok(None);
    };
    let before = match (known, before) {
        (None, _) => None,
        (Some(known), Some(before)) if before.entry == known => Some(before),
        (Some(known), _) => {
            let snapshot = snapshot_at(store, known)?;
            let files = Arc::new(list_or_none(store, &snapshot));
            Some(Last { entry: known, snapshot, files })
        }
    };
    let snapshot = snapshot_at(store, entry)?;
    let (files, edits) = match before {
        Some(before) if before.snapshot.admitted == snapshot.admitted => (before.files, Vec::new()),
        Some(before) => {
            let files = Arc::new(list_or_none(store, &snapshot));
            let edits = edits(&before.files, &files);
            (files, edits)
        }
        // What the first one brought is no change.
        None => (Arc::new(list_or_none(store, &snapshot)), Vec::new()),
    };
    store.lookup(|catalog| catalog.note_edits(repository, entry, &edits))?;
    Ok(Some(Last { entry, snapshot, files }))
}

/// Every version whose files differ.
pub(super) fn edits(before: &FileList, after: &FileList) -> Vec<VersionEdit> {
    let differing = Differing::between(before, after);
    let edit = |package: &Package| {
        let (was, is) = (differing.was.get(package), differing.is.get(package));
        let mut files: Vec<FileEdit> = Vec::new();
        for (below, (path, name)) in was.into_iter().flatten() {
            let now = is.and_then(|files| files.get(below)).map(|(_, name)| *name);
            if now != Some(*name) {
                files.push(FileEdit { path: path.to_string(), before: Some(*name), after: now });
            }
        }
        for (below, (path, name)) in is.into_iter().flatten() {
            if was.is_none_or(|files| !files.contains_key(below)) {
                let path = path.to_string();
                files.push(FileEdit { path, before: None, after: Some(*name) });
            }
        }
        files.truncate(VersionEdit::MAX_FILES);
        VersionEdit { package: package.to_string(), files }
    };
    differing.packages().map(edit).collect()
}

/// A list that can't be read says nothing; the log says that it can't.
fn list_or_none(store: &Store, snapshot: &Snapshot) -> FileList {
    read_list(store, &snapshot.admitted).unwrap_or_else(|error| {
        let repository = &snapshot.repository;
        tracing::warn!(repository, %error, "a snapshot's changes are not known");
        FileList::default()
    })
}

fn snapshot_at(store: &Store, entry: u64) -> Result<Snapshot, RefreshError> {
    let found = store.log().entries(entry, entry.saturating_add(1)).next().transpose();
    match found.map_err(|error| RefreshError::Store(error.to_string()))? {
        Some((_, Entry::Snapshot(snapshot))) => Ok(snapshot),
        _ => Err(RefreshError::Store(format!("ledger entry {entry} is no snapshot"))),
    }
}
