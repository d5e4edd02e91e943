//! What changed under published versions, held against the policy.
//!
//! Pure but for reading blobs; blocking, so it runs off the reactor.

use super::admit::{main_checksums, read_file};
use super::alike::{Alike, Other};
use super::departed::{Known, list_of};
use super::differing::{Differing, Files, count, versions};
use super::file_list::FileList;
use super::previous::Before;
use crate::config::{self, Mode, Policy, Rule};
use crate::digest::Sha256;
use crate::opam::{Edit, EditKind, Package, RepoPath, Tree, VersionFiles};
use crate::store::blobs::{BlobError, Blobs};
use bytes::Bytes;
use rayon::prelude::*;

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

/// Whether files that have nothing in them are part of a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyFiles {
    LeftOut,
    Served,
}

/// Compares what is served with a new state, version by version.
///
/// `files` is the list of the files of `upstream`.
pub(super) fn review(
    before: &Before,
    upstream: &Tree,
    files: &FileList,
    blobs: &Blobs,
    policy: &Policy,
    settings: &config::Repository,
) -> Review {
    let repository = settings.name.as_str();
    let empty = match settings.mode {
        Mode::Managed => EmptyFiles::LeftOut,
        Mode::Verbatim => EmptyFiles::Served,
    };
    let differing = Differing::between(&before.served, files);
    let packages: Vec<&Package> = differing.packages().collect();
    let removed = packages.iter().filter(|package| !differing.is.contains_key(package));
    let removed = removed.map(|package| Package::clone(package)).collect();
    let added: Vec<&Package> =
        packages.iter().copied().filter(|package| !differing.was.contains_key(package)).collect();
    let alike = Alike::of(&added, &before.served, &before.departed);
    let review = |package: &&Package| -> Option<ReviewedEdit> {
        let was = differing.was.get(package);
        let known = before.known(package, was, blobs);
        let is = VersionFiles::of(upstream, package);
        let mut edit = match &known {
            Ok(known) => changes(package, known.as_ref(), is.as_ref(), empty, blobs),
            Err(error) => Some(unreadable(package, error)),
        };
        let mut taken_for = None;
        for other in alike.others(package) {
            let as_other = match before.other(other, blobs) {
                Ok(files) => changes(package, files.as_ref(), is.as_ref(), empty, blobs),
                Err(error) => Some(unreadable(package, &error)),
            };
            let Some(as_other) = as_other else { continue };
            taken_for = taken_for.or(Some(other.package()));
            match &mut edit {
                Some(edit) => edit.also(as_other),
                None => edit = Some(as_other),
            }
        }
        if alike.others(package).len() >= Alike::MOST {
            let none = || Edit { package: Package::clone(package), changes: Vec::new() };
            let why = "clients can take it for too many others to compare it with all";
            edit.get_or_insert_with(none).add(EditKind::SourceRewritten, why);
        }
        let edit = edit?;
        // Who is strict about a version is so about what clients take for it.
        let names =
            std::iter::once(*package).chain(alike.others(package).iter().map(Other::package));
        let names: Vec<String> = names.map(Package::to_string).collect();
        let rule = |name: &String, kind: EditKind| policy.rule(repository, name, &kind.to_string());
        let rules = names.iter().flat_map(|name| edit.kinds().map(move |kind| rule(name, kind)));
        let rule = rules.max().filter(|rule| matches!(rule, Rule::Warn | Rule::Hold));
        let files = |files: Option<&Files<'_>>| files.map(list_of).unwrap_or_default();
        rule.map(|rule| ReviewedEdit {
            edit,
            alike: taken_for.cloned(),
            rule,
            // What it is taken for may change, and it is the same edit still.
            before: in_place(known.ok().flatten().map(|known| known.files).unwrap_or_default()),
            served: files(was),
            after: in_place(files(differing.is.get(package))),
        })
    };
    Review {
        edits: packages.par_iter().filter_map(review).collect(),
        versions: count(&before.served) as u64,
        removed,
        differs: !packages.is_empty(),
    }
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
    empty: EmptyFiles,
    blobs: &Blobs,
) -> Option<Edit> {
    let strengthened = known.and_then(|known| known.strengthened);
    let was = known.map(|known| read(&known.files, blobs)).transpose();
    let strengthened = strengthened.map(|name| read_file(blobs, &name)).transpose();
    let (mut was, strengthened) = match (was, strengthened) {
        (Ok(was), Ok(strengthened)) => (was, strengthened),
        (Err(error), _) | (_, Err(error)) => return Some(unreadable(package, &error)),
    };
    if let (EmptyFiles::LeftOut, Some((was, is))) = (empty, was.as_mut().zip(is)) {
        was.forget_empty(is);
    }
    let mut edit = Edit::between(package, was.as_ref(), is)?;
    // What was added here is what the pin is: to say otherwise is to say another archive.
    if let Some((was, is)) = strengthened.zip(is)
        && contradicts(&was, is.opam())
    {
        edit.add(EditKind::SourceRewritten, "checksum: contradicts the pin's");
    }
    Some(edit)
}

/// What there is to say of a version of which nobody can tell what it was.
fn unreadable(package: &Package, error: &dyn std::fmt::Display) -> Edit {
    let mut edit = Edit { package: package.clone(), changes: Vec::new() };
    let why = format!("what was served of it can't be read back: {error}");
    edit.add(EditKind::Unreadable, &why);
    edit
}

/// Whether the archive of one opam file has a checksum of a kind that the other has with another
/// value.
fn contradicts(was: &[u8], is: &[u8]) -> bool {
    let (was, is) = (main_checksums(was), main_checksums(is));
    is.iter().any(|is| was.iter().any(|was| was.kind() == is.kind() && was != is))
}

/// The files of the one version in a list.
fn read(files: &FileList, blobs: &Blobs) -> Result<VersionFiles, BlobError> {
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

/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;
