//! One process per store: a file lock that says who holds it.

use super::durable;
use super::layout::Layout;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Ownership of a store; given up when dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// Why a store can't be owned.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process owns it.
    #[error(
        "the store {path} is in use by {holder}: stop that process, or give this one a store of \
         its own with store.path"
    )]
    Held {
        /// The data directory.
        path: String,
        /// The process that owns it, as it described itself.
        holder: String,
    },
    /// The lock file can't be opened.
    #[error("{path}: {source}: {}", durable::advice(.source))]
    Unusable {
        /// The lock file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl StoreLock {
    /// Takes the lock, or says who has it. Blocks for a moment when someone has, because a process
    /// that was killed gives it up only once the system has taken its memory back.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process owns the store.
    pub fn take(layout: &Layout) -> Result<Self, LockError> {
        let path = layout.lock();
        let unusable = |source| LockError::Unusable { path: path.display().to_string(), source };
        let mut file = durable::open_private(&path).map_err(unusable)?;
        if !is_taken_soon(&file) {
            let mut holder = String::new();
            let _ = (&mut file).take(200).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                named => named.to_owned(),
            };
            return Err(LockError::Held { path: layout.root().display().to_string(), holder });
        }
        let name = std::env::args().nth(1).unwrap_or_default();
        let command = if name.chars().all(char::is_alphanumeric) { name } else { String::new() };
        let command = format!("opam-keep {command}");
        let id = std::process::id();
        // On a full disk nobody reads who it is, and it is owned all the same.
        let named = file.set_len(0).and_then(|()| file.rewind());
        let _ = named.and_then(|()| writeln!(file, "process {id} ({})", command.trim_end()));
        Ok(Self { _file: file })
    }
}

fn is_taken_soon(file: &File) -> bool {
    let begun = Instant::now();
    loop {
        if flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if begun.elapsed() >= PATIENCE {
            return false;
        }
        std::thread::sleep(BETWEEN_ATTEMPTS);
    }
}

/// How long a process that was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_is_about_to_be_gone_keeps_nobody_out() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let first = StoreLock::take(&layout).unwrap();
        let going = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        StoreLock::take(&layout).unwrap();
        going.join().unwrap();
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let first = StoreLock::take(&layout).unwrap();
        let error = StoreLock::take(&layout).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(first);
        StoreLock::take(&layout).unwrap();
    }
}
