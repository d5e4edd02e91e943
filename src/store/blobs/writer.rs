//! A blob on its way: hashed while it is written, and named once all of it is there.

use super::super::durable;
use super::super::room::{Room, Taken};
use super::CHECK_ROOM_EVERY;
use super::write_back::WriteBack;
use crate::digest::{Digests, Hasher};
use std::fs::File;
use std::io;
use std::sync::Arc;
use tempfile::{NamedTempFile, TempPath};

/// A blob that is being written; its file is removed unless it is finished and kept.
#[derive(Debug)]
pub struct BlobWriter {
    file: Arc<File>,
    path: TempPath,
    hasher: Hasher,
    write_back: WriteBack,
    room: Room,
    /// How many bytes were written since there was enough room.
    unchecked: u64,
}

impl BlobWriter {
    /// Writes to a new file.
    pub(super) fn new(file: NamedTempFile, room: Room) -> Self {
        let (file, path) = file.into_parts();
        let (file, hasher, write_back) = (Arc::new(file), Hasher::default(), WriteBack::default());
        Self { file, path, hasher, write_back, room, unchecked: 0 }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unchecked += bytes.len() as u64;
        if self.unchecked >= CHECK_ROOM_EVERY {
            self.room.check()?;
            self.unchecked = 0;
        }
        self.hasher.update(bytes);
        let written = durable::append(&self.file, &self.path, bytes);
        let written =
            written.and_then(|()| self.write_back.written(&self.file, self.hasher.size()));
        self.room.note_failure(written, || Taken::by(&self.file))
    }

    /// The file, for those who read along.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// How many bytes there are so far.
    pub fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// The written bytes with their hashes.
    pub fn finish(self) -> Hashed {
        let Self { file, path, hasher, write_back, .. } = self;
        Hashed { file, path, digests: hasher.finish(), write_back }
    }
}

/// Bytes that were hashed while they were written; only these can be kept.
#[derive(Debug)]
pub struct Hashed {
    pub(super) file: Arc<File>,
    pub(super) path: TempPath,
    pub(super) digests: Digests,
    pub(super) write_back: WriteBack,
}

impl Hashed {
    /// What the bytes hash to.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The file that the bytes are in.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Reads some of the bytes again.
    ///
    /// # Errors
    /// Whatever the file system says, also when there are fewer.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&*self.file, buffer, offset)
    }
}
