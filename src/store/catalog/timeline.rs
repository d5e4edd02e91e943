//! Which snapshot stands for which time: those that were admitted as they came, and those that
//! were brought in from upstream's own history later.
//!
//! A snapshot counts from its own time on or from that of one before it, whichever is later: when
//! a clock went back, what stood for a time goes on to stand for it.

use super::index::{Change, Index, IndexError, Item, Table};
use super::{Catalog, number, number_at, put, revision_key, snapshot_value};
use crate::ledger::entry::{Past, Snapshot};
use std::collections::{HashMap, HashSet};

/// What stands for a time before the first snapshot. Times are Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The state that this ledger entry brought in.
    Entry(u64),
    /// None yet.
    Nothing {
        /// From when on nothing stands, as far as that is bounded.
        since: Option<i64>,
        /// Until when nothing stands, as far as that is bounded.
        until: Option<i64>,
    },
}

impl Catalog {
    /// The ledger index of the snapshot that was the newest one at a time, in Unix seconds.
    ///
    /// # Errors
    /// When the index fails.
    pub fn snapshot_by_time(&self, repository: &str, time: i64) -> Result<Option<u64>, IndexError> {
        let key = [&prefix(repository)[..], &sortable(time), &u64::MAX.to_be_bytes()].concat();
        let found = self.index().last_up_to(Table::SnapshotTime, &prefix(repository), &key)?;
        Ok(found.and_then(|(key, _)| number(key.last_chunk::<8>()?)))
    }

    /// The ledger index of the newest snapshot among the first `size` entries.
    ///
    /// # Errors
    /// When the index fails.
    pub fn snapshot_by_size(&self, repository: &str, size: u64) -> Result<Option<u64>, IndexError> {
        let Some(last) = size.checked_sub(1) else { return Ok(None) };
        let key = [&prefix(repository)[..], &last.to_be_bytes()].concat();
        let found = self.index().last_up_to(Table::SnapshotIndex, &prefix(repository), &key)?;
        Ok(found.and_then(|(key, _)| number(key.last_chunk::<8>()?)))
    }

    /// The ledger indices of a repository's snapshots as they were admitted, the oldest first, and
    /// of its states that were brought in from upstream's history.
    ///
    /// # Errors
    /// When the index fails.
    pub fn snapshot_entries(&self, repository: &str) -> Result<(Vec<u64>, Vec<u64>), IndexError> {
        let (index, start) = (self.index(), prefix(repository));
        let (mut admitted, mut brought_in) = (Vec::new(), Vec::new());
        index.visit(Table::SnapshotIndex, &start, &mut |key, _| {
            admitted.extend(key.last_chunk::<8>().and_then(|key| number(key)));
        })?;
        index.visit(Table::Past, &start, &mut |_, value| {
            brought_in.extend(value.last_chunk::<8>().and_then(|value| number(value)));
        })?;
        Ok((admitted, brought_in))
    }

    /// The ledger index of the first snapshot of `repository` after the one at `entry`; the very
    /// first one without.
    ///
    /// # Errors
    /// When the index fails.
    pub fn snapshot_after(
        &self,
        repository: &str,
        entry: Option<u64>,
    ) -> Result<Option<u64>, IndexError> {
        let start = prefix(repository);
        let entry = entry.map(u64::to_be_bytes);
        let key = [&start[..], entry.as_ref().map_or(&[], |entry| &entry[..])].concat();
        let found = self.index().first_after(Table::SnapshotIndex, &start, &key)?;
        Ok(found.and_then(|(key, _)| number(key.last_chunk::<8>()?)))
    }

    /// The ledger index of a repository's first snapshot, and its time in Unix seconds.
    ///
    /// # Errors
    /// When the index fails.
    pub fn first_snapshot(&self, repository: &str) -> Result<Option<(u64, i64)>, IndexError> {
        let start = prefix(repository);
        let found = self.index().first_after(Table::SnapshotTime, &start, &start)?;
        Ok(found.and_then(|(key, _)| {
            let (time, entry) = key[start.len()..].split_first_chunk::<8>()?;
            Some((number(entry)?, unsortable(*time)))
        }))
    }

    /// The ledger index of a repository's first snapshot that came from this upstream.
    ///
    /// # Errors
    /// When the index fails.
    pub fn first_snapshot_from(
        &self,
        repository: &str,
        upstream: &str,
    ) -> Result<Option<u64>, IndexError> {
        let value = self.get(Table::Meta, &origin_key(repository, upstream))?;
        Ok(value.and_then(|value| number(&value)))
    }

