//! Which versions differ between two lists of files: found at the paths that differ, so that it
//! costs next to nothing where two lists of a large repository are almost the same.

use super::file_list::FileList;
use super::opam_files::{OPAM, OpamDirectories, package};
use crate::digest::Sha256;
use crate::opam::{Package, RepoPath, ancestors};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

/// A version's files by their path below its directory.
pub(super) type Files<'a> = BTreeMap<&'a str, (&'a RepoPath, Sha256)>;

/// The versions that have a file at a path where two lists differ, as each of the lists has them.
pub(super) struct Differing<'a> {
    pub was: BTreeMap<Package, Files<'a>>,
    pub is: BTreeMap<Package, Files<'a>>,
}

impl<'a> Differing<'a> {
    pub(super) fn between(one: &'a FileList, other: &'a FileList) -> Self {
        let paths = differing_paths(one, other);
        let (was, is) = rayon::join(|| versions_at(one, &paths), || versions_at(other, &paths));
        Self { was, is }
    }

    /// The versions whose files differ, wherever their directories lie, or that only one of the
    /// lists has.
    pub(super) fn packages(&self) -> impl Iterator<Item = &Package> {
        let packages: BTreeSet<&Package> = self.was.keys().chain(self.is.keys()).collect();
        packages.into_iter().filter(|package| self.was_files(package) != self.is_files(package))
    }

    fn was_files(&self, package: &Package) -> Option<Vec<(&str, Sha256)>> {
        self.was.get(package).map(contents)
    }

    fn is_files(&self, package: &Package) -> Option<Vec<(&str, Sha256)>> {
        self.is.get(package).map(contents)
    }
}

/// The directories in which two lists differ.
pub(super) struct Touched<'a> {
    /// Those that have a path that differs, at any depth.
    above: HashSet<&'a str>,
    /// Those whose opam file differs: what is below them may have become, or ceased to be, another
    /// version's.
    outer: HashSet<&'a str>,
}

impl<'a> Touched<'a> {
    pub(super) fn between(one: &'a FileList, other: &'a FileList) -> Self {
        let paths = differing_paths(one, other);
        Self {
            above: paths.iter().copied().flat_map(ancestors).collect(),
            outer: paths.iter().filter_map(|path| path.strip_suffix(OPAM)).collect(),
        }
    }

    /// Whether the version in this directory of one list may be another one, or none, in the other.
    pub(super) fn is_touched(&self, directory: &str) -> bool {
        self.above.contains(directory)
            || ancestors(directory).any(|above| self.outer.contains(above))
    }
}

/// All versions of a list.
pub(super) fn versions(list: &FileList) -> BTreeMap<Package, Files<'_>> {
    versions_at(list, &list.0.keys().map(RepoPath::as_str).collect::<Vec<_>>())
}

/// How many versions a list has.
pub(super) fn count(list: &FileList) -> usize {
    OpamDirectories::among(list.0.keys()).versions()
}

fn contents<'a>(files: &Files<'a>) -> Vec<(&'a str, Sha256)> {
    files.iter().map(|(below, (_, name))| (*below, *name)).collect()
}

/// The paths that only one of two lists has, or that have another file in each.
fn differing_paths<'a>(one: &'a FileList, other: &'a FileList) -> Vec<&'a str> {
    let (mut one, mut other) = (one.0.iter().peekable(), other.0.iter().peekable());
    let mut paths = Vec::new();
    loop {
        let order = match (one.peek(), other.peek()) {
            (None, None) => return paths,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let was = if order.is_le() { one.next() } else { None };
        let is = if order.is_ge() { other.next() } else { None };
        if was != is {
            paths.extend(was.or(is).map(|(path, _)| path.as_str()));
        }
    }
}

/// The versions of a list that are what they are because of one of these paths.
fn versions_at<'a>(list: &'a FileList, paths: &[&str]) -> BTreeMap<Package, Files<'a>> {
    let with_opam = OpamDirectories::among(list.0.keys());
    let mut directories: BTreeSet<&str> =
        paths.iter().filter_map(|path| with_opam.version_of(path)).collect();
    // Whether there is an opam file says what the directories below are.
    let outer: HashSet<&str> = paths.iter().filter_map(|path| path.strip_suffix(OPAM)).collect();
    let outermost = outer.iter().filter(|it| !ancestors(it).any(|above| outer.contains(above)));
    for directory in outermost {
        let below = below(list, directory).filter(|(_, path, _)| path.as_str().ends_with(OPAM));
        directories.extend(below.filter_map(|(_, path, _)| with_opam.version_of(path.as_str())));
    }
    let version = |directory: &str| {
        let package = package(directory)?;
        let files = below(list, directory).map(|(below, path, name)| (below, (path, name)));
        Some((package, files.collect()))
    };
    directories.into_iter().filter_map(version).collect()
}

