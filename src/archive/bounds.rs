//! Counting what a reading has cost so far.

use super::limits::Limits;
use super::problem::Problem;

/// Counts inflated bytes.
pub(super) struct Meter {
    limit: u64,
    used: u64,
}

impl Meter {
    /// For an archive of `size` bytes.
    pub(super) fn new(limits: &Limits, size: u64) -> Self {
        Self { limit: limits.inflated(size), used: 0 }
    }

    pub(super) fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        self.used = self.used.saturating_add(bytes as u64);
        let limit = self.limit;
        if self.used > limit { Err(Problem::TooLarge { limit }) } else { Ok(()) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }
}

/// Counts entries and their names.
pub(super) struct Tally<'l> {
    limits: &'l Limits,
    entries: usize,
    names: usize,
}

impl<'l> Tally<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, entries: 0, names: 0 }
    }

    pub(super) fn limits(&self) -> &'l Limits {
        self.limits
    }

    pub(super) fn entry(&mut self) -> Result<(), Problem> {
        self.entries += 1;
        let limit = self.limits.entries;
        if self.entries > limit { Err(Problem::TooManyEntries { limit }) } else { Ok(()) }
    }

    /// Passes a name, link target or owner on when there is room for it.
    pub(super) fn name<'n>(&mut self, name: &'n [u8]) -> Result<&'n [u8], Problem> {
        self.names = self.names.saturating_add(name.len());
        if name.len() > self.limits.name_len {
            Err(Problem::NameTooLong { limit: self.limits.name_len })
        } else if self.names > self.limits.names_bytes {
            Err(Problem::NamesTooLarge { limit: self.limits.names_bytes })
        } else {
            Ok(name)
        }
    }
}
