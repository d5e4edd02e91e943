//! Looks for conditions: a store that keeps nothing new, upstreams that give no good index, blobs
//! that are damaged, rechecks that can't keep up.

use super::condition::{self, Condition};
use super::outbox;
use crate::digest::Sha256;
use crate::keeper::Keeper;
use crate::store::blobs::BlobError;
use crate::store::layout::Layout;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

impl Keeper {
    /// Looks for conditions for as long as it runs.
    pub(in crate::keeper) async fn watch_conditions(self: &Arc<Self>) {
        let pause = (self.alerts.stale_after / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let mut looks = 0_u64;
        loop {
            tokio::time::sleep(pause).await;
            let keeper = Arc::clone(self);
            // It writes to disk; a panic in there is told by the runtime.
            let look = move || {
                keeper.look_at_store();
                keeper.look_at_upstreams();
            };
            let _ = tokio::task::spawn_blocking(look).await;
            if looks.is_multiple_of(LOOKS_BETWEEN_ROUNDS) && !self.is_offline {
                self.look_at_rechecks().await;
            }
            looks = looks.wrapping_add(1);
        }
    }

    /// Notes what reading a pinned blob said. Blocks while an alert is written.
    pub fn note_blob<T>(&self, name: &Sha256, read: &Result<T, BlobError>) {
        match read {
            Ok(_) => self.alerts.clear(&condition::damaged_blob(name)),
            Err(error @ (BlobError::Damaged { .. } | BlobError::Missing(_))) => {
                let problem = error.to_string();
                self.alerts.raise(&Condition::DamagedBlob { sha256: *name, problem });
            }
            // What can't be read now need not be damaged.
            Err(BlobError::Io { .. }) => {}
        }
    }

    /// Hashes these blobs and those that were found damaged before, and says how many are wrong.
    pub async fn look_at_blobs(self: &Arc<Self>, mut names: Vec<Sha256>) -> usize {
        names.extend(self.alerts.damaged_blobs());
        names.sort_unstable();
        names.dedup();
        let keeper = Arc::clone(self);
        let look = move || {
            let blobs = keeper.store.blobs();
            let is_wrong = |name: &&Sha256| {
                let read = blobs.sha256(name).and_then(|(found, _)| match found == **name {
                    true => Ok(()),
                    false => Err(BlobError::Damaged { name: **name, found }),
                });
                keeper.note_blob(name, &read);
                read.is_err()
            };
            names.iter().filter(is_wrong).count()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    fn look_at_store(&self) {
        let blobs = self.store.blobs();
        blobs.try_out();
        match blobs.problem() {
            Some(problem) => self.alerts.raise(&Condition::UnwritableStore { problem }),
            None => {
                self.alerts.clear(condition::UNWRITABLE_STORE);
                // What could not be kept need not wait any longer.
                self.negative.forget_store_failures();
            }
        }
    }

    /// Keeps when each upstream was fresh, and tells of those that are not any more. Blocking.
    pub(in crate::keeper) fn look_at_upstreams(&self) {
        let now = self.clock.now();
        let mut fresh = self.alerts.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fresh.clone();
        for repository in &self.repositories {
            let (name, health) = (repository.name(), repository.health());
            // What was admitted and never heard of since was good when it was admitted. A time that lies
            // ahead is of a clock that went back since, and says nothing.
            let is_over = |at: &Timestamp| *at <= now;
            let admitted = repository.served().map(|served| served.snapshot.at).filter(is_over);
            let since = fresh.entry(name.to_owned()).or_insert(admitted.unwrap_or(now));
            let fresh_at = health.fresh_at.filter(is_over);
            *since = fresh_at.map_or(*since, |at| at.max(*since)).min(now);
            // One refresh that fails says nothing.
            let bound = self.alerts.stale_after.max(repository.settings().refresh.get() * 2);
            let bound = SignedDuration::try_from(bound).unwrap_or(SignedDuration::MAX);
            // Whoever may not ask misses nothing.
            let is_asked = !self.is_offline || repository.source.is_local();
            let is_stale = is_asked && now.duration_since(*since) > bound;
            // After a long sleep of ours, or a jump of the clock, upstream is asked first.
            let was_asked = health.asked_at.is_some_and(|at| at.duration_since(*since) > bound);
            if is_stale && was_asked {
                let (repository, since) = (name.to_owned(), *since);
                let problem = health.problem;
                self.alerts.raise(&Condition::StaleIndex { repository, since, problem });
            } else if !is_stale {
                self.alerts.clear(&condition::stale_index(name));
            }
        }
        if *fresh == before {
            return;
        }
        let path = self.store.layout().freshness();
        if let Err(error) = outbox::write(&path, &*fresh) {
            tracing::error!(%error, "when upstreams were last fresh can't be written down");
        }
    }

    async fn look_at_rechecks(self: &Arc<Self>) {
        // A catalog that fails says so wherever it is asked.
        let Ok(rechecks) = self.rechecks().await else { return };
        let keeper = Arc::clone(self);
        let tell = move || match rechecks.behind {
            true => keeper.alerts.raise(&Condition::RecheckBehind { since: rechecks.due_since }),
            false => keeper.alerts.clear(condition::RECHECK_BEHIND),
        };
        let _ = tokio::task::spawn_blocking(tell).await;
    }
}

/// When each upstream last gave a good index, as far as the disk knows.
pub(super) fn freshness(layout: &Layout) -> BTreeMap<String, Timestamp> {
    outbox::read(&layout.freshness()).ok().flatten().unwrap_or_default()
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Rechecks are looked at less often: it reads a whole table.
const LOOKS_BETWEEN_ROUNDS: u64 = 15;
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
