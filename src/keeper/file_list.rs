//! The list of a snapshot's files, in the form that `sha256sum --check` reads.
//!
//! One line a file, sorted by path: the SHA-256 of its bytes, two spaces, the path. The list is
//! itself a blob, and a snapshot entry in the ledger names it by its SHA-256.

use crate::digest::Sha256;
use crate::opam::RepoPath;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use thiserror::Error;

/// The files of a repository by path, each by the name of its blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileList(pub BTreeMap<RepoPath, Sha256>);

/// A list that was not written by [`FileList::to_bytes`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} of a snapshot's list of files can't be read")]
pub struct FileListError {
    line: usize,
}

impl FileList {
    /// Longest list that is read back, in bytes.
    pub const MAX_SIZE: u64 = 256 << 20;

    /// The list as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = self.0.keys().map(|path| LONGER_BY + path.as_str().len()).sum();
        let mut text = String::with_capacity(size);
        for (path, name) in &self.0 {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name}  {path}");
        }
        text.into_bytes()
    }

    /// Reads a list back.
    ///
    /// # Errors
    /// When a line is anything else than what [`FileList::to_bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileListError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FileListError { line: 1 })?;
        let mut files = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = FileListError { line: number };
            let (name, path) = line.split_once("  ").ok_or(wrong.clone())?;
            let name = name.parse().map_err(|_| wrong.clone())?;
            files.insert(path.parse().map_err(|_| wrong)?, name);
        }
        Ok(Self(files))
    }
}

/// By how much a line is longer than its path.
const LONGER_BY: usize = 64 + "  \n".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_as_it_was_written() {
        let mut list = FileList::default();
        for path in ["repo", "packages/a/a.1/opam"] {
            list.0.insert(path.parse().unwrap(), Sha256::of(path.as_bytes()));
        }
        let bytes = list.to_bytes();
        assert!(bytes.ends_with(b"  repo\n"));
        assert_eq!(FileList::parse(&bytes), Ok(list));
        assert_eq!(FileList::parse(b"x  repo\n"), Err(FileListError { line: 1 }));
    }
}
