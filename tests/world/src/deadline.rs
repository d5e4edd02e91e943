//! Waiting for something that must happen, and no longer than it may take.

use std::time::{Duration, Instant};

/// Asks `attempt` again and again until it answers, and gives up after `limit` with `what` in
/// the message.
pub fn within<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(BETWEEN_ATTEMPTS);
    }
}

const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);
