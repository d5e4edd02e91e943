//! The answer: why the bytes are not the pinned ones.

use super::changes::{Aspect, Content, Side};
use super::document::Document;
use super::format::Format;
use super::list::{Inflated, Remark};
use super::problem::Problem;
use serde::{Deserialize, Serialize};

/// Why observed bytes are not the pinned ones. Prints as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Explanation {
    /// The same inside, compressed in another way.
    Recompressed(Recompressed),
    /// The same files, put together in another way.
    Repacked(Repacked),
    /// Other files.
    Content(Content),
    /// The observed bytes end early.
    Truncated(Truncated),
    /// The observed bytes are something else altogether.
    NotAnArchive(NotAnArchive),
    /// One of the two could not be read to its end.
    Unreadable(Unreadable),
}

/// Two files that inflate to the same bytes, or zips of the same entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recompressed {
    /// How it was compressed.
    pub was: Format,
    /// How it is compressed.
    pub is: Format,
    /// What both inflate to; a zip has no such bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inflated: Option<Inflated>,
    /// What is odd about the observed archive.
    pub remarks: Vec<Remark>,
}

/// Two archives of the same files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repacked {
    /// How many files both have; all entries but folders.
    pub files: usize,
    /// In what they differ; never empty.
    pub aspects: Vec<Aspect>,
    /// What is odd about the observed archive.
    pub remarks: Vec<Remark>,
}

/// An observed archive that ends early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// How many bytes there are.
    pub size: u64,
    /// How many the pinned archive has.
    pub pinned_size: u64,
    /// What the bytes are, until they end.
    pub until_then: UntilThen,
}

/// What a truncated archive is until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "until-then", rename_all = "kebab-case")]
pub enum UntilThen {
    /// The pinned bytes.
    Same,
    /// Other bytes; what is inside of them was compared as far as it goes.
    Other {
        /// The entries that were whole.
        entries: usize,
        /// How these differ.
        found: Content,
    },
}

/// Something that is no archive, in place of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAnArchive {
    /// How many bytes it has.
    pub size: u64,
    /// What it looks like.
    #[serde(flatten)]
    pub document: Document,
}

/// Archives that could not be compared as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Which one could not be read.
    pub side: Side,
    /// Why.
    pub why: Problem,
    /// What was found until then: a partial answer. Files that only one of them has are missing
    /// from it where the other one was not read to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub found: Option<Content>,
}

impl Explanation {
    /// Whether the answer is about a part of the archives only.
    pub fn is_partial(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(_)
                | Self::Truncated(Truncated { until_then: UntilThen::Other { .. }, .. })
        )
    }

    /// How the files differ, where that was looked into.
    pub fn content(&self) -> Option<&Content> {
        match self {
            Self::Content(content) => Some(content),
            Self::Truncated(Truncated { until_then: UntilThen::Other { found, .. }, .. }) => {
                Some(found)
            }
            Self::Unreadable(unreadable) => unreadable.found.as_ref(),
            Self::Recompressed(_)
            | Self::Repacked(_)
            | Self::NotAnArchive(_)
            | Self::Truncated(Truncated { until_then: UntilThen::Same, .. }) => None,
        }
    }
}
