//! A directory of files that others serve, kept as it should be with the least change.
//!
//! Each file appears whole, under its name at once. `SHA256SUMS` lists them all, in the form that
//! `sha256sum --check` reads: by it what was written before is known again, and only that is ever
//! replaced or removed.

mod last_run;
#[cfg(test)]
mod tests;
mod way;

use super::durable::{self, FileSystem};
use super::regular;
use crate::digest::Sha256;
use last_run::{MARKER, MARKER_TEXT, SUMS, WORK, left_by_the_last_run, sums_at, sums_of};
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, TempPath};
use thiserror::Error;

/// A directory that is being brought up to date.
pub struct TreeWriter {
    root: PathBuf,
    /// Locked: two writers would each remove what the other one wrote.
    _alone: File,
    /// Where files are made before they get their names; gone when this is.
    work: TempDir,
    file_system: FileSystem,
    /// What was there, as the last run left it.
    before: BTreeMap<String, Sha256>,
    /// What shall be there.
    now: BTreeMap<String, Sha256>,
    /// Directories that are known to be none but directories.
    directories: HashSet<PathBuf>,
    /// Where the bytes of a blob were written, for other names of it.
    written: HashMap<Sha256, PathBuf>,
    /// How many files were removed.
    removed: u64,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was there.
    Unchanged,
    /// It is another name of a file that is there.
    Linked,
    /// Its bytes were written.
    Copied,
}

