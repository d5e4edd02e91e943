//! What is on disk: blobs, ledger files, the catalog over both, and the one writer.
//!
//! Promises: nothing that was kept is changed or removed (G2); whatever is acknowledged is on
//! disk (G3); the catalog can go at any time (G8). The floor knows opam's formats and the
//! ledger's, and nothing of networks, repositories' policies or clients.

pub mod blobs;
pub mod catalog;
pub mod durable;
#[cfg(test)]
mod failing_disk;
pub mod keys;
pub mod layout;
pub mod lock;
pub mod log;
pub mod medium;
pub mod outbox;
pub mod owner;
mod pending;
mod regular;
mod replay;
mod room;
mod round;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod tree_writer;
mod writer;

pub use round::{Accepted, AppendError, Appended, Pinned};

use crate::clock::Clock;
use crate::ledger::entry::{Entry, KeyEntry, Pin};
use blobs::Blobs;
use catalog::{Catalog, IndexError};
use layout::Layout;
use lock::{LockError, StoreLock};
use log::{LogError, LogReader, LogWriter};
use medium::{Directory, LedgerMedium};
use replay::ReplayError;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;
use writer::Writer;

/// A store that this process owns.
///
/// Cheap to clone; the lock is held until the last clone is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    blobs: Blobs,
    catalog: Arc<Catalog>,
    log: LogReader,
    writer: Writer,
    _lock: StoreLock,
}

/// Why a store can't be opened.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process owns it, or its lock file can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The signing key can't be used.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
    /// The ledger is damaged.
    #[error("{0}: nothing is served from a ledger that does not hold; run opam-keep verify")]
    Log(#[from] LogError),
    /// The catalog can't be had, not even in memory.
    #[error(transparent)]
    Catalog(#[from] IndexError),
    /// The first entry could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It belongs to another user, who could not use what this one writes.
    #[error(
        "{path} belongs to the user with id {owner}, and this is {user}: run this as that user, or \
         while the server runs, which then does it"
    )]
    Foreign {
        /// The data directory.
        path: String,
        /// Whose it is.
        owner: u32,
        /// Who this process is.
        user: u32,
    },
    /// The file system failed.
    #[error("{path}: {source}: {}", durable::advice(.source))]
    Io {
        /// The file or directory.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl From<ReplayError> for StoreError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Log(error) => error.into(),
            ReplayError::Index(error) => error.into(),
        }
    }
}

