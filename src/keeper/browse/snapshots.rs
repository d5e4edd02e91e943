//! Snapshots as they are listed, and what each one changed.

use super::{BrowseError, PAGE, edits, off_the_reactor};
use crate::keeper::Keeper;
use crate::keeper::repository::read_list;
use crate::keeper::snapshots::Admitted;
use crate::ledger::entry::{Entry, Snapshot};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// A page of snapshots.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SnapshotPage {
    /// Those of this page, the newest first.
    pub snapshots: Vec<Admitted>,
    /// How many there are on all pages.
    pub total: usize,
}

/// A snapshot and what it changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SnapshotChanges {
    /// Its ledger entry.
    pub entry: u64,
    /// What the ledger says of it.
    pub snapshot: Snapshot,
    /// What clients write for the point in time at which it is served, in `/at/<point>/`.
    pub point: String,
    /// The snapshot before it, which it is compared with; none for the first one, and for those
    /// that were brought in from upstream's history.
    pub before: Option<u64>,
    /// The versions that it changed, at most 500.
    pub changes: Vec<VersionChange>,
    /// How many versions it changed.
    pub total: usize,
}

/// What a snapshot did to a version.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VersionChange {
    /// The version, as `name.version`.
    pub package: String,
    /// `added`, `removed` or `edited`.
    pub what: &'static str,
}

impl Keeper {
    /// A page of a repository's snapshots, or of all repositories'.
    ///
    /// # Errors
    /// When there is no such repository, and when the store fails.
    pub async fn snapshots(
        self: &Arc<Self>,
        repository: Option<&str>,
        page: usize,
    ) -> Result<SnapshotPage, BrowseError> {
        let names = match repository {
            Some(name) => vec![self.named_repository(name)?.name().to_owned()],
            None => self.repositories.iter().map(|it| it.name().to_owned()).collect(),
        };
        let keeper = Arc::clone(self);
        off_the_reactor(move || {
            let mut entries = Vec::new();
            for name in names {
                let (admitted, past) =
                    keeper.store.lookup(|catalog| catalog.snapshot_entries(&name))?;
                entries.extend(admitted);
                entries.extend(past);
            }
            entries.sort_unstable_by(|one, other| other.cmp(one));
            let total = entries.len();
            let shown = entries.into_iter().skip(page.saturating_mul(PAGE)).take(PAGE);
            let snapshots = shown.map(|entry| keeper.admitted(entry)).collect::<Result<_, _>>()?;
            Ok(SnapshotPage { snapshots, total })
        })
        .await
    }

    /// A snapshot and what it changed.
    ///
    /// # Errors
    /// When there is no such snapshot, and when the store fails.
    pub async fn snapshot(self: &Arc<Self>, entry: u64) -> Result<SnapshotChanges, BrowseError> {
        let keeper = Arc::clone(self);
        off_the_reactor(move || {
            let Admitted { snapshot, .. } = keeper.admitted(entry)?;
            let name = snapshot.repository.clone();
            let before = match snapshot.past {
                Some(_) => None,
                None => keeper.store.lookup(|catalog| catalog.snapshot_by_size(&name, entry))?,
            };
            let mut changes = Vec::new();
            if let Some(before) = before {
                let failed =
                    |error: crate::keeper::RefreshError| BrowseError::Store(error.to_string());
                let was = keeper.admitted(before)?.snapshot.admitted;
                let was = read_list(&keeper.store, &was).map_err(failed)?;
                let is = read_list(&keeper.store, &snapshot.admitted).map_err(failed)?;
                let change = |edit: crate::store::catalog::VersionEdit| {
                    let opam = edit.files.iter().find(|file| file.path.ends_with("/opam"));
                    let what = match opam.map(|file| (file.before, file.after)) {
                        Some((None, Some(_))) => "added",
                        Some((Some(_), None)) => "removed",
                        _ => "edited",
                    };
                    VersionChange { package: edit.package, what }
                };
                changes.extend(edits::edits(&was, &is).into_iter().map(change));
            }
            let total = changes.len();
            changes.truncate(MAX_CHANGES);
            let point = match &snapshot.past {
                Some(past) => past.since.to_string(),
                None => (entry + 1).to_string(),
            };
            Ok(SnapshotChanges { entry, snapshot, point, before, changes, total })
        })
        .await
    }

    fn admitted(&self, entry: u64) -> Result<Admitted, BrowseError> {
        match self.entry(entry) {
            Ok(Entry::Snapshot(snapshot)) => Ok(Admitted { entry, snapshot }),
            Ok(_) | Err(BrowseError::NotFound(_)) => Err(BrowseError::NotFound(format!(
                "ledger entry {entry} is no snapshot; /snapshots lists them"
            ))),
            Err(error) => Err(error),
        }
    }
}

const MAX_CHANGES: usize = 500;
