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
}

/// A condition that was told, as the disk has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Raised {
    alert: Alert,
    /// Whether it is in every sink's queue; until then a restart puts it there again.
    told: bool,
}

impl Condition {
    /// What makes two conditions the same; it can be a file's name.
    pub fn key(&self) -> String {
        match self {
            Self::StaleIndex { repository, .. } => stale_index(repository),
            Self::DamagedBlob { sha256, .. } => damaged_blob(sha256),
            Self::RecheckBehind { .. } => RECHECK_BEHIND.to_owned(),
        }
    }
}

impl Alerts {
    /// Tells every sink of a condition, unless that was done since it began; the alert is on disk
    /// when this returns.
    pub fn raise(&self, condition: &Condition) {
        let key = condition.key();
        if self.is_raised(&key) {
            return;
        }
        let mut raised = self.raised_mut();
        if raised.contains_key(&key) {
            return;
        }
        let alert = self.words.raised(condition, self.clock.now());
        if raised.len() >= MAX_RAISED {
            tracing::error!(alert = alert.kind, "{}; too much is wrong to tell it", alert.title);
            return;
        }
        tracing::warn!(alert = alert.kind, id = alert.id, "{}", alert.title);
        let mut entry = Raised { alert, told: false };
        match self.tell(&key, &mut entry) {
            Ok(()) => drop(raised.insert(key, entry)),
            Err(error) => tracing::error!(%error, key, "an alert can't be kept"),
        }
    }

    /// Tells every sink that a condition is over, if it was told at all.
    pub fn clear(&self, key: &str) {
        if !self.is_raised(key) {
            return;
        }
        let mut raised = self.raised_mut();
        let Some(entry) = raised.get(key) else { return };
        let alert = self.words.over(&entry.alert, self.clock.now());
        // In this order: after a crash in between, the same alert is told again.
        let cleared = self.queue(&alert).and_then(|()| self.forget(key));
        match cleared {
            Ok(()) => {
                tracing::info!(alert = alert.kind, id = alert.id, "{}", alert.title);
                raised.remove(key);
            }
            Err(error) => tracing::error!(%error, key, "an alert can't be kept"),
        }
    }

    /// Whether a condition was told and is not over.
    pub fn is_raised(&self, key: &str) -> bool {
        self.raised.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
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
                    self.tell(&key, &mut entry)?;
                    raised.insert(key, entry);
                }
                None => self.forget(&key)?,
            }
        }
        Ok(())
    }

    fn tell(&self, key: &str, entry: &mut Raised) -> io::Result<()> {
        write_condition(&self.layout, key, entry)?;
        self.queue(&entry.alert)?;
        entry.told = true;
        write_condition(&self.layout, key, entry)
    }

    fn forget(&self, key: &str) -> io::Result<()> {
        outbox::remove(&self.layout.conditions().join(key))
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

const DAMAGED_BLOB: &str = "blob-damaged-";
/// Most conditions at one time: who lost a whole disk need not hear of each file.
const MAX_RAISED: usize = 256;
const STALE_INDEX: &str = "index-stale-";
