//! One state of a version, and what changed from it to another.

use super::canonical::quoted;
use super::contents::Contents;
use super::excerpt::{excerpt, excerpts};
use super::fact::{Fact, Facts};
use super::version_files::VersionFiles;
use super::{Change, EditKind};
use crate::digest::Sha256;
use crate::opam::Package;
use crate::opam::syntax::{OpamFile, SyntaxError};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a version says and consists of.
pub(super) struct State<'a> {
    files: &'a VersionFiles,
    /// The files beside the opam file that are told apart by their bytes alone.
    beside: Facts,
    opam: Result<Contents, SyntaxError>,
}

impl<'a> State<'a> {
    /// Reads a version's files.
    pub(super) fn read(package: &Package, files: &'a VersionFiles) -> Self {
        let opam = OpamFile::parse_bytes(files.opam().clone());
        let mut opam = opam.map(|file| Contents::read(package, &file));
        let mut beside = Facts::default();
        for (path, content) in files.beside() {
            let is_read = match &mut opam {
                Ok(contents) if path.as_str() == "url" => contents.read_url_file(content),
                _ => false,
            };
            if path.as_str().ends_with("/opam") && !is_opam_file(content) {
                beside.problem(format!(
                    "{path}: opam 2.6 takes it for an opam file, and can't read it"
                ));
            }
            if !is_read {
                let text = format!("sha256={} ({} bytes)", Sha256::of(content), content.len());
                beside.say(EditKind::Files, &quoted(path.as_str().as_bytes()), text);
            }
        }
        Self { files, beside, opam }
    }

    /// What there is to say of a version that comes or goes as a whole.
    pub(super) fn summary(&self) -> Option<String> {
        let contents = self.opam.as_ref().ok()?;
        excerpt(contents.summary().iter().map(|(label, text)| format!("{label}: {text}")))
    }

    /// What keeps opam from reading all of it; none if nothing does.
    pub(super) fn problems(&self) -> Option<String> {
        let opam = match &self.opam {
            Ok(contents) => contents.problems(),
            Err(error) => Some(error.to_string()),
        };
        let all: Vec<String> = opam.into_iter().chain(self.beside.problems()).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }

    /// Every change on the way to the other state, one of each kind, sorted by kind.
    pub(super) fn changes(&self, after: &Self) -> Vec<Change> {
        let nothing = Contents::default();
        let mut facts = self.beside.differences(&after.beside);
        match (&self.opam, &after.opam) {
            (_, Err(_)) => {}
            (Err(_), Ok(new)) => facts.extend(nothing.differences(new)),
            (Ok(old), Ok(new)) => facts.extend(old.differences(new)),
        }
        let mut by_kind: BTreeMap<EditKind, Vec<Fact>> = BTreeMap::new();
        for (kind, fact) in facts {
            by_kind.entry(kind).or_default().push(fact);
        }
        let problems = (self.problems(), after.problems());
        let is_told = match &after.opam {
            Err(_) => self.files.opam() != after.files.opam(),
            // What opam refused before and does no longer is told by what it says now.
            Ok(_) if problems.1.is_none() => by_kind.is_empty() && problems.0.is_some(),
            Ok(_) => !by_kind.is_empty() || problems.0 != problems.1,
        };
        let changes = by_kind.into_iter().map(|(kind, facts)| {
            let (before, after) = excerpts(&facts);
            Change { kind, before, after }
        });
        let mut changes: Vec<Change> = changes.collect();
        changes.extend(is_told.then_some(Change {
            kind: EditKind::Unreadable,
            before: excerpt(problems.0),
            after: excerpt(problems.1),
        }));
        changes
    }
}

/// Whether opam reads this for an opam file: where it can't, it reads nothing of the repository.
fn is_opam_file(content: &Bytes) -> bool {
    let file = OpamFile::parse_bytes(content.clone());
    file.is_ok_and(|file| file.field("opam-version").is_some())
}
