//! The key-value index under the catalog: what one does, and a plain map in memory that does it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};
use thiserror::Error;

/// Tables of the index; each key starts with its table's byte, so that one batch can change
/// several tables atomically.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Table {
    Meta = b'm',
    Pin = b'p',
    Blob = b'b',
    Divergence = b'd',
    State = b'D',
    About = b'A',
    Edit = b'e',
    Recheck = b'k',
    FirstDeclared = b'f',
    Snapshot = b's',
    SnapshotTime = b't',
    SnapshotIndex = b'i',
    Past = b'P',
    Revision = b'r',
    DeclaredChecksum = b'c',
    DeclaredUrl = b'u',
    Archive = b'a',
    Package = b'n',
    Weak = b'w',
}

/// One change of the index.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Table, Vec<u8>, Vec<u8>),
    Remove(Table, Vec<u8>),
}

impl Change {
    /// What it changes.
    pub(super) fn place(&self) -> (Table, &[u8]) {
        match self {
            Self::Put(table, key, _) | Self::Remove(table, key) => (*table, key),
        }
    }
}

/// A key, without its table's byte, and its value.
pub(super) type Item = (Vec<u8>, Vec<u8>);

/// The index failed; its content is derived, so the answer is to rebuild it.
#[derive(Clone, Debug, Error)]
#[error("the catalog's index: {0}")]
pub struct IndexError(String);

impl IndexError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// Sorted keys and small values; nothing in it is the only copy of anything.
pub(super) trait Index: Send + Sync {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Applies all changes or none; a crash within a second may take them back.
    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError>;
    /// Makes what was applied durable.
    fn settle(&self) -> Result<(), IndexError> {
        Ok(())
    }
    /// Shows `each` all entries of a table whose keys start with `prefix`, in order, without the
    /// table's byte; `each` must not ask the index anything.
    fn visit(
        &self,
        table: Table,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), IndexError>;

    /// The last of a table's entries whose keys start with `prefix` and are at most `key`, which
    /// starts with it too.
    fn last_up_to(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError>;
    /// The first of a table's entries whose keys start with `prefix` and are greater than `key`.
    fn first_after(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError>;

    /// The same as a list.
    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Vec<Item>, IndexError> {
        let mut items = Vec::new();
        self.visit(table, prefix, &mut |key, value| items.push((key.to_vec(), value.to_vec())))?;
        Ok(items)
    }
}

/// The index in memory: what a catalog falls back to when its directory can't be used at all.
#[derive(Default)]
pub(super) struct MemoryIndex(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Index for MemoryIndex {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(&whole_key(table, key)).cloned())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put(table, key, value) => map.insert(whole_key(table, &key), value),
                Change::Remove(table, key) => map.remove(&whole_key(table, &key)),
            };
        }
        Ok(())
    }

    fn visit(
        &self,
        table: Table,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), IndexError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = whole_key(table, prefix);
        let found = map.range(start.clone()..).take_while(|(key, _)| key.starts_with(&start));
        found.for_each(|(key, value)| each(&key[1..], value));
        Ok(())
    }

    fn last_up_to(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let last = map.range(whole_key(table, prefix)..=whole_key(table, key)).next_back();
        Ok(last.map(|(key, value)| (key[1..].to_vec(), value.clone())))
    }

    fn first_after(
        &self,
        table: Table,
        prefix: &[u8],
        key: &[u8],
    ) -> Result<Option<Item>, IndexError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = whole_key(table, prefix);
        let first = map.range((Bound::Excluded(whole_key(table, key)), Bound::Unbounded)).next();
        let first = first.filter(|(key, _)| key.starts_with(&start));
        Ok(first.map(|(key, value)| (key[1..].to_vec(), value.clone())))
    }
}

/// The index while there is none: it fails, so that no one takes what it does not know for what
/// is not there.
pub(super) struct FailingIndex(pub(super) IndexError);

impl Index for FailingIndex {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Err(self.0.clone())
    }

    fn apply(&self, _: Vec<Change>) -> Result<(), IndexError> {
        Err(self.0.clone())
    }

    fn visit(&self, _: Table, _: &[u8], _: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), IndexError> {
        Err(self.0.clone())
    }

    fn last_up_to(&self, _: Table, _: &[u8], _: &[u8]) -> Result<Option<Item>, IndexError> {
        Err(self.0.clone())
    }

    fn first_after(&self, _: Table, _: &[u8], _: &[u8]) -> Result<Option<Item>, IndexError> {
        Err(self.0.clone())
    }
}

pub(super) fn whole_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(1 + key.len());
    whole.push(table as u8);
    whole.extend_from_slice(key);
    whole
}

#[cfg(test)]
mod tests {
    use super::super::disk_index::{DiskIndex, FillingIndex};
    use super::*;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        let table = prop_oneof![Just(Table::Pin), Just(Table::Blob), Just(Table::Meta)];
        (table, proptest::collection::vec(0u8..4, 0..3), any::<Option<u8>>()).prop_map(
            |(table, key, value)| match value {
                Some(value) => Change::Put(table, key, vec![value]),
                None => Change::Remove(table, key),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_on_disk_and_a_plain_map_never_differ(
            batches in proptest::collection::vec(proptest::collection::vec(change(), 0..8), 0..8),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let disk = DiskIndex::open(&directory.path().join("index"), 1 << 20).unwrap();
            let filling = DiskIndex::open(&directory.path().join("other"), 1 << 20).unwrap();
            let filling = FillingIndex::over(filling);
            let memory = MemoryIndex::default();
            for (number, batch) in batches.into_iter().enumerate() {
                disk.apply(batch.clone()).unwrap();
                filling.apply(batch.clone()).unwrap();
                memory.apply(batch).unwrap();
                if number == 4 {
                    filling.settle().unwrap();
                }
                for key in [&[][..], &[1], &[3, 3]] {
                    let table = Table::Pin;
                    prop_assert_eq!(
                        filling.get(table, key).unwrap(),
                        memory.get(table, key).unwrap()
                    );
                }
            }
            for table in [Table::Pin, Table::Blob, Table::Meta, Table::Archive] {
                for prefix in [&[][..], &[1], &[3, 3]] {
                    prop_assert_eq!(
                        disk.scan(table, prefix).unwrap(),
                        memory.scan(table, prefix).unwrap()
                    );
                    prop_assert_eq!(
                        disk.get(table, prefix).unwrap(),
                        memory.get(table, prefix).unwrap()
                    );
                    for key in [prefix.to_vec(), [prefix, &[2]].concat()] {
                        prop_assert_eq!(
                            disk.last_up_to(table, prefix, &key).unwrap(),
                            memory.last_up_to(table, prefix, &key).unwrap()
                        );
                        prop_assert_eq!(
                            disk.first_after(table, prefix, &key).unwrap(),
                            memory.first_after(table, prefix, &key).unwrap()
                        );
                    }
                }
            }
        }
    }
}
