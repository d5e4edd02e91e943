//! Versions that were served once and are no more: one that comes back is compared with what it was.
//!
//! A snapshot names a list of them. Each stands there by its `name.version` and the name of a list of
//! its own, which has its files and, where pins had added checksums, the opam file with these.

use super::admit::AdmitError;
use super::differing::{Differing, Files, versions};
use super::file_list::FileList;
use super::opam_files::opam_files;
use crate::digest::Sha256;
use crate::opam::{Package, RepoPath};
use crate::store::blobs::Blobs;
use std::collections::{BTreeMap, BTreeSet};

/// The versions that are gone.
#[derive(Default)]
pub(super) struct Departed {
    lists: BTreeMap<Package, Sha256>,
    /// Those of a list of all their files, as earlier versions of opam-keep wrote it.
    inline: BTreeMap<Package, FileList>,
    /// Those that upstream had when they were left out because they can't be read back.
    damaged: BTreeSet<Package>,
}

/// A version as it was served.
pub(super) struct Known {
    /// Its files, and no other version's.
    pub files: FileList,
    /// Its opam file with the checksums that pins had added.
    pub strengthened: Option<Sha256>,
}

/// A list of departed versions, and those of the versions that it names.
pub(super) struct Written {
    pub list: FileList,
    pub versions: Vec<Vec<u8>>,
}

impl Departed {
    /// Reads the list of a snapshot.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn read(blobs: &Blobs, name: Option<Sha256>) -> Result<Self, AdmitError> {
        let Some(name) = name else { return Ok(Self::default()) };
        let list = FileList::parse(&blobs.read(&name, FileList::MAX_SIZE)?)?;
        let (files, lists): (BTreeMap<_, _>, BTreeMap<_, _>) =
            list.0.into_iter().partition(|(path, _)| path.as_str().contains('/'));
        let marks = lists.keys().filter_map(|path| path.as_str().strip_prefix(DAMAGED));
        let damaged = marks.filter_map(|package| package.parse().ok()).collect();
        let lists =
            lists.into_iter().filter_map(|(path, name)| Some((path.as_str().parse().ok()?, name)));
        let files = FileList(files);
        let inline =
            versions(&files).into_iter().map(|(package, files)| (package, list_of(&files)));
        Ok(Self { lists: lists.collect(), inline: inline.collect(), damaged })
    }

    /// Those that come back as they were once they can be read, unless upstream lets go of them.
    pub(super) fn damaged(&self) -> &BTreeSet<Package> {
        &self.damaged
    }

    /// Their names.
    pub(super) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.lists.keys().chain(self.inline.keys())
    }

    /// A version as it was.
    ///
    /// # Errors
    /// When its list can't be read.
    pub(super) fn version(
        &self,
        package: &Package,
        blobs: &Blobs,
    ) -> Result<Option<Known>, AdmitError> {
        let Some(name) = self.lists.get(package) else {
            let files = self.inline.get(package).cloned();
            return Ok(files.map(|files| Known { files, strengthened: None }));
        };
        let mut files = FileList::parse(&blobs.read(name, FileList::MAX_SIZE)?)?;
        let strengthened = files.0.remove(STRENGTHENED);
        Ok(Some(Known { files, strengthened }))
    }

    /// The list of those that are gone once `admitted` is served in place of `before`, some because
    /// they are `damaged`.
    pub(super) fn followed(
        &self,
        served: &FileList,
        strengthened: &FileList,
        admitted: &FileList,
        damaged: &BTreeSet<Package>,
    ) -> Written {
        let differing = Differing::between(served, admitted);
        let is_gone = |package: &Package| !differing.is.contains_key(package);
        let mut lists = self.lists.clone();
        let mut versions = Vec::new();
        let gone = differing.was.iter().map(|(package, files)| (package, list_of(files)));
        let inline = self.inline.iter().map(|(package, files)| (package, files.clone()));
        for (package, mut files) in inline.chain(gone).filter(|(package, _)| is_gone(package)) {
            let opam = opam_files(&files).next().map(|(_, path, _)| path.clone());
            let stronger = opam.and_then(|path| strengthened.0.get(&path));
            if let (Some(name), Ok(path)) = (stronger, STRENGTHENED.parse()) {
                files.0.insert(path, *name);
            }
            let list = files.to_bytes();
            lists.insert(package.clone(), Sha256::of(&list));
            versions.push(list);
        }
        let marks: Vec<(RepoPath, Sha256)> = damaged
            .iter()
            .filter(|package| is_gone(package))
            .filter_map(|it| Some((format!("{DAMAGED}{it}").parse().ok()?, *lists.get(it)?)))
            .collect();
        let lines = lists.into_iter().filter(|(package, _)| is_gone(package));
        // Its directory had that name, so it is a path.
        let line =
            |(package, name): (Package, Sha256)| Some((package.to_string().parse().ok()?, name));
        Written { list: lines.filter_map(line).chain(marks).collect(), versions }
    }
}

