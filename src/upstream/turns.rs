//! How many requests there are at one time, and who of those that want one waits for the others.

use crate::config;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// How many requests there are at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// Of all hosts.
    pub all: usize,
    /// Of one host.
    pub per_host: usize,
}

impl Turns {
    /// As `[upstream]` allows.
    pub fn new(settings: &config::Upstream) -> Self {
        Self { all: settings.concurrency.get(), per_host: settings.per_host.get() }
    }

    /// Those of them that may be taken where no client waits: a quarter of all, and one at each host,
    /// are left to clients.
    pub fn in_background(self) -> Self {
        let all = self.all.saturating_sub(self.all.div_ceil(4));
        Self { all: all.max(1), per_host: self.per_host.saturating_sub(1).max(1) }
    }
}

/// Since when a client waits for an answer, if one does; it may come to wait for what was asked
/// without it.
#[derive(Clone, Debug)]
pub struct Awaited(Arc<watch::Sender<Option<Instant>>>);

impl Awaited {
    /// By a client, from the beginning.
    pub fn by_client() -> Self {
        Self(Arc::new(watch::Sender::new(Some(Instant::now()))))
    }

    /// By none yet.
    pub fn by_none() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// One more client waits, as all copies of this say from now on; returns since when one does.
    pub fn join(&self) -> Instant {
        let mut since = Instant::now();
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            since = *first.get_or_insert(since);
            is_first
        });
        since
    }

    /// Ends when a client waits.
    pub(super) async fn client(&self) {
        // There is a sender as long as there is this.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_turns_are_left_to_clients_where_there_is_more_than_one() {
        let background = |all, per_host| {
            let Turns { all, per_host } = Turns { all, per_host }.in_background();
            (all, per_host)
        };
        assert_eq!(background(24, 9), (18, 8));
        assert_eq!(background(5, 2), (3, 1));
        assert_eq!(background(1, 1), (1, 1));
    }
}