/// Why a directory can't be written.
#[derive(Debug, Error)]
pub enum TreeError {
    /// There is something that no earlier run wrote.
    #[error("{0} is not empty, and no earlier export wrote it: name another directory")]
    Foreign(PathBuf),
    /// It was written before, and nobody said that it may change.
    #[error("{0} has an export already: --update brings it up to date")]
    Present(PathBuf),
    /// Another process writes to it.
    #[error("another export writes to {0}: wait until it is done")]
    Busy(PathBuf),
    /// Something that is no directory is where one has to be.
    #[error("{0} is no directory: remove it")]
    NoDirectory(PathBuf),
    /// A directory that has more in it than earlier runs wrote is where a file has to be.
    #[error("{0} has to be a file, and no export wrote all that is in this directory: remove it")]
    NoFile(PathBuf),
    /// The list of what was written is damaged.
    #[error("{0} can't be read: remove the whole export and write it anew")]
    Sums(PathBuf),
    /// The file system fails.
    #[error("{path}: {source}")]
    Io {
        /// On what.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

/// Whether an earlier run wrote to `root` what `is_meant` says of its path; where that can't be read
/// it didn't, and [`TreeWriter::begin`] says why.
pub fn has_written(root: &Path, is_meant: impl Fn(&str) -> bool) -> bool {
    let before = regular::open(&root.join(MARKER)).is_ok().then(|| sums_at(root));
    let before = before.and_then(Result::ok).unwrap_or_default();
    before.keys().any(|path| is_meant(path))
}

impl TreeWriter {
    /// Begins to write `files` below `root`, which is made if it is not there.
    ///
    /// # Errors
    /// When there is something else, or an earlier export without `update`.
    pub fn begin(
        root: &Path,
        update: bool,
        files: BTreeMap<String, Sha256>,
    ) -> Result<Self, TreeError> {
        std::fs::create_dir_all(root).map_err(failed(root))?;
        let alone = File::open(root).map_err(failed(root))?;
        if flock(&alone, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(TreeError::Busy(root.to_owned()));
        }
        let before = left_by_the_last_run(root, update)?;
        let work = tempfile::Builder::new().prefix(WORK).tempdir_in(root).map_err(failed(root))?;
        let file_system = FileSystem::of(root).map_err(failed(root))?;
        let mut writer = Self {
            root: root.to_owned(),
            _alone: alone,
            work,
            file_system,
            before,
            now: files,
            directories: HashSet::new(),
            written: HashMap::new(),
            removed: 0,
        };
        // Whatever happens from here on, the next run knows that the directory is an export's.
        writer.put_synced(MARKER, MARKER_TEXT)?;
        durable::sync_directory(root).map_err(failed(root))?;
        // And it knows what this one may have written, and of what changes nothing but that.
        let mut all = writer.now.clone();
        for (path, name) in &writer.before {
            let is_to_change = all.get(path).is_some_and(|now| now != name);
            all.insert(path.clone(), if is_to_change { UNKNOWN } else { *name });
        }
        writer.put_synced(SUMS, &sums_of(&all))?;
        // A list that a power loss takes back would not tell what is made of a directory or file.
        durable::sync_directory(root).map_err(failed(root))?;
        Ok(writer)
    }

    /// Whether an earlier run wrote these bytes to `path`, and they are there as it left them.
    ///
    /// A copy on another file system is not read: `sha256sum --check SHA256SUMS` does that. Where
    /// the earlier run could link to the blob's file, this is about that very file, which a healed
    /// blob is not any more. A copy is told from its last link by its mode, as nobody may write to a
    /// blob, and by its bytes.
    pub fn is_current(&mut self, path: &str, blob: &Path) -> bool {
        let Some(name) = self.now.get(path).copied() else { return true };
        let target = self.root.join(path);
        let (Ok(kept), Ok(found)) = (std::fs::metadata(blob), std::fs::symlink_metadata(&target))
        else {
            return false;
        };
        let is_copy = || {
            let looks_so = found.nlink() == 1 && found.mode() & 0o200 != 0;
            looks_so && have_same_bytes(blob, &target).unwrap_or(false)
        };
        let is_as_left = self.before.get(path) == Some(&name)
            && found.is_file()
            && found.len() == kept.len()
            && (found.dev() != kept.dev() || found.ino() == kept.ino() || is_copy());
        if is_as_left {
            self.written.entry(name).or_insert(target);
        }
        is_as_left
    }

    /// Writes a file with the bytes of `blob`, which `path` names and which were checked.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn link(&mut self, path: &str, blob: &Path) -> Result<Written, TreeError> {
        let Some(name) = self.now.get(path).copied() else { return Ok(Written::Unchanged) };
        let target = self.root.join(path);
        self.make_way_for(path)?;
        self.make_directory_of(&target)?;
        let written = self.written.get(&name).cloned();
        for source in [blob].into_iter().chain(written.iter().map(PathBuf::as_path)) {
            if self.hard_link(source, &target).is_ok() {
                self.written.entry(name).or_insert(target);
                return Ok(Written::Linked);
            }
        }
        let copy = || -> io::Result<()> {
            let temporary = self.temporary()?;
            durable::copy(&File::open(blob)?, temporary.as_file(), temporary.path())?;
            durable::name(temporary.into_temp_path(), &target)
        };
        copy().map_err(failed(&target))?;
        self.written.insert(name, target);
        Ok(Written::Copied)
    }

    /// Leaves out what can't be written; what is there of it goes.
    pub fn leave_out(&mut self, path: &str) {
        if let Some(name) = self.now.remove(path) {
            self.before.insert(path.to_owned(), name);
        }
    }

    /// Writes a file with these bytes.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<Written, TreeError> {
        let target = self.root.join(path);
        let is_there = regular::open(&target).is_ok_and(|file| {
            let mut found = Vec::new();
            let read = file.take(bytes.len() as u64 + 1).read_to_end(&mut found);
            read.is_ok() && found == bytes
        });
        if is_there {
            return Ok(Written::Unchanged);
        }
        self.put(path, bytes)?;
        Ok(Written::Copied)
    }

