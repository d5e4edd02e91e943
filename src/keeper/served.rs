//! What clients get of a repository.

use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use bytes::Bytes;
use url::Url;

/// What clients get of a repository; never changes, only gets replaced as a whole.
pub struct Served {
    /// `index.tar.gz`.
    pub index: Bytes,
    /// The SHA-256 of the index.
    pub index_name: Sha256,
    /// The `repo` file.
    pub repo: Bytes,
    /// The SHA-256 of the `repo` file.
    pub repo_name: Sha256,
    /// The snapshot that it is made of.
    pub snapshot: Snapshot,
    /// The snapshot's index in the ledger.
    pub entry: u64,
    /// Upstream's own archive caches, as its `repo` file names them.
    pub caches: Vec<Url>,
}

impl Served {
    pub(super) fn new(
        index: Bytes,
        repo: Bytes,
        snapshot: Snapshot,
        entry: u64,
        caches: Vec<Url>,
    ) -> Self {
        let (index_name, repo_name) = (Sha256::of(&index), Sha256::of(&repo));
        Self { index, index_name, repo, repo_name, snapshot, entry, caches }
    }
}
