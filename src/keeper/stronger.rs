//! Versions whose archives upstream declares by md5 alone, and what pins add to them.
//!
//! Blocking: it reads the catalog and the ledger.

use super::file_list::FileList;
use super::opam_files::opam_files;
use super::refresh::RefreshError;
use super::version_sources::VersionSources;
use crate::ledger::entry::Entry;
use crate::ledger::tile::WIDTH;
use crate::opam::{
    ArchiveSource, OpamFile, Package, RepoPath, Role, Strength, Tree, archive_sources, strengthen,
};
use crate::store::Store;
use crate::store::catalog::{IndexError, Kept};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What pins make of a repository's weakly declared versions.
#[derive(Default)]
pub(super) struct Stronger {
    /// The opam files that gain checksums, by path, with what they gain.
    pub files: BTreeMap<RepoPath, Bytes>,
    /// The versions that stay weak.
    pub weak: BTreeSet<Package>,
}

/// A weakly declared version whose archive is pinned.
struct Pinned {
    entry: u64,
    package: Package,
    path: RepoPath,
    file: OpamFile,
}

impl Stronger {
    /// Looks up what a repository declares weakly.
    ///
    /// `declared` is what its versions declare, in their order.
    pub(super) fn of(
        tree: &Tree,
        declared: &[VersionSources],
        store: &Store,
    ) -> Result<Self, RefreshError> {
        let mut stronger = Self::default();
        let mut pinned = Vec::new();
        for ((package, directory), declared) in tree.versions().zip(declared) {
            let VersionSources::Declared { sources, .. } = declared else { continue };
            let is_weak = |source: &&ArchiveSource| source.checksums.strength() == Strength::Weak;
            let Some(weak) = sources.iter().find(is_weak) else { continue };
            stronger.weak.insert(package.clone());
            let kept = match weak.role {
                Role::Main => {
                    store.lookup(|catalog| catalog.kept_of(weak.checksums.as_slice(), []))?
                }
                // What its extra sources declare stays, or older clients would rebuild it.
                Role::Extra(_) => None,
            };
            let Some(Kept { entry, .. }) = kept else { continue };
            let path = format!("{directory}/opam").parse().ok();
            let file = tree.opam_file(package).and_then(|it| OpamFile::parse(it).ok());
            if let Some((path, file)) = path.zip(file) {
                pinned.push(Pinned { entry, package: package.clone(), path, file });
            }
        }
        stronger.add(pinned, store)?;
        Ok(stronger)
    }

    /// Reads the pins, those of one bundle of entries together.
    fn add(&mut self, mut pinned: Vec<Pinned>, store: &Store) -> Result<(), RefreshError> {
        pinned.sort_by_key(|it| it.entry);
        for near in pinned.chunk_by(|one, other| one.entry / WIDTH == other.entry / WIDTH) {
            let [first, ..] = near else { continue };
            let last = near.last().unwrap_or(first);
            for entry in store.log().entries(first.entry, last.entry + 1) {
                let (index, entry) =
                    entry.map_err(|error| RefreshError::Store(error.to_string()))?;
                let Entry::Pin(pin) = entry else { continue };
                let digests = pin.digests();
                for Pinned { package, path, file, .. } in near.iter().filter(|it| it.entry == index)
                {
                    if let Some(bytes) = strengthen(file, &digests) {
                        if is_strong(&bytes) {
                            self.weak.remove(package);
                        }
                        self.files.insert(path.clone(), bytes);
                    }
                }
            }
        }
        Ok(())
    }

    /// The list of the files that gain checksums.
    pub(super) fn list(&self) -> FileList {
        self.files
            .iter()
            .map(|(path, bytes)| (path.clone(), crate::digest::Sha256::of(bytes)))
            .collect()
    }
}

/// What is served and would be served otherwise by now: archives that gain checksums and, where
/// weak ones are refused, those that do not.
pub(super) fn served_otherwise(
    store: &Store,
    repository: &str,
    strengthened: &FileList,
    refuses_weak: bool,
) -> Result<BTreeSet<String>, IndexError> {
    let strong: HashSet<String> =
        opam_files(strengthened).map(|(package, _, _)| package.to_string()).collect();
    store.lookup(|catalog| {
        let mut otherwise = BTreeSet::new();
        for (name, checksums) in catalog.weak_archives(repository)? {
            // The name of an extra source has a slash; it never gains any.
            let gains = || match name.contains('/') {
                true => Ok(false),
                false => catalog.kept_of(checksums.as_slice(), []).map(|kept| kept.is_some()),
            };
            if !strong.contains(&name) && (refuses_weak || gains()?) {
                otherwise.insert(name);
            }
        }
        Ok(otherwise)
    })
}

/// Whether a strong checksum vouches for all archives of an opam file.
fn is_strong(opam: &[u8]) -> bool {
    let sources = OpamFile::parse(opam).ok().and_then(|file| archive_sources(&file).ok());
    let is_weak = |source: &ArchiveSource| source.checksums.strength() == Strength::Weak;
    sources.is_some_and(|sources| !sources.iter().any(is_weak))
}