/// The files below a directory, each with its path there.
pub(super) fn below<'a>(
    list: &'a FileList,
    directory: &str,
) -> impl Iterator<Item = (&'a str, &'a RepoPath, Sha256)> + use<'a> {
    let prefix = format!("{directory}/");
    let start = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    list.0.range::<str, _>(start).map_while(move |(path, name)| {
        Some((path.as_str().strip_prefix(prefix.as_str())?, path, *name))
    })
}

#[cfg(test)]
mod tests {
    use super::super::opam_files::opam_files;
    use super::*;
    use crate::opam::{Tree, TreeError, TreeLimits};
    use bytes::Bytes;
    use proptest::prelude::*;

    /// All versions of a list, found in the way of trees; none if it is no tree's.
    fn found(list: &FileList) -> Option<BTreeMap<Package, Files<'_>>> {
        let files = list.0.keys().map(|path| (path.clone(), Bytes::from_static(b"x")));
        let tree = match Tree::from_files(files, &TreeLimits::default()) {
            Ok(tree) => tree,
            Err(TreeError::Empty) => return Some(BTreeMap::new()),
            Err(_) => return None,
        };
        let files = |directory: &RepoPath| {
            below(list, directory.as_str()).map(|(below, path, name)| (below, (path, name)))
        };
        let version =
            |(package, directory): (&Package, _)| (package.clone(), files(directory).collect());
        Some(tree.versions().map(version).collect())
    }

    fn list() -> impl Strategy<Value = FileList> {
        let path = "packages(/(a|a\\.1|b|b\\.2|files)){0,3}/(opam|url|x)";
        proptest::collection::btree_map(path, 0_u8..2, 0..12).prop_map(|files| {
            let file =
                |(path, content): (String, u8)| (path.parse().unwrap(), Sha256::of(&[content]));
            files.into_iter().map(file).collect()
        })
    }

    /// What a tree has of these files; none if they are no tree's.
    fn as_a_tree(mut list: FileList) -> Option<FileList> {
        let files = list.0.keys().map(|path| (path.clone(), Bytes::from_static(b"x")));
        match Tree::from_files(files, &TreeLimits::default()) {
            Ok(tree) => list.0.retain(|path, _| tree.file(path.as_str()).is_some()),
            Err(TreeError::Empty) => list.0.clear(),
            Err(_) => return None,
        }
        Some(list)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]
        #[test]
        fn what_differs_is_what_differs_between_all_versions(
            one in list().prop_filter_map("a tree", as_a_tree),
            other in list().prop_filter_map("a tree", as_a_tree),
        ) {
            let (was, is) = (found(&one).unwrap(), found(&other).unwrap());
            let differs = |package: &&Package| {
                was.get(*package).map(contents) != is.get(*package).map(contents)
            };
            let all: BTreeSet<&Package> = was.keys().chain(is.keys()).collect();
            let expected: Vec<&Package> = all.into_iter().filter(differs).collect();
            let differing = Differing::between(&one, &other);
            prop_assert_eq!(differing.packages().collect::<Vec<_>>(), expected.clone());
            for package in expected {
                prop_assert_eq!(differing.was.get(package), was.get(package));
                prop_assert_eq!(differing.is.get(package), is.get(package));
            }
            let touched = Touched::between(&one, &other);
            for (package, files) in is.iter().filter_map(|(package, files)| {
                let (below, (path, _)) = files.first_key_value()?;
                let directory = path.as_str().strip_suffix(below)?.strip_suffix('/')?;
                (!touched.is_touched(directory)).then_some((package, files))
            }) {
                prop_assert_eq!(was.get(package), Some(files));
            }
            prop_assert_eq!(count(&one), was.len());
            let opam_files = opam_files(&one).map(|(package, _, _)| package);
            prop_assert_eq!(opam_files.collect::<BTreeSet<_>>(), was.keys().cloned().collect());
            prop_assert_eq!(versions(&one), was);
        }
    }
}
