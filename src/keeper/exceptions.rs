//! The versions that are not served as upstream has them, and why: kept with the catalog, so that a
//! start says what was said before it.

use super::differing::Differing;
use super::file_list::FileList;
use super::opam_files::opam_files;
use crate::opam::Package;
use crate::store::{Store, durable};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// What of a snapshot is not served as upstream has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exceptions {
    /// Versions that are not served, or as they were, because they can't be, with the reason.
    pub refused: Vec<(String, String)>,
    /// Versions that stay as they are until someone decides.
    pub held: Vec<String>,
}

/// The same, and the ledger index of the snapshot.
#[derive(Serialize, Deserialize)]
struct Kept {
    entry: u64,
    #[serde(flatten)]
    exceptions: Exceptions,
}

impl Exceptions {
    /// Those of what is `admitted` of upstream's `files`: whatever was not refused is held.
    pub(super) fn of(
        admitted: &FileList,
        files: &FileList,
        refused: Vec<(String, String)>,
    ) -> Self {
        let names: HashSet<&str> = refused.iter().map(|(package, _)| package.as_str()).collect();
        let differing = Differing::between(admitted, files);
        let differing = differing.packages().map(ToString::to_string);
        let held = differing.filter(|package| !names.contains(package.as_str())).collect();
        Self { refused, held }
    }

    /// Those of a snapshot, as they were said last; without that, as its lists tell.
    pub(super) fn of_snapshot(
        store: &Store,
        repository: &str,
        entry: u64,
        admitted: &FileList,
        files: &FileList,
    ) -> Self {
        let kept = std::fs::read(path(store, repository)).ok();
        let kept: Option<Kept> = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
        if let Some(kept) = kept.filter(|kept| kept.entry == entry) {
            return kept.exceptions;
        }
        match admitted == files {
            // A start is waited for, and nearly all of them are so.
            true => Self::default(),
            false => Self::of(admitted, files, left_out(admitted, files, entry)),
        }
    }

    /// Keeps those of a snapshot for the next start.
    pub(super) fn keep(self, store: &Store, repository: &str, entry: u64) {
        let path = path(store, repository);
        let kept = serde_json::to_vec(&Kept { entry, exceptions: self });
        let kept = kept.map_err(std::io::Error::from).and_then(|kept| {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            durable::write(&path, &kept, 0o600)
        });
        if let Err(error) = kept {
            tracing::warn!(repository, %error, "the next start can't say why versions are left out");
        }
    }
}

fn path(store: &Store, repository: &str) -> PathBuf {
    store.layout().exceptions().join(format!("{repository}.json"))
}

/// The versions that upstream has and that were not admitted, each with the reason.
fn left_out(admitted: &FileList, files: &FileList, entry: u64) -> Vec<(String, String)> {
    let elsewhere = opam_files(files).filter(|(_, path, _)| !admitted.0.contains_key(*path));
    let elsewhere: Vec<Package> = elsewhere.map(|(package, ..)| package).collect();
    if elsewhere.is_empty() {
        return Vec::new();
    }
    let served: HashSet<Package> = opam_files(admitted).map(|(package, ..)| package).collect();
    let why = format!("left out when ledger entry {entry} was admitted");
    let left_out = elsewhere.iter().filter(|package| !served.contains(package));
    left_out.map(|package| (package.to_string(), why.clone())).collect()
}
