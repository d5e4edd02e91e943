//! Delivers to one sink: takes up what the ledger has for it, tries, waits and tries again.
//!
//! The queue is on disk before the cursor moves, and an alert leaves it only after the sink took
//! it: a crash at any point loses none, and what is delivered twice has the same id. One that the
//! sink does not take gives way to those that were tried less often.

use super::Words;
use crate::clock::Clock;
use crate::keeper::divergences;
use crate::ledger::entry::Entry;
use crate::sink::{Alert, DeliveryError, Sink};
use crate::store::Store;
use crate::store::outbox::{Outbox, SinkState, Subject, Waiting};
use crate::upstream::backoff::Backoff;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The one task that delivers to a sink.
pub(in crate::keeper) struct Courier {
    sink: Arc<Sink>,
    outbox: Outbox,
    store: Store,
    clock: Clock,
    words: Words,
    inbox: mpsc::UnboundedReceiver<Waiting>,
    state: SinkState,
    /// The cursor on disk; the one in `state` is ahead of it where nothing was to be told.
    saved: u64,
    waiting: BTreeMap<String, Waiting>,
}

/// What a turn ended with.
enum Turn {
    /// There may be more to do at once.
    Again,
    /// Nothing to do for so long, unless something happens.
    Wait(Duration),
    /// The server stops.
    Over,
}

impl Courier {
    pub(super) fn new(
        sink: Arc<Sink>,
        outbox: Outbox,
        store: Store,
        clock: Clock,
        words: Words,
        inbox: mpsc::UnboundedReceiver<Waiting>,
    ) -> Self {
        let (state, waiting) = (SinkState::default(), BTreeMap::new());
        Self { sink, outbox, store, clock, words, inbox, state, saved: 0, waiting }
    }

