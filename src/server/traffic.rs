//! What clients asked for hour by hour, kept over restarts, for the charts of the home page.

use super::{Current, Server};
use crate::store::durable;
use crate::store::layout::Layout;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The last days.
pub(super) struct Traffic {
    hours: Mutex<BTreeMap<i64, Hour>>,
}

/// One hour, of those that begin with the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hour {
    /// Archives that were here already.
    pub hits: u64,
    /// Archives that had to be fetched, or were under way.
    pub misses: u64,
    /// Archives that nobody was asked for.
    pub unasked: u64,
    /// Bytes of archives and indexes that were sent.
    pub bytes: u64,
}

impl Traffic {
    /// What was counted before; nothing where that can't be read.
    pub(super) fn read(layout: &Layout) -> Self {
        let read = std::fs::read(layout.traffic()).ok();
        let hours = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { hours: Mutex::new(hours.unwrap_or_default()) }
    }

    /// The last `count` hours, the oldest first; the last one is still going on.
    pub(super) fn hours(&self, now: Timestamp, count: i64) -> Vec<Hour> {
        let hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner);
        let last = hour_of(now);
        let of = |hour: i64| hours.get(&hour).copied().unwrap_or_default();
        (last - count + 1..=last).map(of).collect()
    }

    fn add(&self, now: Timestamp, more: Hour) {
        let mut hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner);
        let last = hour_of(now);
        let hour = hours.entry(last).or_default();
        hour.hits += more.hits;
        hour.misses += more.misses;
        hour.unasked += more.unasked;
        hour.bytes += more.bytes;
        hours.retain(|hour, _| *hour >= last - KEPT);
        // Hours that are to come are there when the clock was set back; they go one by one.
        if hours.len() as i64 > KEPT + 1 {
            hours.pop_last();
        }
    }

    fn write(&self, layout: &Layout) -> std::io::Result<()> {
        let hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner).clone();
        durable::write(&layout.traffic(), &serde_json::to_vec(&hours)?, 0o644)
    }
}

/// Takes over what the counters say, until `stop`.
pub(super) async fn follow(current: Arc<Current>, stop: CancellationToken) {
    let mut before = counted(&current.load());
    let mut written = Instant::now();
    loop {
        let is_over = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_ok();
        let now = counted(&current.load());
        let more = Hour {
            hits: now.hits - before.hits,
            misses: now.misses - before.misses,
            unasked: now.unasked - before.unasked,
            bytes: now.bytes - before.bytes,
        };
        if more != Hour::default() {
            let server = current.load();
            server.traffic.add(server.clock.now(), more);
        }
        before = now;
        if is_over || written.elapsed() >= WRITE_EVERY {
            written = Instant::now();
            let server = current.load_full();
            let write = move || server.traffic.write(server.keeper.store().layout());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
                tracing::warn!(%error, "what clients asked for can't be kept");
            }
        }
        if is_over {
            return;
        }
    }
}

fn counted(server: &Server) -> Hour {
    let tally = server.keeper.tally();
    Hour {
        hits: tally.hits.get(),
        misses: tally.misses.get() + tally.joined.get(),
        unasked: tally.unasked.get(),
        bytes: server.metrics.bytes_of_mirror(),
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60 * 60)
}

/// How many hours are kept.
const KEPT: i64 = 14 * 24;
const LOOK_EVERY: Duration = Duration::from_secs(10);
const WRITE_EVERY: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_added_up_and_only_so_many_are_kept() {
        let traffic = Traffic { hours: Mutex::default() };
        let at = |hour: i64| Timestamp::from_second(hour * 3_600 + 7).unwrap();
        let hit = Hour { hits: 1, ..Hour::default() };
        for hour in 0..KEPT + 10 {
            traffic.add(at(hour), hit);
            traffic.add(at(hour), Hour { bytes: 5, ..hit });
        }
        let hours = traffic.hours(at(KEPT + 10), 3);
        let full = Hour { hits: 2, bytes: 5, ..Hour::default() };
        assert_eq!(hours, [full, full, Hour::default()]);
        assert_eq!(traffic.hours.lock().unwrap().len() as i64, KEPT + 1);
        traffic.add(at(3), hit);
        let kept = traffic.hours.lock().unwrap().len() as i64;
        assert_eq!(kept, KEPT + 1, "a clock that was set back loses nothing but one hour");
    }
}
