//! What came of fetching a pinned URL again, where that is not what came of it before.

use crate::digest::Sha256;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A recheck had another outcome than the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recheck {
    /// When it was seen.
    pub at: Timestamp,
    /// The repository whose metadata declared the archive when it was pinned.
    pub repository: String,
    /// Packages that use it, as `name.version`; some of them when there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// The URL that was asked, without credentials.
    pub url: String,
    /// What is pinned.
    pub sha256: Sha256,
    /// What came of it.
    pub outcome: Outcome,
    /// What had come of it before.
    pub before: Outcome,
    /// The ledger index of the divergence with the evidence, when other bytes came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<u64>,
    /// The same in words.
    pub detail: String,
}

/// What came of fetching a pinned URL again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The pinned bytes, from where they came at first.
    Same,
    /// The pinned bytes, but it now redirects to another place.
    Moved,
    /// Other bytes.
    Changed,
    /// It says that there is no such thing: 404, 410 or 451.
    Gone,
    /// It could not be had: no connection, no end, another status, a refused redirect.
    Unreachable,
}

impl Outcome {
    /// All of them, the good ones first.
    pub const ALL: [Self; 5] =
        [Self::Same, Self::Moved, Self::Changed, Self::Gone, Self::Unreachable];

    /// Whether upstream still gives the pinned bytes.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Same | Self::Moved)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Moved => "moved",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
        })
    }
}
