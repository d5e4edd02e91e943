//! One batch on its way into the ledger: the first pin of a URL stands; only what a strong checksum
//! vouches for is pinned beside it, and a divergence tells of whatever is not what was pinned first.

use super::catalog::{Catalog, IndexError, Kept, divergence_key};
use super::log::{LogError, LogReader};
use super::replay::{self, ReplayError};
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, DivergenceState, Entry, Pin, Strength};
use std::collections::HashMap;
use std::sync::Arc;
use thiserror::Error;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the ledger, at this index, durably.
    New(u64),
    /// The ledger says so already, at this index; nothing was written.
    Known(u64),
    /// The URL is pinned to other bytes and no strong checksum vouches for these; nothing was
    /// written.
    PinnedOtherwise(Kept),
}

/// What became of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// What became of the pin itself.
    pub appended: Appended,
    /// Where the URL was pinned to other bytes first, and nobody accepted these: the divergence that
    /// tells so, which is in the ledger as durably as the pin.
    pub changed: Option<Appended>,
}

/// Whether a URL's bytes are meant to be others than the first ones, so that nobody has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Nobody accepted other ones.
    Never,
    /// Someone accepted them in place of these first ones.
    Over(Sha256),
}

/// Why an entry is not in the ledger.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// The ledger failed; the entry may be tried again.
    #[error("{0}")]
    Log(Arc<LogError>),
    /// The entry itself can't be written.
    #[error("{0}")]
    Entry(Arc<LogError>),
    /// What the ledger says already can't be looked up.
    #[error("{0}")]
    Catalog(#[from] IndexError),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl From<ReplayError> for AppendError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Log(error) => Self::Log(Arc::new(error)),
            ReplayError::Index(error) => Self::Catalog(error),
        }
    }
}

/// One batch on its way into the ledger.
pub(super) struct Round {
    next: u64,
    pub entries: Vec<Entry>,
    pub leaves: Vec<Vec<u8>>,
    /// The pins of this batch by URL, in their order.
    pins: HashMap<String, Vec<Kept>>,
    divergences: HashMap<Sha256, u64>,
    /// What the decisions of this batch brought divergences to.
    decided: HashMap<u64, (DivergenceState, u64)>,
}

impl Round {
    pub(super) fn new(next: u64) -> Self {
        Self {
            next,
            entries: Vec::new(),
            leaves: Vec::new(),
            pins: HashMap::new(),
            divergences: HashMap::new(),
            decided: HashMap::new(),
        }
    }

