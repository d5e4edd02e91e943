//! The catalog: answers found quickly that ledger and blobs could also give slowly.
//!
//! Everything in it can be rebuilt, so it may be deleted, and it is set aside and rebuilt as soon
//! as it fails. It knows which ledger size it reflects; whatever comes after is replayed at
//! start.

mod declared;
mod index;

pub use declared::DeclaredArchive;
pub use index::IndexError;

use super::layout::Layout;
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, DivergenceKind, Entry, Pin, Snapshot};
use crate::opam::Checksum;
use index::{Change, Index, MemoryIndex, SledIndex, Table};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The index over ledger and store.
pub struct Catalog {
    layout: Layout,
    /// Held while the index is rebuilt, so that one rebuilds and the others wait.
    pub(super) rebuilding: Mutex<()>,
    index: RwLock<Arc<dyn Index>>,
}

/// What a pin says about its blob, and where the pin stands in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The blob.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// The ledger index of the first pin with these bytes (by checksum) or of the URL's pin.
    pub entry: u64,
}

impl Catalog {
    /// Opens the catalog of a store, empty when there is none or when it is damaged.
    ///
    /// `origin` names the ledger; a catalog of another ledger counts as damaged.
    pub(super) fn open(layout: &Layout, origin: &str) -> Self {
        let opened = open_sled(layout).and_then(|index| {
            let expected = format!("{FORMAT} {origin}");
            match index.get(Table::Meta, META_ORIGIN)? {
                Some(found) if found == expected.as_bytes() => Ok(index),
                Some(_) => Err(CatalogProblem::Foreign),
                None => {
                    index.apply(vec![put(Table::Meta, META_ORIGIN, expected.into_bytes())])?;
                    Ok(index)
                }
            }
        });
        let catalog = Self {
            layout: layout.clone(),
            rebuilding: Mutex::new(()),
            index: RwLock::new(Arc::new(MemoryIndex::default())),
        };
        match opened {
            Ok(index) => catalog.replace(Arc::new(index)),
            Err(problem) => catalog.reset(origin, &problem.to_string()),
        }
        catalog
    }

    /// Sets a failed index aside and begins an empty one.
    pub(super) fn reset(&self, origin: &str, reason: &str) {
        tracing::warn!(reason, "the catalog is set aside and rebuilt from the ledger");
        // sled keeps its lock until the last user is gone, so the old one is let go of first.
        self.replace(Arc::new(MemoryIndex::default()));
        let fresh = set_aside(&self.layout)
            .map_err(CatalogProblem::from)
            .and_then(|()| open_sled(&self.layout))
            .and_then(|index| {
                let origin = format!("{FORMAT} {origin}").into_bytes();
                index.apply(vec![put(Table::Meta, META_ORIGIN, origin)])?;
                Ok(index)
            });
        match fresh {
            Ok(index) => self.replace(Arc::new(index)),
            Err(problem) => {
                tracing::error!(%problem, "the catalog stays in memory until the next start");
            }
        }
    }

    /// How many ledger entries the catalog reflects.
    ///
    /// # Errors
    /// When the index fails.
    pub(super) fn ledger_size(&self) -> Result<u64, IndexError> {
        self.number(META_SIZE)
    }

    /// Takes in ledger entries, the first of which has index `first`.
    ///
    /// # Errors
    /// When the index fails; then none of the entries was taken in.
    pub(super) fn apply(&self, first: u64, entries: &[Entry]) -> Result<(), IndexError> {
        let mut changes = Vec::new();
        let mut seen = HashSet::new();
        let (mut pins, mut divergences) = (self.pins()?, self.divergences()?);
        for (index, entry) in (first..).zip(entries) {
            match entry {
                Entry::Pin(pin) => {
                    pins += 1;
                    self.apply_pin(index, pin, &mut seen, &mut changes)?;
                }
                Entry::Divergence(divergence) => {
                    divergences += 1;
                    let key = divergence_key(divergence);
                    changes.push(put(
                        Table::Divergence,
                        key.as_bytes(),
                        index.to_be_bytes().into(),
                    ));
                }
                Entry::Snapshot(snapshot) => {
                    let value = index.to_be_bytes().into_iter().chain(snapshot_value(snapshot));
                    let key = snapshot.repository.as_bytes();
                    changes.push(put(Table::Snapshot, key, value.collect()));
                }
                Entry::Key(_) | Entry::Other(_) => {}
            }
        }
        let size = first + entries.len() as u64;
        changes.push(put(Table::Meta, META_SIZE, size.to_be_bytes().into()));
        changes.push(put(Table::Meta, META_PINS, pins.to_be_bytes().into()));
        changes.push(put(Table::Meta, META_DIVERGENCES, divergences.to_be_bytes().into()));
        self.index().apply(changes)
    }

