//! Names of blobs that were given to files and are not known to be on disk yet.

use crate::digest::Sha256;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many writes of each blob are between their rename and the sync of its directory.
///
/// Owned by the blobs of one store. That a file is there says nothing of a crash while its name
/// is in here.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<Sha256, usize>>);

/// Names whose files are about to be renamed.
///
/// Dropped without [`Renaming::durable`], the names stay pending: a failed sync may have lost
/// them, and another one may not say so again. The next start's sync begins anew.
#[must_use]
pub(super) struct Renaming<'a> {
    pending: &'a Pending,
    names: Vec<Sha256>,
}

impl Pending {
    /// Puts names in; to be called before their files are renamed.
    pub(super) fn begin(&self, names: Vec<Sha256>) -> Renaming<'_> {
        let mut counts = self.counts();
        for name in &names {
            *counts.entry(*name).or_default() += 1;
        }
        Renaming { pending: self, names }
    }

    /// Whether a crash could still take the name back.
    pub(super) fn contains(&self, name: &Sha256) -> bool {
        self.counts().contains_key(name)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Sha256, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renaming<'_> {
    /// Takes the names out again, once their directories are synced.
    pub(super) fn durable(self) {
        let mut counts = self.pending.counts();
        for name in &self.names {
            match counts.get_mut(name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(counts.remove(name)),
            }
        }
    }
}
