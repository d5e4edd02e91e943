//! How the contents of two archives differ, in detail.

use super::entry::{Entry, EntryKind};
use super::format::Format;
use super::list::Remark;
use super::text_diff::TextDiff;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which of two archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The one that was fetched first.
    Pinned,
    /// What upstream says now.
    Observed,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "what was pinned",
            Self::Observed => "what was observed",
        })
    }
}

/// What is different inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Files that only the observed archive has. Files are all entries but folders.
    pub added: usize,
    /// Files that only the pinned archive has.
    pub removed: usize,
    /// Files that both have, in different ways.
    pub changed: usize,
    /// Files that both have alike.
    pub unchanged: usize,
    /// The files, changed ones first, then added, then removed ones, each sorted by path; where
    /// there are very many, the first of them.
    pub changes: Vec<Change>,
    /// What else is different.
    pub aspects: Vec<Aspect>,
    /// What is odd about the observed archive.
    pub remarks: Vec<Remark>,
}

impl Content {
    /// How many files differ, listed or not.
    pub fn differences(&self) -> usize {
        self.added + self.removed + self.changed
    }
}

/// One file that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path from the top folder, printable; empty for a file that is no archive.
    pub path: String,
    /// What it was; none if it was added.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub was: Option<State>,
    /// What it is; none if it was removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is: Option<State>,
    /// Its lines.
    pub lines: TextDiff,
}

/// A file on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// Its permission bits, where the archive says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<u32>,
}

impl From<&Entry> for State {
    fn from(entry: &Entry) -> Self {
        Self { kind: entry.kind.clone(), mode: entry.mode }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            EntryKind::File { size, sha256, .. } => write!(f, "{size} bytes, sha256 {sha256}")?,
            EntryKind::SparseFile { size, sha256 } => {
                write!(f, "a sparse file of {size} stored bytes, sha256 {sha256}")?;
            }
            EntryKind::Directory => f.write_str("a folder")?,
            EntryKind::Symlink { target } => write!(f, "a symbolic link to \"{target}\"")?,
            EntryKind::HardLink { target } => write!(f, "a hard link to \"{target}\"")?,
            EntryKind::Special { letter } => write!(f, "a special file of type {letter}")?,
        }
        match (&self.kind, self.mode) {
            (EntryKind::Symlink { .. } | EntryKind::HardLink { .. }, _) | (_, None) => Ok(()),
            (_, Some(mode)) => write!(f, ", mode {mode:04o}"),
        }
    }
}

/// What can be different between two archives of the same files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "aspect", rename_all = "kebab-case")]
pub enum Aspect {
    /// Another container or compression.
    Format {
        /// Of the pinned archive.
        was: Format,
        /// Of the observed one.
        is: Format,
    },
    /// The folder that everything is in.
    TopFolder {
        /// Of the pinned archive, if it has one.
        was: Option<String>,
        /// Of the observed one, if it has one.
        is: Option<String>,
    },
    /// The comment on the whole archive: mostly a commit.
    Comment {
        /// Of the pinned archive, if it has one.
        was: Option<String>,
        /// Of the observed one, if it has one.
        is: Option<String>,
    },
    /// The order of the entries.
    Order,
    /// When entries were modified.
    Times,
    /// Whose entries are.
    Owners,
    /// Permissions other than to execute a file.
    Modes,
    /// Which folders have entries of their own.
    Folders,
    /// Nothing of that: headers or padding are written in another way.
    Encoding,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was_is = |f: &mut fmt::Formatter<'_>,
                      what,
                      was: &Option<String>,
                      is: &Option<String>| match (was, is) {
            (Some(was), Some(is)) => write!(f, "{what} was {was} and is {is}"),
            (Some(was), None) => write!(f, "{what} was {was} and is gone"),
            (None, Some(is)) => write!(f, "{what} {is} is new"),
            (None, None) => write!(f, "{what} is the same"),
        };
        match self {
            Self::Format { was, is } => write!(f, "it was {was} and is {is}"),
            Self::TopFolder { was, is } => was_is(f, "the top folder", was, is),
            Self::Comment { was, is } => was_is(f, "the archive's comment", was, is),
            Self::Order => f.write_str("the order differs"),
            Self::Times => f.write_str("times differ"),
            Self::Owners => f.write_str("owners differ"),
            Self::Modes => f.write_str("modes differ"),
            Self::Folders => f.write_str("the entries for folders differ"),
            Self::Encoding => f.write_str("headers or padding are written in another way"),
        }
    }
}
