//! What changed under published versions, held against the policy: what is served of a new state
//! of a repository.
//!
//! Pure but for reading blobs; blocking, so it runs off the reactor.

use super::admit::{AdmitError, main_checksums, read_file};
use super::differing::{Differing, Files, count, versions};
use super::file_list::FileList;
use super::opam_files::{OPAM, opam_files};
use super::refresh::RefreshError;
use super::repository::{departed_files, read_list, strengthened};
use super::served::Served;
use crate::config::{Policy, Rule};
use crate::opam::{self, Edit, EditKind, Package, RepoPath, Tree, VersionFiles, ancestors};
use crate::store::Store;
use crate::store::blobs::Blobs;
use bytes::Bytes;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// How a new state differs from what is served.
pub(super) struct Review {
    /// The edits that the policy does not let through silently, sorted by package.
    pub edits: Vec<ReviewedEdit>,
    /// How many versions are served.
    pub versions: u64,
    /// Those of them that upstream has no more.
    pub removed: Vec<Package>,
    /// Whether any version differs at all.
    pub differs: bool,
}

/// One version's edit, and what the policy says of it.
pub(super) struct ReviewedEdit {
    pub edit: Edit,
    /// The strictest rule of all changes: [`Rule::Warn`] or [`Rule::Hold`].
    pub rule: Rule,
    /// The version's files as they were served last.
    pub before: FileList,
    /// The version's files as they are served: the same, or none where the version had gone.
    pub served: FileList,
    /// The version's files as upstream has them now.
    pub after: FileList,
}

/// What a new state is compared with.
pub(super) struct Before {
    /// The files as they were admitted.
    pub served: FileList,
    /// Those of them that were served with more checksums.
    pub strengthened: FileList,
    /// The files of versions which were served once: one that comes back is compared with what it
    /// was.
    pub departed: FileList,
}

impl Before {
    /// Reads what a new state is compared with.
    ///
    /// # Errors
    /// When a list can't be read.
    pub(super) fn read(store: &Store, served: &Served) -> Result<Self, RefreshError> {
        let snapshot = &served.snapshot;
        Ok(Self {
            served: read_list(store, &snapshot.admitted)?,
            strengthened: strengthened(store, snapshot)?,
            departed: departed_files(store, snapshot)?,
        })
    }
}

/// Compares what is served with a new state, version by version.
///
/// `files` is the list of the files of `upstream`.
///
/// # Errors
/// When a blob of what is served, or was, can't be read.
pub(super) fn review(
    before: &Before,
    upstream: &Tree,
    files: &FileList,
    blobs: &Blobs,
    policy: &Policy,
    repository: &str,
) -> Result<Review, AdmitError> {
    let differing = Differing::between(&before.served, files);
    let departed = versions(&before.departed);
    let packages: Vec<&Package> = differing.packages().collect();
    let removed = packages.iter().filter(|package| !differing.is.contains_key(package));
    let removed = removed.map(|package| Package::clone(package)).collect();
    let review = |package: &&Package| -> Result<Option<ReviewedEdit>, AdmitError> {
        let (was, is) = (differing.was.get(package), differing.is.get(package));
        let last = was.or_else(|| departed.get(package));
        let was_files = last.map(|files| read(files, blobs)).transpose()?;
        let is_files = VersionFiles::of(upstream, package);
        let edit = Edit::between(package, was_files.as_ref(), is_files.as_ref());
        let Some(mut edit) = edit else { return Ok(None) };
        // What was added here is what the pin is: to say otherwise is to say another archive.
        let opam = was.and_then(|files| files.get("opam"));
        if let Some(was) = opam.and_then(|(path, _)| before.strengthened.0.get(*path))
            && let Some(is) = upstream.opam_file(package)
            && contradicts(&read_file(blobs, was)?, is)
        {
            edit.add(EditKind::SourceRewritten, "checksum: contradicts the pin's");
        }
        let name = package.to_string();
        let rules = edit.kinds().map(|kind| policy.rule(repository, &name, &kind.to_string()));
        let rule = rules.max().filter(|rule| matches!(rule, Rule::Warn | Rule::Hold));
        let (before, served, after) = (list(last), list(was), list(is));
        Ok(rule.map(|rule| ReviewedEdit { edit, rule, before, served, after }))
    };
    let edits = packages.par_iter().map(review).filter_map(Result::transpose);
    Ok(Review {
        edits: edits.collect::<Result<_, _>>()?,
        versions: count(&before.served) as u64,
        removed,
        differs: !packages.is_empty(),
    })
}

