//! How the files of each version changed from one snapshot to the next.
//!
//! The ledger names lists of files, which are blobs: whoever reads those says what changed, and
//! up to which snapshot. After the catalog was rebuilt that begins anew.

use super::index::{IndexError, Table};
use super::{Catalog, number, put};
use crate::digest::Sha256;
use serde::{Deserialize, Serialize};

/// One file of a version before and after a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEdit {
    /// Its path in the repository.
    pub path: String,
    /// Its blob before; none if it was not there.
    pub before: Option<Sha256>,
    /// Its blob from then on; none if it is not there any more.
    pub after: Option<Sha256>,
}

/// What a snapshot changed of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEdit {
    /// The version, as `name.version`.
    pub package: String,
    /// Its files that changed, at most [`VersionEdit::MAX_FILES`].
    pub files: Vec<FileEdit>,
}

impl VersionEdit {
    /// How many files of one edit are told.
    pub const MAX_FILES: usize = 256;
}

impl Catalog {
    /// The ledger index of the last snapshot of `repository` whose edits are known.
    ///
    /// # Errors
    /// When the index fails.
    pub fn edits_known_to(&self, repository: &str) -> Result<Option<u64>, IndexError> {
        let value = self.get(Table::Meta, &known_key(repository))?;
        Ok(value.and_then(|value| number(&value)))
    }

    /// Takes in what the snapshot at ledger index `entry` changed.
    ///
    /// # Errors
    /// When the index fails.
    pub fn note_edits(
        &self,
        repository: &str,
        entry: u64,
        edits: &[VersionEdit],
    ) -> Result<(), IndexError> {
        let mut changes = Vec::with_capacity(edits.len() + 1);
        for VersionEdit { package, files } in edits {
            let key = [&prefix(repository, package)[..], &entry.to_be_bytes()].concat();
            let value = serde_json::to_vec(files).unwrap_or_default();
            changes.push(put(Table::Edit, &key, value));
        }
        changes.push(put(Table::Meta, &known_key(repository), entry.to_be_bytes().into()));
        self.index().apply(changes)
    }

    /// What the snapshots changed of one version, by their ledger indices, the oldest first.
    ///
    /// # Errors
    /// When the index fails.
    pub fn edits(
        &self,
        repository: &str,
        package: &str,
    ) -> Result<Vec<(u64, Vec<FileEdit>)>, IndexError> {
        let edits = self.index().scan(Table::Edit, &prefix(repository, package))?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let entry = number(key.last_chunk::<8>()?)?;
            Some((entry, serde_json::from_slice(&value).ok()?))
        };
        Ok(edits.into_iter().filter_map(read).collect())
    }
}

/// Neither a repository's name nor a version has a NUL.
fn prefix(repository: &str, package: &str) -> Vec<u8> {
    [repository.as_bytes(), &[0], package.as_bytes(), &[0]].concat()
}

fn known_key(repository: &str) -> Vec<u8> {
    [b"edits ", repository.as_bytes()].concat()
}
