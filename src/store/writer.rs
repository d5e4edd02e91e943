//! The one writer: entries that arrive together share one append, and the first pin of a URL
//! stands; only what a strong checksum vouches for is pinned beside it.

use super::catalog::{Catalog, IndexError, Kept};
use super::log::{LogError, LogReader, LogWriter};
use super::medium::LedgerMedium;
use super::replay::{self, ReplayError};
use crate::digest::Sha256;
use crate::ledger::entry::{Entry, Pin, Strength};
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
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

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

    /// Appends an entry; resolves once it is durable.
    pub(super) async fn append(&self, entry: Entry) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(AppendError::Closed)?;
        requests.send(Request { entry, reply }).map_err(|_| AppendError::Closed)?;
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
    waiting: Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>,
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
        let Request { entry, reply } = request;
        let leaf = match self.known(&entry, catalog, log).map_err(AppendError::from) {
            Ok(Some(outcome)) => return self.waiting.push((reply, outcome)),
            Ok(None) => entry.to_leaf().map_err(|error| AppendError::Entry(Arc::new(error.into()))),
            Err(error) => Err(error),
        };
        let leaf = match leaf {
            Ok(leaf) => leaf,
            // Whoever asked may have gone; then nobody needs the answer.
            Err(error) => return drop(reply.send(Err(error))),
        };
        match &entry {
            Entry::Pin(pin) => {
                let kept = Kept { sha256: pin.sha256, size: pin.size, entry: self.next };
                self.pins.entry(pin.url.clone()).or_default().push(kept);
            }
            Entry::Divergence(divergence) => {
                self.divergences.insert(super::catalog::divergence_key(divergence), self.next);
            }
            _ => {}
        }
        self.waiting.push((reply, Appended::New(self.next)));
        self.leaves.push(leaf);
        self.entries.push(entry);
        self.next += 1;
    }

    /// What the ledger, or this batch, says already.
    fn known(
        &self,
        entry: &Entry,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Option<Appended>, IndexError> {
        match entry {
            Entry::Pin(pin) => self.known_pin(pin, catalog, log),
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
            Entry::History(_)
            | Entry::Import(_)
            | Entry::Recheck(_)
            | Entry::Snapshot(_)
            | Entry::Key(_)
            | Entry::Other(_) => Ok(None),
        }
    }

    fn known_pin(
        &self,
        pin: &Pin,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Option<Appended>, IndexError> {
        let batch = self.pins.get(&pin.url).map_or(&[][..], Vec::as_slice);
        let same = match batch.iter().find(|kept| kept.sha256 == pin.sha256) {
            Some(kept) => Some(*kept),
            None => replay::lookup(catalog, log, |catalog| catalog.pin_to(&pin.url, &pin.sha256))?,
        };
        if let Some(kept) = same {
            return Ok(Some(Appended::Known(kept.entry)));
        }
        // Whoever asks for these bytes by a strong checksum can't be given others.
        if pin.strength == Strength::Strong {
            return Ok(None);
        }
        let first = replay::lookup(catalog, log, |catalog| catalog.pin(&pin.url))?;
        Ok(first.or(batch.first().copied()).map(Appended::PinnedOtherwise))
    }
}

fn answer(
    waiting: Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>,
    result: Result<(), AppendError>,
) {
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
