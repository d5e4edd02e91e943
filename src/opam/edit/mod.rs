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

pub use excerpt::MAX_CHANGE_TEXT;
pub use kind::{EditKind, NotAnEditKind};
pub use version_files::VersionFiles;

use super::{Package, Tree};
use serde::{Deserialize, Serialize};
use state::State;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
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
    /// Adds what is known otherwise than from the two states.
    pub fn add(&mut self, kind: EditKind, after: &str) {
        if !self.changes.iter().any(|change| change.kind == kind) {
            self.changes.push(Change { kind, before: None, after: Some(after.to_owned()) });
            self.changes.sort_by_key(|change| change.kind);
        }
    }

    /// Adds what the same version underwent otherwise, of the kinds that are not told yet.
    pub fn also(&mut self, other: Self) {
        let told: Vec<EditKind> = self.kinds().collect();
        self.changes.extend(other.changes.into_iter().filter(|it| !told.contains(&it.kind)));
        self.changes.sort_by_key(|change| change.kind);
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

    fn is_of_new_version(&self) -> bool {
        self.kinds().any(|kind| kind == EditKind::VersionAdded)
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
/// Only versions whose files differ are read. A new version that clients can take for one that was
/// there before is an edit of that one as well.
pub fn edits(before: &Tree, after: &Tree) -> Vec<Edit> {
    let mut edits = edits_by_name(before, after);
    let (mut names, mut added) = (HashSet::new(), HashMap::<_, Vec<&mut Edit>>::new());
    let name = |package: &Package| package.name.as_str().to_ascii_lowercase();
    for edit in edits.iter_mut().filter(|edit| edit.is_of_new_version()) {
        names.insert(name(&edit.package));
        added.entry(edit.package.likeness()).or_default().push(edit);
    }
    for (package, _) in before.versions().filter(|(package, _)| names.contains(&name(package))) {
        for edit in added.get_mut(&package.likeness()).into_iter().flatten() {
            let (was, is) =
                (VersionFiles::of(before, package), VersionFiles::of(after, &edit.package));
            if let Some(other) = Edit::between(&edit.package, was.as_ref(), is.as_ref()) {
                edit.also(other);
            }
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
