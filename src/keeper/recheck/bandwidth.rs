//! How fast all rechecks together take bytes from upstreams.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A bound on bytes a second, shared by everyone who takes from it.
#[derive(Debug)]
pub(in crate::keeper) struct Bandwidth {
    per_second: NonZeroU64,
    /// When everything that was taken so far would have come at that rate.
    paid_until: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub(super) fn new(per_second: NonZeroU64) -> Self {
        Self { per_second, paid_until: Mutex::new(None) }
    }

    /// Waits until `bytes` that were just received fit under the bound.
    pub(in crate::keeper) async fn take(&self, bytes: usize) {
        tokio::time::sleep_until(self.pay(bytes as u64, Instant::now())).await;
    }

    fn pay(&self, bytes: u64, now: Instant) -> Instant {
        let cost = bytes as f64 / self.per_second.get() as f64;
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used before can't be used now.
        let from = paid_until.map_or(now, |paid| paid.max(now));
        let until = from + Duration::from_secs_f64(cost.min(LONGEST));
        *paid_until = Some(until);
        until
    }
}

/// Longest wait for one chunk, in seconds; no bound is that low for long.
const LONGEST: f64 = 3_600.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_takers_together_stay_under_the_bound() {
        let bandwidth = Bandwidth::new(NonZeroU64::new(1_000).unwrap());
        let start = Instant::now();
        let mut until = start;
        for _ in 0..10 {
            until = bandwidth.pay(500, start);
        }
        assert_eq!(until - start, Duration::from_secs(5));
        let later = start + Duration::from_secs(60);
        assert_eq!(bandwidth.pay(1_000, later) - later, Duration::from_secs(1), "nothing is saved");
    }
}
