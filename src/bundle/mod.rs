//! A bundle: what one mirror holds, as one file that another one takes in without a network.
//!
//! A tar archive of regular files, none compressed, in one fixed form, so that not one bit of it
//! goes unchecked:
//!
//! | member | what it is |
//! |---|---|
//! | `manifest` | a signed note: which ledger, from where to where, and the hash of `list` |
//! | `checkpoint` | the ledger's signed head (C2SP tlog-checkpoint) |
//! | `list` | one line a member that follows: SHA-256, size in bytes, path |
//! | `entries/<index>` | up to 256 ledger entries from that index on, as a tlog-tiles bundle |
//! | `blobs/sha256/<xx>/<hex>` | an archive or a file of metadata, by its SHA-256 |
//!
//! This floor reads and writes the form, and checks signature, hashes and the ledger's growth. It
//! knows no disk and does not judge what entries and blobs are good for. Memory is bounded by the
//! list and the entries, whatever the blobs are.

mod manifest;
mod member;
mod reader;
mod tarball;
#[cfg(test)]
mod tests;
mod writer;

pub use manifest::{Extent, Manifest};
pub use member::{Member, MemberPath};
pub use reader::{BundleReader, Leaf};
pub use writer::BundleWriter;

use crate::digest::Sha256;
use std::io;
use thiserror::Error;

/// Why a bundle is not taken.
#[derive(Debug, Error)]
pub enum BundleError {
    /// It can't be read, or what is read can't be kept.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ends before it should.
    #[error("it ends early, within {0}: it was cut off, or is no bundle")]
    Truncated(String),
    /// It does not have the form of a bundle.
    #[error("it is damaged, or no bundle: {0}")]
    Form(String),
    /// The key has not signed it.
    #[error("{0} is not signed with this key")]
    Signature(&'static str),
    /// A member's bytes are not what the signed list says.
    #[error("{path} is damaged: its bytes have the sha256 {found}")]
    Damaged {
        /// The member.
        path: String,
        /// What its bytes hash to.
        found: Sha256,
    },
    /// The entries do not lead to the signed head.
    #[error("its ledger entries do not lead to the head that it names")]
    Ledger,
    /// There is more than anyone honest has.
    #[error("{0} is larger than a bundle may have it")]
    TooLarge(&'static str),
}
