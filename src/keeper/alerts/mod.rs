//! Alerts: what people are told, and that every sink is told each thing once (promise G4).
//!
//! The ledger is the source of what is told of upstream: each sink has a cursor in it and a queue
//! on disk (`courier`). What is wrong here, and may pass, is a [`Condition`]: told when it begins
//! and when it is over. `words` says it all in words, `watch` looks for conditions.

mod condition;
mod courier;
mod status;
mod watch;
mod words;

pub use condition::Condition;
pub(super) use condition::stale_index;
pub use status::{SinkStatus, WaitingStatus, of_store};
pub use words::Words;

use crate::clock::Clock;
use crate::config::Config;
use crate::sink::{Alert, Sink, SinkError};
use crate::store::Store;
use crate::store::layout::Layout;
use crate::store::outbox::{self, Outbox, SinkState, Subject, Waiting};
use condition::Raised;
use courier::Courier;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use thiserror::Error;
use tokio::sync::mpsc;

/// Everything that is told to people; owned by the keeper.
pub struct Alerts {
    layout: Layout,
    clock: Clock,
    words: Words,
    stale_after: std::time::Duration,
    queues: Vec<Queue>,
    /// What is wrong at present and was told, by its key.
    raised: RwLock<BTreeMap<String, Raised>>,
    /// When each upstream last gave a good index, as the disk has it.
    fresh: Mutex<BTreeMap<String, Timestamp>>,
}

/// One sink, and how notices get to the task that delivers to it.
struct Queue {
    sink: Arc<Sink>,
    outbox: Outbox,
    notices: mpsc::UnboundedSender<Notice>,
    /// Until the task takes it.
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Notice>>>,
}

/// An alert on its way to the task that delivers it.
struct Notice {
    waiting: Waiting,
    /// Whether it is in the queue on disk.
    is_kept: bool,
}

/// Why alerts can't be sent.
#[derive(Debug, Error)]
pub enum AlertsError {
    /// A sink can't be set up.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// What waits can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Alerts {
    /// Takes up every sink's queue where it stood; delivers nothing yet.
    ///
    /// A sink that is new begins at the ledger's present end.
    ///
    /// # Errors
    /// When a sink can't be set up, or its queue can't be read.
    pub fn open(config: &Config, store: &Store, clock: &Clock) -> Result<Self, AlertsError> {
        let layout = store.layout();
        let io = |path: &std::path::Path| {
            let path = path.display().to_string();
            move |source| AlertsError::Io { path, source }
        };
        let words = Words::new(store.log().verifier(), &config.server);
        let mut queues = Vec::new();
        for sink in Sink::all(config)? {
            let outbox = Outbox::at(layout, sink.name());
            begin(&sink, &outbox, store).map_err(io(&layout.sinks()))?;
            let (notices, inbox) = mpsc::unbounded_channel();
            let (sink, inbox) = (Arc::new(sink), Mutex::new(Some(inbox)));
            queues.push(Queue { sink, outbox, notices, inbox });
        }
        let alerts = Self {
            layout: layout.clone(),
            clock: clock.clone(),
            words,
            stale_after: config.alert.stale_after.get(),
            queues,
            raised: RwLock::default(),
            fresh: Mutex::new(watch::freshness(layout)),
        };
        let names: Vec<&str> = config.repository.iter().map(|it| it.name.as_str()).collect();
        alerts.take_up_conditions(&names).map_err(io(&layout.conditions()))?;
        Ok(alerts)
    }

    /// The tasks that deliver, one for each sink; they are handed out once.
    pub(super) fn couriers(&self, store: &Store) -> Vec<Courier> {
        let mut couriers = Vec::new();
        for Queue { sink, outbox, inbox, .. } in &self.queues {
            if let Some(inbox) = inbox.lock().unwrap_or_else(PoisonError::into_inner).take() {
                let (sink, outbox) = (Arc::clone(sink), outbox.clone());
                let (clock, words) = (self.clock.clone(), self.words.clone());
                couriers.push(Courier::new(sink, outbox, store.clone(), clock, words, inbox));
            }
        }
        couriers
    }

    /// When an upstream last gave a good index, as far as the disk knows.
    pub fn fresh_at(&self, repository: &str) -> Option<Timestamp> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).get(repository).copied()
    }

    /// How the sinks stand.
    pub fn status(&self) -> Vec<SinkStatus> {
        let sinks = self.queues.iter().map(|queue| {
            let sink = &queue.sink;
            status::of(sink.name(), Some(sink.address()), &queue.outbox)
        });
        sinks.collect()
    }

    /// Queues an alert for every sink: on disk when this returns, or else in memory.
    fn queue(&self, alert: &Alert) {
        let stored = match serde_json::to_value(alert) {
            Ok(stored) => stored,
            Err(error) => return tracing::error!(%error, "an alert can't be written down"),
        };
        for queue in &self.queues {
            let sink = queue.sink.name();
            match queue.outbox.count() {
                Ok(count) if count >= MAX_NOTICES => {
                    tracing::error!(sink, alert = alert.id, "too much waits already");
                    continue;
                }
                Ok(_) => {}
                Err(error) => tracing::error!(sink, %error, "what waits can't be counted"),
            }
            let subject = Subject::Notice(alert.id.clone(), stored.clone());
            let waiting = Waiting::new(subject, alert.title.clone(), self.clock.now());
            let kept = queue.outbox.put(&waiting);
            if let Err(error) = &kept {
                tracing::error!(sink, alert = alert.id, %error, "an alert waits in memory only");
            }
            // A server that stops takes up at its next start what is kept.
            let _ = queue.notices.send(Notice { waiting, is_kept: kept.is_ok() });
        }
    }
}

/// Makes a sink's queue, and has a new one begin at the ledger's present end.
fn begin(sink: &Sink, outbox: &Outbox, store: &Store) -> io::Result<()> {
    outbox.create()?;
    let ledger = store.log().verifier().to_string();
    let size = store.log().size().map_err(io::Error::other)?;
    let state = outbox.state().unwrap_or_else(|error| {
        tracing::error!(sink = sink.name(), %error, "how far it was told is not known any more");
        None
    });
    match state.filter(|state| state.ledger == ledger) {
        // The ledger was restored from a backup.
        Some(state) if state.cursor > size => {
            outbox.set_state(&SinkState { cursor: size, ..state })
        }
        Some(_) => Ok(()),
        None => {
            let open = store.lookup(|catalog| catalog.open_divergences()).unwrap_or_default();
            tracing::info!(
                sink = sink.name(),
                open,
                "alerts begin now; what was open before is in opam-keep divergences"
            );
            outbox.set_state(&SinkState { ledger, cursor: size, ..SinkState::default() })
        }
    }
}

/// Most alerts that wait for one sink when a condition is to be told.
const MAX_NOTICES: usize = 2_048;

fn write_condition(layout: &Layout, key: &str, raised: &Raised) -> io::Result<()> {
    outbox::write(&layout.conditions().join(key), raised)
}
