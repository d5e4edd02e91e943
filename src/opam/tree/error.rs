//! Why bytes or files are no repository that could be served.

use crate::opam::path::PathError;

/// Why a repository tree is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The bytes are not whole gzip members one after the other.
    #[error("the index is not a whole gzip file: {0}")]
    Gzip(std::io::Error),
    /// The inflated bytes are not a tar archive.
    #[error("the index is not a readable tar archive: {0}")]
    Tar(std::io::Error),
    /// More inflated bytes than allowed.
    #[error("the repository holds more than {limit} bytes")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
    /// More files and directories than allowed.
    #[error("the repository has more than {limit} files and directories")]
    TooManyEntries {
        /// How many are allowed.
        limit: usize,
    },
    /// One file is larger than allowed.
    #[error("the file \"{name}\" is larger than {limit} bytes")]
    FileTooLarge {
        /// The file.
        name: String,
        /// How many bytes are allowed.
        limit: usize,
    },
    /// A name that is no safe relative path.
    #[error("the name \"{name}\" is not a safe path: {cause}")]
    UnsafeName {
        /// The name, made printable.
        name: String,
        /// What is wrong with it.
        cause: PathError,
    },
    /// Something other than a regular file or a directory.
    #[error("\"{name}\" is {kind}: only regular files and directories can be served")]
    NotRegular {
        /// The entry's name, made printable.
        name: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// An entry that readers of tar understand differently.
    #[error("readers of tar disagree about the entry \"{name}\": {fault}")]
    Ambiguous {
        /// The entry's name, made printable.
        name: String,
        /// What they disagree about.
        fault: &'static str,
    },
    /// What only some file systems take for part of a version.
    #[error("\"{one}\" lies over \"{other}\" where case, or a dot at the end, counts for nothing")]
    Spellings {
        /// The path.
        one: String,
        /// The directory of the version.
        other: String,
    },
    /// A path of more components than allowed.
    #[error("the path \"{name}\" has more than {limit} components")]
    TooDeep {
        /// The path.
        name: String,
        /// How many components are allowed.
        limit: usize,
    },
    /// Two files of one name.
    #[error("the file \"{name}\" is there twice")]
    Duplicate {
        /// The name of both.
        name: String,
    },
    /// One name for a file and for a directory.
    #[error("\"{name}\" is both a file and a directory")]
    FileAndDirectory {
        /// The name of both.
        name: String,
    },
    /// One version of a package in two directories.
    #[error("{package} is there twice, in \"{first}\" and in \"{second}\"")]
    VersionTwice {
        /// The package and version.
        package: String,
        /// One directory.
        first: String,
        /// The other directory.
        second: String,
    },
    /// A version that only some versions of opam find.
    #[error("not every opam finds \"{directory}\": \"{outer}\" has something called opam in it")]
    Disputed {
        /// The directory of the version.
        directory: String,
        /// A directory around it, in which some look no further.
        outer: String,
    },
    /// What lies over the repository where case counts for nothing.
    #[error("\"{name}\" at the root lies over the repository where case counts for nothing")]
    Beside {
        /// Its name.
        name: String,
    },
    /// A `repo` file that has clients go elsewhere.
    #[error("its file \"repo\" {why}")]
    LeadsAway {
        /// What it does.
        why: &'static str,
    },
    /// Everything lies in a directory of its own, where no client looks for it.
    #[error("the repository is not at the root but in the directory \"{top}\"")]
    MisRooted {
        /// The directory.
        top: String,
    },
    /// No `repo` file at the root.
    #[error("the file \"repo\" is missing at the root, or empty")]
    NoRepoFile,
    /// No opam file at all.
    #[error("the repository is empty: no packages/…/<name>.<version>/opam is in it")]
    Empty,
}

impl TreeError {
    pub(super) fn ambiguous(name: &[u8], fault: &'static str) -> Self {
        Self::Ambiguous { name: printable(name), fault }
    }
}

/// A name from outside, printable and short enough for a message.
pub(super) fn printable(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(name);
    let mut printable: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        printable.push('…');
    }
    printable
}
