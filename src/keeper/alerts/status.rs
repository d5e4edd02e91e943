//! How sinks stand, read from their queues: with or without a server.

use crate::config::Config;
use crate::store::layout::Layout;
use crate::store::outbox::{self, Outbox, Subject, Waiting};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one sink stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SinkStatus {
    /// The sink.
    pub sink: String,
    /// Where it leads, without anything secret; `None` when it is not configured any more.
    pub address: Option<String>,
    /// How many alerts the sink acknowledged.
    pub delivered: u64,
    /// How many alerts were given up because the sink refused them for days.
    pub given_up: u64,
    /// How many attempts failed since one last succeeded.
    pub failures: u32,
    /// Why the last attempt failed, if it did.
    pub problem: Option<String>,
    /// What waits; of very many, the first.
    pub waiting: Vec<WaitingStatus>,
}

/// An alert that waits.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WaitingStatus {
    /// What it tells, in a line.
    pub what: String,
    /// The ledger entry that it is about, if it is about one.
    pub entry: Option<u64>,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it will be tried again.
    pub next_at: Option<Timestamp>,
    /// Why the last attempt failed.
    pub problem: Option<String>,
}

/// How all sinks of a store stand: those that are configured, and others that something waits for.
pub fn of_store(layout: &Layout, config: &Config) -> Vec<SinkStatus> {
    let configured = config.alert.sinks();
    let mut sinks: Vec<SinkStatus> = configured
        .iter()
        .map(|(name, address)| of(name.as_str(), Some(address), &Outbox::at(layout, name.as_str())))
        .collect();
    for name in outbox::names(&layout.sinks()).unwrap_or_default() {
        if !configured.iter().any(|(configured, _)| configured.as_str() == name) {
            let left = of(&name, None, &Outbox::at(layout, &name));
            sinks.extend(Some(left).filter(|left| !left.waiting.is_empty()));
        }
    }
    sinks
}

pub(super) fn of(name: &str, address: Option<&str>, outbox: &Outbox) -> SinkStatus {
    let failed = |error: std::io::Error| (None, Some(error.to_string()));
    let (state, unread) = outbox.state().map_or_else(failed, |state| (state, None));
    let state = state.unwrap_or_default();
    let waiting = outbox.waiting().unwrap_or_default();
    SinkStatus {
        sink: name.to_owned(),
        address: address.map(str::to_owned),
        delivered: state.delivered,
        given_up: state.given_up,
        failures: state.failures,
        problem: unread.or(state.problem),
        waiting: waiting
            .into_iter()
            // While the sink as a whole is left alone, so is each of these.
            .map(|it| Waiting { next_at: it.next_at.max(state.quiet_until), ..it })
            .map(WaitingStatus::from)
            .collect(),
    }
}

impl From<Waiting> for WaitingStatus {
    fn from(waiting: Waiting) -> Self {
        let Waiting { subject, title: what, queued_at, attempts, next_at, problem } = waiting;
        let entry = match subject {
            Subject::Entry(index) => Some(index),
            Subject::Notice(..) => None,
        };
        Self { what, entry, queued_at, attempts, next_at, problem }
    }
}