    /// Takes an entry into the batch, if it says anything new.
    pub(super) fn take(
        &mut self,
        entry: Entry,
        accepted: Accepted,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Pinned, AppendError> {
        let (known, first) = match &entry {
            Entry::Pin(pin) => self.known_pin(pin, catalog, log)?,
            entry => (self.known(entry, catalog, log)?, None),
        };
        // What can't be written is not told of.
        let written = match known {
            Some(_) => Vec::new(),
            None => leaf(&entry)?,
        };
        let changed = match (&entry, first.filter(|first| !accepted.covers(first))) {
            (Entry::Pin(pin), Some(first)) => {
                let mut changed = changed(pin, &first);
                changed.packages = self.users(pin, &first, catalog, log)?;
                let changed = Entry::Divergence(changed);
                match (self.known(&changed, catalog, log)?, known) {
                    (Some(told), _) => Some(told),
                    // It was accepted when it was pinned.
                    (None, Some(Appended::Known(_))) => None,
                    // Before the pin, so that it is never there alone.
                    (None, _) => {
                        let leaf = leaf(&changed)?;
                        Some(self.push(changed, leaf))
                    }
                }
            }
            _ => None,
        };
        let appended = known.unwrap_or_else(|| self.push(entry, written));
        Ok(Pinned { appended, changed })
    }

    /// The packages that use a URL's first bytes, those that use the others, and whoever else
    /// declares it.
    fn users(
        &self,
        pin: &Pin,
        first: &Kept,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Vec<String>, IndexError> {
        let batched = first.entry.checked_sub(self.next - self.entries.len() as u64);
        let of_first =
            match batched.and_then(|place| self.entries.get(usize::try_from(place).ok()?)) {
                Some(Entry::Pin(first)) => first.packages.clone(),
                // One that can't be read names nobody: whoever uses it is told all the same.
                _ => match log.entries(first.entry, first.entry.saturating_add(1)).next() {
                    Some(Ok((_, Entry::Pin(first)))) => first.packages,
                    _ => Vec::new(),
                },
            };
        let mut users = of_first;
        users.extend(pin.packages.iter().cloned());
        let (Pin { repository, url, .. }, bytes) = (pin, pin.digests());
        replay::lookup(catalog, log, |catalog| catalog.users_at(repository, url, &bytes, &users))
    }

    fn push(&mut self, entry: Entry, leaf: Vec<u8>) -> Appended {
        let index = self.next;
        match &entry {
            Entry::Pin(pin) => {
                let kept = Kept { sha256: pin.sha256, size: pin.size, entry: index };
                self.pins.entry(pin.url.clone()).or_default().push(kept);
            }
            Entry::Divergence(divergence) => {
                self.divergences.insert(divergence_key(divergence), index);
            }
            Entry::Decision(decision) => {
                self.decided.insert(decision.divergence, (decision.action.state(), index));
            }
            _ => {}
        }
        self.leaves.push(leaf);
        self.entries.push(entry);
        self.next += 1;
        Appended::New(index)
    }

    /// What the ledger, or this batch, says already.
    fn known(
        &self,
        entry: &Entry,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<Option<Appended>, IndexError> {
        match entry {
            Entry::Divergence(divergence) => {
                let key = divergence_key(divergence);
                let index = match self.divergences.get(&key) {
                    Some(index) => Some(*index),
                    None => replay::lookup(catalog, log, |catalog| catalog.divergence(divergence))?,
                };
                Ok(index.map(Appended::Known))
            }
            Entry::Decision(decision) => {
                let about = decision.divergence;
                let decided = match self.decided.get(&about) {
                    Some(decided) => Some(*decided),
                    None => replay::lookup(catalog, log, |catalog| catalog.decided(about))?,
                };
                let known = decided.filter(|(state, _)| *state >= decision.action.state());
                Ok(known.map(|(_, index)| Appended::Known(index)))
            }
            Entry::Pin(_)
            | Entry::History(_)
            | Entry::Import(_)
            | Entry::Recheck(_)
            | Entry::Snapshot(_)
            | Entry::Key(_)
            | Entry::Other(_) => Ok(None),
        }
    }

    /// What the ledger, or this batch, says already of a pin, and the first pin of its URL where that
    /// is to other bytes.
    fn known_pin(
        &self,
        pin: &Pin,
        catalog: &Catalog,
        log: &LogReader,
    ) -> Result<(Option<Appended>, Option<Kept>), IndexError> {
        let batch = self.pins.get(&pin.url).map_or(&[][..], Vec::as_slice);
        let first = replay::lookup(catalog, log, |catalog| catalog.pin(&pin.url))?;
        let Some(first) = first.or(batch.first().copied()) else { return Ok((None, None)) };
        if first.sha256 == pin.sha256 {
            return Ok((Some(Appended::Known(first.entry)), None));
        }
        let same = match batch.iter().find(|kept| kept.sha256 == pin.sha256) {
            Some(kept) => Some(*kept),
            None => replay::lookup(catalog, log, |catalog| catalog.pin_to(&pin.url, &pin.sha256))?,
        };
        let known = match (same, pin.strength) {
            (Some(kept), _) => Some(Appended::Known(kept.entry)),
            // Whoever asks for these bytes by a strong checksum can't be given others.
            (None, Strength::Strong) => None,
            (None, _) => Some(Appended::PinnedOtherwise(first)),
        };
        Ok((known, Some(first)))
    }
}

impl Accepted {
    /// Whether other bytes than the first ones are meant.
    fn covers(self, first: &Kept) -> bool {
        match self {
            Self::Never => false,
            Self::Over(bytes) => bytes == first.sha256,
        }
    }
}

/// What tells that a pin is not to the bytes that its URL was pinned to first.
fn changed(pin: &Pin, first: &Kept) -> Divergence {
    let bundle = pin.import.map(|entry| format!("; the bundle of entry {entry} has these"));
    let (entry, bundle) = (first.entry, bundle.unwrap_or_default());
    let detail = format!("pinned to other bytes by ledger entry {entry}{bundle}");
    Divergence::changed(pin, vec![format!("sha256={}", first.sha256)], detail)
}

fn leaf(entry: &Entry) -> Result<Vec<u8>, AppendError> {
    entry.to_leaf().map_err(|error| AppendError::Entry(Arc::new(error.into())))
}
