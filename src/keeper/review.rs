//! What changed under published versions, held against the policy: what is served of a new state
//! of a repository.
//!
//! Pure but for reading blobs; blocking, so it runs off the reactor.

use super::admit::{AdmitError, main_checksums, read_file};
use super::alike::{Alike, Other};
use super::departed::{Departed, Known, Written, list_of};
use super::differing::{Differing, Files, count, versions};
use super::file_list::FileList;
use super::opam_files::{OPAM, opam_files};
use super::refresh::RefreshError;
use super::repository::{read_list, strengthened};
use super::served::Served;
use crate::config::{Policy, Rule};
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::{Edit, EditKind, Package, RepoPath, Tree, TreeLimits, VersionFiles, ancestors};
use crate::store::Store;
use crate::store::blobs::Blobs;
use bytes::Bytes;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// The version that this new one could be taken for, with which it was compared.
    pub alike: Option<Package>,
    /// The strictest rule of all changes: [`Rule::Warn`] or [`Rule::Hold`].
    pub rule: Rule,
    /// The version's files as they were served last, where opam's own tools put them.
    pub before: FileList,
    /// The version's files as they are served: the same, or none where the version had gone.
    pub served: FileList,
    /// The version's files as upstream has them now, where opam's own tools put them.
    pub after: FileList,
}

/// What was served last of a repository.
pub(super) struct Last {
    /// The ledger index of its snapshot.
    pub entry: u64,
    pub snapshot: Snapshot,
    /// `None` where some of it can't be read back, so that it is not served.
    pub served: Option<Arc<Served>>,
}

/// The same, and its files.
pub(super) struct Previous {
    pub last: Last,
    pub before: Before,
}

/// What a new state is compared with.
pub(super) struct Before {
    /// The files as they were admitted.
    pub served: FileList,
    /// Those of them that were served with more checksums.
    pub strengthened: FileList,
    /// The versions which were served once: one that comes back is compared with what it was.
    pub departed: Departed,
}

impl Previous {
    /// Reads what a new state is compared with.
    ///
    /// # Errors
    /// When a list can't be read.
    pub(super) fn read(store: &Store, last: Last) -> Result<Self, RefreshError> {
        let unreadable = |error| RefreshError::Unreadable(Box::new(error));
        let before = Before::read(store, &last.snapshot).map_err(unreadable)?;
        Ok(Self { last, before })
    }

    /// Keeps the list of the versions that are gone once `admitted` is served, and names it.
    ///
    /// # Errors
    /// When it can't be kept.
    pub(super) fn keep_gone(
        &self,
        store: &Store,
        admitted: &FileList,
    ) -> Result<Option<Sha256>, RefreshError> {
        let Written { list, versions } = self.before.gone(admitted);
        let list = list.to_bytes();
        let lists = versions.iter().chain([&list]).filter(|list| !list.is_empty());
        store.blobs().put_all(lists.map(|list| (Sha256::of(list), &list[..])))?;
        Ok(Some(Sha256::of(&list)).filter(|_| !list.is_empty()))
    }

    /// Its index, where that was served as it came.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn index(&self, blobs: &Blobs) -> Result<Option<Bytes>, AdmitError> {
        let Some(name) = self.last.snapshot.index else { return Ok(None) };
        Ok(Some(match &self.last.served {
            Some(served) => served.index.bytes.clone(),
            None => blobs.read(&name, MAX_INDEX)?.into(),
        }))
    }
}

impl Before {
    fn read(store: &Store, snapshot: &Snapshot) -> Result<Self, RefreshError> {
        Ok(Self {
            served: read_list(store, &snapshot.admitted)?,
            strengthened: strengthened(store, snapshot)?,
            departed: Departed::read(store.blobs(), snapshot.departed)?,
        })
    }

    /// The versions that are gone once `admitted` is served.
    pub(super) fn gone(&self, admitted: &FileList) -> Written {
        self.departed.followed(&self.served, &self.strengthened, admitted)
    }

    /// A version as it was served last.
    fn known(
        &self,
        package: &Package,
        was: Option<&Files<'_>>,
        blobs: &Blobs,
    ) -> Result<Option<Known>, AdmitError> {
        let Some(was) = was else { return self.departed.version(package, blobs) };
        let opam = was.get("opam").and_then(|(path, _)| self.strengthened.0.get(*path));
        Ok(Some(Known { files: list_of(was), strengthened: opam.copied() }))
    }

