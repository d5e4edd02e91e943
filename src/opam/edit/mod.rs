//! What changed between two states of a published version, in kinds that a policy can judge.
//!
//! The states are compared by what they mean: blanks, comments, the order of fields and the ways
//! to write one value are no edit. Where it isn't clear what a change does, its kind is one that
//! changes code.

mod kind;
mod meaning;
mod source;
#[cfg(test)]
mod tests;

pub use kind::EditKind;

use super::package::Package;
use super::tree::Tree;
use crate::digest::Sha256;
use meaning::Meaning;
use serde::Serialize;
use std::collections::BTreeMap;

/// One state of one version: its opam file and whatever lies beside it.
#[derive(Clone, Debug)]
pub struct VersionState<'a> {
    /// The opam file's bytes.
    pub opam: &'a [u8],
    /// The other files by path below the version's directory.
    pub files: BTreeMap<String, Sha256>,
}

/// What changed in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// The version.
    pub package: Package,
    /// Its changes, sorted by kind; at least one.
    pub changes: Vec<Change>,
}

/// One change, as people read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// What kind of change it is.
    pub kind: EditKind,
    /// What changed: a field, a section, a file.
    pub subject: String,
    /// What it said before, cut to 2 KiB; `None` when it was not there.
    pub before: Option<String>,
    /// What it says after, likewise.
    pub after: Option<String>,
}

/// Every edit from one state of a repository to another, sorted by package as opam sorts.
pub fn edits(before: &Tree, after: &Tree) -> Vec<Edit> {
    let mut packages: Vec<&Package> = before.versions().map(|(package, _)| package).collect();
    let added = after.versions().map(|(package, _)| package);
    packages.extend(added.filter(|package| before.directory(package).is_none()));
    packages.sort_unstable();
    let edit = |package: &&Package| {
        if is_same(before, after, package) {
            return None;
        }
        let changes = compare(state(before, package).as_ref(), state(after, package).as_ref());
        (!changes.is_empty()).then(|| Edit { package: (*package).clone(), changes })
    };
    packages.iter().filter_map(edit).collect()
}

/// What changed from one state of a version to another; `None` is a version that is not there.
pub fn compare(before: Option<&VersionState<'_>>, after: Option<&VersionState<'_>>) -> Vec<Change> {
    let (before, after) = match (before, after) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![Change::of(EditKind::VersionAdded, "opam", None, None)],
        (Some(_), None) => return vec![Change::of(EditKind::VersionRemoved, "opam", None, None)],
        (Some(before), Some(after)) => (before, after),
    };
    let mut changes = compare_files(&before.files, &after.files);
    if before.opam != after.opam {
        match (Meaning::of(before.opam), Meaning::of(after.opam)) {
            (Ok(before), Ok(after)) => changes.extend(before.changes(&after)),
            // What can't be read could say anything, before or after.
            (before, after) => changes.push(Change::of(
                EditKind::Unreadable,
                "opam",
                Some(before.err().unwrap_or_else(|| "readable".to_owned())),
                Some(after.err().unwrap_or_else(|| "readable".to_owned())),
            )),
        }
    }
    changes.sort_unstable();
    changes
}

impl Change {
    fn of(
        kind: EditKind,
        subject: impl Into<String>,
        before: Option<String>,
        after: Option<String>,
    ) -> Self {
        let (before, after) = (before.map(cut), after.map(cut));
        Self { kind, subject: cut(subject.into()), before, after }
    }
}

fn compare_files(
    before: &BTreeMap<String, Sha256>,
    after: &BTreeMap<String, Sha256>,
) -> Vec<Change> {
    let added = after.keys().filter(|path| !before.contains_key(*path));
    let name = |sha256: &Sha256| format!("sha256={sha256}");
    let mut changes = Vec::new();
    for path in before.keys().chain(added) {
        let (was, is) = (before.get(path), after.get(path));
        if was != is {
            let (was, is) = (was.map(name), is.map(name));
            changes.push(Change::of(EditKind::Files, path.as_str(), was, is));
        }
    }
    changes
}

/// Whether a version is the same in both, byte for byte; most are.
fn is_same(before: &Tree, after: &Tree, package: &Package) -> bool {
    let (Some(was), Some(is)) = (before.directory(package), after.directory(package)) else {
        return false;
    };
    let below = |path: &str, directory: &str| path[directory.len()..].to_owned();
    let was = before
        .version_files(package)
        .map(|(path, bytes)| (below(path.as_str(), was.as_str()), bytes));
    let is = after
        .version_files(package)
        .map(|(path, bytes)| (below(path.as_str(), is.as_str()), bytes));
    was.eq(is)
}

fn state<'a>(tree: &'a Tree, package: &Package) -> Option<VersionState<'a>> {
    let directory = tree.directory(package)?;
    let opam = tree.opam_file(package)?;
    let files = tree.version_files(package).filter_map(|(path, bytes)| {
        let below = path.as_str().strip_prefix(directory.as_str())?.strip_prefix('/')?;
        (below != "opam").then(|| (below.to_owned(), Sha256::of(bytes)))
    });
    Some(VersionState { opam, files: files.collect() })
}

/// A text short enough for a report, with a mark where it is cut.
fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Longest text of a change, in bytes.
const MAX_TEXT: usize = 2_048;
