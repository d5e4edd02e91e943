//! What was served last of a repository: what a new state is compared with.

use super::admit::AdmitError;
use super::departed::{Departed, Known, Written, list_of};
use super::differing::Files;
use super::file_list::FileList;
use super::refresh::RefreshError;
use super::repository::{read_list, strengthened};
use super::served::Served;
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::Package;
use crate::store::Store;
use crate::store::blobs::Blobs;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What was served last of a repository.
pub(super) struct Last {
    /// The ledger index of its snapshot.
    pub entry: u64,
    pub snapshot: Snapshot,
    /// `None` where some of it can't be read back, so that it is not served.
    pub served: Option<Arc<Served>>,
    /// Whether a divergence was told since, so that the state which said it has no snapshot: what
    /// upstream says now has to get one.
    pub is_behind: bool,
}

/// The same, and its files.
pub(super) struct Previous {
    pub last: Last,
    pub before: Before,
}

/// What a new state is compared with; the first one, with nothing.
#[derive(Default)]
pub(super) struct Before {
    /// The files as they were admitted.
    pub served: FileList,
    /// Those of them that were served with more checksums.
    pub strengthened: FileList,
    /// The versions which were served once: one that comes back is compared with what it was.
    pub departed: Departed,
}

impl Previous {
    /// Reads what a new state is compared with.
    ///
    /// # Errors
    /// When a list can't be read.
    pub(super) fn read(store: &Store, last: Last) -> Result<Self, RefreshError> {
        let unreadable = |error| RefreshError::Unreadable(Box::new(error));
        let before = Before::read(store, &last.snapshot).map_err(unreadable)?;
        Ok(Self { last, before })
    }

    /// Keeps the list of the versions that are gone once `admitted` is served, and names it.
    ///
    /// # Errors
    /// When it can't be kept.
    pub(super) fn keep_gone(
        &self,
        store: &Store,
        admitted: &FileList,
    ) -> Result<Option<Sha256>, RefreshError> {
        let Written { list, versions } = self.before.gone(admitted, self.before.departed.damaged());
        let list = list.to_bytes();
        let lists = versions.iter().chain([&list]).filter(|list| !list.is_empty());
        store.blobs().put_all(lists.map(|list| (Sha256::of(list), &list[..])))?;
        Ok(Some(Sha256::of(&list)).filter(|_| !list.is_empty()))
    }

    /// Its index, where that was served as it came.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn index(&self, blobs: &Blobs) -> Result<Option<Bytes>, AdmitError> {
        let Some(name) = self.last.snapshot.index else { return Ok(None) };
        Ok(Some(match &self.last.served {
            Some(served) => served.index.bytes.clone(),
            None => blobs.read(&name, MAX_INDEX)?.into(),
        }))
    }
}

impl Before {
    fn read(store: &Store, snapshot: &Snapshot) -> Result<Self, RefreshError> {
        Ok(Self {
            served: read_list(store, &snapshot.admitted)?,
            strengthened: strengthened(store, snapshot)?,
            departed: Departed::read(store.blobs(), snapshot.departed)?,
        })
    }

    /// The versions that are gone once `admitted` is served.
    pub(super) fn gone(&self, admitted: &FileList, damaged: &BTreeSet<Package>) -> Written {
        self.departed.followed(&self.served, &self.strengthened, admitted, damaged)
    }

    /// A version as it was served last.
    pub(super) fn known(
        &self,
        package: &Package,
        was: Option<&Files<'_>>,
        blobs: &Blobs,
    ) -> Result<Option<Known>, AdmitError> {
        let Some(was) = was else { return self.departed.version(package, blobs) };
        let opam = was.get("opam").and_then(|(path, _)| self.strengthened.0.get(*path));
        Ok(Some(Known { files: list_of(was), strengthened: opam.copied() }))
    }
}

const MAX_INDEX: u64 = 1 << 30;
