//! Repositories as they are served: one that was admitted, and a new state with the versions that are
//! held.

use super::admit::AdmitError;
use super::file_list::FileList;
use super::opam_files::{OPAM, opam_files};
use super::review::ReviewedEdit;
use crate::opam::{Package, RepoPath, Tree, TreeLimits, ancestors};
use crate::store::blobs::Blobs;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Upstream's tree with the held versions as they are served.
pub(super) struct Merged {
    pub tree: Tree,
    /// The versions of upstream's that it has no room for, each with the reason.
    pub left_out: Vec<(String, String)>,
}

/// `upstream`, with the held versions as they are served.
///
/// # Errors
/// When a blob can't be read, or when the two can't be in one repository.
pub(super) fn with_held(
    upstream: &Tree,
    held: &[ReviewedEdit],
    blobs: &Blobs,
) -> Result<Merged, AdmitError> {
    let served = held.iter().filter_map(|edit| opam_files(&edit.served).next());
    let directories: BTreeSet<&str> =
        served.filter_map(|(_, path, _)| path.as_str().strip_suffix(OPAM)).collect();
    let above: BTreeSet<&str> = directories.iter().copied().flat_map(ancestors).collect();
    let afters = held.iter().flat_map(|edit| upstream.version_files(&edit.edit.package));
    let afters: BTreeSet<&RepoPath> = afters.map(|(path, _)| path).collect();
    // Nothing of upstream's is in a held version, nor is one in what can't hold it or hides it.
    let is_in_the_way = |path: &RepoPath| {
        let is_directory = |it: &str| directories.contains(it) || above.contains(it);
        let hides = path.as_str().strip_suffix(OPAM).is_some_and(|it| above.contains(it));
        let is_inside = || path.ancestors().any(|it| directories.contains(it));
        hides || is_directory(path.as_str()) || afters.contains(path) || is_inside()
    };
    let in_the_way = upstream.files().map(|(path, _)| path).filter(|path| is_in_the_way(path));
    let mut files = Vec::new();
    for (path, name) in held.iter().flat_map(|edit| &edit.served.0) {
        files.push((path.clone(), Bytes::from(blobs.read(name, MAX_FILE)?)));
    }
    let tree = upstream
        .changed(&in_the_way.collect(), files)
        .map_err(|error| AdmitError::Held(error.to_string()))?;
    let limit = TreeLimits::default().entries;
    if tree.files().len() > limit {
        return Err(AdmitError::Held(format!("together they have more than {limit} files")));
    }
    let held: BTreeSet<&Package> = held.iter().map(|edit| &edit.edit.package).collect();
    let others = upstream.versions().filter(|(package, _)| !held.contains(package));
    let lost = others.filter(|(package, at)| tree.directory(package) != Some(at));
    let why = |at: &RepoPath| format!("it lies in {at}, inside or around a version that is held");
    let left_out = lost.map(|(package, at)| (package.to_string(), why(at))).collect();
    Ok(Merged { tree, left_out })
}

/// A repository as it is served.
///
/// # Errors
/// When a blob can't be read.
pub(super) fn as_served(served: &FileList, blobs: &Blobs) -> Result<Tree, AdmitError> {
    let mut files = Vec::with_capacity(served.0.len());
    for (path, name) in &served.0 {
        files.push((path.clone(), Bytes::from(blobs.read(name, MAX_FILE)?)));
    }
    Tree::from_files(files, &TreeLimits::default())
        .map_err(|error| AdmitError::Held(error.to_string()))
}

/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;
