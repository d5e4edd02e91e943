//! Which archives the admitted metadata declares, found by checksum, by URL or by name.

use super::index::{Change, IndexError, Table};
use super::pins::checksum_key;
use super::{Catalog, Kept, put};
use crate::digest::{Digests, Sha256};
use crate::opam::{Checksum, DeclaredChecksums, Strength};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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

    /// The packages of `repository` that declare a URL and mean other bytes by it than these; `None`
    /// where that can't be told, because so many archives are declared there or none is known.
    ///
    /// # Errors
    /// When the index fails.
    pub fn others_at(
        &self,
        repository: &str,
        url: &str,
        bytes: &Digests,
    ) -> Result<Option<BTreeSet<String>>, IndexError> {
        let Some(archives) = self.declared_at(repository, url)? else { return Ok(None) };
        let mut others = BTreeSet::new();
        for archive in archives {
            if !self.is_meant(&archive, bytes)? {
                others.extend(archive.packages);
            }
        }
        Ok(Some(others))
    }

    /// The blob of an archive that `repository` declares at a URL, where none that it declares there
    /// has this one.
    ///
    /// # Errors
    /// When the index fails.
    pub fn kept_instead(
        &self,
        repository: &str,
        url: &str,
        sha256: &Sha256,
    ) -> Result<Option<Kept>, IndexError> {
        let mut instead = None;
        for archive in self.declared_at(repository, url)?.unwrap_or_default() {
            match self.kept_of(&archive.checksums, &archive.urls)? {
                Some(kept) if kept.sha256 == *sha256 => return Ok(None),
                kept => instead = instead.or(kept),
            }
        }
        Ok(instead)
    }

    /// The archives that `repository` declares at a URL; `None` where that can't be told.
    fn declared_at(
        &self,
        repository: &str,
        url: &str,
    ) -> Result<Option<Vec<DeclaredArchive>>, IndexError> {
        let archives = self.archives(repository, Table::DeclaredUrl, &url_key(url))?;
        let is_known = self.declared_state(repository)?.is_some();
        Ok((is_known && archives.len() < MAX_SAME).then_some(archives))
    }

    /// Some packages that use a URL, with those that [`Catalog::others_at`] knows beside them; at most
    /// [`DeclaredArchive::MAX_PACKAGES`].
    ///
    /// # Errors
    /// When the index fails.
    pub fn users_at(
        &self,
        repository: &str,
        url: &str,
        bytes: &Digests,
        packages: &[String],
    ) -> Result<Vec<String>, IndexError> {
        let mut users = self.others_at(repository, url, bytes)?.unwrap_or_default();
        users.extend(packages.iter().cloned());
        Ok(users.into_iter().take(DeclaredArchive::MAX_PACKAGES).collect())
    }

    /// The URLs that `repository` declares for those packages that are `wanted`, whose names all begin
    /// with `start`.
    ///
    /// # Errors
    /// When the index fails.
    pub fn declared_urls(
        &self,
        repository: &str,
        start: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, IndexError> {
        let of_repository = key(repository, &[]).len();
        let mut urls = Vec::new();
        for (key, _) in self.index().scan(Table::Package, &key(repository, start.as_bytes()))? {
            let name = key.get(of_repository..).and_then(|name| std::str::from_utf8(name).ok());
            // An extra source is called by its package and more.
            let is_wanted = |name: &&str| name.split('/').next().is_some_and(&wanted);
            if let Some(name) = name.filter(is_wanted) {
                let archive = self.named_archive(repository, name)?;
                urls.extend(archive.into_iter().flat_map(|archive| archive.urls));
            }
        }
        Ok(urls)
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
                add_id(wanted.entry((Table::DeclaredChecksum, key)).or_default(), id);
            }
            for url in &archive.urls {
                let key = key(repository, &url_key(url));
                add_id(wanted.entry((Table::DeclaredUrl, key)).or_default(), id);
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
        for table in TABLES {
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

    /// Whether who declares an archive means these bytes by it. An md5 that fits proves nothing where
    /// it leads to other ones, and without any checksum it is what the URL was pinned to first.
    fn is_meant(&self, archive: &DeclaredArchive, bytes: &Digests) -> Result<bool, IndexError> {
        for checksum in &archive.checksums {
            let kept = self.kept(checksum)?;
            if !checksum.matches(bytes) || kept.is_some_and(|kept| kept.sha256 != bytes.sha256) {
                return Ok(false);
            }
        }
        Ok(!archive.checksums.is_empty())
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
/// A record holds up to so many archives of one checksum or URL.
const MAX_SAME: usize = 64;
/// Where it stands what a repository declares.
const TABLES: [Table; 5] =
    [Table::Archive, Table::DeclaredChecksum, Table::DeclaredUrl, Table::Package, Table::Weak];

fn add_id(ids: &mut Vec<u8>, id: &Sha256) {
    if ids.len() < MAX_SAME * 32 {
        ids.extend_from_slice(id.as_bytes());
    }
}

fn strength(checksums: &[Checksum]) -> Strength {
    DeclaredChecksums::new(checksums.to_vec()).strength()
}

fn key(repository: &str, subject: &[u8]) -> Vec<u8> {
    [repository.as_bytes(), &[0], subject].concat()
}

/// Of one length, however long the URL is.
fn url_key(url: &str) -> [u8; 32] {
    *Sha256::of(url.as_bytes()).as_bytes()
}

fn state_key(repository: &str) -> Vec<u8> {
    [b"declared ", repository.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::{Entry, Strength};
    use crate::store::tests::{open, vouched_for};

    const URL: &str = "https://host.example/a";

    fn archive(package: &str, mirror: u32, checksums: &[Checksum]) -> DeclaredArchive {
        let urls = vec![URL.to_owned(), format!("https://host.example/{mirror}")];
        DeclaredArchive { packages: vec![package.to_owned()], urls, checksums: checksums.to_vec() }
    }

    #[tokio::test]
    async fn who_means_other_bytes_by_a_url_is_known_unless_there_are_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).await.unwrap();
        let (first, second) = (Digests::of(b"first"), Digests::of(b"second"));
        store.append(Entry::Pin(vouched_for(URL, b"first", Strength::Strong))).await.unwrap();
        // As if its md5 were that of the first bytes.
        let alike = Digests { md5: first.md5, ..second };
        let others = || store.lookup(|catalog| catalog.others_at("r", URL, &alike)).unwrap();
        let declare = |archives: Vec<DeclaredArchive>| {
            let archives = archives.into_iter().map(|it| (it.id(), it)).collect();
            let declare =
                |catalog: &Catalog| catalog.declare("r", first.sha256, &archives, &BTreeMap::new());
            store.lookup(declare).unwrap();
        };
        assert_eq!(others(), None, "nothing is known yet");
        declare(vec![
            archive("by-first.1", 1, &[Checksum::Sha256(first.sha256)]),
            archive("by-second.1", 2, &[Checksum::Sha256(second.sha256)]),
            archive("by-md5.1", 3, &[Checksum::Md5(first.md5)]),
            archive("by-url.1", 4, &[]),
        ]);
        let expected = ["by-first.1", "by-md5.1", "by-url.1"].map(str::to_owned);
        assert_eq!(others(), Some(BTreeSet::from(expected)));
        let many = 0..u32::try_from(MAX_SAME).unwrap();
        declare(many.map(|number| archive("a.1", number, &[])).collect());
        assert_eq!(others(), None, "there may be more");
        declare(Vec::new());
        assert_eq!(others(), Some(BTreeSet::new()));
    }
}
