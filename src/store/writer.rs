//! The one writer: entries that arrive together share one append.

use super::catalog::Catalog;
use super::log::LogWriter;
use super::medium::LedgerMedium;
use super::replay::{self, ReplayError};
use super::round::{Accepted, AppendError, Pinned, Round};
use crate::ledger::entry::Entry;
use crate::ledger::note::Signer;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

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
        let (mut round, mut waiting) = (Round::new(log.size()), Vec::new());
        for Request { entry, accepted, reply } in batch {
            match round.take(entry, accepted, &self.catalog, log.reader()) {
                Ok(pinned) => waiting.push((reply, pinned)),
                // Whoever asked may have gone; then nobody needs the answer.
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        let Round { entries, leaves, .. } = round;
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
