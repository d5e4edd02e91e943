//! The one writer: entries that arrive together share one append, and the first pin of a URL
//! stands; only what a strong checksum vouches for is pinned beside it, and a divergence tells of
//! whatever is not what was pinned first.

use super::catalog::{Catalog, DeclaredArchive, IndexError, Kept};
use super::log::{LogError, LogReader, LogWriter};
use super::medium::LedgerMedium;
use super::replay::{self, ReplayError};
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, Entry, Pin, Strength};
use crate::ledger::note::Signer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the ledger, at this index, durably.
    New(u64),
    /// The ledger says so already, at this index; nothing was written.
    Known(u64),
    /// The URL is pinned to other bytes and no strong checksum vouches for these; nothing was
    /// written.
    PinnedOtherwise(Kept),
}

/// What became of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// What became of the pin itself.
    pub appended: Appended,
    /// Where the URL was pinned to other bytes first, and nobody accepted these: the divergence that
    /// tells so, which is in the ledger as durably as the pin.
    pub changed: Option<Appended>,
}

/// Whether a URL's bytes are meant to be others than the first ones, so that nobody has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Nobody accepted other ones.
    Never,
    /// Someone accepted them in place of these first ones.
    Over(Sha256),
}

/// Why an entry is not in the ledger.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// The ledger failed; the entry may be tried again.
    #[error("{0}")]
    Log(Arc<LogError>),
    /// The entry itself can't be written.
    #[error("{0}")]
    Entry(Arc<LogError>),
    /// What the ledger says already can't be looked up.
    #[error("{0}")]
    Catalog(#[from] IndexError),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl From<ReplayError> for AppendError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Log(error) => Self::Log(Arc::new(error)),
            ReplayError::Index(error) => Self::Catalog(error),
        }
    }
}

/// Sends entries to the writer's thread; that ends, and lets go of the catalog, before this is gone.
pub(super) struct Writer {
    /// `None` once nothing is taken any more.
    requests: Option<mpsc::Sender<Request>>,
    growth: watch::Receiver<u64>,
    /// Hangs up when the thread has ended.
    thread: Mutex<mpsc::Receiver<()>>,
}

struct Request {
    entry: Entry,
    /// Of a pin.
    accepted: Accepted,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Pinned, AppendError>>;

impl Writer {
    /// Starts the thread that owns `log`.
    pub(super) fn start(
        log: LogWriter,
        medium: Arc<dyn LedgerMedium>,
        signer: Signer,
        catalog: Arc<Catalog>,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let (grown, growth) = watch::channel(log.size());
        let mut state = State { log: Some(log), medium, signer, catalog, grown };
        let (running, thread) = mpsc::channel();
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                let mut batch = vec![first];
                batch.extend(inbox.try_iter().take(MAX_BATCH - 1));
                state.serve(batch);
            }
            drop(state);
            drop(running);
        })?;
        Ok(Self { requests: Some(requests), growth, thread: Mutex::new(thread) })
    }

    /// Tells how many entries the ledger has, whenever it has more.
    pub(super) fn growth(&self) -> watch::Receiver<u64> {
        self.growth.clone()
    }

    /// Appends an entry, and what a pin needs to be told of; resolves once it is durable.
    pub(super) async fn append(
        &self,
        entry: Entry,
        accepted: Accepted,
    ) -> Result<Pinned, AppendError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(AppendError::Closed)?;
        requests.send(Request { entry, accepted, reply }).map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        // What a disk does not take must not hold up the end for good.
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = thread.recv_timeout(END_PATIENCE);
    }
}

/// Owned by the writer's thread.
struct State {
    /// `None` after a failure: what is in the ledger must be read again first.
    log: Option<LogWriter>,
    medium: Arc<dyn LedgerMedium>,
    signer: Signer,
    catalog: Arc<Catalog>,
    grown: watch::Sender<u64>,
}

