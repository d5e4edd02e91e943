//! The index's file, in blocks that each have a checksum: what rotted on disk is an error when it is
//! read, never a wrong answer or a missing one.

use flate2::Crc;
use redb::StorageBackend;
use rustix::io::{preadv, retry_on_intr};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A file of blocks, each followed by its checksum.
#[derive(Debug)]
pub(super) struct CheckedFile {
    file: File,
    /// How many blocks there are, also if someone cut the file meanwhile: what is gone can't be read
    /// then, instead of being taken for what was never there.
    blocks: AtomicU64,
    /// Held while a part of a block is written.
    writing: Mutex<()>,
}

impl CheckedFile {
    /// Opens or creates the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(path)?;
        let blocks = AtomicU64::new(file.metadata()?.len() / ON_DISK);
        Ok(Self { file, blocks, writing: Mutex::default() })
    }

    /// Reads whole blocks.
    fn read_blocks(&self, first: u64, bytes: &mut [u8]) -> io::Result<()> {
        for (number, content) in (first..).zip(bytes.chunks_exact_mut(BLOCK as usize)) {
            let mut found = [0; CHECKSUM as usize];
            let mut parts = [IoSliceMut::new(content), IoSliceMut::new(&mut found)];
            // Of a file, all there is comes at once.
            let read = retry_on_intr(|| preadv(&self.file, &mut parts, number * ON_DISK))?;
            if read < ON_DISK as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if found != checksum(number, content) {
                let damaged = format!("block {number} is damaged");
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
            }
        }
        Ok(())
    }

    /// Reads the blocks in which some bytes lie.
    fn read_span(&self, span: &Span) -> io::Result<Vec<u8>> {
        let mut blocks = vec![0; usize_of(span.count * BLOCK)?];
        self.read_blocks(span.first, &mut blocks)?;
        Ok(blocks)
    }

    /// Writes whole blocks.
    fn write_blocks(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() / BLOCK as usize;
        let mut blocks = Vec::with_capacity(count * ON_DISK as usize);
        for (number, content) in (first..).zip(bytes.chunks_exact(BLOCK as usize)) {
            blocks.extend_from_slice(content);
            blocks.extend_from_slice(&checksum(number, content));
        }
        self.file.write_all_at(&blocks, first * ON_DISK)
    }
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.blocks.load(Ordering::SeqCst) * BLOCK)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let span = Span::of(offset, out.len());
        if span.is_whole {
            return self.read_blocks(span.first, out);
        }
        let blocks = self.read_span(&span)?;
        let start = usize_of(offset % BLOCK)?;
        match blocks.get(start..start + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (count, now) = (len.div_ceil(BLOCK), self.len()? / BLOCK);
        self.file.set_len(count * ON_DISK)?;
        let zeros = vec![0; usize_of(AT_ONCE * BLOCK)?];
        for first in (now..count).step_by(AT_ONCE as usize) {
            let some = AT_ONCE.min(count - first);
            self.write_blocks(first, &zeros[..usize_of(some * BLOCK)?])?;
        }
        self.blocks.store(count, Ordering::SeqCst);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let span = Span::of(offset, data.len());
        if span.is_whole {
            return self.write_blocks(span.first, data);
        }
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = self.read_span(&span)?;
        let start = usize_of(offset % BLOCK)?;
        match blocks.get_mut(start..start + data.len()) {
            Some(bytes) => bytes.copy_from_slice(data),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        self.write_blocks(span.first, &blocks)
    }
}

/// The blocks in which some bytes lie.
struct Span {
    first: u64,
    count: u64,
    /// Whether they are all of these blocks.
    is_whole: bool,
}

impl Span {
    fn of(offset: u64, length: usize) -> Self {
        let (first, end) = (offset / BLOCK, offset + length as u64);
        let is_whole = offset.is_multiple_of(BLOCK) && end.is_multiple_of(BLOCK);
        Self { first, count: end.div_ceil(BLOCK) - first, is_whole }
    }
}

/// Of a block's number too, so that no block passes for another one.
fn checksum(number: u64, content: &[u8]) -> [u8; CHECKSUM as usize] {
    let mut crc = Crc::new();
    crc.update(content);
    crc.update(&number.to_le_bytes());
    crc.sum().to_le_bytes()
}

fn usize_of(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

const BLOCK: u64 = 4_096;
const CHECKSUM: u64 = 4;
/// What a block takes in the file.
const ON_DISK: u64 = BLOCK + CHECKSUM;
/// How many new blocks are written at a time.
const AT_ONCE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reads_what_was_written_and_any_flipped_bit_is_an_error(
            writes in prop::collection::vec((0..40_000_u64, 1..9_000_usize, any::<u8>()), 1..8),
            flip in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            let file = CheckedFile::open(&path).unwrap();
            file.set_len(SIZE as u64).unwrap();
            let mut expected = vec![0; SIZE];
            for (offset, length, byte) in writes {
                file.write(offset, &vec![byte; length]).unwrap();
                expected[offset as usize..offset as usize + length].fill(byte);
            }
            drop(file);
            let file = CheckedFile::open(&path).unwrap();
            prop_assert_eq!(file.len().unwrap(), SIZE as u64);
            let mut read = vec![0; SIZE];
            file.read(0, &mut read).unwrap();
            prop_assert!(read == expected);
            file.read(5_000, &mut read[..3_000]).unwrap();
            prop_assert!(read[..3_000] == expected[5_000..8_000]);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = flip.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            std::fs::write(&path, bytes).unwrap();
            prop_assert!(file.read(0, &mut read).is_err());
            let at = at / ON_DISK as usize * BLOCK as usize;
            prop_assert!(file.read(at as u64, &mut read[..100]).is_err());
        }
    }

    #[test]
    fn a_block_does_not_pass_for_another_one_and_a_cut_file_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let checked = CheckedFile::open(file.path()).unwrap();
        checked.set_len(2 * BLOCK).unwrap();
        checked.write(0, &[1; BLOCK as usize]).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        let (one, other) = bytes.split_at(ON_DISK as usize);
        std::fs::write(file.path(), [other, one].concat()).unwrap();
        assert!(checked.read(0, &mut [0; 10]).is_err());
        std::fs::write(file.path(), &one[..10]).unwrap();
        assert!(checked.read(0, &mut [0; 10]).is_err());
        assert_eq!(checked.len().unwrap(), 2 * BLOCK);
        assert_eq!(CheckedFile::open(file.path()).unwrap().len().unwrap(), 0);
    }

    const SIZE: usize = 12 * BLOCK as usize;
}