    /// What stands for a time before the first snapshot.
    ///
    /// # Errors
    /// When the index fails.
    pub fn before_first(&self, repository: &str, time: i64) -> Result<Before, IndexError> {
        let (index, start) = (self.index(), prefix(repository));
        let key = past_key(repository, time);
        let last = index.last_up_to(Table::Past, &start, &key)?.and_then(past);
        let next = index.first_after(Table::Past, &start, &key)?.and_then(past);
        Ok(match last {
            Some((_, until, entry)) if time < until => Before::Entry(entry),
            last => Before::Nothing {
                since: last.map(|(_, until, _)| until),
                until: next.map(|(since, _, _)| since),
            },
        })
    }

    /// How many states of a repository were brought in from upstream's history.
    ///
    /// # Errors
    /// When the index fails.
    pub fn past_states(&self, repository: &str) -> Result<u64, IndexError> {
        self.number(&count_key(repository))
    }
}

/// The snapshots of a batch of entries.
#[derive(Default)]
pub(super) struct Timeline {
    latest: HashMap<String, i64>,
    pasts: HashMap<String, u64>,
    seen: HashSet<(Table, Vec<u8>)>,
}

impl Timeline {
    pub(super) fn take_in(
        &mut self,
        index: &dyn Index,
        entry: u64,
        snapshot: &Snapshot,
        changes: &mut Vec<Change>,
    ) -> Result<(), IndexError> {
        let (repository, number) = (&snapshot.repository, entry.to_be_bytes());
        if let Some(Past { since, until }) = &snapshot.past {
            let value = [until.as_second().to_be_bytes(), number].concat();
            let key = past_key(repository, since.as_second());
            self.put_first(index, Table::Past, key, value, changes)?;
            let count = match self.pasts.get(repository) {
                Some(count) => *count,
                None => number_at(index, &count_key(repository))?,
            };
            self.pasts.insert(repository.clone(), count + 1);
            changes.push(put(
                Table::Meta,
                &count_key(repository),
                (count + 1).to_be_bytes().into(),
            ));
            return Ok(());
        }
        let value = number.into_iter().chain(snapshot_value(snapshot)).collect();
        changes.push(put(Table::Snapshot, repository.as_bytes(), value));
        if let Some(revision) = &snapshot.revision {
            let key = revision_key(repository, revision);
            self.put_first(index, Table::Revision, key, number.into(), changes)?;
        }
        let key = origin_key(repository, &snapshot.upstream);
        self.put_first(index, Table::Meta, key, number.into(), changes)?;
        let start = prefix(repository);
        let latest = match self.latest.get(repository) {
            Some(latest) => Some(*latest),
            None => {
                let end = [&start[..], &[u8::MAX; 16]].concat();
                let last = index.last_up_to(Table::SnapshotTime, &start, &end)?;
                last.and_then(|(key, _)| Some(unsortable(*key[start.len()..].first_chunk()?)))
            }
        };
        let time = snapshot.at.as_second().max(latest.unwrap_or(i64::MIN));
        self.latest.insert(repository.clone(), time);
        let key = [&start[..], &sortable(time), &number].concat();
        changes.push(Change::Put(Table::SnapshotTime, key, Vec::new()));
        let key = [&start[..], &number].concat();
        changes.push(Change::Put(Table::SnapshotIndex, key, Vec::new()));
        Ok(())
    }

    /// Puts what stands from the first time on that it is said, also within one batch.
    fn put_first(
        &mut self,
        index: &dyn Index,
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
        changes: &mut Vec<Change>,
    ) -> Result<(), IndexError> {
        if index.get(table, &key)?.is_none() && self.seen.insert((table, key.clone())) {
            changes.push(Change::Put(table, key, value));
        }
        Ok(())
    }
}

/// No name of a repository has a NUL.
fn prefix(repository: &str) -> Vec<u8> {
    [repository.as_bytes(), &[0]].concat()
}

fn origin_key(repository: &str, upstream: &str) -> Vec<u8> {
    [b"from ", repository.as_bytes(), &[0], upstream.as_bytes()].concat()
}

fn count_key(repository: &str) -> Vec<u8> {
    [b"past ", repository.as_bytes()].concat()
}

fn past_key(repository: &str, since: i64) -> Vec<u8> {
    [&prefix(repository)[..], &sortable(since)].concat()
}

/// When a state begins and ends to stand, and its entry.
fn past((key, value): Item) -> Option<(i64, i64, u64)> {
    let since = unsortable(*key.last_chunk()?);
    let (until, entry) = value.split_first_chunk()?;
    Some((since, i64::from_be_bytes(*until), number(entry)?))
}

