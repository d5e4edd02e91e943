//! Which archives the admitted metadata declares, found by checksum or by name.

use super::index::{Change, IndexError, Table};
use super::pins::checksum_key;
use super::{Catalog, put};
use crate::digest::Sha256;
use crate::opam::{Checksum, DeclaredChecksums, Strength};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// An archive as the admitted metadata of one repository declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredArchive {
    /// Packages that use it, as `name.version`, at most [`DeclaredArchive::MAX_PACKAGES`].
    pub packages: Vec<String>,
    /// Where it is to be had, `src` first, then `mirrors`, without credentials or fragments.
    pub urls: Vec<String>,
    /// The declared checksums in their order; empty when none is declared.
    pub checksums: Vec<Checksum>,
}

impl DeclaredArchive {
    /// How many packages of one archive are named.
    pub const MAX_PACKAGES: usize = 16;

    /// What tells this archive from others: its URLs and checksums, whoever uses it.
    pub fn id(&self) -> Sha256 {
        let checksums = self.checksums.iter().map(Checksum::to_string);
        let parts: Vec<String> = self.urls.iter().cloned().chain(checksums).collect();
        Sha256::of(parts.join("\n").as_bytes())
    }
}

impl Catalog {
    /// Which admitted state of `repository` the declared archives are of.
    ///
    /// # Errors
    /// When the index fails.
    pub fn declared_state(&self, repository: &str) -> Result<Option<Sha256>, IndexError> {
        let state = self.get(Table::Meta, &state_key(repository))?;
        Ok(state.and_then(|value| Some(Sha256::from_bytes(value.try_into().ok()?))))
    }

    /// The archives that `repository` declares under a checksum.
    ///
    /// # Errors
    /// When the index fails.
    pub fn declared(
        &self,
        repository: &str,
        checksum: &Checksum,
    ) -> Result<Vec<DeclaredArchive>, IndexError> {
        self.archives(repository, Table::DeclaredChecksum, &checksum_key(checksum))
    }

    /// The archive of a name, such as `name.version` for a package's main one.
    ///
    /// # Errors
    /// When the index fails.
    pub fn named_archive(
        &self,
        repository: &str,
        name: &str,
    ) -> Result<Option<DeclaredArchive>, IndexError> {
        Ok(self.archives(repository, Table::Package, name.as_bytes())?.pop())
    }

    /// The names of the archives that only weak checksums vouch for, with those checksums.
    ///
    /// # Errors
    /// When the index fails.
    pub fn weak_archives(
        &self,
        repository: &str,
    ) -> Result<Vec<(String, DeclaredChecksums)>, IndexError> {
        let start = key(repository, &[]);
        let weak =
            self.index().scan(Table::Weak, &start)?.into_iter().filter_map(|(key, value)| {
                let name = std::str::from_utf8(key.get(start.len()..)?).ok()?.to_owned();
                let checksums = serde_json::from_slice(&value).ok()?;
                Some((name, DeclaredChecksums::new(checksums)))
            });
        Ok(weak.collect())
    }

    /// Replaces what `repository` declares; only what differs is written.
    ///
    /// `archives` are by their ids; `named` maps names to them.
    ///
    /// # Errors
    /// When the index fails.
    pub fn declare(
        &self,
        repository: &str,
        state: Sha256,
        archives: &BTreeMap<Sha256, DeclaredArchive>,
        named: &BTreeMap<String, Sha256>,
    ) -> Result<(), IndexError> {
        let mut wanted: HashMap<(Table, Vec<u8>), Vec<u8>> = HashMap::new();
        for (id, archive) in archives {
            let value = serde_json::to_vec(archive).unwrap_or_default();
            wanted.insert((Table::Archive, key(repository, id.as_bytes())), value);
            for checksum in &archive.checksums {
                let key = key(repository, &checksum_key(checksum));
                let ids = wanted.entry((Table::DeclaredChecksum, key)).or_default();
                // A record holds up to 64 archives of one checksum.
                if ids.len() < 64 * 32 {
                    ids.extend_from_slice(id.as_bytes());
                }
            }
        }
        for (name, id) in named {
            let key = key(repository, name.as_bytes());
            let weak = archives.get(id).map(|archive| &archive.checksums);
            let weak = weak.filter(|it| strength(it) == Strength::Weak);
            if let Some(value) = weak.and_then(|checksums| serde_json::to_vec(checksums).ok()) {
                wanted.insert((Table::Weak, key.clone()), value);
            }
            wanted.insert((Table::Package, key), id.as_bytes().to_vec());
        }
        // One index throughout: another one that takes its place has other things unchanged.
        let index = self.index();
        let mut changes = Vec::new();
        for table in [Table::Archive, Table::DeclaredChecksum, Table::Package, Table::Weak] {
            index.visit(table, &key(repository, &[]), &mut |key, value| {
                let key = (table, key.to_vec());
                match wanted.entry(key) {
                    Entry::Occupied(new) if new.get() == value => drop(new.remove()),
                    Entry::Occupied(_) => {}
                    Entry::Vacant(gone) => {
                        let (table, key) = gone.into_key();
                        changes.push(Change::Remove(table, key));
                    }
                }
            })?;
        }
        changes
            .extend(wanted.into_iter().map(|((table, key), value)| Change::Put(table, key, value)));
        changes.sort_unstable_by(|one, other| one.place().cmp(&other.place()));
        // Between the first and the last of them, it is of no state.
        index.apply(vec![Change::Remove(Table::Meta, state_key(repository))])?;
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(AT_ONCE));
            index.apply(std::mem::replace(&mut changes, rest))?;
        }
        index.apply(vec![put(Table::Meta, &state_key(repository), state.as_bytes().to_vec())])?;
        index.settle()
    }

    fn archives(
        &self,
        repository: &str,
        table: Table,
        subject: &[u8],
    ) -> Result<Vec<DeclaredArchive>, IndexError> {
        let index = self.index();
        let ids = index.get(table, &key(repository, subject))?.unwrap_or_default();
        let mut archives = Vec::new();
        for id in ids.chunks_exact(32) {
            let value = index.get(Table::Archive, &key(repository, id))?;
            archives.extend(value.and_then(|value| serde_json::from_slice(&value).ok()));
        }
        Ok(archives)
    }
}

/// So many changes are made at once: the index holds all that they replace until they are made.
const AT_ONCE: usize = 1024;

fn strength(checksums: &[Checksum]) -> Strength {
    DeclaredChecksums::new(checksums.to_vec()).strength()
}

fn key(repository: &str, subject: &[u8]) -> Vec<u8> {
    [repository.as_bytes(), &[0], subject].concat()
}

fn state_key(repository: &str) -> Vec<u8> {
    [b"declared ", repository.as_bytes()].concat()
}
