//! Waits that grow, and never all end at the same moment.

use std::time::Duration;

/// A wait that doubles from `first` up to `longest`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// How long to wait the `nth` time, from 0: half of it fixed, half of it by chance, so that
    /// those who failed together don't come back together.
    pub fn wait(&self, nth: u32) -> Duration {
        let full = self.first.saturating_mul(1_u32.checked_shl(nth).unwrap_or(u32::MAX));
        let full = full.min(self.longest);
        full / 2 + full.mul_f64(chance() / 2.0)
    }
}

/// A number from 0 to 1; one half when the operating system has no randomness to give.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_bound() {
        let backoff =
            Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(500) };
        for (nth, full) in [(0, 100), (1, 200), (2, 400), (3, 500), (40, 500), (u32::MAX, 500)] {
            let wait = backoff.wait(nth);
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "{nth}: {wait:?}");
        }
    }
}
