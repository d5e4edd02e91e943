//! What the ledger says of itself and of what is kept: its key, pins, snapshots.

use crate::digest::{Digests, Md5, Sha256, Sha512};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The key that signs the ledger's checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// When the key was made.
    pub at: Timestamp,
    /// The ledger's name, which is the key's name and the checkpoints' origin.
    pub name: String,
    /// The public key, as a signed-note verifier key.
    pub vkey: String,
}

/// A URL's bytes at their first fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// When the bytes were fetched.
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
    /// Where the bytes came from, after redirects.
    pub from: String,
    /// The blob's name.
    pub sha256: Sha256,
    /// Its SHA-512.
    pub sha512: Sha512,
    /// Its MD5.
    pub md5: Md5,
    /// Its length in bytes.
    pub size: u64,
    /// The declared checksums, all of which held, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<String>,
    /// How much the declared checksums prove.
    pub strength: Strength,
    /// Other sources that gave the same bytes; asked only when little vouches for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<String>,
    /// The entry of the bundle that brought it; what is said above is then what that bundle's
    /// ledger says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<u64>,
}

impl Pin {
    /// The hashes and the length of the pinned bytes.
    pub fn digests(&self) -> Digests {
        let Self { md5, sha256, sha512, size, .. } = *self;
        Digests { md5, sha256, sha512, size }
    }
}

/// How much an archive's declared checksums prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// A SHA-256 or SHA-512 is among them.
    Strong,
    /// Only MD5.
    Weak,
    /// There are none.
    None,
}

/// A bundle that was taken in; the pins and snapshots that name it follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// When it was taken in.
    pub at: Timestamp,
    /// The public key that signed it, as a signed-note verifier key.
    pub key: String,
    /// How many entries the other ledger had before the first one in the bundle.
    pub from: u64,
    /// How many it has at the bundle's end.
    pub size: u64,
    /// Its root hash then.
    pub root: Sha256,
    /// The other ledger's signed head.
    pub checkpoint: String,
}

/// What a repository's own history first said of its URLs, brought in from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// When it was brought in.
    pub at: Timestamp,
    /// The repository's name.
    pub repository: String,
    /// The commit at which the history ends.
    pub revision: String,
    /// The blob that lists the URLs, each with its checksums, version and commit.
    pub list: Sha256,
    /// How many URLs there are.
    pub urls: u64,
}

/// One state of an upstream repository and what of it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// When it was admitted.
    pub at: Timestamp,
    /// The repository's name.
    pub repository: String,
    /// Where it comes from, without credentials.
    pub upstream: String,
    /// What upstream calls the state that is served: a commit, an ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// `managed` or `verbatim`.
    pub mode: String,
    /// The blob that lists upstream's files.
    pub files: Sha256,
    /// The blob that lists the files that are served.
    pub admitted: Sha256,
    /// The blob that lists the opam files that gain checksums before they are served, as they are
    /// served; none if there are no such files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strengthened: Option<Sha256>,
    /// The blob that lists the files of versions that were served once and are no more, as they
    /// were served last; none if there are no such versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed: Option<Sha256>,
    /// The blob of upstream's own index, when that is what is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Sha256>,
    /// How many package versions are served.
    pub versions: u64,
    /// The entry of the bundle that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<u64>,
    /// For a state that upstream had before this mirror's first snapshot of it, brought in later:
    /// when that was. It is served for those times alone, and never as the current state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
}

/// The times for which a state stands that was brought in from upstream's own history.
///
/// They are fixed once written: no two of one repository overlap, so that what was served for a
/// time is served for it ever after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// The first second: when upstream committed it, unless another state stands for that time.
    pub since: Timestamp,
    /// The first second for which it stands no more.
    pub until: Timestamp,
}
