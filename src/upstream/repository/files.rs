//! A repository's files as found, and how many of them there may be.

use super::RepositoryError;
use bytes::Bytes;

/// One file of a repository, before anyone judged its path or its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFile {
    /// The path from the repository's root, `/` between its parts; not always UTF-8.
    pub path: Vec<u8>,
    /// What kind of file it is.
    pub kind: FileKind,
    /// The file's content; for a symlink, what it points to.
    pub bytes: Bytes,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file with content of its own.
    Regular,
    /// A symbolic link, never followed.
    Symlink,
}

/// Collects files up to fixed bounds.
#[derive(Debug)]
pub(super) struct Collector {
    place: String,
    files: Vec<RawFile>,
    size: u64,
}

impl Collector {
    /// A collector that names `place` in its errors.
    pub(super) fn new(place: String) -> Self {
        Self { place, files: Vec::new(), size: 0 }
    }

    /// How many more bytes there may be.
    pub(super) fn remaining_size(&self) -> u64 {
        MAX_SIZE - self.size
    }

    /// Takes one more file.
    ///
    /// # Errors
    /// There are too many files, or too many bytes in them.
    pub(super) fn add(&mut self, file: RawFile) -> Result<(), RepositoryError> {
        let size = self.size + file.bytes.len() as u64;
        if size > MAX_SIZE {
            return Err(self.too_large(MAX_SIZE, "bytes"));
        }
        if self.files.len() == MAX_FILES {
            return Err(self.too_large(MAX_FILES as u64, "files"));
        }
        self.size = size;
        self.files.push(file);
        Ok(())
    }

    /// All files, in the order of their paths.
    pub(super) fn finish(mut self) -> Vec<RawFile> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.files
    }

    pub(super) fn too_large(&self, limit: u64, what: &'static str) -> RepositoryError {
        RepositoryError::TooLarge { place: self.place.clone(), limit, what }
    }
}

/// The largest known repository has about 43,000.
pub(super) const MAX_FILES: usize = 500_000;
/// The largest known repository has about 40 MB.
pub(super) const MAX_SIZE: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_sorted_and_bounded() {
        let file = |path: &[u8], bytes: &'static [u8]| RawFile {
            path: path.to_vec(),
            kind: FileKind::Regular,
            bytes: Bytes::from_static(bytes),
        };
        let mut collector = Collector::new("here".to_owned());
        collector.add(file(b"repo", b"x")).unwrap();
        collector.add(file(b"packages/a", b"yy")).unwrap();
        assert_eq!(collector.remaining_size(), MAX_SIZE - 3);
        collector.size = MAX_SIZE;
        let error = collector.add(file(b"z", b"z")).unwrap_err().to_string();
        assert_eq!(error, "here: more than 536870912 bytes");
        let paths: Vec<_> = collector.finish().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [b"packages/a".to_vec(), b"repo".to_vec()]);
    }
}
