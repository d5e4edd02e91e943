//! The semantic difference of two states of a package version, and of two repositories.
//!
//! What opam reads as the same is no edit: blanks, comments, the order of fields, the kind of
//! quotes, one value or a list of it, the order and the case of checksums, old spellings of
//! `src`, a name and version that are those of the directory, where that lies. Where it isn't certain that opam reads two texts as
//! the same they are an edit: of its kind for a field that is known, and of the kind `build` for
//! any other, as it may be code.
//!
//! The order of checksums decides which one clients ask caches for, not what they take; so
//! another order is no edit here.

mod canonical;
mod contents;
mod excerpt;
mod fact;
mod field;
mod kind;
mod shape;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod version_files;

pub use contents::stops_clients;
pub use excerpt::MAX_CHANGE_TEXT;
pub use kind::{EditKind, NotAnEditKind};
pub use version_files::VersionFiles;

use super::{Alike, Package, Presence, Tree};
use serde::{Deserialize, Serialize};
use state::State;
use std::cmp::Ordering;
use version_files::relative;

/// What one edit of a version did, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What it touches.
    pub kind: EditKind,
    /// What was said before, `name: value` a line, in one form and made printable: at most
    /// [`MAX_CHANGE_TEXT`] bytes, with a mark where something was cut. None if nothing was.
    pub before: Option<String>,
    /// What is said now, likewise.
    pub after: Option<String>,
}

/// Everything that changed in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The version.
    pub package: Package,
    /// At least one change, at most one of each kind, sorted by kind.
    pub changes: Vec<Change>,
}

impl Edit {
    /// For what is added to it.
    pub fn without_changes(package: &Package) -> Self {
        Self { package: package.clone(), changes: Vec::new() }
    }

    /// Adds what is known otherwise than from the two states.
    pub fn add(&mut self, kind: EditKind, after: &str) {
        if !self.changes.iter().any(|change| change.kind == kind) {
            self.changes.push(Change { kind, before: None, after: Some(after.to_owned()) });
            self.changes.sort_by_key(|change| change.kind);
        }
    }

    /// Adds that clients can take the version for another one.
    pub fn take_for(&mut self, other: &Package) {
        self.add(EditKind::VersionAlike, &format!("clients can take it for {other}"));
    }

    /// What a version that may be there underwent; none where that is nothing but form.
    pub fn between(
        package: &Package,
        before: Option<&VersionFiles>,
        after: Option<&VersionFiles>,
    ) -> Option<Self> {
        let read = |files| State::read(package, files);
        let changes = match (before, after) {
            (None, None) => Vec::new(),
            (None, Some(after)) => added(&read(after)),
            (Some(before), None) => vec![Change {
                kind: EditKind::VersionRemoved,
                before: read(before).summary(),
                after: None,
            }],
            (Some(before), Some(after)) if before == after => Vec::new(),
            (Some(before), Some(after)) => read(before).changes(&read(after)),
        };
        (!changes.is_empty()).then(|| Self { package: package.clone(), changes })
    }

    /// The kinds of its changes.
    pub fn kinds(&self) -> impl Iterator<Item = EditKind> {
        self.changes.iter().map(|change| change.kind)
    }
}

/// A version that is new, and whether opam would refuse some of it.
fn added(state: &State<'_>) -> Vec<Change> {
    let change = |kind, after| Change { kind, before: None, after };
    let mut changes = vec![change(EditKind::VersionAdded, state.summary())];
    let problems = excerpt::excerpt(state.problems());
    changes.extend(problems.map(|problems| change(EditKind::Unreadable, Some(problems))));
    changes
}

/// Every edit between two states of a repository, in opam's order of packages.
///
/// Only versions whose files differ are read.
pub fn edits(before: &Tree, after: &Tree) -> Vec<Edit> {
    let mut edits = edits_by_name(before, after);
    let presence = |package: &Package| match before.directory(package) {
        Some(_) => Presence::Both,
        None => Presence::After,
    };
    let later = after.versions().map(|(package, _)| (presence(package), package));
    let gone = before.versions().filter(|(package, _)| after.directory(package).is_none());
    let all = later.chain(gone.map(|(package, _)| (Presence::Before, package))).collect();
    let packages: Vec<&Package> = edits.iter().map(|edit| &edit.package).collect();
    let alike = Alike::of(&packages, all);
    for edit in &mut edits {
        if let Some(other) = alike.taken_for(&edit.package) {
            edit.take_for(other);
        }
    }
    edits
}

fn edits_by_name(before: &Tree, after: &Tree) -> Vec<Edit> {
    let mut old = before.versions().map(|(package, _)| package).peekable();
    let mut new = after.versions().map(|(package, _)| package).peekable();
    let mut edits = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return edits,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        let old = old.next_if(|_| order.is_le());
        let new = new.next_if(|_| order.is_ge());
        let Some(package) = old.or(new) else { return edits };
        if order.is_ne() || !relative(before, package).eq(relative(after, package)) {
            let files = (VersionFiles::of(before, package), VersionFiles::of(after, package));
            edits.extend(Edit::between(package, files.0.as_ref(), files.1.as_ref()));
        }
    }
}
