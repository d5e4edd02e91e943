//! What upstream said otherwise, and what an operator decided about it.

use super::Pin;
use crate::digest::Sha256;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Upstream said something else than what is pinned or declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// When it was seen.
    pub at: Timestamp,
    /// The repository whose metadata declares the archive.
    pub repository: String,
    /// Packages that use it, as `name.version`; some of them when there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// The URL that was asked, without credentials.
    pub url: String,
    /// The first URL that the metadata declares, when another one was asked: a mirror, a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// Who gave the answer, after redirects.
    pub from: String,
    /// What kind of divergence it is.
    pub what: DivergenceKind,
    /// The checksums that were expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<String>,
    /// The kinds of an edit of published metadata, when that is what diverged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<String>,
    /// Whether the policy of then held the metadata back; what it only warned of was served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The ledger index of the divergence that told of the same before: of what was served since, and
    /// then no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
    /// The bytes that came instead; none when it is not the bytes that diverge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// The blob with the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sha256>,
    /// The same in words.
    pub detail: String,
}

/// Bytes that came instead of the expected ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Their SHA-256.
    pub sha256: Sha256,
    /// Their length.
    pub size: u64,
}

/// What upstream did.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DivergenceKind {
    /// The bytes do not match the declared checksums.
    Mismatch,
    /// The bytes are others than the pinned ones.
    Changed,
    /// The bytes ended early.
    Truncated,
    /// There were more bytes than an archive may have.
    TooLarge,
    /// It redirected to where opam-keep must not go.
    ForbiddenRedirect,
    /// Two sources of an archive that no strong checksum vouches for differ.
    Disagreement,
    /// The metadata of a published version was edited, in a way that the policy does not let
    /// through silently.
    Edited,
    /// The repository went back to a state from before the one that is served.
    RolledBack,
    /// More versions vanished from the repository at once than the policy lets go.
    Gutted,
}

impl Divergence {
    /// What tells that a URL was pinned to other bytes than those that are expected of it.
    pub fn changed(pin: &Pin, expected: Vec<String>, detail: String) -> Self {
        Self {
            at: pin.at,
            repository: pin.repository.clone(),
            packages: pin.packages.clone(),
            url: pin.url.clone(),
            src: pin.src.clone(),
            from: pin.from.clone(),
            what: DivergenceKind::Changed,
            expected,
            edits: Vec::new(),
            held: false,
            again: None,
            observed: Some(Observed { sha256: pin.sha256, size: pin.size }),
            evidence: Some(pin.sha256),
            detail,
        }
    }
}

impl DivergenceKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Mismatch,
        Self::Changed,
        Self::Truncated,
        Self::TooLarge,
        Self::ForbiddenRedirect,
        Self::Disagreement,
        Self::Edited,
        Self::RolledBack,
        Self::Gutted,
    ];

    /// Whether it is upstream's metadata that diverged, which can be accepted, and not the bytes
    /// of an archive.
    pub fn is_of_metadata(self) -> bool {
        matches!(self, Self::Edited | Self::RolledBack | Self::Gutted)
    }
}

impl fmt::Display for DivergenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mismatch => "mismatch",
            Self::Changed => "changed",
            Self::Truncated => "truncated",
            Self::TooLarge => "too-large",
            Self::ForbiddenRedirect => "forbidden-redirect",
            Self::Disagreement => "disagreement",
            Self::Edited => "edited",
            Self::RolledBack => "rolled-back",
            Self::Gutted => "gutted",
        })
    }
}

/// What an operator decided about a divergence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// When it was decided.
    pub at: Timestamp,
    /// The ledger index of the divergence.
    pub divergence: u64,
    /// What was decided.
    pub action: Action,
    /// Who decided, as far as the operating system knows.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The ledger index of the accepted divergence that brings the same bytes, where that decided
    /// about this one as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<u64>,
}

/// What can be decided about a divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was seen; nothing else changes.
    Acknowledge,
    /// What upstream says now holds from now on, beside what was there first.
    Accept,
}

/// What has become of a divergence; it only ever moves on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DivergenceState {
    /// Nobody decided anything yet.
    Open,
    /// Someone has seen it.
    Acknowledged,
    /// What upstream says now was accepted.
    Accepted,
}

impl Action {
    /// The state that a divergence is in afterwards.
    pub fn state(self) -> DivergenceState {
        match self {
            Self::Acknowledge => DivergenceState::Acknowledged,
            Self::Accept => DivergenceState::Accepted,
        }
    }
}

impl fmt::Display for DivergenceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Accepted => "accepted",
        })
    }
}
