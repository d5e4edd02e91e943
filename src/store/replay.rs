//! How the catalog follows the ledger: entry by entry, and from nothing when it fails.

use super::catalog::{Catalog, IndexError};
use super::log::{LogError, LogReader};
use std::sync::{MutexGuard, PoisonError};
use thiserror::Error;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

#[cfg(test)]
mod tests;

/// Why the catalog does not reflect the ledger.
#[derive(Debug, Error)]
pub(super) enum ReplayError {
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index failed, also the one in memory.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Asks the catalog, rebuilding it if it fails.
///
/// # Errors
/// When the new catalog fails as well.
pub(super) fn lookup<T>(
    catalog: &Catalog,
    log: &LogReader,
    question: impl Fn(&Catalog) -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    if let Ok(answer) = question(catalog) {
        return Ok(answer);
    }
    blocking(|| {
        let _alone = alone(catalog);
        // Whoever held the lock may have rebuilt it.
        question(catalog).or_else(|error| {
            if let Err(error) = rebuild(catalog, log, &error.to_string()) {
                tracing::error!(%error, "the catalog can't be rebuilt from the ledger");
            }
            question(catalog)
        })
    })
}

/// Does what may take half a minute; a thread that serves others is stood in for meanwhile.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

/// Brings the catalog up to the ledger's head: from where it stands or else from nothing.
///
/// # Errors
/// When the ledger can't be read; the catalog may then be behind it.
pub(super) fn catch_up(catalog: &Catalog, log: &LogReader) -> Result<(), ReplayError> {
    let _alone = alone(catalog);
    match take_in(catalog, log) {
        Err(ReplayError::Index(error)) => rebuild(catalog, log, &error.to_string()),
        other => other,
    }
}

fn alone(catalog: &Catalog) -> MutexGuard<'_, ()> {
    catalog.rebuilding.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills a new index aside and has the catalog adopt it; the caller holds the catalog's lock.
///
/// After an error the catalog fails until a later rebuild succeeds.
fn rebuild(catalog: &Catalog, log: &LogReader, reason: &str) -> Result<(), ReplayError> {
    tracing::warn!(reason, "the catalog is set aside and rebuilt from the ledger");
    // Before the ledger's size is read: an entry that comes after it finds an index that fails,
    // so its writer waits for the new one.
    catalog.retire(reason);
    let on_disk = catalog.fresh_on_disk().map_err(ReplayError::from);
    let filled = match on_disk.and_then(|fresh| filled(fresh, log)) {
        Err(ReplayError::Index(error)) => {
            tracing::error!(%error, "the catalog stays in memory until the next start");
            filled(catalog.fresh_in_memory(), log)
        }
        other => other,
    };
    catalog.adopt(&filled?);
    Ok(())
}

fn filled(fresh: Catalog, log: &LogReader) -> Result<Catalog, ReplayError> {
    take_in(&fresh, log)?;
    Ok(fresh)
}

fn take_in(catalog: &Catalog, log: &LogReader) -> Result<(), ReplayError> {
    let size = log.size()?;
    let known = catalog.ledger_size()?;
    if known > size {
        // The ledger was restored from a backup.
        let problem = format!("reflects {known} entries and the ledger has {size}");
        return Err(IndexError::new(problem).into());
    }
    let mut batch = Vec::new();
    let mut first = known;
    for entry in log.entries(known, size) {
        let (index, entry) = entry?;
        batch.push(entry);
        if batch.len() == BATCH || index + 1 == size {
            catalog.apply(first, &batch)?;
            first = index + 1;
            batch.clear();
        }
    }
    // A new index is filled by now; and what a crash took back is not taken in by every start.
    if known == 0 || size - known >= MANY {
        catalog.settle()?;
    }
    Ok(())
}

/// So many entries take longer to take in than to make durable.
const MANY: u64 = 64;

/// The more at once, the less often a page of the index is written again.
const BATCH: usize = 65_536;
