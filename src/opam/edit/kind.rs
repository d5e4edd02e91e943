//! The kinds of edits.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What an edit of a published version does; the names are those of mirror.toml's `[policy]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EditKind {
    /// A version that was not there.
    VersionAdded,
    /// A version that is gone.
    VersionRemoved,
    /// What it can be installed with, and where: dependencies, conflicts, availability, flags.
    Constraints,
    /// What people read: synopsis, maintainers, tags, links, messages, `x-` fields.
    Description,
    /// One more checksum of a source; all old ones are still there.
    ChecksumAdded,
    /// A checksum of a source is gone.
    ChecksumRemoved,
    /// Other URLs for a source that a checksum from before still holds.
    SourceMoved,
    /// Another source: a checksum of the same kind has another value, or nothing from before
    /// holds it.
    SourceRewritten,
    /// An extra source was added, removed or rewritten.
    ExtraSource,
    /// The patches that are applied.
    Patches,
    /// What is run: build, install, remove, tests, environment, and every field that is not known.
    Build,
    /// Files beside the opam file.
    Files,
    /// The opam file can't be read, before or after.
    Unreadable,
}

impl EditKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::VersionAdded,
        Self::VersionRemoved,
        Self::Constraints,
        Self::Description,
        Self::ChecksumAdded,
        Self::ChecksumRemoved,
        Self::SourceMoved,
        Self::SourceRewritten,
        Self::ExtraSource,
        Self::Patches,
        Self::Build,
        Self::Files,
        Self::Unreadable,
    ];

    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::VersionAdded => "version-added",
            Self::VersionRemoved => "version-removed",
            Self::Constraints => "constraints",
            Self::Description => "description",
            Self::ChecksumAdded => "checksum-added",
            Self::ChecksumRemoved => "checksum-removed",
            Self::SourceMoved => "source-moved",
            Self::SourceRewritten => "source-rewritten",
            Self::ExtraSource => "extra-source",
            Self::Patches => "patches",
            Self::Build => "build",
            Self::Files => "files",
            Self::Unreadable => "unreadable",
        }
    }

    /// The kind of an edit of this field of an opam file (opam 2.6, `opamFile.ml`).
    pub(super) fn of_field(name: &str) -> Self {
        match name {
            "opam-version" | "depends" | "depopts" | "conflicts" | "conflict-class"
            | "available" | "flags" | "features" | "depexts" | "ocaml-version" | "os" => {
                Self::Constraints
            }
            "synopsis" | "description" | "maintainer" | "author" | "authors" | "license"
            | "tags" | "homepage" | "doc" | "bug-reports" | "dev-repo" | "messages"
            | "post-messages" => Self::Description,
            // Clients go by the directory's name.
            "name" | "version" => Self::Description,
            "patches" => Self::Patches,
            "extra-files" => Self::Files,
            "extra-sources" => Self::ExtraSource,
            _ if name.starts_with("x-") => Self::Description,
            _ => Self::Build,
        }
    }
}

impl fmt::Display for EditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
