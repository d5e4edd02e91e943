//! What a ledger needs of the place it lies in; here a directory, later an object store.

use super::{durable, regular};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// A place for a ledger's files.
///
/// Paths are those under which the ledger is served, such as `tile/0/000` and `checkpoint`.
pub trait LedgerMedium: Send + Sync {
    /// A file's bytes, or `None` when there is no such file.
    ///
    /// # Errors
    /// Whatever the medium says.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes files; all of them are durable before this returns.
    ///
    /// # Errors
    /// Whatever the medium says; any of the files may then be old, new or missing.
    fn write_all(&self, files: &[(String, Vec<u8>)]) -> io::Result<()>;

    /// Moves the head from `expected` to `new`, durably.
    ///
    /// # Errors
    /// [`SwapError::Lost`] when the head is not `expected`: another writer was first.
    fn swap_head(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<(), SwapError>;

    /// Removes partial tiles that a larger or full tile has made needless.
    fn prune(&self, paths: &[String]);
}

/// Why the head did not move, or may not have.
#[derive(Debug, Error)]
pub enum SwapError {
    /// Another writer moved it first.
    #[error("another writer moved the ledger's head")]
    Lost,
    /// The medium failed; whether the head moved is not known.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A ledger in a local directory, whose single writer holds the store's lock.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    head: Head,
}

/// How the head is read.
#[derive(Debug)]
enum Head {
    /// By another process: from its file.
    Shared,
    /// By the one that writes it: the last that is durable, so that nobody is shown a head that a
    /// power loss takes back. Not known after a failure.
    Owned(Mutex<Option<Option<Vec<u8>>>>),
}

impl Directory {
    /// A ledger in `root`, which is created if need be.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(root: PathBuf) -> io::Result<Self> {
        durable::create_directory(&root)?;
        Ok(Self { root, head: Head::Owned(Mutex::default()) })
    }

    /// A ledger in `root`, to be read only.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), head: Head::Shared }
    }

    fn read_file(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let mut file = match regular::open(&self.root.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Whether a ledger has entries beyond its first and no head: one that lost it, not a new one.
pub fn has_lost_its_head(root: &Path) -> bool {
    let names = |directory: PathBuf| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        names.filter(|name| !durable::is_temporary(name)).collect::<Vec<_>>()
    };
    let bundles = root.join("tile/entries");
    let beyond_the_first = names(bundles.clone()).iter().any(|name| name != "000.p")
        || names(bundles.join("000.p")).iter().any(|name| name != "1");
    // The head last: whoever writes meanwhile writes entries under a head that is there already.
    beyond_the_first && !root.join(HEAD).exists()
}

impl LedgerMedium for Directory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Head::Owned(head) = &self.head else { return self.read_file(path) };
        if path != HEAD {
            return self.read_file(path);
        }
        let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(durable) = &*head {
            return Ok(durable.clone());
        }
        // Whatever the file says by now is made durable first.
        durable::sync_directory(&self.root)?;
        let read = self.read_file(HEAD)?;
        *head = Some(read.clone());
        Ok(read)
    }

    fn write_all(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        for (path, bytes) in files {
            let path = self.root.join(path);
            if let Some(directory) = path.parent() {
                durable::create_directory(directory)?;
            }
            durable::write(&path, bytes, 0o644)?;
        }
        Ok(())
    }

    fn swap_head(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<(), SwapError> {
        if self.read(HEAD)?.as_deref() != expected {
            return Err(SwapError::Lost);
        }
        let written = durable::write(&self.root.join(HEAD), new, 0o644);
        if let Head::Owned(head) = &self.head {
            let known = written.is_ok().then(|| Some(new.to_owned()));
            *head.lock().unwrap_or_else(PoisonError::into_inner) = known;
        }
        Ok(written?)
    }

    fn prune(&self, paths: &[String]) {
        for path in paths {
            let path = self.root.join(path);
            // What can't be removed is harmless: readers ask for the widths of a checkpoint.
            let _ = durable::remove(&path);
            if let Some(directory) = path.parent() {
                let _ = std::fs::remove_dir(directory);
            }
        }
    }
}

/// The path of the signed head.
pub const HEAD: &str = "checkpoint";
