//! What comes out of a bundle: checked whole, then kept, pinned and served.
//!
//! Nothing is written to the ledger before all of a bundle was read and found right: signature,
//! hashes, and that the other ledger only grew since its last bundle. Blobs may be kept before
//! that, as each is what its name says; one that was interrupted goes on by being taken in again.

mod contents;

pub use contents::{Contents, Keep, read};

use contents::Twice;

use super::previous::Previous;
use super::refresh::RefreshError;
use super::repository::{Repository, blocking, read_list};
use super::{AdmitError, Keeper};
use crate::bundle::BundleError;
use crate::digest::Sha256;
use crate::ledger::entry::{Entry, EntryError, Import, Pin, Snapshot};
use crate::ledger::note::Verifier;
use crate::store::catalog::IndexError;
use crate::store::log::{LogError, LogReader};
use crate::store::{Accepted, AppendError, Appended, Pinned};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thiserror::Error;

/// What the last bundle of the same ledger ended with.
#[derive(Clone, Debug)]
pub struct LastImport {
    /// Where that is in our ledger.
    pub entry: u64,
    /// What it says.
    pub import: Import,
}

/// What was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The ledger entry that says so.
    pub entry: u64,
    /// How many entries the other ledger has, for the next `export --since`.
    pub size: u64,
    /// How many URLs were pinned.
    pub pinned: u64,
    /// How many were pinned to the same bytes before.
    pub known: u64,
    /// How many archives the bundle's ledger pins that were not selected for it.
    pub left_out: u64,
    /// The snapshots that are served now: repository, and how many versions.
    pub snapshots: BTreeMap<String, u64>,
    /// The repositories that it has snapshots of, and that mirror.toml does not have.
    #[serde(default)]
    pub unserved: Vec<String>,
    /// The divergences that it led to, and that nobody decided about yet: URLs that were pinned to
    /// other bytes before.
    pub divergences: Vec<u64>,
}

