//! The catalog: answers found quickly that ledger and blobs could also give slowly.
//!
//! Everything in it can be rebuilt, so it may be deleted, and it is set aside and rebuilt as soon
//! as it fails; a new index is filled aside and answers only once it is complete. It knows which
//! ledger size it reflects; whatever comes after is replayed at start.

mod checked_file;
mod declared;
mod disk_index;
mod divergences;
mod edits;
mod first_declared;
mod guarded;
mod index;
mod pins;
mod rechecks;
mod timeline;

pub use declared::DeclaredArchive;
pub(in crate::store) use divergences::divergence_key;
pub use divergences::{About, MAX_DIVERGENCES};
pub use edits::{FileEdit, VersionEdit};
pub use first_declared::FirstDeclared;
pub use index::IndexError;
pub use pins::Kept;
pub use rechecks::{Last, Rechecks, Subject};
pub use timeline::Before;

use super::layout::Layout;
use crate::ledger::entry::{Entry, Snapshot};
use disk_index::{DiskIndex, FillingIndex};
use divergences::Counts;
use index::{Change, FailingIndex, Index, MemoryIndex, Table};
use pins::{META_PINS, apply_pin};
use rechecks::Rows;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use timeline::Timeline;

/// The index over ledger and store.
pub struct Catalog {
    layout: Layout,
    /// The index's form and the ledger that it is of.
    origin: String,
    /// How much of the index is kept in memory, in bytes.
    cache: usize,
    /// Held while the index is rebuilt, so that one rebuilds and the others wait.
    pub(super) rebuilding: Mutex<()>,
    index: RwLock<Arc<dyn Index>>,
}

impl Catalog {
    /// Opens the catalog of a store; one that is damaged fails until it is rebuilt.
    ///
    /// `ledger` names the ledger, which has so many entries; a catalog of another ledger counts as
    /// damaged.
    pub(super) fn open(layout: &Layout, ledger: &str, entries: u64) -> Self {
        let origin = format!("{FORMAT} {ledger}");
        let cache = entries.saturating_mul(CACHED_BY_ENTRY).clamp(LEAST_CACHED, MOST_CACHED);
        let cache = usize::try_from(cache).unwrap_or(usize::MAX);
        let index = open_index(layout, &origin, cache)
            .unwrap_or_else(|problem| Arc::new(FailingIndex(problem.into())));
        Self::over(layout.clone(), origin, cache, index)
    }

    /// Lets go of the index; until another one is adopted, every question fails.
    pub(super) fn retire(&self, reason: &str) {
        let reason = format!("being rebuilt, because {reason}");
        self.replace(Arc::new(FailingIndex(IndexError::new(reason))));
    }

    /// An empty catalog on disk, for this one to adopt once it is filled.
    ///
    /// This one must be retired: its index is set aside.
    ///
    /// # Errors
    /// When the directory can't be used.
    pub(super) fn fresh_on_disk(&self) -> Result<Self, IndexError> {
        set_aside(&self.layout).map_err(CatalogProblem::from)?;
        let index = open_index(&self.layout, &self.origin, self.cache)?;
        Ok(Self::over(self.layout.clone(), self.origin.clone(), self.cache, index))
    }

    /// An empty catalog in memory, for this one to adopt once it is filled.
    pub(super) fn fresh_in_memory(&self) -> Self {
        let index = Arc::new(MemoryIndex::default());
        Self::over(self.layout.clone(), self.origin.clone(), self.cache, index)
    }

    /// Answers from the index of `fresh` from now on.
    pub(super) fn adopt(&self, fresh: &Self) {
        self.replace(fresh.index());
    }

    /// How many ledger entries the catalog reflects.
    ///
    /// # Errors
    /// When the index fails.
    pub fn ledger_size(&self) -> Result<u64, IndexError> {
        self.number(META_SIZE)
    }

