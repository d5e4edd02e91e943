//! What an archive says about one of its entries.

use super::name::EntryName;
use crate::digest::Sha256;
use serde::{Deserialize, Serialize};

/// One entry of an archive, in the archive's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: EntryName,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// Its permission bits; a zip may not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<u32>,
    /// When it was modified, in seconds since 1970; without a time zone in a zip.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub modified: Option<i64>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<Owner>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EntryKind {
    /// A file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The hash of its content.
        sha256: Sha256,
        /// Whether it looks like text.
        text: bool,
    },
    /// A file with holes, as tar stores it.
    SparseFile {
        /// Of what is stored: the map of the holes and the bytes between them.
        size: u64,
        /// The hash of the same.
        sha256: Sha256,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points to, printable.
        target: String,
    },
    /// Another name for an earlier entry.
    HardLink {
        /// That entry.
        target: EntryName,
    },
    /// A device, a named pipe, or something that no one else knows.
    Special {
        /// The letter that tar has for it, printable.
        letter: String,
    },
}

/// Whose an entry is, for tar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// The user's name, printable; often empty.
    pub user: String,
    /// The group's name, printable; often empty.
    pub group: String,
}

/// An entry whose content comes next.
pub(super) struct Header {
    pub(super) name: EntryName,
    pub(super) what: What,
    pub(super) mode: Option<u32>,
    pub(super) modified: Option<i64>,
    pub(super) owner: Option<Owner>,
}

/// An [`EntryKind`] before the content is known.
pub(super) enum What {
    File,
    SparseFile,
    Directory,
    Symlink { target: String },
    HardLink { target: EntryName },
    Special { letter: String },
}

impl Header {
    /// The one file that a compressed or plain file without a container is.
    pub(super) fn nameless() -> Self {
        let name = EntryName::new(b"");
        Self { name, what: What::File, mode: None, modified: None, owner: None }
    }
}

impl Entry {
    /// Whether its owner may execute it.
    pub(super) fn executable(&self) -> bool {
        self.mode.is_some_and(|mode| mode & EXECUTABLE != 0)
    }
}

/// The owner may execute it.
const EXECUTABLE: u32 = 0o100;