/// The list of one version's files.
pub(super) fn list_of(files: &Files<'_>) -> FileList {
    files.values().map(|(path, name)| (RepoPath::clone(path), *name)).collect()
}

/// Where a version's list names the opam file with more checksums; none of its own lies at the root.
const STRENGTHENED: &str = "strengthened";
/// What leads the line of one that is to come back; no name has a colon.
const DAMAGED: &str = "damaged:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;
    use crate::store::layout::Layout;

    fn list(lines: &[(&str, &str)]) -> FileList {
        lines
            .iter()
            .map(|(path, text)| (path.parse().unwrap(), Sha256::of(text.as_bytes())))
            .collect()
    }

    fn kept(blobs: &Blobs, written: &Written) -> Sha256 {
        let list = written.list.to_bytes();
        let lists = written.versions.iter().chain([&list]);
        blobs.put_all(lists.map(|list| (Sha256::of(list), &list[..]))).unwrap();
        Sha256::of(&list)
    }

    #[tokio::test]
    async fn a_version_is_remembered_from_when_it_goes_until_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("store"));
        let store = Store::open(layout, 0, &Clock::system()).await.unwrap();
        let blobs = store.blobs();
        let a = [("packages/a/a.1/files/x", "x"), ("packages/a/a.1/opam", "first")];
        let b = ("packages/b/b.1/opam", "b");
        let (all, none) = (list(&[a[0], a[1], b]), FileList::default());
        let stronger = list(&[("packages/a/a.1/opam", "stronger")]);
        // As earlier versions wrote it.
        let inline = list(&[("packages/old/old.1/opam", "old")]).to_bytes();
        blobs.put_all([(Sha256::of(&inline), &inline[..])].into_iter()).unwrap();
        let departed = Departed::read(blobs, Some(Sha256::of(&inline))).unwrap();
        let written =
            departed.followed(&all, &stronger, &list(&[b]), &["a.1".parse().unwrap()].into());
        let names: Vec<&str> = written.list.0.keys().map(RepoPath::as_str).collect();
        assert_eq!(names, ["a.1", "damaged:a.1", "old.1"]);
        let departed = Departed::read(blobs, Some(kept(blobs, &written))).unwrap();
        let known = departed.version(&"a.1".parse().unwrap(), blobs).unwrap().unwrap();
        assert_eq!(known.files, list(&a));
        assert!(departed.damaged().contains(&"a.1".parse().unwrap()));
        assert_eq!(known.strengthened, Some(Sha256::of(b"stronger")));
        let old = departed.version(&"old.1".parse().unwrap(), blobs).unwrap().unwrap();
        assert_eq!(old.files, list(&[("packages/old/old.1/opam", "old")]));
        assert!(departed.version(&"b.1".parse().unwrap(), blobs).unwrap().is_none());

        let back = departed.followed(&list(&[b]), &none, &all, &BTreeSet::new());
        let names: Vec<&str> = back.list.0.keys().map(RepoPath::as_str).collect();
        assert_eq!(names, ["old.1"]);
        assert!(back.versions.is_empty());
    }
}
