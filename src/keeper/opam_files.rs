//! Which files of a list are the opam files of versions: by the rules of a tree, nothing is looked for
//! below a version, whatever lies there is called.

use super::file_list::FileList;
use crate::digest::Sha256;
use crate::opam::{Package, RepoPath, ancestors};
use std::collections::HashSet;

/// The directories that have an opam file.
pub(super) struct OpamDirectories<'a>(HashSet<&'a str>);

impl<'a> OpamDirectories<'a> {
    pub(super) fn among(paths: impl IntoIterator<Item = &'a RepoPath>) -> Self {
        Self(paths.into_iter().filter_map(|path| path.as_str().strip_suffix(OPAM)).collect())
    }

    /// The directory of the version that a path belongs to: the outermost one that has an opam file,
    /// if its name is a version's.
    pub(super) fn version_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let outermost = ancestors(path).filter(|it| self.0.contains(it)).last()?;
        package(outermost).map(|_| outermost)
    }

    /// The package whose opam file this is, if it is one's.
    pub(super) fn package_of(&self, path: &RepoPath) -> Option<Package> {
        let directory = path.as_str().strip_suffix(OPAM)?;
        let is_outermost = !ancestors(directory).any(|above| self.0.contains(above));
        is_outermost.then(|| package(directory)).flatten()
    }

    /// How many versions there are.
    pub(super) fn versions(&self) -> usize {
        let is_version = |it: &&&str| self.version_of(&format!("{it}{OPAM}")) == Some(it);
        self.0.iter().filter(is_version).count()
    }
}

/// The opam files of all versions of a list, in the order of their paths.
pub(super) fn opam_files(list: &FileList) -> impl Iterator<Item = (Package, &RepoPath, &Sha256)> {
    let directories = OpamDirectories::among(list.0.keys());
    list.0.iter().filter_map(move |(path, name)| Some((directories.package_of(path)?, path, name)))
}

/// The package whose directory has this path.
pub(super) fn package(directory: &str) -> Option<Package> {
    directory.rsplit_once('/').map_or(directory, |(_, name)| name).parse().ok()
}

/// What a path of an opam file ends with.
pub(super) const OPAM: &str = "/opam";
