//! The snapshots of a store, read from its ledger and blobs, so that it also works beside a
//! server and without one.

use super::admit::AdmitError;
use super::file_list::FileList;
use super::served_tree;
use crate::ledger::entry::{Entry, Snapshot};
use crate::opam::Tree;
use crate::store::blobs::Blobs;
use crate::store::log::{LogError, LogReader};
use schemars::JsonSchema;
use serde::Serialize;

/// A snapshot and where it is in the ledger.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Admitted {
    /// Its index in the ledger.
    pub entry: u64,
    /// What the ledger says of it.
    pub snapshot: Snapshot,
}

/// Every snapshot, the newest last.
///
/// # Errors
/// When the ledger can't be read.
pub fn all(reader: &LogReader) -> Result<Vec<Admitted>, LogError> {
    let size = reader.size()?;
    let entries = reader.entries(0, size).filter_map(|entry| match entry {
        Ok((entry, Entry::Snapshot(snapshot))) => Some(Ok(Admitted { entry, snapshot })),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    entries.collect()
}

/// The repository as a snapshot has it served.
///
/// # Errors
/// When a blob of it is missing or damaged.
pub fn tree(blobs: &Blobs, snapshot: &Snapshot) -> Result<Tree, AdmitError> {
    let list = blobs.read(&snapshot.admitted, FileList::MAX_SIZE)?;
    served_tree::as_served(&FileList::parse(&list)?, blobs)
}
