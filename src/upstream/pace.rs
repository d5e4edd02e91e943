//! Tells a slow body from one that only pretends to come.

use std::time::Duration;

/// What a body has to keep up with.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaceLimits {
    /// Bytes a second, on average over each window.
    pub(super) floor: u64,
    /// The time over which the average counts.
    pub(super) window: Duration,
    /// The most time that a whole body gets.
    pub(super) longest: Duration,
}

impl Default for PaceLimits {
    fn default() -> Self {
        Self { floor: FLOOR, window: WINDOW, longest: LONGEST_BODY }
    }
}

/// How a body has come so far. Only time spent waiting for upstream counts, not what the reader
/// takes for itself.
#[derive(Debug)]
pub(super) struct Pace {
    limits: PaceLimits,
    waited: Duration,
    window_waited: Duration,
    window_bytes: u64,
}

impl Pace {
    pub(super) fn new(limits: PaceLimits) -> Self {
        Self { limits, waited: Duration::ZERO, window_waited: Duration::ZERO, window_bytes: 0 }
    }

    /// Takes note of `bytes` that were waited for so long; says whether that is fast enough.
    pub(super) fn is_kept(&mut self, bytes: usize, waited: Duration) -> bool {
        self.waited += waited;
        self.window_waited += waited;
        self.window_bytes += bytes as u64;
        if self.waited > self.limits.longest {
            return false;
        }
        if self.window_waited < self.limits.window {
            return true;
        }
        let wanted = self.window_waited.as_secs_f64() * self.limits.floor as f64;
        let kept = self.window_bytes as f64 >= wanted;
        self.window_waited = Duration::ZERO;
        self.window_bytes = 0;
        kept
    }

    /// Time spent waiting, in all.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }
}

/// Slower than any modem that still has a repository behind it.
const FLOOR: u64 = 2 * 1024;
/// Long enough for a disk at the other end to wake up.
const WINDOW: Duration = Duration::from_secs(60);
/// 2 GiB, the largest archive by default, at 100 KiB/s.
const LONGEST_BODY: Duration = Duration::from_secs(6 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(PaceLimits {
            floor: 100,
            window: Duration::from_secs(10),
            longest: Duration::from_secs(100),
        })
    }

    #[test]
    fn a_trickle_is_noticed_after_one_window() {
        let mut pace = pace();
        for _ in 0..9 {
            assert!(pace.is_kept(1, Duration::from_secs(1)));
        }
        assert!(!pace.is_kept(1, Duration::from_secs(1)));
    }

    #[test]
    fn a_steady_body_passes_until_its_time_is_up() {
        let mut pace = pace();
        for _ in 0..100 {
            assert!(pace.is_kept(100, Duration::from_secs(1)));
        }
        assert!(!pace.is_kept(100, Duration::from_secs(1)));
    }

    #[test]
    fn a_fast_start_does_not_pay_for_a_trickle_later() {
        let mut pace = pace();
        assert!(pace.is_kept(1_000_000, Duration::from_secs(10)));
        assert!(!pace.is_kept(1, Duration::from_secs(10)));
    }
}
