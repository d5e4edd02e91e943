//! Blobs: bytes named by their SHA-256, written once and never changed.

use super::durable::{self, FileSystem};
use super::layout::Layout;
use super::pending::Pending;
use super::regular;
use super::room::{Room, Taken};
use crate::digest::{Digests, Hasher, Sha256};
use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

mod many;
#[cfg(test)]
mod tests;
mod write_back;
mod writer;

pub use writer::{BlobWriter, Hashed};

/// The blobs of one store.
///
/// Owned by the store; lives as long as it. Reading needs no lock.
#[derive(Debug)]
pub struct Blobs {
    layout: Layout,
    checked: RwLock<HashMap<Sha256, FileState>>,
    pending: Pending,
    room: Room,
}

/// A blob whose bytes were hashed and found to be what their name says.
#[derive(Debug, Clone)]
pub struct CheckedBlob {
    /// The open file; positioned reads only.
    pub file: Arc<File>,
    /// Length in bytes.
    pub size: u64,
}

/// Why a blob can't be had.
#[derive(Debug, Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("blob {0} is missing")]
    Missing(Sha256),
    /// The file holds other bytes than its name says.
    #[error("blob {name} is damaged: its bytes hash to {found}")]
    Damaged {
        /// The blob's name.
        name: Sha256,
        /// What the bytes really hash to.
        found: Sha256,
    },
    /// The file system failed.
    #[error("blob {name}: {source}")]
    Io {
        /// The blob's name.
        name: Sha256,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Which bytes a file held when it was hashed; any write to the file changes `changed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Blobs {
    /// The blobs of a store that is only read.
    pub fn at(layout: Layout) -> Self {
        Self::with_room(layout, 0)
    }

    fn with_room(layout: Layout, min_free: u64) -> Self {
        let room = Room::new(&layout, min_free);
        Self { layout, checked: RwLock::default(), pending: Pending::default(), room }
    }

    pub(super) fn new(layout: Layout, min_free: u64) -> io::Result<Self> {
        durable::create_directory(&layout.blobs())?;
        for first in 0..=255u8 {
            durable::create_directory(&layout.blobs().join(format!("{first:02x}")))?;
        }
        // A process that was killed may have renamed files and not synced their directories.
        FileSystem::of(&layout.blobs())?.sync()?;
        Ok(Self::with_room(layout, min_free))
    }

    /// Why nothing new can be kept, or why something could not that still can't.
    ///
    /// It writes a file, as keeping something would.
    pub fn problem(&self) -> Option<String> {
        self.room.problem()
    }

    /// Lets a problem that only a write ends come to its end.
    pub fn try_out(&self) {
        self.room.try_out();
    }

    /// Remembers how a write to the store beside the blobs ended.
    pub(super) fn note_write(&self, written: Result<(), &io::Error>) {
        match written {
            Ok(()) => self.room.succeeded(),
            Err(error) => self.room.failed(error, Taken::default()),
        }
    }

    /// Starts a blob whose bytes are still to come.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        self.room.check()?;
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(self.layout.work());
        let file = self.room.note_failure(file, Taken::default)?;
        Ok(BlobWriter::new(file, self.room.clone()))
    }

    /// Keeps a hashed file under its name; on disk, file and name, before this returns.
    ///
    /// Bytes that are already kept stay as they are.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn keep(&self, blob: Hashed) -> io::Result<()> {
        let name = blob.digests.sha256;
        if self.holds_durably(&name) {
            return Ok(());
        }
        let Hashed { file, path, write_back, .. } = blob;
        let synced = write_back.end().and_then(|()| durable::sync_file(&file, &path));
        let kept = synced.and_then(|()| {
            let renaming = self.pending.begin(vec![name]);
            durable::rename(path, &self.layout.blob(&name))?;
            renaming.durable();
            Ok(())
        });
        self.room.note(kept, || Taken::by(&file))
    }

    /// Puts a hashed file in the place of a blob that is damaged or missing, durably.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn restore(&self, blob: Hashed) -> io::Result<()> {
        let Hashed { file, path, digests, write_back } = blob;
        let restored = write_back
            .end()
            .and_then(|()| durable::sync_file(&file, &path))
            .and_then(|()| durable::rename(path, &self.layout.blob(&digests.sha256)));
        self.room.note(restored, || Taken::by(&file))
    }

    /// Keeps bytes that are all at hand and returns their name.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Sha256> {
        let name = Sha256::of(bytes);
        self.put_all(std::iter::once((name, bytes)))?;
        Ok(name)
    }

    /// Opens a blob for serving, hashing it first unless this very file was hashed before.
    ///
    /// Blocks for as long as hashing takes; a file that is unchanged since is opened at once.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] when the bytes are not what the name says: they are never served.
    pub fn open(&self, name: &Sha256) -> Result<CheckedBlob, BlobError> {
        let (file, state) = self.open_unchecked(name)?;
        if !self.was_checked(name, state) {
            self.check(name, &file)?;
            let mut checked = self.checked.write().unwrap_or_else(PoisonError::into_inner);
            if checked.len() >= MAX_CHECKED {
                checked.clear();
            }
            checked.insert(*name, state);
        }
        Ok(CheckedBlob { file: Arc::new(file), size: state.size })
    }

    /// Opens a blob only if that needs no hashing; for callers that must not block.
    pub fn open_if_checked(&self, name: &Sha256) -> Option<CheckedBlob> {
        let (file, state) = self.open_unchecked(name).ok()?;
        self.was_checked(name, state)
            .then(|| CheckedBlob { file: Arc::new(file), size: state.size })
    }

    /// Reads a blob of metadata whole, checking it on the way.
    ///
    /// # Errors
    /// As [`Blobs::open`], and an I/O error when it is longer than `limit` bytes.
    pub fn read(&self, name: &Sha256, limit: u64) -> Result<Vec<u8>, BlobError> {
        let (file, state) = self.open_unchecked(name)?;
        let io = |source| BlobError::Io { name: *name, source };
        if state.size > limit {
            return Err(io(io::Error::other(format!("longer than {limit} bytes"))));
        }
        // The size was just bounded.
        let mut bytes = Vec::with_capacity(state.size as usize);
        file.take(limit).read_to_end(&mut bytes).map_err(io)?;
        match Sha256::of(&bytes) {
            found if found == *name => Ok(bytes),
            found => Err(BlobError::Damaged { name: *name, found }),
        }
    }

    /// What a blob's bytes hash to now, whatever is remembered of them, and how many they are.
    ///
    /// # Errors
    /// When the blob is missing or can't be read.
    pub fn sha256(&self, name: &Sha256) -> Result<(Sha256, u64), BlobError> {
        let (file, state) = self.open_unchecked(name)?;
        let found =
            sha256_of_file(&file).map_err(|source| BlobError::Io { name: *name, source })?;
        Ok((found, state.size))
    }

    /// Whether a blob of this name is there and would be after a crash; its bytes are not looked
    /// at.
    fn holds_durably(&self, name: &Sha256) -> bool {
        // In this order: whoever put the file there named it pending before.
        regular::exists(&self.layout.blob(name)) && !self.pending.contains(name)
    }

    fn check(&self, name: &Sha256, file: &File) -> Result<(), BlobError> {
        let found = sha256_of_file(file).map_err(|source| BlobError::Io { name: *name, source })?;
        if found == *name { Ok(()) } else { Err(BlobError::Damaged { name: *name, found }) }
    }

    /// How many bytes a blob's file has.
    ///
    /// # Errors
    /// When the blob is missing or can't be read.
    pub fn size(&self, name: &Sha256) -> Result<u64, BlobError> {
        Ok(self.open_unchecked(name)?.1.size)
    }

    /// Opens a blob whatever is in it, for callers that hash the bytes as they read them.
    ///
    /// # Errors
    /// When the blob is missing or can't be read.
    pub fn open_to_hash(&self, name: &Sha256) -> Result<File, BlobError> {
        Ok(self.open_unchecked(name)?.0)
    }

    fn open_unchecked(&self, name: &Sha256) -> Result<(File, FileState), BlobError> {
        let io = |source| BlobError::Io { name: *name, source };
        let file = match regular::open(&self.layout.blob(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::Missing(*name));
            }
            Err(error) => return Err(io(error)),
        };
        let metadata = file.metadata().map_err(io)?;
        let state = FileState {
            inode: metadata.ino(),
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Ok((file, state))
    }

    fn was_checked(&self, name: &Sha256, state: FileState) -> bool {
        let checked = self.checked.read().unwrap_or_else(PoisonError::into_inner);
        checked.get(name) == Some(&state)
    }
}

/// Hashes a whole file with all three hashes.
///
/// # Errors
/// Whatever the file system says.
pub fn hash_file(mut file: &File) -> io::Result<Digests> {
    let mut hasher = Hasher::default();
    read_chunks(&mut file, |chunk| hasher.update(chunk))?;
    Ok(hasher.finish())
}

/// The files of all blobs in a store, in no order; what can't be listed is left out.
pub fn files(layout: &Layout) -> impl Iterator<Item = PathBuf> {
    let directories = std::fs::read_dir(layout.blobs()).into_iter().flatten().flatten();
    directories
        .flat_map(|directory| std::fs::read_dir(directory.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
}

fn sha256_of_file(mut file: &File) -> io::Result<Sha256> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    read_chunks(&mut file, |chunk| hasher.update(chunk))?;
    Ok(Sha256::from_bytes(hasher.finalize().into()))
}

fn read_chunks(file: &mut &File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    // Most files are far smaller, and a buffer costs by its size; one byte more finds the end.
    let length = file.metadata()?.len().saturating_add(1);
    let mut buffer = vec![0; usize::try_from(length).map_or(READ_SIZE, |it| it.min(READ_SIZE))];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How many bytes are written without looking at the room that is left.
const CHECK_ROOM_EVERY: u64 = 4 << 20;
/// How many blobs are remembered as checked; past it, checking begins anew.
const MAX_CHECKED: usize = 262_144;
const READ_SIZE: usize = 256 * 1024;