    /// Makes all that was written durable: before what names it is.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn sync(&self) -> Result<(), TreeError> {
        self.file_system.sync().map_err(failed(&self.root))
    }

    /// Removes what an earlier run wrote and is not wanted any more, and says how many files.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn end(mut self) -> Result<u64, TreeError> {
        let listed: Vec<String> =
            self.before.keys().filter(|path| !self.now.contains_key(*path)).cloned().collect();
        for path in listed {
            self.remove_listed(&path)?;
        }
        // What comes back with a power loss has to be known to the next run.
        if self.removed > 0 {
            self.sync()?;
        }
        let sums = sums_of(&self.now);
        self.put_synced(SUMS, &sums)?;
        self.sync()?;
        Ok(self.removed)
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), TreeError> {
        self.put_after(path, bytes, |_| Ok(()))
    }

    /// The same, by which the next run goes: it is never there without its bytes.
    fn put_synced(&mut self, path: &str, bytes: &[u8]) -> Result<(), TreeError> {
        self.put_after(path, bytes, |file| durable::sync_file(file.as_file(), file.path()))
    }

    fn put_after(
        &mut self,
        path: &str,
        bytes: &[u8],
        before_it_is_named: impl FnOnce(&tempfile::NamedTempFile) -> io::Result<()>,
    ) -> Result<(), TreeError> {
        let target = self.root.join(path);
        self.make_way_for(path)?;
        self.make_directory_of(&target)?;
        let put = || -> io::Result<()> {
            let temporary = self.temporary()?;
            durable::append(temporary.as_file(), temporary.path(), bytes)?;
            before_it_is_named(&temporary)?;
            durable::name(temporary.into_temp_path(), &target)
        };
        put().map_err(failed(&target))
    }

    /// Makes `target` another name of `source`, in place of what it was.
    fn hard_link(&self, source: &Path, target: &Path) -> io::Result<()> {
        let same = |one: &Path, other: &Path| -> io::Result<bool> {
            let (one, other) = (std::fs::symlink_metadata(one)?, std::fs::symlink_metadata(other)?);
            Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
        };
        // rename(2) leaves both names where they are the same file already.
        if same(source, target).unwrap_or(false) {
            return Ok(());
        }
        let linked = self.work.path().join("linked");
        std::fs::hard_link(source, &linked)?;
        durable::name(TempPath::try_from_path(&linked)?, target)
    }

    /// A file that any user of the machine may read once it has its name.
    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let mode = Permissions::from_mode(0o644);
        tempfile::Builder::new().permissions(mode).tempfile_in(self.work.path())
    }

    /// Makes the directory of a file below the root; no link leads out of it.
    fn make_directory_of(&mut self, target: &Path) -> Result<(), TreeError> {
        let directory = target.parent().unwrap_or(&self.root).to_owned();
        let above: Vec<&Path> =
            directory.ancestors().take_while(|it| !self.directories.contains(*it)).collect();
        for directory in above.into_iter().rev().filter(|it| it.starts_with(&self.root)) {
            match durable::make_directory(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(directory)(error));
                }
                Ok(()) | Err(_) => {}
            }
            // The root itself may be where a link leads.
            if *directory != self.root && !is_directory(directory).map_err(failed(directory))? {
                return Err(TreeError::NoDirectory(directory.to_owned()));
            }
            self.directories.insert(directory.to_owned());
        }
        Ok(())
    }
}

/// Whether it is a directory, and no link to one.
fn is_directory(path: &Path) -> io::Result<bool> {
    Ok(std::fs::symlink_metadata(path)?.is_dir())
}

/// Whether two files hold the same.
fn have_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (regular::open(one)?, regular::open(other)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        ours.clear();
        theirs.clear();
        one.by_ref().take(CHUNK).read_to_end(&mut ours)?;
        other.by_ref().take(CHUNK).read_to_end(&mut theirs)?;
        if ours != theirs || ours.is_empty() {
            return Ok(ours == theirs);
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io { path, source }
}

/// No file has this hash.
const UNKNOWN: Sha256 = Sha256::from_bytes([0; 32]);
/// So much of two files is compared at once.
const CHUNK: u64 = 64 << 10;
