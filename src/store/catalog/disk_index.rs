//! The index in a file, by redb.

use super::checked_file::CheckedFile;
use super::guarded::{guarded, ours};
use super::index::{Change, Index, IndexError, Item, Table, whole_key};
use redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase as _, TableDefinition,
};
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The index on disk.
pub(super) struct DiskIndex {
    database: Database,
    /// When the last change became durable.
    settled: Mutex<Instant>,
}

impl DiskIndex {
    /// Opens or creates the index in this file, of which so many bytes are kept in memory.
    pub(super) fn open(path: &Path, cache: usize) -> Result<Self, IndexError> {
        guarded(|| {
            let file =
                CheckedFile::open(path).map_err(|error| IndexError::new(error.to_string()))?;
            let database = Database::builder().set_cache_size(cache).create_with_backend(file);
            let database = database.map_err(failed)?;
            let index = Self { database, settled: Mutex::new(Instant::now()) };
            if index.table().is_err() {
                // It is new.
                index.change(&[], true)?;
            }
            Ok(index)
        })
    }

    fn table(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, IndexError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        transaction.open_table(TABLE).map_err(failed)
    }

    /// Applies all changes or none, and makes them durable with all before them: now, or with later
    /// ones if the last ones became durable a moment ago. What a crash takes back, the ledger or
    /// upstream says again.
    fn change(&self, changes: &[Change], is_last: bool) -> Result<(), IndexError> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = self.database.begin_write().map_err(failed)?;
        let is_durable = is_last || settled.elapsed() >= SETTLE_EVERY;
        match is_durable {
            // So that no start has to go through all of it, even after a crash.
            true => transaction.set_quick_repair(true),
            false => transaction.set_durability(Durability::None).map_err(failed)?,
        }
        {
            let mut table = transaction.open_table(TABLE).map_err(failed)?;
            for change in changes {
                match change {
                    Change::Put(table_of, key, value) => {
                        let key = whole_key(*table_of, key);
                        table.insert(&key[..], &value[..]).map_err(failed)?;
                    }
                    Change::Remove(table_of, key) => {
                        table.remove(&whole_key(*table_of, key)[..]).map_err(failed)?;
                    }
                }
            }
        }
        transaction.commit().map_err(failed)?;
        if is_durable {
            *settled = Instant::now();
        }
        Ok(())
    }
}

fn failed(error: impl Into<redb::Error>) -> IndexError {
    IndexError::new(error.into().to_string())
}

/// A key without its table's byte, and its value.
fn item((key, value): (AccessGuard<'_, &[u8]>, AccessGuard<'_, &[u8]>)) -> Item {
    (key.value().get(1..).unwrap_or_default().to_vec(), value.value().to_vec())
}

impl Index for DiskIndex {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| {
            let value = self.table()?.get(&whole_key(table, key)[..]).map_err(failed)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    fn apply(&self, mut changes: Vec<Change>) -> Result<(), IndexError> {
        // What lies together is changed together; of one key, the last change counts.
        changes.sort_by(|one, other| one.place().cmp(&other.place()));
        guarded(|| self.change(&changes, false))
    }

    fn settle(&self) -> Result<(), IndexError> {
        guarded(|| self.change(&[], true))
    }

    fn visit(
        &self,
        table: Table,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), IndexError> {
        guarded(|| {
            let start = whole_key(table, prefix);
            for entry in self.table()?.range::<&[u8]>(&start[..]..).map_err(failed)? {
                let (key, value) = entry.map_err(failed)?;
                if !key.value().starts_with(&start) {
                    break;
                }
                ours(|| each(&key.value()[1..], value.value()));
            }
            Ok(())
        })
    }

    fn last_up_to(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError> {
        guarded(|| {
            let (start, end) = (whole_key(table, prefix), whole_key(table, key));
            let range = self.table()?.range::<&[u8]>(&start[..]..=&end[..]);
            let last = range.map_err(failed)?.next_back().transpose().map_err(failed)?;
            Ok(last.map(item))
        })
    }

    fn first_after(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError> {
        guarded(|| {
            let (start, after) = (whole_key(table, prefix), whole_key(table, key));
            let range = (Bound::Excluded(&after[..]), Bound::Unbounded);
            let range = self.table()?.range::<&[u8]>(range).map_err(failed)?;
            let mut range = range.take(1);
            let first = range.next().transpose().map_err(failed)?;
            Ok(first.filter(|(key, _)| key.value().starts_with(&start)).map(item))
        })
    }
}

/// An index on disk that is filled from nothing: what it can't have yet is not looked for in its
/// file, until it is settled.
pub(super) struct FillingIndex {
    disk: DiskIndex,
    /// The hashes of all keys; some other key may have the same.
    keys: RwLock<Option<HashSet<u64>>>,
    hasher: RandomState,
}

impl FillingIndex {
    /// Over an index that is new.
    pub(super) fn over(disk: DiskIndex) -> Self {
        Self { disk, keys: RwLock::new(Some(HashSet::new())), hasher: RandomState::new() }
    }

    fn may_have(&self, table: Table, key: &[u8]) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let hash = self.hasher.hash_one((table, key));
        // What is there from the start.
        table == Table::Meta || keys.as_ref().is_none_or(|keys| keys.contains(&hash))
    }
}

impl Index for FillingIndex {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        if self.may_have(table, key) { self.disk.get(table, key) } else { Ok(None) }
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        if let Some(keys) = &mut *self.keys.write().unwrap_or_else(PoisonError::into_inner) {
            keys.extend(changes.iter().map(|change| self.hasher.hash_one(change.place())));
        }
        self.disk.apply(changes)
    }

    fn settle(&self) -> Result<(), IndexError> {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.disk.settle()
    }

    fn visit(
        &self,
        table: Table,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), IndexError> {
        self.disk.visit(table, prefix, each)
    }

    fn last_up_to(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError> {
        self.disk.last_up_to(table, prefix, key)
    }

    fn first_after(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError> {
        self.disk.first_after(table, prefix, key)
    }
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("catalog");
const SETTLE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_whose_file_is_cut_or_emptied_under_it_fails_and_ends_quietly() {
        for rest in [0, 1, 20_000, 200_000] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("index");
            let index = DiskIndex::open(&path, 1 << 16).unwrap();
            let put = |number: u32| {
                let key = number.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
                Change::Put(Table::Pin, key, vec![7; 100])
            };
            for batch in 0..20 {
                index.apply((batch * 200..(batch + 1) * 200).map(put).collect()).unwrap();
            }
            index.settle().unwrap();
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(rest).unwrap();
            let asked = (0..4_000).map(|number| match put(number) {
                Change::Put(table, key, _) | Change::Remove(table, key) => index.get(table, &key),
            });
            assert!(asked.filter(Result::is_err).count() > 0, "{rest}");
            let _ = index.apply((4_000..5_000).map(put).collect());
            let _ = index.settle();
            drop(index);
            assert!(DiskIndex::open(&path, 1 << 16).map_or(true, |index| {
                let empty = index.get(Table::Pin, &[0; 4]);
                empty.is_err() || empty.unwrap().is_none()
            }));
        }
    }
}
