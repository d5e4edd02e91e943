//! The files of one state of a version.

use crate::opam::{Package, RepoPath, Tree};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The files in a version's directory in one state: the opam file and those beside it.
///
/// Which directory that is plays no part, so that one may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionFiles {
    opam: Bytes,
    /// By their paths in the version's directory.
    beside: BTreeMap<RepoPath, Bytes>,
}

impl VersionFiles {
    /// A version that is nothing but its opam file.
    pub fn new(opam: Bytes) -> Self {
        Self { opam, beside: BTreeMap::new() }
    }

    /// Adds a file beside the opam file, by its path in the version's directory; one at the path
    /// `opam` takes the opam file's place.
    pub fn insert(&mut self, path: RepoPath, content: Bytes) {
        if path.as_str() == OPAM {
            self.opam = content;
        } else {
            self.beside.insert(path, content);
        }
    }

    /// The files of a version in a repository; none if it isn't there.
    pub fn of(tree: &Tree, package: &Package) -> Option<Self> {
        let mut files = Self::new(tree.opam_file(package)?.clone());
        for (path, content) in relative(tree, package) {
            // A path that ends a safe path is a safe one.
            if let Ok(path) = path.parse() {
                files.insert(path, content.clone());
            }
        }
        Some(files)
    }

    /// Forgets the empty files that `other` lacks: an index that is made here has none, so that one
    /// goes is no edit.
    pub fn forget_empty(&mut self, other: &Self) {
        self.beside.retain(|path, content| !content.is_empty() || other.beside.contains_key(path));
    }

    /// The opam file.
    pub fn opam(&self) -> &Bytes {
        &self.opam
    }

    /// The files beside it.
    pub(super) fn beside(&self) -> &BTreeMap<RepoPath, Bytes> {
        &self.beside
    }
}

/// The files of a version with their paths in its directory, sorted by path.
pub(super) fn relative<'a>(
    tree: &'a Tree,
    package: &Package,
) -> impl Iterator<Item = (&'a str, &'a Bytes)> {
    let prefix = tree.directory(package).map_or(0, |directory| directory.as_str().len() + 1);
    let files = tree.version_files(package);
    files.map(move |(path, content)| (path.as_str().get(prefix..).unwrap_or_default(), content))
}

const OPAM: &str = "opam";
