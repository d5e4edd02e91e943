//! Writes that are on disk, file and directory entry alike, before they return.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that after a crash the file is either as before or complete.
///
/// The steps are write to a temporary name, fsync, rename, fsync of the directory. When an fsync
/// fails the kernel may have dropped the pages while calling them clean, so nothing is tried
/// again on the same file: the caller gets the error, and what `path` held before still stands.
///
/// # Errors
/// Whatever the file system says; the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = parent(path)?;
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    append(temporary.as_file(), temporary.path(), bytes)?;
    sync_file(temporary.as_file(), temporary.path())?;
    rename(temporary.into_temp_path(), path)
}

/// Writes bytes to a file, which are not durable yet.
///
/// # Errors
/// Whatever the file system says; some of the bytes may be written then.
pub fn append(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    step(Step::Write(path), || file.write_all(bytes))
}

/// Copies all bytes of a file to another one, where they are not durable yet.
///
/// # Errors
/// Whatever the file system says; some of the bytes may be copied then.
pub fn copy(mut from: &File, mut to: &File, path: &Path) -> io::Result<()> {
    step(Step::Write(path), || io::copy(&mut from, &mut to).map(drop))
}

/// Makes the bytes of a file durable; its name is another matter.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    step(Step::SyncFile(path), || file.sync_all())
}

/// Gives a complete, already synced file its final name, which is not durable yet.
///
/// # Errors
/// Whatever the file system says.
pub fn name(from: tempfile::TempPath, to: &Path) -> io::Result<()> {
    let path = from.to_path_buf();
    step(Step::Name(&path, to), || from.persist(to).map_err(|error| error.error))
}

/// Renames a complete, already synced file to its final name and makes the name durable.
///
/// # Errors
/// Whatever the file system says.
pub fn rename(from: tempfile::TempPath, to: &Path) -> io::Result<()> {
    name(from, to)?;
    sync_directory(parent(to)?)
}

/// Removes a file, which is not durable yet.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    step(Step::Remove(path), || std::fs::remove_file(path))
}

/// Makes the names in `directory` durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    step(Step::SyncDirectory(directory), || File::open(directory)?.sync_all())
}

/// A file system, as a whole: one call for all is far cheaper than an fsync per file when there are
/// thousands of files.
///
/// It is opened before anything is written: whatever can't be written from then on is told to its
/// [`sync`](Self::sync), also when someone else was told before.
#[derive(Debug)]
pub struct FileSystem {
    directory: PathBuf,
    file: File,
}

impl FileSystem {
    /// The one that a directory is on.
    ///
    /// # Errors
    /// When the directory can't be opened.
    pub fn of(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: directory.to_owned(), file: File::open(directory)? })
    }

    /// Makes everything durable that was written to it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn sync(&self) -> io::Result<()> {
        step(Step::SyncFileSystem(&self.directory), || Ok(rustix::fs::syncfs(&self.file)?))
    }
}

/// One step on the way to disk, each of which can fail on its own.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests' failing disk looks at the paths"))]
pub(super) enum Step<'a> {
    /// Bytes are written to a file.
    Write(&'a Path),
    /// They are made durable.
    SyncFile(&'a Path),
    /// A file gets another name.
    Name(&'a Path, &'a Path),
    /// A file loses its name.
    Remove(&'a Path),
    /// The names in a directory are made durable.
    SyncDirectory(&'a Path),
    /// Everything on a file system is made durable.
    SyncFileSystem(&'a Path),
    /// A directory is made.
    CreateDirectory(&'a Path),
}

#[cfg(test)]
use super::failing_disk::step;

#[cfg(not(test))]
fn step<T>(_: Step<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    work()
}

/// What a person can do about a data directory that can't be used.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "make room on that file system",
        io::ErrorKind::NotADirectory => "store.path must name a directory",
        io::ErrorKind::ReadOnlyFilesystem => "store.path must be on a file system to write to",
        _ => "the data directory must be writable by this user",
    }
}

/// Creates `directory` and its parents, each name durable.
///
/// # Errors
/// Whatever the file system says.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = parent(directory)?;
    create_directory(parent)?;
    match make_directory(directory) {
        Ok(()) => sync_directory(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes one directory, whose name is not durable yet.
///
/// # Errors
/// Whatever the file system says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    step(Step::CreateDirectory(directory), || std::fs::create_dir(directory))
}

/// Removes what a crash in the middle of [`write()`] left in `directory` or below.
///
/// Nobody may be writing there.
///
/// # Errors
/// Whatever the file system says; that there is no such directory is no error.
pub fn remove_leftovers(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if is_temporary(&entry.file_name()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file of this name is one that [`write()`] has not renamed yet.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Opens `path` for appending or locking, creating it for its owner alone.
///
/// # Errors
/// Whatever the file system says.
pub fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "a path without a directory")),
    }
}

const TEMPORARY: &str = ".tmp-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"one, and longer", 0o600).unwrap();
        write(&path, b"two", 0o444).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