impl Store {
    /// Opens the store at `layout`, creating it if it is not there.
    ///
    /// New blobs leave `min_free` bytes of its file system free.
    ///
    /// # Errors
    /// When another process owns it, when it can't be written, or when its ledger is damaged.
    pub async fn open(layout: Layout, min_free: u64, clock: &Clock) -> Result<Self, StoreError> {
        let io = |path: &std::path::Path, source| StoreError::Io {
            path: path.display().to_string(),
            source,
        };
        durable::create_directory(layout.root()).map_err(|error| io(layout.root(), error))?;
        let owner = std::fs::metadata(layout.root()).map_err(|error| io(layout.root(), error))?;
        let (owner, user) = (owner.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            let path = layout.root().display().to_string();
            return Err(StoreError::Foreign { path, owner, user });
        }
        let lock = StoreLock::take(&layout)?;
        empty(&layout).map_err(|error| io(&layout.work(), error))?;
        for directory in [layout.ledger(), layout.keys(), layout.tls()] {
            durable::remove_leftovers(&directory).map_err(|error| io(&directory, error))?;
        }
        // A catalog that can't be used must not keep the store from being opened.
        let _ = durable::remove_leftovers(&layout.built_indexes());
        let _ = durable::remove_leftovers(&layout.exceptions());
        let blobs =
            Blobs::new(layout.clone(), min_free).map_err(|error| io(&layout.blobs(), error))?;
        let signer = keys::load_or_create(&layout)?;
        let medium: Arc<dyn LedgerMedium> = Arc::new(
            Directory::create(layout.ledger()).map_err(|error| io(&layout.ledger(), error))?,
        );
        if medium::has_lost_its_head(&layout.ledger()) {
            // A new head would begin a second history under the same key.
            return Err(LogError::Missing(medium::HEAD.to_owned()).into());
        }
        let log = LogWriter::open(Arc::clone(&medium), signer.clone())?;
        let reader = log.reader().clone();
        let catalog = std::thread::scope(|scope| -> Result<_, StoreError> {
            let checked = scope.spawn(|| check_entries(&reader));
            let catalog = Arc::new(Catalog::open(&layout, signer.name(), reader.size()?));
            replay::catch_up(&catalog, &reader)?;
            checked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(catalog)
        })?;
        let empty = log.size() == 0;
        let writer = Writer::start(log, medium, signer.clone(), Arc::clone(&catalog))
            .map_err(|error| io(layout.root(), error))?;
        if empty {
            let key = KeyEntry {
                at: clock.now(),
                name: signer.name().to_owned(),
                vkey: signer.verifier().to_string(),
            };
            writer.append(Entry::Key(key), Accepted::Never).await?;
        }
        let inner = Inner { layout, blobs, catalog, log: reader, writer, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// The ledger, to be read.
    pub fn log(&self) -> &LogReader {
        &self.inner.log
    }

    /// Appends an entry; resolves once it is durable and the catalog knows it.
    ///
    /// A pin of a URL that is pinned already and a divergence that is known already are not
    /// written again; with a pin comes what [`Store::pin`] says.
    ///
    /// # Errors
    /// When the ledger fails; whether the entry is in it is then not known, and asking again is
    /// safe.
    pub async fn append(&self, entry: Entry) -> Result<Appended, AppendError> {
        Ok(self.write(entry, Accepted::Never).await?.appended)
    }

    /// Appends a pin, with the divergence that tells of it where its URL was pinned to other bytes
    /// before and nobody accepted these; resolves once both are durable.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn pin(&self, pin: Pin, accepted: Accepted) -> Result<Pinned, AppendError> {
        self.write(Entry::Pin(pin), accepted).await
    }

    async fn write(&self, entry: Entry, accepted: Accepted) -> Result<Pinned, AppendError> {
        let written = self.inner.writer.append(entry, accepted).await;
        match &written {
            Ok(Pinned { appended: Appended::New(_), .. }) => self.inner.blobs.note_write(Ok(())),
            Err(AppendError::Log(error)) => {
                if let LogError::Io { source, .. } = &**error {
                    self.inner.blobs.note_write(Err(source));
                }
            }
            _ => {}
        }
        written
    }

    /// Spares the next start what the catalog knows already; blocks.
    ///
    /// # Errors
    /// When the catalog fails; the next start then reads some of the ledger again.
    pub fn settle(&self) -> Result<(), IndexError> {
        self.inner.catalog.settle()
    }

    /// Tells how many entries the ledger has, whenever it has more.
    pub fn growth(&self) -> watch::Receiver<u64> {
        self.inner.writer.growth()
    }

    /// Looks something up in the catalog, rebuilding the catalog once if it fails.
    ///
    /// # Errors
    /// When the new catalog fails as well.
    pub fn lookup<T>(
        &self,
        question: impl Fn(&Catalog) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        replay::lookup(&self.inner.catalog, &self.inner.log, question)
    }
}

/// Reads the ledger's entries, the newest of a long one: who was rewritten is told before anything
/// is served.
fn check_entries(log: &LogReader) -> Result<(), LogError> {
    let size = log.size()?;
    log.leaves(size.saturating_sub(CHECKED_AT_START), size).try_for_each(|leaf| leaf.map(drop))
}

fn empty(layout: &Layout) -> io::Result<()> {
    let work = layout.work();
    match std::fs::remove_dir_all(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    durable::create_directory(&work)
}

/// How many entries are read at each start; `verify` reads all.
const CHECKED_AT_START: u64 = 65_536;
