//! What clients get of a repository.

use super::serving::Indexes;
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::Blocks;
use bytes::Bytes;
use url::Url;

/// What clients get of a repository; never changes, only gets replaced as a whole.
pub struct Served {
    /// `index.tar.gz`.
    pub index: ServedIndex,
    /// The one for opam 2.1 and older, where sources are rewritten.
    pub index_for_old_clients: Option<ServedIndex>,
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

/// An index and its hash.
#[derive(Clone, Debug)]
pub struct ServedIndex {
    /// The bytes.
    pub bytes: Bytes,
    /// Their SHA-256.
    pub name: Sha256,
    /// What the next index can take over of it; nothing where it was not built by this process.
    pub blocks: Blocks,
}

impl ServedIndex {
    /// Whether this process built it, and did not find it in the store.
    pub(super) fn is_built_here(&self) -> bool {
        !self.blocks.is_empty()
    }
}

impl From<Bytes> for ServedIndex {
    fn from(bytes: Bytes) -> Self {
        Self { name: Sha256::of(&bytes), bytes, blocks: Blocks::default() }
    }
}

impl Served {
    pub(super) fn new(
        indexes: Indexes,
        repo: Bytes,
        snapshot: Snapshot,
        entry: u64,
        caches: Vec<Url>,
    ) -> Self {
        let Indexes { index, for_old_clients } = indexes;
        Self {
            index,
            index_for_old_clients: for_old_clients,
            repo_name: Sha256::of(&repo),
            repo,
            snapshot,
            entry,
            caches,
        }
    }
}