impl State {
    fn serve(&mut self, batch: Vec<Request>) {
        let mut log = match self.log.take().map_or_else(|| self.reopen(), Ok) {
            Ok(log) => log,
            Err(error) => return refuse(batch, error),
        };
        let mut round = Round::new(log.size());
        for request in batch {
            round.admit(request, &self.catalog, log.reader());
        }
        let Round { entries, leaves, waiting, .. } = round;
        if entries.is_empty() {
            self.log = Some(log);
            return answer(waiting, Ok(()));
        }
        match log.append(&leaves) {
            Ok(first) => {
                let known = match self.catalog.apply(first, &entries) {
                    Ok(()) => Ok(()),
                    Err(_) => replay::catch_up(&self.catalog, log.reader()),
                };
                match known {
                    Ok(()) => {
                        self.grown.send_replace(log.size());
                        self.log = Some(log);
                    }
                    // The next batch catches up first: by a catalog that is behind, a URL could
                    // be pinned twice.
                    Err(ref error) => tracing::error!(%error, "the catalog can't follow"),
                }
                answer(waiting, known.map_err(AppendError::from));
            }
            Err(error) => {
                tracing::error!(%error, entries = entries.len(), "the ledger can't be appended to");
                answer(waiting, Err(AppendError::Log(Arc::new(error))));
            }
        }
    }

    fn reopen(&self) -> Result<LogWriter, ReplayError> {
        let log = LogWriter::open(Arc::clone(&self.medium), self.signer.clone())?;
        replay::catch_up(&self.catalog, log.reader())?;
        // The append that failed may have been one that got through.
        self.grown.send_replace(log.size());
        Ok(log)
    }
}

/// One batch on its way into the ledger.
struct Round {
    next: u64,
    entries: Vec<Entry>,
    leaves: Vec<Vec<u8>>,
    waiting: Vec<(Reply, Pinned)>,
    /// The pins of this batch by URL, in their order.
    pins: HashMap<String, Vec<Kept>>,
    divergences: HashMap<Sha256, u64>,
}

impl Round {
    fn new(next: u64) -> Self {
        Self {
            next,
            entries: Vec::new(),
            leaves: Vec::new(),
            waiting: Vec::new(),
            pins: HashMap::new(),
            divergences: HashMap::new(),
        }
    }