    /// Takes in ledger entries, the first of which has index `first`; those that it reflects
    /// already are passed over.
    ///
    /// # Errors
    /// When the index fails, or when entries before `first` are not reflected yet; then none of
    /// the entries was taken in.
    pub(super) fn apply(&self, first: u64, entries: &[Entry]) -> Result<(), IndexError> {
        // One index throughout: what was counted in one must not end up in another.
        let index = self.index();
        let known = number_at(&*index, META_SIZE)?;
        let Some(skipped) = known.checked_sub(first) else {
            let problem = format!("reflects {known} entries and was given entry {first} next");
            return Err(IndexError::new(problem));
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let Some(new) = entries.get(skipped..).filter(|new| !new.is_empty()) else {
            return Ok(());
        };
        let mut changes = Vec::new();
        let mut seen = HashMap::new();
        let mut pins = number_at(&*index, META_PINS)?;
        let mut divergences = Counts::of(&*index)?;
        let mut rechecks = Rows::default();
        let mut timeline = Timeline::default();
        for (number, entry) in (known..).zip(new) {
            match entry {
                Entry::Pin(pin) => {
                    pins += 1;
                    apply_pin(&*index, number, pin, &mut seen, &mut changes)?;
                    rechecks.take_in(&*index, number, pin)?;
                }
                Entry::Divergence(divergence) => {
                    changes.extend(divergences.take_in(number, divergence));
                }
                Entry::Snapshot(snapshot) => {
                    timeline.take_in(&*index, number, snapshot, &mut changes)?;
                }
                Entry::Decision(decision) => {
                    changes.extend(divergences.decide(&*index, number, decision)?);
                }
                Entry::History(history) => changes.push(first_declared::take_in(number, history)),
                Entry::Recheck(recheck) => rechecks.note(&*index, number, recheck)?,
                Entry::Import(_) | Entry::Key(_) | Entry::Other(_) => {}
            }
        }
        let size = known + new.len() as u64;
        changes.push(put(Table::Meta, META_SIZE, size.to_be_bytes().into()));
        changes.push(put(Table::Meta, META_PINS, pins.to_be_bytes().into()));
        changes.extend(divergences.changes());
        changes.extend(rechecks.into_changes());
        index.apply(changes)
    }

    /// Makes what the catalog reflects durable; no start need read that much of the ledger again.
    ///
    /// # Errors
    /// When the index fails.
    pub(super) fn settle(&self) -> Result<(), IndexError> {
        self.index().settle()
    }

    /// A repository's newest snapshot and its ledger index; one that was brought in from
    /// upstream's history is none.
    ///
    /// # Errors
    /// When the index fails.
    pub fn snapshot(&self, repository: &str) -> Result<Option<(u64, Snapshot)>, IndexError> {
        let Some(value) = self.get(Table::Snapshot, repository.as_bytes())? else {
            return Ok(None);
        };
        Ok(value.split_at_checked(8).and_then(|(index, leaf)| {
            match (number(index), Entry::from_leaf(leaf)) {
                (Some(index), Ok(Entry::Snapshot(snapshot))) => Some((index, snapshot)),
                _ => None,
            }
        }))
    }

    /// The ledger index of the first snapshot of `repository` at upstream's `revision`.
    ///
    /// # Errors
    /// When the index fails.
    pub fn snapshot_at(&self, repository: &str, revision: &str) -> Result<Option<u64>, IndexError> {
        let value = self.get(Table::Revision, &revision_key(repository, revision))?;
        Ok(value.and_then(|value| number(&value)))
    }

    fn over(layout: Layout, origin: String, cache: usize, index: Arc<dyn Index>) -> Self {
        Self { layout, origin, cache, rebuilding: Mutex::new(()), index: RwLock::new(index) }
    }

    fn number(&self, key: &[u8]) -> Result<u64, IndexError> {
        number_at(&*self.index(), key)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.index().get(table, key)
    }

    fn index(&self) -> Arc<dyn Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, index: Arc<dyn Index>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("directory", &self.layout.catalog()).finish()
    }
}

#[derive(Debug, thiserror::Error)]
enum CatalogProblem {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it belongs to another ledger or another version of opam-keep")]
    Foreign,
}

impl From<CatalogProblem> for IndexError {
    fn from(problem: CatalogProblem) -> Self {
        match problem {
            CatalogProblem::Index(error) => error,
            other => Self::new(other.to_string()),
        }
    }
}

fn open_index(
    layout: &Layout,
    origin: &str,
    cache: usize,
) -> Result<Arc<dyn Index>, CatalogProblem> {
    std::fs::create_dir_all(layout.catalog())?;
    let index = DiskIndex::open(&layout.catalog().join(INDEX), cache)?;
    match index.get(Table::Meta, META_ORIGIN)? {
        Some(found) if found == origin.as_bytes() => Ok(Arc::new(index)),
        Some(_) => Err(CatalogProblem::Foreign),
        None => {
            index.apply(vec![put(Table::Meta, META_ORIGIN, origin.into())])?;
            Ok(Arc::new(FillingIndex::over(index)))
        }
    }
}

/// Moves the index away, keeping the newest failed one for whoever wants to know why.
fn set_aside(layout: &Layout) -> io::Result<()> {
    let (index, bad) = (layout.catalog().join(INDEX), layout.catalog().join(BAD_INDEX));
    match std::fs::rename(index, bad) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn snapshot_value(snapshot: &Snapshot) -> Vec<u8> {
    // It was a leaf already, so it can be one again.
    Entry::Snapshot(snapshot.clone()).to_leaf().unwrap_or_default()
}

/// No name of a repository has a NUL.
fn revision_key(repository: &str, revision: &str) -> Vec<u8> {
    [repository.as_bytes(), &[0], revision.as_bytes()].concat()
}

fn number_at(index: &dyn Index, key: &[u8]) -> Result<u64, IndexError> {
    Ok(index.get(Table::Meta, key)?.and_then(|value| number(&value)).unwrap_or(0))
}

fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

fn put(table: Table, key: &[u8], value: Vec<u8>) -> Change {
    Change::Put(table, key.to_vec(), value)
}

/// Changes whenever the index's content or form does; another one is rebuilt.
const FORMAT: &str = "18";
/// What says where the entries are found takes a fiftieth of the index, and so much of it by entry: a
/// cache that holds it makes a question cost about the same however many pins there are.
const CACHED_BY_ENTRY: u64 = 64;
const LEAST_CACHED: u64 = 16 << 20;
const MOST_CACHED: u64 = 256 << 20;
const INDEX: &str = "index.redb";
const BAD_INDEX: &str = "index.redb.bad";
const META_ORIGIN: &[u8] = b"origin";
const META_SIZE: &[u8] = b"ledger-size";