/// Whether the archive of one opam file has a checksum of a kind that the other has with another
/// value.
fn contradicts(was: &[u8], is: &[u8]) -> bool {
    let (was, is) = (main_checksums(was), main_checksums(is));
    is.iter().any(|is| was.iter().any(|was| was.kind() == is.kind() && was != is))
}

/// `upstream`, with the held versions as they are served.
///
/// # Errors
/// When a blob can't be read, or when the two can't be in one repository.
pub(super) fn with_held(
    upstream: &Tree,
    held: &[ReviewedEdit],
    blobs: &Blobs,
) -> Result<Tree, AdmitError> {
    let served = held.iter().filter_map(|edit| opam_files(&edit.served).next());
    let directories: BTreeSet<&str> =
        served.filter_map(|(_, path, _)| path.as_str().strip_suffix(OPAM)).collect();
    let above: BTreeSet<&str> = directories.iter().copied().flat_map(ancestors).collect();
    let afters: BTreeSet<&RepoPath> = held.iter().flat_map(|it| it.after.0.keys()).collect();
    // Nothing of upstream's is in a held version, nor is one in a directory that hides it.
    let is_in_the_way = |path: &RepoPath| {
        let hides = path.as_str().strip_suffix(OPAM).is_some_and(|it| above.contains(it));
        hides || afters.contains(path) || path.ancestors().any(|it| directories.contains(it))
    };
    let left_out = upstream.files().map(|(path, _)| path).filter(|path| is_in_the_way(path));
    let mut files = Vec::new();
    for (path, name) in held.iter().flat_map(|edit| &edit.served.0) {
        files.push((path.clone(), Bytes::from(blobs.read(name, MAX_FILE)?)));
    }
    let tree = upstream
        .changed(&left_out.collect(), files)
        .map_err(|error| AdmitError::Held(error.to_string()))?;
    let held: BTreeSet<&Package> = held.iter().map(|edit| &edit.edit.package).collect();
    let mut others = upstream.versions().filter(|(package, _)| !held.contains(package));
    match others.find(|(package, at)| tree.directory(package) != Some(at)) {
        None => Ok(tree),
        Some((package, at)) => Err(AdmitError::Held(format!(
            "{package} lies in {at}, inside or around a held version: see opam-keep divergences"
        ))),
    }
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
    Tree::from_files(files, &opam::TreeLimits::default())
        .map_err(|error| AdmitError::Held(error.to_string()))
}

/// The files of versions that are in `departed` or were `served` and are no longer `admitted`.
pub(super) fn departed(departed: &FileList, served: &FileList, admitted: &FileList) -> FileList {
    let differing = Differing::between(served, admitted);
    let departed = versions(departed);
    let gone = departed.iter().chain(&differing.was);
    let gone = gone.filter(|(package, _)| !differing.is.contains_key(package));
    gone.flat_map(|(_, files)| list(Some(files)).0).collect()
}

fn read(files: &Files<'_>, blobs: &Blobs) -> Result<VersionFiles, AdmitError> {
    let mut version = VersionFiles::new(Bytes::new());
    for (below, (_, name)) in files {
        let content = blobs.read(name, MAX_FILE)?;
        // A path that ends a safe path is a safe one.
        if let Ok(path) = below.parse() {
            version.insert(path, content.into());
        }
    }
    Ok(version)
}

fn list(files: Option<&Files<'_>>) -> FileList {
    let files = files.into_iter().flat_map(BTreeMap::values);
    files.map(|(path, name)| ((*path).clone(), *name)).collect()
}

/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;