    fn admit(&mut self, request: Request, catalog: &Catalog, log: &LogReader) {
        let Request { entry, accepted, reply } = request;
        match self.take(entry, accepted, catalog, log) {
            Ok(pinned) => self.waiting.push((reply, pinned)),
            // Whoever asked may have gone; then nobody needs the answer.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn take(
        &mut self,
        entry: Entry,
        accepted: Accepted,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Pinned, AppendError> {
        let (known, first) = match &entry {
            Entry::Pin(pin) => self.known_pin(pin, catalog, log)?,
            entry => (self.known(entry, catalog, log)?, None),
        };
        // What can't be written is not told of.
        let written = match known {
            Some(_) => Vec::new(),
            None => leaf(&entry)?,
        };
        let changed = match (&entry, first.filter(|first| !accepted.covers(first))) {
            (Entry::Pin(pin), Some(first)) => {
                let mut changed = changed(pin, &first);
                changed.packages = self.users(pin, &first, log);
                let changed = Entry::Divergence(changed);
                match (self.known(&changed, catalog, log)?, known) {
                    (Some(told), _) => Some(told),
                    // It was accepted when it was pinned.
                    (None, Some(Appended::Known(_))) => None,
                    // Before the pin, so that it is never there alone.
                    (None, _) => {
                        let leaf = leaf(&changed)?;
                        Some(self.push(changed, leaf))
                    }
                }
            }
            _ => None,
        };
        let appended = known.unwrap_or_else(|| self.push(entry, written));
        Ok(Pinned { appended, changed })
    }

    /// The packages that use a URL's first bytes, and those that use the others.
    fn users(&self, pin: &Pin, first: &Kept, log: &LogReader) -> Vec<String> {
        let batched = first.entry.checked_sub(self.next - self.entries.len() as u64);
        let of_first =
            match batched.and_then(|place| self.entries.get(usize::try_from(place).ok()?)) {
                Some(Entry::Pin(first)) => first.packages.clone(),
                // One that can't be read names nobody: whoever uses it is told all the same.
                _ => match log.entries(first.entry, first.entry.saturating_add(1)).next() {
                    Some(Ok((_, Entry::Pin(first)))) => first.packages,
                    _ => Vec::new(),
                },
            };
        let mut users = of_first;
        users.extend(pin.packages.iter().cloned());
        users.sort_unstable();
        users.dedup();
        users.truncate(DeclaredArchive::MAX_PACKAGES);
        users
    }

    fn push(&mut self, entry: Entry, leaf: Vec<u8>) -> Appended {
        let index = self.next;
        match &entry {
            Entry::Pin(pin) => {
                let kept = Kept { sha256: pin.sha256, size: pin.size, entry: index };
                self.pins.entry(pin.url.clone()).or_default().push(kept);
            }
            Entry::Divergence(divergence) => {
                self.divergences.insert(super::catalog::divergence_key(divergence), index);
            }
            _ => {}
        }
        self.leaves.push(leaf);
        self.entries.push(entry);
        self.next += 1;
        Appended::New(index)
    }

    /// What the ledger, or this batch, says already.
    fn known(
        &self,
        entry: &Entry,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Option<Appended>, IndexError> {
        match entry {
            Entry::Divergence(divergence) => {
                let key = super::catalog::divergence_key(divergence);
                let index = match self.divergences.get(&key) {
                    Some(index) => Some(*index),
                    None => replay::lookup(catalog, log, |catalog| catalog.divergence(divergence))?,
                };
                Ok(index.map(Appended::Known))
            }
            Entry::Decision(decision) => {
                let about = decision.divergence;
                let decided = replay::lookup(catalog, log, |catalog| catalog.decided(about))?;
                let known = decided.filter(|(state, _)| *state >= decision.action.state());
                Ok(known.map(|(_, index)| Appended::Known(index)))
            }
            Entry::Pin(_)
            | Entry::History(_)
            | Entry::Import(_)
            | Entry::Recheck(_)
            | Entry::Snapshot(_)
            | Entry::Key(_)
            | Entry::Other(_) => Ok(None),
        }
    }

    /// What the ledger, or this batch, says already of a pin, and the first pin of its URL where that
    /// is to other bytes.
    fn known_pin(
        &self,
        pin: &Pin,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<(Option<Appended>, Option<Kept>), IndexError> {
        let batch = self.pins.get(&pin.url).map_or(&[][..], Vec::as_slice);
        let first = replay::lookup(catalog, log, |catalog| catalog.pin(&pin.url))?;
        let Some(first) = first.or(batch.first().copied()) else { return Ok((None, None)) };
        if first.sha256 == pin.sha256 {
            return Ok((Some(Appended::Known(first.entry)), None));
        }
        let same = match batch.iter().find(|kept| kept.sha256 == pin.sha256) {
            Some(kept) => Some(*kept),
            None => replay::lookup(catalog, log, |catalog| catalog.pin_to(&pin.url, &pin.sha256))?,
        };
        let known = match (same, pin.strength) {
            (Some(kept), _) => Some(Appended::Known(kept.entry)),
            // Whoever asks for these bytes by a strong checksum can't be given others.
            (None, Strength::Strong) => None,
            (None, _) => Some(Appended::PinnedOtherwise(first)),
        };
        Ok((known, Some(first)))
    }
}

impl Accepted {
    /// Whether other bytes than the first ones are meant.
    fn covers(self, first: &Kept) -> bool {
        match self {
            Self::Never => false,
            Self::Over(bytes) => bytes == first.sha256,
        }
    }
}

/// What tells that a pin is not to the bytes that its URL was pinned to first.
fn changed(pin: &Pin, first: &Kept) -> Divergence {
    let bundle = pin.import.map(|entry| format!("; the bundle of entry {entry} has these"));
    let (entry, bundle) = (first.entry, bundle.unwrap_or_default());
    let detail = format!("pinned to other bytes by ledger entry {entry}{bundle}");
    Divergence::changed(pin, vec![format!("sha256={}", first.sha256)], detail)
}

fn leaf(entry: &Entry) -> Result<Vec<u8>, AppendError> {
    entry.to_leaf().map_err(|error| AppendError::Entry(Arc::new(error.into())))
}

fn answer(waiting: Vec<(Reply, Pinned)>, result: Result<(), AppendError>) {
    for (reply, outcome) in waiting {
        // Whoever asked may have gone; the entry stands all the same.
        let _ = reply.send(result.clone().map(|()| outcome));
    }
}

fn refuse(batch: Vec<Request>, error: ReplayError) {
    tracing::error!(%error, "the ledger can't be opened");
    let error = AppendError::from(error);
    for request in batch {
        let _ = request.reply.send(Err(error.clone()));
    }
}

/// Most entries in one append.
const MAX_BATCH: usize = 512;
/// How long the thread may take to end.
const END_PATIENCE: Duration = Duration::from_secs(5);
