//! A list of files with the directories of its versions, so that each is found by its name.

use super::differing::below;
use super::file_list::FileList;
use super::opam_files::{OPAM, opam_files};
use crate::digest::Sha256;
use crate::opam::{Package, RepoPath};
use std::collections::HashMap;

/// The versions of a list.
pub(super) struct Versions {
    files: FileList,
    directories: HashMap<String, String>,
}

impl Versions {
    pub(super) fn of(files: FileList) -> Self {
        let directory = |(package, path, _): (Package, &RepoPath, &Sha256)| {
            Some((package.to_string(), path.as_str().strip_suffix(OPAM)?.to_owned()))
        };
        let directories = opam_files(&files).filter_map(directory).collect();
        Self { files, directories }
    }

    /// Whether a version, written `name.version`, has these very files, wherever its directory lies;
    /// without any, whether there is no such version.
    pub(super) fn has(&self, package: &str, files: &FileList) -> bool {
        let theirs = Self::of(files.clone());
        self.contents(package) == theirs.contents(package)
    }

    /// A version's files by their path below its directory.
    fn contents(&self, package: &str) -> Option<Vec<(&str, Sha256)>> {
        let directory = self.directories.get(package)?;
        Some(below(&self.files, directory).map(|(below, _, name)| (below, name)).collect())
    }
}
