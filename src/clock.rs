//! The time, as every part of opam-keep sees it, so that tests can set it.

use jiff::Timestamp;
use std::sync::Arc;

/// A source of the present time.
///
/// Cheap to clone; all clones tell the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The operating system's wall clock.
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that asks `now` each time, for tests.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present time, to the second, as ledger entries write it.
    pub fn now(&self) -> Timestamp {
        let now = self.exactly();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// The present time as exactly as it is known, for waits that may be shorter than a second.
    pub fn exactly(&self) -> Timestamp {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
