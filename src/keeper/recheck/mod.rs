//! Rechecks: every pinned URL is fetched again, in full, on a schedule or when a person asks.
//!
//! An ETag or a length proves nothing, so the bytes are compared. What comes of a URL is in the
//! ledger whenever it is not what came of it before; other bytes are a divergence, with evidence.
//! Rechecks are polite: one at a time with each host, a few at a time in all, under one bandwidth.

mod bandwidth;
mod check;
mod note;
mod schedule;
mod selection;

pub(super) use bandwidth::Bandwidth;
pub use check::{Asker, CheckError, Checked};
pub use selection::{Selection, SelectionError};

use super::Keeper;
use crate::config;
use crate::ledger::entry::Outcome;
use crate::places::Places;
use crate::store::catalog::{IndexError, Last, Rechecks, Subject};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;

/// What rechecks have in common; owned by the keeper.
pub(super) struct Rechecking {
    /// One round of all subjects, in seconds.
    every: i64,
    bandwidth: Bandwidth,
    counts: Arc<Counts>,
}

/// What was counted since the start.
#[derive(Default)]
struct Counts {
    /// What came of the rechecks, in the order of [`Outcome::ALL`].
    done: [AtomicU64; Outcome::ALL.len()],
    bytes: AtomicU64,
}

/// How rechecks stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecheckStatus {
    /// How many URLs there are of each last outcome; those that were not rechecked yet are of none.
    pub urls: BTreeMap<Outcome, u64>,
    /// How many URLs are due now.
    pub due: u64,
    /// Since when the longest due one is due.
    pub due_since: Option<Timestamp>,
    /// Whether one is due for longer than a whole round.
    pub behind: bool,
    /// How many rechecks ended how since the start.
    pub done: BTreeMap<Outcome, u64>,
    /// How many bytes they took.
    pub bytes: u64,
}

impl Rechecking {
    pub(super) fn new(settings: &config::Recheck) -> Self {
        let every = i64::try_from(settings.every.get().as_secs()).unwrap_or(i64::MAX).max(1);
        Self {
            every,
            bandwidth: Bandwidth::new(settings.bandwidth.bytes_per_second()),
            counts: Arc::default(),
        }
    }

    /// The same by other settings, going on with the counts.
    pub(super) fn by(&self, settings: &config::Recheck) -> Self {
        Self { counts: Arc::clone(&self.counts), ..Self::new(settings) }
    }

    fn count(&self, outcome: Outcome, bytes: u64) {
        let place = Outcome::ALL.iter().position(|it| *it == outcome);
        if let Some(count) = place.and_then(|place| self.counts.done.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Keeper {
    /// How rechecks stand.
    ///
    /// # Errors
    /// When the catalog fails and can't be rebuilt.
    pub async fn rechecks(&self) -> Result<RecheckStatus, IndexError> {
        let Rechecks { all_due, due_since, outcomes, .. } = self.rechecks_now().await?;
        let at = |seconds| Timestamp::from_second(seconds).ok();
        let now = self.clock.now().as_second();
        let done = Outcome::ALL.into_iter().zip(&self.rechecking.counts.done);
        Ok(RecheckStatus {
            urls: outcomes,
            due: all_due,
            due_since: due_since.and_then(at),
            behind: due_since.is_some_and(|since| now - since > self.rechecking.every),
            done: done.map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed))).collect(),
            bytes: self.rechecking.counts.bytes.load(Ordering::Relaxed),
        })
    }

    /// Rechecks `subjects`, and tells what came of every one as it is done.
    ///
    /// Subjects of one host come one after the other, in their order; nothing is asked any more
    /// once the stream is dropped.
    pub fn recheck(
        self: &Arc<Self>,
        subjects: Vec<(Subject, Last)>,
        asker: Asker,
    ) -> BoxStream<'static, Result<Checked, CheckError>> {
        let mut hosts: BTreeMap<String, Vec<(Subject, Last)>> = BTreeMap::new();
        for (subject, last) in subjects {
            hosts.entry(host(&subject.url)).or_default().push((subject, last));
        }
        let keeper = Arc::clone(self);
        let of_host = move |subjects: Vec<(Subject, Last)>| {
            let keeper = Arc::clone(&keeper);
            let check = move |(subject, last)| {
                let keeper = Arc::clone(&keeper);
                async move { keeper.check(subject, last, asker).await }
            };
            stream::iter(subjects).then(check).boxed()
        };
        let hosts = stream::iter(hosts.into_values().map(of_host));
        self.tasks.stream(hosts.flatten_unordered(HOSTS_AT_A_TIME))
    }

    /// Whose turn it is; at most `most` of them are named.
    async fn round(&self, most: usize) -> Result<Rechecks, IndexError> {
        let round = tokio::task::spawn_blocking(self.looking_at_rechecks(most));
        round.await.unwrap_or_else(|error| Err(IndexError::new(error.to_string())))
    }

    /// How all of them stand, for whoever asks.
    async fn rechecks_now(&self) -> Result<Rechecks, IndexError> {
        let stand = LOOKING.work(self.looking_at_rechecks(0)).await;
        stand.unwrap_or_else(|error| Err(IndexError::new(error.to_string())))
    }

    /// Reads the whole table.
    fn looking_at_rechecks(
        &self,
        most: usize,
    ) -> impl FnOnce() -> Result<Rechecks, IndexError> + Send + use<> {
        let (store, every) = (self.store.clone(), self.rechecking.every);
        let now = self.clock.now().as_second();
        move || store.lookup(|catalog| catalog.rechecks(now, every, most))
    }
}

fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

static LOOKING: Places = Places::new(1);

/// Hosts that are asked at one time.
const HOSTS_AT_A_TIME: usize = 4;