    /// Delivers until `stop`.
    pub(in crate::keeper) async fn run(mut self, stop: CancellationToken) {
        let mut growth = self.store.growth();
        let mut is_read = false;
        while !stop.is_cancelled() {
            growth.mark_unchanged();
            let turn = match is_read {
                true => self.turn(&stop).await,
                false => self.read().await.map(|()| Turn::Again),
            };
            let wait = match turn {
                Ok(Turn::Again) => {
                    is_read = true;
                    continue;
                }
                Ok(Turn::Over) => return,
                Ok(Turn::Wait(wait)) => wait,
                Err(error) => {
                    tracing::error!(sink = self.sink.name(), %error, "what waits can't be kept");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                Ok(()) = growth.changed() => {}
                Some(waiting) = self.inbox.recv() => self.add(waiting),
            }
        }
    }

    /// Reads what waits, as the last run left it.
    async fn read(&mut self) -> io::Result<()> {
        let outbox = self.outbox.clone();
        let (state, waiting) =
            blocking(move || Ok((outbox.state()?.unwrap_or_default(), outbox.waiting()?))).await?;
        (self.saved, self.state) = (state.cursor, state);
        waiting.into_iter().for_each(|waiting| self.add(waiting));
        Ok(())
    }

    fn add(&mut self, waiting: Waiting) {
        self.waiting.entry(waiting.file_name()).or_insert(waiting);
    }

    async fn turn(&mut self, stop: &CancellationToken) -> io::Result<Turn> {
        while let Ok(waiting) = self.inbox.try_recv() {
            self.add(waiting);
        }
        self.take_in().await?;
        let now = self.clock.exactly();
        if let Some(wait) = self.state.quiet_until.and_then(|until| left(until, now)) {
            return Ok(Turn::Wait(wait));
        }
        let is_due = |waiting: &&Waiting| waiting.next_at.is_none_or(|at| left(at, now).is_none());
        let next = self.waiting.values().filter(is_due).min_by_key(|waiting| waiting.attempts);
        let Some(next) = next.cloned() else {
            let waits = self.waiting.values().filter_map(|waiting| left(waiting.next_at?, now));
            return Ok(Turn::Wait(waits.min().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)));
        };
        let alert = match self.alert(&next.subject).await? {
            Some(alert) => alert,
            None => {
                tracing::info!(sink = self.sink.name(), "decided before it was told: not sent");
                return self.remove(next).await.map(|()| Turn::Again);
            }
        };
        let sink = Arc::clone(&self.sink);
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_CHANCE).await;
        };
        let delivered = tokio::select! {
            delivered = sink.deliver(&alert) => delivered,
            () = stopped => return Ok(Turn::Over),
        };
        self.note(next, &alert, delivered).await
    }

    /// Queues what the ledger has gained, as far as there is room.
    async fn take_in(&mut self) -> io::Result<()> {
        let room = MAX_WAITING.saturating_sub(self.waiting.len());
        let (store, outbox) = (self.store.clone(), self.outbox.clone());
        let (words, at, mut state) = (self.words.clone(), self.clock.now(), self.state.clone());
        let mut saved = self.saved;
        let taken = blocking(move || {
            let size = store.log().size().map_err(io::Error::other)?;
            let mut added = Vec::new();
            if state.cursor >= size || room == 0 {
                return Ok((state, saved, added));
            }
            let from = state.cursor;
            for entry in store.log().entries(from, size) {
                let (index, entry) = entry.map_err(io::Error::other)?;
                if let Some(alert) = words.of_entry(index, &entry, None)
                    && is_open(&store, index)?
                {
                    let waiting = Waiting::new(Subject::Entry(index), alert.title, at);
                    outbox.put(&waiting)?;
                    added.push(waiting);
                }
                state.cursor = index + 1;
                if added.len() >= room {
                    break;
                }
            }
            // A mirror under load gains entries all the time, and hardly any is told of.
            let unsaved = state.cursor.saturating_sub(saved);
            if !added.is_empty() || unsaved >= ENTRIES_BETWEEN_SAVES {
                outbox.set_state(&state)?;
                saved = state.cursor;
            }
            Ok((state, saved, added))
        });
        let added;
        (self.state, self.saved, added) = taken.await?;
        added.into_iter().for_each(|waiting| self.add(waiting));
        Ok(())
    }

    /// The alert itself; `None` when someone has decided about what it tells.
    async fn alert(&self, subject: &Subject) -> io::Result<Option<Alert>> {
        match subject.clone() {
            Subject::Notice(_, alert) => match serde_json::from_value(alert) {
                Ok(alert) => Ok(Some(alert)),
                Err(error) => {
                    tracing::error!(sink = self.sink.name(), %error, "a queued alert is damaged");
                    Ok(None)
                }
            },
            Subject::Entry(index) => {
                let (store, words) = (self.store.clone(), self.words.clone());
                blocking(move || {
                    if !is_open(&store, index)? {
                        return Ok(None);
                    }
                    let size = store.log().size().map_err(io::Error::other)?;
                    let mut entries = store.log().entries(index, size.min(index + 1));
                    let entry = entries.next().transpose().map_err(io::Error::other)?;
                    Ok(entry.and_then(|(index, entry)| {
                        let explanation = explanation(&store, &entry);
                        words.of_entry(index, &entry, explanation.as_deref())
                    }))
                })
                .await
            }
        }
    }

    /// Notes on disk what became of an attempt.
    async fn note(
        &mut self,
        mut waiting: Waiting,
        alert: &Alert,
        delivered: Result<(), DeliveryError>,
    ) -> io::Result<Turn> {
        let (sink, id) = (self.sink.name().to_owned(), &alert.id);
        let Err(error) = delivered else {
            tracing::info!(sink, id, alert = alert.kind, "alert delivered");
            self.remove(waiting).await?;
            self.state.delivered += 1;
            (self.state.failures, self.state.quiet_until, self.state.problem) = (0, None, None);
            return self.save_state().await.map(|()| Turn::Again);
        };
        let now = self.clock.exactly();
        let reason = error.to_string();
        waiting.attempts = waiting.attempts.saturating_add(1);
        waiting.problem = Some(reason.clone());
        self.state.problem = Some(reason.clone());
        let pause = BACKOFF.wait(self.state.failures);
        self.state.failures = self.state.failures.saturating_add(1);
        let retry_after = match error {
            DeliveryError::Refused { .. } if has_waited_long(&waiting, now) => {
                tracing::error!(sink, id, alert = alert.kind, reason, "alert given up");
                self.state.given_up += 1;
                self.remove(waiting).await?;
                return self.save_state().await.map(|()| Turn::Again);
            }
            DeliveryError::Refused { .. } => None,
            DeliveryError::Unavailable { retry_after, .. } => retry_after,
        };
        let retry_after = retry_after.map(|after| after.clamp(BACKOFF.first, BACKOFF.longest));
        let own = BACKOFF.wait(waiting.attempts.saturating_sub(1));
        waiting.next_at = after(now, retry_after.unwrap_or(own));
        self.state.quiet_until = after(now, retry_after.unwrap_or(pause));
        tracing::warn!(sink, id, reason, attempts = waiting.attempts, "alert not delivered");
        self.save(&waiting).await?;
        self.waiting.insert(waiting.file_name(), waiting);
        self.save_state().await.map(|()| Turn::Again)
    }

    async fn remove(&mut self, waiting: Waiting) -> io::Result<()> {
        self.waiting.remove(&waiting.file_name());
        let outbox = self.outbox.clone();
        blocking(move || outbox.remove(&waiting)).await
    }

    async fn save(&self, waiting: &Waiting) -> io::Result<()> {
        let (outbox, waiting) = (self.outbox.clone(), waiting.clone());
        blocking(move || outbox.put(&waiting)).await
    }

    async fn save_state(&self) -> io::Result<()> {
        let (outbox, state) = (self.outbox.clone(), self.state.clone());
        blocking(move || outbox.set_state(&state)).await
    }
}

/// Whether nobody has decided about a divergence.
fn is_open(store: &Store, index: u64) -> io::Result<bool> {
    let decided = store.lookup(|catalog| catalog.decided(index)).map_err(io::Error::other)?;
    Ok(decided.is_none())
}

/// Why the bytes of a divergence are not the expected ones, where both are kept.
fn explanation(store: &Store, entry: &Entry) -> Option<String> {
    let Entry::Divergence(divergence) = entry else { return None };
    let pinned = |expected: &[_]| divergences::pinned_in(store, expected);
    let explained = divergences::explain(&pinned, store.blobs(), divergence);
    explained.ok().flatten().map(|explanation| explanation.to_string())
}

fn has_waited_long(waiting: &Waiting, now: Timestamp) -> bool {
    now.duration_since(waiting.queued_at) > GIVE_UP_AFTER
}

/// How long it is until a time; `None` when that has come. A clock that was set back does not make
/// it longer than any wait may be.
fn left(until: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(until.duration_since(now)).ok()?;
    Some(left.min(BACKOFF.longest)).filter(|left| !left.is_zero())
}

fn after(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.checked_add(wait).ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The wait after a failed attempt: half of it by chance, twice as long each time.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60 * 60) };
/// How long a sink may refuse an alert before it is given up.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(3 * 24);
/// How long an attempt may go on once the server stops.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// How many entries are looked through again after a crash, at most.
const ENTRIES_BETWEEN_SAVES: u64 = 1_024;
/// How often the ledger is looked at without being told to.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Most alerts in a queue: what the ledger has beyond them waits there.
const MAX_WAITING: usize = 256;
