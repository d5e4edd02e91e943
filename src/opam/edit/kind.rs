//! The kinds of edits, by what they can do to who installs the version.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What an edit of one package version touches.
///
/// Prints as its name, such as `source-rewritten`, and is serialized as that string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EditKind {
    /// The version was not there.
    VersionAdded,
    /// The version is gone.
    VersionRemoved,
    /// Some clients take the version for another one: equal in opam's order, or the same directory
    /// where case, or a dot at the end, counts for nothing.
    VersionAlike,
    /// When and with what it installs: `depends`, `depopts`, `conflicts`, `conflict-class`,
    /// `available`, `features`, `flags` (also as `flags:…` among the tags), `depexts`, the old
    /// `ocaml-version` and `os`, and `x-locked`.
    Constraints,
    /// What only people read: synopsis, authors, links, tags, messages, `dev-repo`, `x-…`.
    Description,
    /// A source gained a checksum; it has all the old ones, and no other place to come from that
    /// none of them vouches for.
    ChecksumAdded,
    /// A source lost every checksum of some kind.
    ChecksumRemoved,
    /// A source comes from other URLs, held by a checksum that it has kept.
    SourceMoved,
    /// The package's own source is other bytes, or nothing says that it isn't: a checksum has
    /// another value, none is left in common, the URL changed without one, or another part of
    /// the archive is built (`subpath`).
    SourceRewritten,
    /// An extra source was added, was removed or is other bytes.
    ExtraSource,
    /// Which patches are applied.
    Patches,
    /// Code that runs: commands, `substs`, the environment, `pin-depends`, the format's version,
    /// and every field that this program doesn't know.
    Build,
    /// A file beside the opam file, or `extra-files`.
    Files,
    /// The new opam file doesn't parse, or opam would refuse some of it; or nothing but that
    /// differs.
    Unreadable,
}

impl EditKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::VersionAdded,
        Self::VersionRemoved,
        Self::VersionAlike,
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

    fn name(self) -> &'static str {
        match self {
            Self::VersionAdded => "version-added",
            Self::VersionRemoved => "version-removed",
            Self::VersionAlike => "version-alike",
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
}

impl fmt::Display for EditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EditKind {
    type Err = NotAnEditKind;

    fn from_str(text: &str) -> Result<Self, NotAnEditKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(NotAnEditKind)
    }
}

impl Serialize for EditKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EditKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that names no kind of edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no kind of edit; the kinds are {}", EditKind::ALL.map(EditKind::name).join(", "))]
pub struct NotAnEditKind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_from_its_name() {
        for kind in EditKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<EditKind>(&json).unwrap(), kind);
        }
        for text in ["", "Build", "source_moved", "build "] {
            let error = text.parse::<EditKind>().unwrap_err().to_string();
            assert!(error.ends_with("build, files, unreadable"), "{error}");
        }
    }
}