    /// The first pin of a URL.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pin(&self, url: &str) -> Result<Option<Kept>, IndexError> {
        Ok(self.get(Table::Pin, url.as_bytes())?.and_then(|value| kept(&value)))
    }

    /// The pin of a URL to these very bytes: the first one, or one beside it that a strong
    /// checksum vouched for.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pin_to(&self, url: &str, sha256: &Sha256) -> Result<Option<Kept>, IndexError> {
        Ok(self.get(Table::Pin, &pin_to_key(url, sha256))?.and_then(|value| kept(&value)))
    }

    /// The pinned blob that has this checksum.
    ///
    /// # Errors
    /// When the index fails.
    pub fn kept(&self, checksum: &Checksum) -> Result<Option<Kept>, IndexError> {
        Ok(self.get(Table::Blob, &checksum_key(checksum))?.and_then(|value| kept(&value)))
    }

    /// The ledger index of a divergence that is the same as this one, or, when a source gives
    /// something else each time, of one of the [`MAX_DIVERGENCES`] that are recorded of it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergence(&self, divergence: &Divergence) -> Result<Option<u64>, IndexError> {
        let key = divergence_key(divergence);
        let alike = self.index().scan(Table::Divergence, &key.as_bytes()[..16])?;
        let same = alike.iter().find(|(found, _)| found == key.as_bytes());
        let full = alike.last().filter(|_| alike.len() >= MAX_DIVERGENCES);
        Ok(same.or(full).and_then(|(_, value)| number(value)))
    }

    /// How many divergences there are.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergences(&self) -> Result<u64, IndexError> {
        self.number(META_DIVERGENCES)
    }

    /// How many pins there are.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pins(&self) -> Result<u64, IndexError> {
        self.number(META_PINS)
    }

    /// A repository's newest snapshot and its ledger index.
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

    fn apply_pin(
        &self,
        index: u64,
        pin: &Pin,
        seen: &mut HashSet<Checksum>,
        changes: &mut Vec<Change>,
    ) -> Result<(), IndexError> {
        let value = kept_value(&Kept { sha256: pin.sha256, size: pin.size, entry: index });
        if self.pin(&pin.url)?.is_none() {
            changes.push(put(Table::Pin, pin.url.as_bytes(), value.clone()));
        }
        let key = pin_to_key(&pin.url, &pin.sha256);
        if self.get(Table::Pin, &key)?.is_none() {
            changes.push(put(Table::Pin, &key, value.clone()));
        }
        for checksum in
            [Checksum::Md5(pin.md5), Checksum::Sha256(pin.sha256), Checksum::Sha512(pin.sha512)]
        {
            // The first pin of these bytes counts, also when both come in one batch.
            if seen.insert(checksum) && self.kept(&checksum)?.is_none() {
                changes.push(put(Table::Blob, &checksum_key(&checksum), value.clone()));
            }
        }
        Ok(())
    }

    fn number(&self, key: &[u8]) -> Result<u64, IndexError> {
        Ok(self.get(Table::Meta, key)?.and_then(|value| number(&value)).unwrap_or(0))
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

fn open_sled(layout: &Layout) -> Result<SledIndex, CatalogProblem> {
    std::fs::create_dir_all(layout.catalog())?;
    Ok(SledIndex::open(&sled_directory(layout))?)
}

/// Moves the index away, keeping the newest failed one for whoever wants to know why.
fn set_aside(layout: &Layout) -> io::Result<()> {
    let bad = layout.catalog().join("sled.bad");
    for result in [std::fs::remove_dir_all(&bad), std::fs::rename(sled_directory(layout), &bad)] {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn sled_directory(layout: &Layout) -> std::path::PathBuf {
    layout.catalog().join("sled")
}

/// What makes two divergences the same: the kind, who was asked and what was expected (the first
/// half), and the bytes or, without any, who said what (the second half).
pub(super) fn divergence_key(divergence: &Divergence) -> Sha256 {
    let (from, detail) = (&divergence.from, &divergence.detail);
    let observed = match (&divergence.observed, divergence.what) {
        (Some(observed), _) => observed.sha256.to_string(),
        // Where it was cut is chance.
        (None, DivergenceKind::Truncated | DivergenceKind::TooLarge) => from.clone(),
        (None, _) => format!("{from} {detail}"),
    };
    let Divergence { what, url, expected, .. } = divergence;
    let subject = Sha256::of(format!("{what}\n{url}\n{}", expected.join(" ")).as_bytes());
    let observed = Sha256::of(observed.as_bytes());
    let mut key = *subject.as_bytes();
    key[16..].copy_from_slice(&observed.as_bytes()[..16]);
    Sha256::from_bytes(key)
}

fn snapshot_value(snapshot: &Snapshot) -> Vec<u8> {
    // It was a leaf already, so it can be one again.
    Entry::Snapshot(snapshot.clone()).to_leaf().unwrap_or_default()
}

/// No URL has a line break, so no other URL begins like this.
fn pin_to_key(url: &str, sha256: &Sha256) -> Vec<u8> {
    format!("{url}\n{sha256}").into_bytes()
}

fn checksum_key(checksum: &Checksum) -> Vec<u8> {
    let (kind, bytes): (u8, &[u8]) = match checksum {
        Checksum::Md5(digest) => (b'm', digest.as_bytes()),
        Checksum::Sha256(digest) => (b's', digest.as_bytes()),
        Checksum::Sha512(digest) => (b'S', digest.as_bytes()),
    };
    std::iter::once(kind).chain(bytes.iter().copied()).collect()
}

fn kept_value(kept: &Kept) -> Vec<u8> {
    [&kept.sha256.as_bytes()[..], &kept.size.to_be_bytes(), &kept.entry.to_be_bytes()].concat()
}

fn kept(value: &[u8]) -> Option<Kept> {
    let (sha256, rest) = value.split_first_chunk::<32>()?;
    let (size, entry) = rest.split_first_chunk::<8>()?;
    Some(Kept {
        sha256: Sha256::from_bytes(*sha256),
        size: u64::from_be_bytes(*size),
        entry: number(entry)?,
    })
}

fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

fn put(table: Table, key: &[u8], value: Vec<u8>) -> Change {
    Change::Put(table, key.to_vec(), value)
}

/// Most divergences of one kind that are recorded of one URL and what was expected of it: a login
/// page with a new token each time must not fill the disk.
pub const MAX_DIVERGENCES: usize = 16;
/// Changes whenever the index's content or form does; another one is rebuilt.
const FORMAT: &str = "3";
const META_ORIGIN: &[u8] = b"origin";
const META_SIZE: &[u8] = b"ledger-size";
const META_PINS: &[u8] = b"pins";
const META_DIVERGENCES: &[u8] = b"divergences";
