//! Edits case by case, at random, and between two real repositories.

mod form;
mod kinds;
mod sources;
mod world;

use super::*;
use bytes::Bytes;

/// A version that is an opam file alone, of the format 2.0.
fn version(opam: &str) -> VersionFiles {
    VersionFiles::new(Bytes::from(format!("opam-version: \"2.0\"\n{opam}")))
}

fn between(before: &VersionFiles, after: &VersionFiles) -> Vec<Change> {
    let package = "a.1".parse().unwrap();
    Edit::between(&package, Some(before), Some(after)).map_or(Vec::new(), |edit| edit.changes)
}

/// The kinds of the edit, separated by blanks.
fn kinds(before: &str, after: &str) -> String {
    names(&between(&version(before), &version(after)))
}

fn names(changes: &[Change]) -> String {
    changes.iter().map(|change| change.kind.to_string()).collect::<Vec<_>>().join(" ")
}