/// Why a bundle is not taken in.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It is damaged, or signed by someone else.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It begins after the end of the last one.
    #[error(
        "entries {had} to {from} of its ledger are missing: export --since {had}, or take in the \
         bundle before it"
    )]
    Gap {
        /// How many entries are known here.
        had: u64,
        /// How many it takes for granted.
        from: u64,
    },
    /// Its ledger is shorter than it was.
    #[error("it is older than the last one: its ledger has {size} entries, and had {had} then")]
    Older {
        /// How many entries are known here.
        had: u64,
        /// How many it has.
        size: u64,
    },
    /// Its ledger is not the one that the last bundle was of.
    #[error(
        "its ledger was rewritten: the first {had} entries are not those of the last bundle (our \
         ledger entry {entry})"
    )]
    Rewritten {
        /// How many entries are known here.
        had: u64,
        /// Where that is in our ledger.
        entry: u64,
    },
    /// It does not have all that it should.
    #[error("it lacks {0}, which its ledger entries name")]
    Incomplete(String),
    /// All of its snapshots are of repositories that mirror.toml does not have.
    #[error(
        "none of its repositories is configured: add [[repository]] with name = \"{0}\" to mirror.toml"
    )]
    NoRepository(String),
    /// Another bundle was faster.
    #[error("another bundle of its ledger was taken in meanwhile: take this one in once more")]
    Overtaken,
    /// Another configuration is in force by now.
    #[error("the configuration was reloaded meanwhile: take it in once more")]
    Retired,
    /// An entry can't be read.
    #[error("its ledger entry {index} can't be read: {source}")]
    Entry {
        /// The entry.
        index: u64,
        /// Why.
        source: EntryError,
    },
    /// Our ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Our ledger can't be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Our catalog can't be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What was taken in can't be served.
    #[error(transparent)]
    Serve(#[from] RefreshError),
    /// The file, or the store, fails.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The last bundle that `key` signed, as our own ledger knows.
///
/// # Errors
/// When the ledger can't be read.
pub fn last_import(log: &LogReader, key: &Verifier) -> Result<Option<LastImport>, LogError> {
    let key = key.to_string();
    let mut last = None;
    for entry in log.entries(0, log.size()?) {
        match entry? {
            (entry, Entry::Import(import)) if import.key == key => {
                last = Some(LastImport { entry, import });
            }
            _ => {}
        }
    }
    Ok(last)
}

impl Keeper {
    /// Takes in a bundle: keeps its blobs as it is read, then pins and serves what is in it.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub async fn import(
        self: &Arc<Self>,
        source: impl Read + Send + 'static,
        key: Verifier,
        tell: impl FnMut(u64) + Send + 'static,
    ) -> Result<Imported, ImportError> {
        let (store, verifier) = (self.store.clone(), key.clone());
        let reading = blocking(move || {
            let last = last_import(store.log(), &verifier)?;
            let contents =
                read(source, &verifier, last.as_ref(), store.blobs(), Keep::Blobs, tell)?;
            Ok::<_, ImportError>((contents, last))
        });
        let (contents, last) = reading.await??;
        contents.is_for(|name| self.repository(name).is_some())?;
        let _alone = self.importing.lock().await;
        let (store, verifier) = (self.store.clone(), key.clone());
        let now = blocking(move || last_import(store.log(), &verifier)).await??;
        let is_same = |now: &LastImport| {
            now.import.size == contents.manifest.size && now.import.root == contents.manifest.root
        };
        let is_overtaken = now.as_ref().map(|it| it.entry) != last.map(|it| it.entry);
        if is_overtaken && !now.as_ref().is_some_and(is_same) {
            return Err(ImportError::Overtaken);
        }
        self.adopt(contents, now, &key).await
    }

    async fn adopt(
        self: &Arc<Self>,
        contents: Contents,
        last: Option<LastImport>,
        key: &Verifier,
    ) -> Result<Imported, ImportError> {
        let Contents { manifest, checkpoint, pins, snapshots, left_out, twice } = contents;
        let entry = match last.filter(|last| last.import.size == manifest.size) {
            // It was interrupted, or is the same once more.
            Some(last) => last.entry,
            None => {
                let import = Import {
                    at: self.clock.now(),
                    key: key.to_string(),
                    from: manifest.from.size(),
                    size: manifest.size,
                    root: manifest.root,
                    checkpoint: String::from_utf8_lossy(&checkpoint).into_owned(),
                };
                match self.store.append(Entry::Import(import)).await? {
                    Appended::New(entry) | Appended::Known(entry) => entry,
                    Appended::PinnedOtherwise(kept) => kept.entry,
                }
            }
        };
        let mut imported = Imported {
            entry,
            size: manifest.size,
            pinned: 0,
            known: 0,
            left_out,
            snapshots: BTreeMap::new(),
            unserved: Vec::new(),
            divergences: Vec::new(),
        };
        for batch in pins.chunks(BATCH) {
            let mut pinned = Vec::new();
            for pin in batch {
                let accepted = self.accepted(pin, &twice, key)?;
                let pin = Pin { at: self.clock.now(), import: Some(entry), ..pin.clone() };
                pinned.push(self.store.pin(pin, accepted));
            }
            for pinned in join_all(pinned).await {
                let Pinned { appended, changed } = pinned?;
                match appended {
                    Appended::New(_) => imported.pinned += 1,
                    Appended::Known(_) => imported.known += 1,
                    Appended::PinnedOtherwise(_) => {}
                }
                if let Some(Appended::New(divergence) | Appended::Known(divergence)) = changed
                    && self.store.lookup(|catalog| catalog.decided(divergence))?.is_none()
                {
                    imported.divergences.push(divergence);
                }
            }
        }
        for snapshot in snapshots {
            let (name, versions) = (snapshot.repository.clone(), snapshot.versions);
            match self.adopt_snapshot(snapshot, entry).await? {
                Served::Here => drop(imported.snapshots.insert(name, versions)),
                Served::Nowhere => imported.unserved.push(name),
            }
        }
        self.negative.clear();
        Ok(imported)
    }

    /// Whether bytes that are not the first ones that we know of a URL were accepted where they come
    /// from, in place of those.
    fn accepted(&self, pin: &Pin, twice: &Twice, key: &Verifier) -> Result<Accepted, ImportError> {
        let ours = self.store.lookup(|catalog| catalog.pin(&pin.url))?;
        let first = ours.map(|ours| ours.sha256).or(twice.first(&pin.url));
        let Some(first) = first.filter(|first| *first != pin.sha256) else {
            return Ok(Accepted::Never);
        };
        let is_accepted = twice.has_accepted(&pin.url, [first, pin.sha256])
            || (![first, pin.sha256].iter().any(|bytes| twice.is_told(&pin.url, bytes))
                && ours.map_or(Ok(false), |ours| self.came_from(ours.entry, key))?);
        Ok(if is_accepted { Accepted::Over(first) } else { Accepted::Never })
    }

    /// Whether a pin of ours is from an earlier bundle of the same ledger.
    fn came_from(&self, pin: u64, key: &Verifier) -> Result<bool, LogError> {
        let at = |index: u64| {
            self.store.log().entries(index, index.saturating_add(1)).next().transpose()
        };
        let Some((_, Entry::Pin(Pin { import: Some(import), .. }))) = at(pin)? else {
            return Ok(false);
        };
        let import = at(import)?;
        Ok(matches!(import, Some((_, Entry::Import(it))) if it.key == key.to_string()))
    }

    async fn adopt_snapshot(
        self: &Arc<Self>,
        snapshot: Snapshot,
        import: u64,
    ) -> Result<Served, ImportError> {
        let name = snapshot.repository.clone();
        if let Some(next) = self.successor_now() {
            return Box::pin(next.adopt_snapshot(snapshot, import)).await;
        }
        let Some(repository) = self.repository(&name) else { return Ok(Served::Nowhere) };
        let alone = repository.refreshing.lock().await;
        if repository.is_retired.load(Ordering::Relaxed) {
            drop(alone);
            let next = self.successor().await.ok_or(ImportError::Retired)?;
            return Box::pin(next.adopt_snapshot(snapshot, import)).await;
        }
        let served = repository.served();
        let is_served = served.is_some_and(|served| served.snapshot.admitted == snapshot.admitted);
        if !is_served {
            // Versions that had gone there may never have been here.
            let departed = self.departed_by(repository, snapshot.admitted).await?;
            let snapshot = Snapshot { departed, import: Some(import), ..snapshot };
            // Nobody is told what stood for its second before it does.
            let admitting = repository.admitting.write().await;
            let at = self.clock.now();
            self.store.append(Entry::Snapshot(Snapshot { at, ..snapshot })).await?;
            drop(admitting);
            let _declaring = repository.declaring.lock().await;
            let (repository, store) = (Arc::clone(repository), self.store.clone());
            blocking(move || repository.take_up_again(&store)).await??;
        }
        self.negative.clear();
        Ok(Served::Here)
    }

    /// The versions that are gone here once an imported state is served, as a kept list.
    async fn departed_by(
        &self,
        repository: &Repository,
        admitted: Sha256,
    ) -> Result<Option<Sha256>, RefreshError> {
        let Some(last) = repository.last(&self.store)? else { return Ok(None) };
        let store = self.store.clone();
        let before = last.snapshot.departed;
        let keep = move || {
            let previous = Previous::read(&store, last)?;
            previous.keep_gone(&store, &read_list(&store, &admitted)?)
        };
        match blocking(keep).await? {
            // Whoever takes in a bundle has a state to go on from.
            Err(error @ RefreshError::Unreadable(_)) => {
                tracing::warn!(repository = repository.name(), %error, "an import takes its place");
                Ok(before)
            }
            kept => kept,
        }
    }
}

impl From<AdmitError> for ImportError {
    fn from(error: AdmitError) -> Self {
        Self::Serve(error.into())
    }
}

/// Whether a snapshot that was taken in is served.
enum Served {
    Here,
    /// mirror.toml has no such repository.
    Nowhere,
}

/// So many pins share the ledger's appends.
const BATCH: usize = 512;