/// Bytes that sort as the numbers do.
fn sortable(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ SIGN).to_be_bytes()
}

fn unsortable(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ SIGN).cast_signed()
}

const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::digest::Sha256;
    use crate::ledger::entry::Entry;
    use crate::store::Store;
    use crate::store::layout::Layout;
    use jiff::Timestamp;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn snapshot(at: i64, past: Option<(i64, i64)>) -> Entry {
        let list = Sha256::of(b"");
        Entry::Snapshot(Snapshot {
            at: second(at),
            repository: "a".to_owned(),
            upstream: format!("https://{at}.example"),
            revision: Some(at.to_string()),
            mode: "managed".to_owned(),
            files: list,
            admitted: list,
            strengthened: None,
            departed: None,
            index: None,
            versions: 0,
            import: None,
            past: past.map(|(since, until)| Past { since: second(since), until: second(until) }),
        })
    }

    /// A store whose first snapshot is ledger entry 1.
    async fn store(entries: impl IntoIterator<Item = Entry>) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::from_fn(|| second(0));
        let store = Store::open(Layout::new(directory.path()), 0, &clock).await.unwrap();
        for entry in entries {
            store.append(entry).await.unwrap();
        }
        (directory, store)
    }

    #[tokio::test]
    async fn a_time_means_the_last_snapshot_by_then_also_after_the_clock_went_back() {
        let snapshots = [100, 200, 150, 180, 300].map(|at| snapshot(at, None));
        let (_directory, store) = store(snapshots).await;
        let by_time = |name: &str, time| {
            store.lookup(|catalog| catalog.snapshot_by_time(name, time)).unwrap()
        };
        for (time, expected) in [
            (-1, None),
            (99, None),
            (100, Some(1)),
            (160, Some(1)),
            (199, Some(1)),
            (200, Some(4)),
            (299, Some(4)),
            (300, Some(5)),
            (i64::MAX, Some(5)),
        ] {
            assert_eq!(by_time("a", time), expected, "{time}");
        }
        assert_eq!(by_time("b", 300), None);
        let by_size = |size| store.lookup(|catalog| catalog.snapshot_by_size("a", size)).unwrap();
        assert_eq!([0, 1, 2, 3, 99].map(by_size), [None, None, Some(1), Some(2), Some(5)]);
        let from = |upstream: &str| {
            store.lookup(|catalog| catalog.first_snapshot_from("a", upstream)).unwrap()
        };
        assert_eq!((from("https://200.example"), from("https://1.example")), (Some(2), None));
        assert_eq!(store.lookup(|catalog| catalog.first_snapshot("a")).unwrap(), Some((1, 100)));
        assert_eq!(store.lookup(|catalog| catalog.first_snapshot("")).unwrap(), None);
    }

    #[tokio::test]
    async fn what_was_brought_in_stands_for_its_times_and_is_never_the_newest() {
        let pasts = [(10, 20), (-50, -40), (40, 60)].map(|times| snapshot(500, Some(times)));
        let (_directory, store) = store([snapshot(100, None)].into_iter().chain(pasts)).await;
        let before = |time| store.lookup(|catalog| catalog.before_first("a", time)).unwrap();
        let nothing = |since, until| Before::Nothing { since, until };
        for (time, expected) in [
            (-51, nothing(None, Some(-50))),
            (-50, Before::Entry(3)),
            (-40, nothing(Some(-40), Some(10))),
            (10, Before::Entry(2)),
            (19, Before::Entry(2)),
            (20, nothing(Some(20), Some(40))),
            (59, Before::Entry(4)),
            (60, nothing(Some(60), None)),
        ] {
            assert_eq!(before(time), expected, "{time}");
        }
        let newest = store.lookup(|catalog| catalog.snapshot("a")).unwrap();
        assert_eq!(newest.map(|(entry, _)| entry), Some(1));
        let by_time = store.lookup(|catalog| catalog.snapshot_by_time("a", 600)).unwrap();
        let by_size = store.lookup(|catalog| catalog.snapshot_by_size("a", 5)).unwrap();
        assert_eq!((by_time, by_size), (Some(1), Some(1)));
        let revision = store.lookup(|catalog| catalog.snapshot_at("a", "500")).unwrap();
        assert_eq!(revision, None, "upstream did not go back to it");
        assert_eq!(store.lookup(|catalog| catalog.past_states("a")).unwrap(), 3);
    }
}
