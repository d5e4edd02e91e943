//! What is wrong here, or with an upstream as a whole, and may pass: told once when it begins, over
//! restarts too, and once when it is over.

use super::{Alerts, write_condition};
use crate::digest::Sha256;
use crate::sink::Alert;
use crate::store::{durable, outbox};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::{PoisonError, RwLockWriteGuard};

/// Something that is wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// An upstream gives no good index.
    StaleIndex {
        /// The repository.
        repository: String,
        /// When it last gave one.
        since: Timestamp,
        /// Why the last attempt failed.
        problem: Option<String>,
    },
    /// A blob of ours does not hash to its name, or is gone.
    DamagedBlob {
        /// Its name.
        sha256: Sha256,
        /// What is wrong with it.
        problem: String,
    },
    /// Rechecks can't keep up.
    RecheckBehind {
        /// Since when the longest due one is due.
        since: Option<Timestamp>,
    },
    /// Nothing new can be kept.
    UnwritableStore {
        /// Why.
        problem: String,
    },
}

/// A condition that was told, as the disk has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Raised {
    alert: Alert,
    /// Whether it is in every sink's queue; until then a restart puts it there again.
    told: bool,
    /// Whether the disk has it like this. One that can't be written to keeps nobody from being
    /// told; what it can't remember, a restart tells again.
    #[serde(skip, default = "yes")]
    is_kept: bool,
}

impl Condition {
    /// What makes two conditions the same; it can be a file's name.
    pub fn key(&self) -> String {
        match self {
            Self::StaleIndex { repository, .. } => stale_index(repository),
            Self::DamagedBlob { sha256, .. } => damaged_blob(sha256),
            Self::RecheckBehind { .. } => RECHECK_BEHIND.to_owned(),
            Self::UnwritableStore { .. } => UNWRITABLE_STORE.to_owned(),
        }
    }
}

impl Alerts {
    /// Tells every sink of a condition, unless that was done since it began. The alert is on disk
    /// when this returns, or else in memory.
    pub fn raise(&self, condition: &Condition) {
        let key = condition.key();
        if self.is_settled(&key) {
            return;
        }
        let mut raised = self.raised_mut();
        if let Some(entry) = raised.get_mut(&key) {
            // What the disk could not take before, it may take now.
            entry.is_kept = write_condition(&self.layout, &key, entry).is_ok();
            return;
        }
        let alert = self.words.raised(condition, self.clock.now());
        if raised.len() >= MAX_RAISED {
            tracing::error!(alert = alert.kind, "{}; too much is wrong to tell it", alert.title);
            return;
        }
        tracing::warn!(alert = alert.kind, id = alert.id, "{}", alert.title);
        let mut entry = Raised { alert, told: false, is_kept: false };
        self.tell(&key, &mut entry);
        raised.insert(key, entry);
    }

    /// Tells every sink that a condition is over, if it was told at all.
    pub fn clear(&self, key: &str) {
        if !self.is_raised(key) {
            return;
        }
        let mut raised = self.raised_mut();
        let Some(entry) = raised.remove(key) else { return };
        let alert = self.words.over(&entry.alert, self.clock.now());
        // In this order: after a crash in between, the same alert is told again.
        self.queue(&alert);
        self.forget(key);
        tracing::info!(alert = alert.kind, id = alert.id, "{}", alert.title);
    }

    /// Whether a condition was told and is not over.
    pub fn is_raised(&self, key: &str) -> bool {
        self.raised.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Whether that is on disk as well.
    fn is_settled(&self, key: &str) -> bool {
        let raised = self.raised.read().unwrap_or_else(PoisonError::into_inner);
        raised.get(key).is_some_and(|entry| entry.is_kept)
    }

    /// The blobs that were found damaged and not healed since.
    pub fn damaged_blobs(&self) -> Vec<Sha256> {
        let raised = self.raised.read().unwrap_or_else(PoisonError::into_inner);
        let names = raised.keys().filter_map(|key| key.strip_prefix(DAMAGED_BLOB));
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// Reads what was told before, and tells what a crash kept from being told. What is about a
    /// repository that is not mirrored any more is forgotten.
    pub(super) fn take_up_conditions(&self, repositories: &[&str]) -> io::Result<()> {
        let directory = self.layout.conditions();
        durable::create_directory(&directory)?;
        durable::remove_leftovers(&directory)?;
        let mut raised = self.raised_mut();
        for key in outbox::names(&directory)? {
            let entry = match outbox::read::<Raised>(&directory.join(&key)) {
                Ok(entry) => entry,
                Err(error) => {
                    tracing::error!(%error, "what was told can't be read, and may be told again");
                    None
                }
            };
            let repository = key.strip_prefix(STALE_INDEX);
            let is_ours = repository.is_none_or(|name| repositories.contains(&name));
            match entry.filter(|_| is_ours) {
                Some(entry) if entry.told => drop(raised.insert(key, entry)),
                Some(mut entry) => {
                    self.tell(&key, &mut entry);
                    raised.insert(key, entry);
                }
                None => self.forget(&key),
            }
        }
        Ok(())
    }

    fn tell(&self, key: &str, entry: &mut Raised) {
        let begun = write_condition(&self.layout, key, entry);
        self.queue(&entry.alert);
        entry.told = true;
        let kept = begun.and_then(|()| write_condition(&self.layout, key, entry));
        entry.is_kept = kept.is_ok();
        if let Err(error) = kept {
            tracing::error!(%error, key, "that it is told is noted in memory only");
        }
    }

    fn forget(&self, key: &str) {
        if let Err(error) = outbox::remove(&self.layout.conditions().join(key)) {
            tracing::error!(%error, key, "that it is over is noted in memory only");
        }
    }

    fn raised_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Raised>> {
        self.raised.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a repository's stale index.
pub(in crate::keeper) fn stale_index(repository: &str) -> String {
    format!("{STALE_INDEX}{repository}")
}

/// The key of a damaged blob.
pub(super) fn damaged_blob(name: &Sha256) -> String {
    format!("{DAMAGED_BLOB}{name}")
}

/// The key of rechecks that can't keep up.
pub(super) const RECHECK_BEHIND: &str = "recheck-behind";
/// The key of a store that keeps nothing new.
pub(super) const UNWRITABLE_STORE: &str = "store-unwritable";

fn yes() -> bool {
    true
}

const DAMAGED_BLOB: &str = "blob-damaged-";
/// Most conditions at one time: who lost a whole disk need not hear of each file.
const MAX_RAISED: usize = 256;
const STALE_INDEX: &str = "index-stale-";
