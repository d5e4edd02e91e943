//! Whether upstream still says what a divergence tells of: it may have withdrawn it since, or said
//! something else.

use super::divergences::{ExplainError, Recorded};
use super::edited::{self, Sides};
use super::versions::Versions;
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, DivergenceKind, Entry};
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::store::log::{LogError, LogReader};
use std::collections::BTreeMap;
use std::collections::btree_map;

/// Upstream's files, as the last snapshot of each repository lists them.
pub struct Current<'a> {
    blobs: &'a Blobs,
    latest: Box<Latest<'a>>,
    /// The lists that were read.
    lists: BTreeMap<String, Option<Versions>>,
}

/// Finds a repository's last snapshot: its place in the ledger, and the name of its list of upstream's
/// files.
type Latest<'a> = dyn Fn(&str) -> Result<Option<(u64, Sha256)>, ExplainError> + 'a;

impl<'a> Current<'a> {
    /// As a ledger has it. Reads all of it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn in_ledger(log: &LogReader, blobs: &'a Blobs) -> Result<Self, LogError> {
        let mut latest = BTreeMap::new();
        for entry in log.entries(0, log.size()?) {
            if let (index, Entry::Snapshot(snapshot)) = entry?
                && snapshot.past.is_none()
            {
                latest.insert(snapshot.repository, (index, snapshot.files));
            }
        }
        let latest = move |name: &str| Ok(latest.get(name).copied());
        Ok(Self { blobs, latest: Box::new(latest), lists: BTreeMap::new() })
    }

    /// As the catalog has it.
    pub(super) fn in_store(store: &'a Store) -> Self {
        let latest = |name: &str| {
            let snapshot = store.lookup(|catalog| catalog.snapshot(name))?;
            Ok(snapshot.map(|(index, snapshot)| (index, snapshot.files)))
        };
        Self { blobs: store.blobs(), latest: Box::new(latest), lists: BTreeMap::new() }
    }

    /// Marks a divergence as outdated if upstream says something else by now.
    pub fn mark(&mut self, recorded: &mut Recorded) {
        // What can't be read, `verify` tells.
        recorded.outdated = self.is_outdated(recorded.id, &recorded.divergence).unwrap_or(false);
    }

    /// Whether upstream said something else since it said this; what came after the last snapshot, it
    /// said last.
    pub(super) fn is_outdated(
        &mut self,
        id: u64,
        divergence: &Divergence,
    ) -> Result<bool, ExplainError> {
        let latest = (self.latest)(&divergence.repository)?;
        Ok(latest.is_some_and(|(index, _)| index > id) && !self.says(divergence)?)
    }

    /// Whether upstream still says what a divergence of metadata tells of. Archives are rechecked
    /// one by one, so of those it is not known.
    pub(super) fn says(&mut self, divergence: &Divergence) -> Result<bool, ExplainError> {
        let name = &divergence.repository;
        let observed = divergence.observed.map(|observed| observed.sha256);
        if divergence.what != DivergenceKind::Edited {
            return match divergence.what.is_of_metadata() {
                true => Ok((self.latest)(name)?.map(|(_, files)| files) == observed),
                false => Ok(true),
            };
        }
        let package = divergence.packages.first();
        let sides = edited::sides(self.blobs, divergence)?;
        let Some((package, Sides { after, .. })) = package.zip(sides) else { return Ok(true) };
        Ok(self.list(name)?.is_some_and(|list| list.has(package, &after)))
    }

    fn list(&mut self, repository: &str) -> Result<Option<&Versions>, ExplainError> {
        let list = match self.lists.entry(repository.to_owned()) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(unknown) => {
                let latest = (self.latest)(repository)?;
                let list = latest.map(|(_, it)| edited::read_list(self.blobs, &it)).transpose()?;
                unknown.insert(list.map(Versions::of))
            }
        };
        Ok(list.as_ref())
    }
}
