//! Why an archive or a past state can't be had, and for how long not to ask again.

use crate::digest::Sha256;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why an archive or a past state is answered with 404.
///
/// Prints as one token, a semicolon and a sentence, which is what clients read in
/// `X-Opam-Keep-Reason`; of our own store they read less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No admitted package declares the checksum; nobody was asked.
    Undeclared,
    /// No source has it; each with its answer.
    Unavailable(String),
    /// Sources answered, and what they gave was not what is declared or pinned.
    Diverged(String),
    /// `[policy]` refuses archives that so little vouches for.
    Refused(&'static str),
    /// The fetch goes on, longer than a client should wait.
    StillFetching,
    /// No snapshot stands for the point in the past that was asked for.
    NoSnapshot(String),
    /// So many fetches are waiting that this one was not begun.
    Busy,
    /// One client asks more often for what is not kept than `access.misses_per_minute` allows.
    Often,
    /// `upstream.offline` is set; nobody was asked.
    Offline,
    /// Our own store failed.
    Store(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undeclared => f.write_str("undeclared; no admitted package declares it"),
            Self::Unavailable(answers) => write!(f, "unavailable; {answers}"),
            Self::Diverged(what) => write!(f, "diverged; {what}"),
            Self::Refused(policy) => write!(f, "refused; {policy}"),
            Self::StillFetching => {
                f.write_str("fetching; it is still on its way here, ask again in a while")
            }
            Self::NoSnapshot(sentence) => write!(f, "no-snapshot; {sentence}"),
            Self::Busy => f.write_str("busy; too much is being fetched or built, ask again"),
            Self::Often => {
                f.write_str("busy; you ask too often for what is not kept, ask again in a minute")
            }
            Self::Offline => {
                f.write_str("offline; it is not kept, and upstream.offline lets nobody be asked")
            }
            Self::Store(problem) => write!(f, "store; {problem}"),
        }
    }
}

/// Remembers for a while what could not be had.
///
/// Owned by the keeper; bounded, and gone at a restart.
#[derive(Debug)]
pub(super) struct NegativeCache {
    lifetime: Duration,
    entries: Mutex<HashMap<Sha256, (Instant, Missing)>>,
}

impl NegativeCache {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, entries: Mutex::default() }
    }

    /// What is remembered of an archive.
    pub(super) fn find(&self, archive: &Sha256) -> Option<Missing> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(archive) {
            Some((until, missing)) if *until > Instant::now() => Some(missing.clone()),
            Some(_) => {
                entries.remove(archive);
                None
            }
            None => None,
        }
    }

    /// Remembers that an archive could not be had.
    pub(super) fn remember(&self, archive: Sha256, missing: Missing) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if entries.len() >= MAX_REMEMBERED {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() < MAX_REMEMBERED {
            entries.insert(archive, (now + self.lifetime, missing));
        }
    }

    /// Forgets that an archive could not be had.
    pub(super) fn forget(&self, archive: &Sha256) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(archive);
    }

    /// Forgets what our own store could not keep, because it can by now.
    pub(super) fn forget_store_failures(&self) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, missing)| !matches!(missing, Missing::Store(_)));
    }

    /// Forgets everything, because what is admitted has changed.
    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

const MAX_REMEMBERED: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_had_is_forgotten_in_time() {
        let cache = NegativeCache::new(Duration::from_millis(20));
        let archive = Sha256::of(b"archive");
        cache.remember(archive, Missing::Busy);
        assert_eq!(cache.find(&archive), Some(Missing::Busy));
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(cache.find(&archive), None);
    }
}