    /// The version that a new one could be taken for, as it was served last.
    fn other(&self, other: &Other, blobs: &Blobs) -> Result<Option<Known>, AdmitError> {
        match other {
            Other::Departed(package) => self.departed.version(package, blobs),
            Other::Served(package, files) => {
                let mut found = versions(files);
                self.known(package, found.remove(package).as_ref(), blobs)
            }
        }
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
    let packages: Vec<&Package> = differing.packages().collect();
    let removed = packages.iter().filter(|package| !differing.is.contains_key(package));
    let removed = removed.map(|package| Package::clone(package)).collect();
    let added: Vec<&Package> =
        packages.iter().copied().filter(|package| !differing.was.contains_key(package)).collect();
    let alike = Alike::of(&added, &before.served, &before.departed);
    let review = |package: &&Package| -> Result<Option<ReviewedEdit>, AdmitError> {
        let was = differing.was.get(package);
        let known = before.known(package, was, blobs)?;
        let is = VersionFiles::of(upstream, package);
        let mut edit = changes(package, known.as_ref(), is.as_ref(), blobs)?;
        let other = alike.get(package);
        let other_files = other.map(|other| before.other(other, blobs)).transpose()?.flatten();
        if let Some(other) = &other_files {
            let as_other = changes(package, Some(other), is.as_ref(), blobs)?;
            edit = match (edit, as_other) {
                (Some(mut edit), Some(as_other)) => {
                    edit.also(as_other);
                    Some(edit)
                }
                (edit, as_other) => edit.or(as_other),
            };
        }
        let Some(edit) = edit else { return Ok(None) };
        let name = package.to_string();
        let rules = edit.kinds().map(|kind| policy.rule(repository, &name, &kind.to_string()));
        let rule = rules.max().filter(|rule| matches!(rule, Rule::Warn | Rule::Hold));
        let last = other_files.or(known).map(|last| last.files).unwrap_or_default();
        let files = |files: Option<&Files<'_>>| files.map(list_of).unwrap_or_default();
        Ok(rule.map(|rule| ReviewedEdit {
            edit,
            alike: other.map(|other| other.package().clone()),
            rule,
            before: in_place(last),
            served: files(was),
            after: in_place(files(differing.is.get(package))),
        }))
    };
    let edits = packages.par_iter().map(review).filter_map(Result::transpose);
    Ok(Review {
        edits: edits.collect::<Result<_, _>>()?,
        versions: count(&before.served) as u64,
        removed,
        differs: !packages.is_empty(),
    })
}

/// The files of one version as they would lie in a repository that opam's own tools write: where its
/// directory lies is no edit.
fn in_place(files: FileList) -> FileList {
    let Some((package, found)) = versions(&files).pop_first() else { return files };
    let name = &package.name;
    let there = |(below, (_, blob)): (&str, (&RepoPath, Sha256))| {
        Some((format!("packages/{name}/{package}/{below}").parse().ok()?, blob))
    };
    // A path may become too long.
    found.into_iter().map(there).collect::<Option<FileList>>().unwrap_or(files)
}

/// What a version underwent since it was served last.
fn changes(
    package: &Package,
    known: Option<&Known>,
    is: Option<&VersionFiles>,
    blobs: &Blobs,
) -> Result<Option<Edit>, AdmitError> {
    let was = known.map(|known| read(&known.files, blobs)).transpose()?;
    let Some(mut edit) = Edit::between(package, was.as_ref(), is) else { return Ok(None) };
    // What was added here is what the pin is: to say otherwise is to say another archive.
    if let Some(was) = known.and_then(|known| known.strengthened)
        && let Some(is) = is
        && contradicts(&read_file(blobs, &was)?, is.opam())
    {
        edit.add(EditKind::SourceRewritten, "checksum: contradicts the pin's");
    }
    Ok(Some(edit))
}

/// Whether the archive of one opam file has a checksum of a kind that the other has with another
/// value.
fn contradicts(was: &[u8], is: &[u8]) -> bool {
    let (was, is) = (main_checksums(was), main_checksums(is));
    is.iter().any(|is| was.iter().any(|was| was.kind() == is.kind() && was != is))
}

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

/// The files of the one version in a list.
fn read(files: &FileList, blobs: &Blobs) -> Result<VersionFiles, AdmitError> {
    let mut version = VersionFiles::new(Bytes::new());
    for (below, (_, name)) in versions(files).into_values().flatten() {
        let content = blobs.read(&name, MAX_FILE)?;
        // A path that ends a safe path is a safe one.
        if let Ok(path) = below.parse() {
            version.insert(path, content.into());
        }
    }
    Ok(version)
}

const MAX_INDEX: u64 = 1 << 30;
/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;
