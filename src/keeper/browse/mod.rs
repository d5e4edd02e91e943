//! What people look up: packages and their versions, how those changed, divergences and snapshots.
//!
//! Everything is read from the catalog, the ledger and the blobs when somebody asks, off the
//! reactor; what takes long is kept for the next one who asks, within bounds.

mod divergences;
mod edits;
mod packages;
mod snapshots;
mod version;

pub use divergences::{DivergencePage, Explained, StateFilter};
pub use packages::{Found, PackageDetails, PackageHit, Packages, VersionRow};
pub use snapshots::{SnapshotChanges, SnapshotPage, VersionChange};
pub use version::{ArchiveDetails, Dependent, EditDetails, PinDetails, VersionDetails};

use super::{Keeper, Repository};
use crate::ledger::entry::{DivergenceKind, Entry};
use crate::places::Places;
use crate::store::blobs::BlobError;
use crate::store::catalog::IndexError;
use crate::store::log::LogError;
use divergences::Explanations;
use packages::Known;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use thiserror::Error;

/// What was looked up before.
#[derive(Default)]
pub(super) struct Browsed {
    packages: Known,
    explanations: Explanations,
    /// The kind of each divergence that was counted, which never changes.
    kinds: Mutex<BTreeMap<u64, DivergenceKind>>,
}

/// Why something can't be shown.
#[derive(Debug, Error)]
pub enum BrowseError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The catalog failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A blob can't be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// What the store has can't be made sense of.
    #[error("{0}")]
    Store(String),
}

/// How many rows one page has.
pub const PAGE: usize = 50;

impl Keeper {
    /// The entry at a ledger index.
    ///
    /// # Errors
    /// When the ledger has none there, or can't be read.
    pub fn entry(&self, index: u64) -> Result<Entry, BrowseError> {
        let log = self.store.log();
        let size = log.size()?.min(index.saturating_add(1));
        match log.entries(index, size).next().transpose()? {
            Some((_, entry)) => Ok(entry),
            None => Err(BrowseError::NotFound(format!("the ledger has no entry {index} yet"))),
        }
    }

    fn named_repository(&self, name: &str) -> Result<Arc<Repository>, BrowseError> {
        let found = self.repository(name).cloned();
        found.ok_or_else(|| BrowseError::NotFound(self.no_repository(name)))
    }
}

/// Does what takes long beside the reactor, few at a time: who looks things up waits for each
/// other, and who downloads waits for none of them.
async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BrowseError> + Send + 'static,
) -> Result<T, BrowseError> {
    let worked = PLACES.work(work).await;
    worked.unwrap_or_else(|error| Err(BrowseError::Store(error.to_string())))
}

/// Does what others may want as well when the one who asked for it has gone.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, BrowseError>> + Send + 'static,
) -> Result<T, BrowseError> {
    let worked = tokio::spawn(work).await;
    worked.unwrap_or_else(|error| Err(BrowseError::Store(error.to_string())))
}

static PLACES: Places = Places::new(4);
