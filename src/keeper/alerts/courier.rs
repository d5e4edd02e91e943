//! Delivers to one sink: takes up what the ledger has for it, tries, waits and tries again.
//!
//! The queue is on disk before the cursor moves, and an alert leaves it only after the sink took
//! it: a crash at any point loses none, and what is delivered twice has the same id. One that the
//! sink does not take gives way to those that were tried less often. A disk that can't be written
//! keeps nobody from being told: memory goes ahead, and the disk follows once it can.

use super::words::OVER;
use super::{MAX_NOTICES, Notice, Words};
use crate::clock::Clock;
use crate::keeper::divergences;
use crate::ledger::entry::Entry;
use crate::sink::{Alert, DeliveryError, Sink};
use crate::store::Store;
use crate::store::outbox::{Outbox, SinkState, Subject, Waiting};
use crate::upstream::backoff::Backoff;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
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
    inbox: mpsc::UnboundedReceiver<Notice>,
    state: SinkState,
    /// The state on disk; only the cursor in `state` is ahead of it where nothing was to be told.
    saved: SinkState,
    waiting: BTreeMap<String, Waiting>,
    /// The names of alerts that the disk does not have, or still has, other than `waiting` does.
    behind: BTreeSet<String>,
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
        inbox: mpsc::UnboundedReceiver<Notice>,
    ) -> Self {
        let (state, saved) = (SinkState::default(), SinkState::default());
        let (waiting, behind) = (BTreeMap::new(), BTreeSet::new());
        Self { sink, outbox, store, clock, words, inbox, state, saved, waiting, behind }
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
                    tracing::error!(sink = self.sink.name(), %error, "what waits can't be read");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                Ok(()) = growth.changed() => {}
                Some(notice) = self.inbox.recv() => self.add(notice),
            }
        }
    }

    /// Reads what waits, as the last run left it.
    async fn read(&mut self) -> io::Result<()> {
        let outbox = self.outbox.clone();
        let (state, waiting) =
            blocking(move || Ok((outbox.state()?.unwrap_or_default(), outbox.waiting()?))).await?;
        (self.saved, self.state) = (state.clone(), state);
        let notices = waiting.into_iter().map(|waiting| Notice { waiting, is_kept: true });
        notices.for_each(|notice| self.add(notice));
        Ok(())
    }

    fn add(&mut self, Notice { waiting, is_kept }: Notice) {
        let name = waiting.file_name();
        if !is_kept && self.waiting.len() >= MAX_NOTICES {
            return tracing::error!(sink = self.sink.name(), name, "too much waits already");
        }
        if !is_kept {
            self.behind.insert(name.clone());
        }
        self.waiting.entry(name).or_insert(waiting);
    }

    async fn turn(&mut self, stop: &CancellationToken) -> io::Result<Turn> {
        while let Ok(notice) = self.inbox.try_recv() {
            self.add(notice);
        }
        self.take_in().await?;
        self.save().await;
        let now = self.clock.exactly();
        if let Some(wait) = self.state.quiet_until.and_then(|until| left(until, now)) {
            return Ok(Turn::Wait(wait));
        }
        let is_due = |waiting: &&Waiting| waiting.next_at.is_none_or(|at| left(at, now).is_none());
        let is_next = |waiting: &&Waiting| is_due(waiting) && !self.has_to_wait(waiting, now);
        let order = |waiting: &&Waiting| (waiting.attempts, waiting.queued_at);
        let next = self.waiting.values().filter(is_next).min_by_key(order);
        let Some(next) = next.cloned() else {
            let waits = self.waiting.values().filter_map(|waiting| left(waiting.next_at?, now));
            return Ok(Turn::Wait(waits.min().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)));
        };
        let alert = match self.alert(&next.subject).await? {
            Some(alert) => alert,
            None => {
                tracing::info!(sink = self.sink.name(), "decided before it was told: not sent");
                self.remove(&next);
                return Ok(Turn::Again);
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
        self.note(next, &alert, delivered);
        self.save().await;
        Ok(Turn::Again)
    }

    /// Whether it tells that something is over whose beginning was not told yet, as far as that is not
    /// an alert that this sink never takes.
    fn has_to_wait(&self, waiting: &Waiting, now: Timestamp) -> bool {
        let name = waiting.file_name();
        let began = name.strip_suffix(OVER).and_then(|began| self.waiting.get(began));
        began.is_some_and(|began| !has_waited_long(began, now))
    }

    /// Queues what the ledger has gained, as far as there is room.
    async fn take_in(&mut self) -> io::Result<()> {
        let room = MAX_WAITING.saturating_sub(self.waiting.len());
        let (store, words, at) = (self.store.clone(), self.words.clone(), self.clock.now());
        let mut cursor = self.state.cursor;
        let taken = blocking(move || {
            let size = store.log().size().map_err(io::Error::other)?;
            let mut added = Vec::new();
            if cursor >= size || room == 0 {
                return Ok((cursor, added));
            }
            for entry in store.log().entries(cursor, size) {
                let (index, entry) = entry.map_err(io::Error::other)?;
                if let Some(alert) = words.of_entry(index, &entry, None)
                    && is_open(&store, index)?
                {
                    added.push(Waiting::new(Subject::Entry(index), alert.title, at));
                }
                cursor = index + 1;
                if added.len() >= room {
                    break;
                }
            }
            Ok((cursor, added))
        });
        let added;
        (self.state.cursor, added) = taken.await?;
        added.into_iter().for_each(|waiting| self.put(waiting));
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

    /// Notes what became of an attempt.
    fn note(&mut self, mut waiting: Waiting, alert: &Alert, delivered: Result<(), DeliveryError>) {
        let (sink, id) = (self.sink.name().to_owned(), &alert.id);
        let Err(error) = delivered else {
            tracing::info!(sink, id, alert = alert.kind, "alert delivered");
            self.remove(&waiting);
            self.state.delivered += 1;
            (self.state.failures, self.state.quiet_until, self.state.problem) = (0, None, None);
            return;
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
                return self.remove(&waiting);
            }
            DeliveryError::Refused { .. } => None,
            DeliveryError::Unavailable { retry_after, .. } => retry_after,
        };
        let retry_after = retry_after.map(|after| after.clamp(BACKOFF.first, BACKOFF.longest));
        let own = BACKOFF.wait(waiting.attempts.saturating_sub(1));
        waiting.next_at = after(now, retry_after.unwrap_or(own));
        self.state.quiet_until = after(now, retry_after.unwrap_or(pause));
        tracing::warn!(sink, id, reason, attempts = waiting.attempts, "alert not delivered");
        self.put(waiting);
    }

    fn put(&mut self, waiting: Waiting) {
        let name = waiting.file_name();
        self.behind.insert(name.clone());
        self.waiting.insert(name, waiting);
    }

    fn remove(&mut self, waiting: &Waiting) {
        let name = waiting.file_name();
        self.waiting.remove(&name);
        self.behind.insert(name);
    }

    /// Brings the disk up to what memory has, the queue before the state: the cursor on disk never
    /// passes an alert that is not there.
    async fn save(&mut self) {
        // A mirror under load gains entries all the time, and hardly any is told of.
        let SinkState { cursor, .. } = self.saved;
        let is_as_saved = SinkState { cursor, ..self.state.clone() } == self.saved;
        let unsaved = self.state.cursor.saturating_sub(cursor);
        if self.behind.is_empty() && is_as_saved && unsaved < ENTRIES_BETWEEN_SAVES {
            return;
        }
        let change = |name: &String| (name.clone(), self.waiting.get(name).cloned());
        let changes: Vec<(String, Option<Waiting>)> = self.behind.iter().map(change).collect();
        let (outbox, state) = (self.outbox.clone(), self.state.clone());
        let saving = tokio::task::spawn_blocking(move || {
            let mut done = BTreeSet::new();
            for (name, waiting) in changes {
                let changed = match waiting {
                    Some(waiting) => outbox.put(&waiting),
                    None => outbox.remove(&name),
                };
                match changed {
                    Ok(()) => {
                        done.insert(name);
                    }
                    Err(error) => return (done, Err(error)),
                }
            }
            let saved = outbox.set_state(&state);
            (done, saved.map(|()| state))
        });
        let (done, saved) = match saving.await {
            Ok(saving) => saving,
            Err(error) => (BTreeSet::new(), Err(io::Error::other(error))),
        };
        self.behind.retain(|name| !done.contains(name));
        match saved {
            Ok(state) => self.saved = state,
            Err(error) => {
                let sink = self.sink.name();
                tracing::error!(sink, %error, "what waits is in memory only");
            }
        }
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

/// How long it is until a time; `None` when that has come. One that is further away than any wait
/// may be was set by a clock that was ahead then, and has come.
fn left(until: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(until.duration_since(now)).ok()?;
    Some(left).filter(|left| !left.is_zero() && *left <= BACKOFF.longest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_a_clock_set_which_was_ahead_is_not_waited_for() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        for (until, expected) in
            [(-1, None), (0, None), (1, Some(1)), (3_600, Some(3_600)), (31_536_000, None)]
        {
            assert_eq!(left(at(until), at(0)), expected.map(Duration::from_secs), "{until}");
        }
    }
}
