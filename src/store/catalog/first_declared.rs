//! What a repository's history first said of each URL; found by URL.

use super::index::{Change, IndexError, Table};
use super::{Catalog, put};
use crate::digest::Sha256;
use crate::ledger::entry::History;
use crate::opam::Checksum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first declaration of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDeclared {
    /// The checksums that it declared; at least one.
    pub checksums: Vec<Checksum>,
    /// The version that declared it, as `name.version`.
    pub package: String,
    /// The commit that published the version.
    pub commit: String,
}

impl Catalog {
    /// The blob with what a repository's history first said, as it was seeded last, and the
    /// ledger index of that.
    ///
    /// # Errors
    /// When the index fails.
    pub fn history(&self, repository: &str) -> Result<Option<(Sha256, u64)>, IndexError> {
        let value = self.get(Table::Meta, &history_key(repository))?;
        Ok(value.and_then(|value| {
            let (index, list) = value.split_first_chunk()?;
            Some((name(Some(list.to_vec()))?, u64::from_be_bytes(*index)))
        }))
    }

    /// The blob that the first declarations of a repository are of.
    ///
    /// # Errors
    /// When the index fails.
    pub fn first_declared_state(&self, repository: &str) -> Result<Option<Sha256>, IndexError> {
        Ok(name(self.get(Table::Meta, &state_key(repository))?))
    }

    /// What a repository's history first said of a URL.
    ///
    /// # Errors
    /// When the index fails.
    pub fn first_declared(
        &self,
        repository: &str,
        url: &str,
    ) -> Result<Option<FirstDeclared>, IndexError> {
        let value = self.get(Table::FirstDeclared, &key(repository, url))?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Replaces what a repository's history first said.
    ///
    /// # Errors
    /// When the index fails.
    pub fn declare_first(
        &self,
        repository: &str,
        state: Sha256,
        by_url: &BTreeMap<String, FirstDeclared>,
    ) -> Result<(), IndexError> {
        let index = self.index();
        let mut changes = Vec::new();
        for (key, _) in index.scan(Table::FirstDeclared, &key(repository, ""))? {
            changes.push(Change::Remove(Table::FirstDeclared, key));
        }
        for (url, first) in by_url {
            let value = serde_json::to_vec(first).unwrap_or_default();
            changes.push(put(Table::FirstDeclared, &key(repository, url), value));
        }
        changes.push(put(Table::Meta, &state_key(repository), state.as_bytes().to_vec()));
        index.apply(changes)?;
        index.settle()
    }
}

pub(super) fn take_in(index: u64, history: &History) -> Change {
    let value = index.to_be_bytes().into_iter().chain(*history.list.as_bytes());
    put(Table::Meta, &history_key(&history.repository), value.collect())
}

fn name(value: Option<Vec<u8>>) -> Option<Sha256> {
    Some(Sha256::from_bytes(value?.try_into().ok()?))
}

/// No name of a repository has a NUL.
fn key(repository: &str, url: &str) -> Vec<u8> {
    [repository.as_bytes(), &[0], url.as_bytes()].concat()
}

fn history_key(repository: &str) -> Vec<u8> {
    [b"history ", repository.as_bytes()].concat()
}

fn state_key(repository: &str) -> Vec<u8> {
    [b"first declared ", repository.as_bytes()].concat()
}
