//! Room on the file system: what is new is kept only while some is left, and what kept a write from
//! being done is remembered until it is over.
//!
//! A full file system would stop the ledger, which has to go on saying what happens; so whatever
//! upstream can make large stops earlier.

use super::layout::Layout;
use indicatif::HumanBytes;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The room that new blobs leave on the store's file system; clones remember together.
#[derive(Clone, Debug)]
pub(super) struct Room {
    layout: Layout,
    min_free: u64,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// What a write that failed takes until it is undone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// Why the last write failed.
#[derive(Clone, Debug)]
struct Trouble {
    problem: String,
    until: Until,
}

/// What ends trouble.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// More room than these bytes, which were too few.
    Bytes(u64),
    /// Room for more files than these, which were too few.
    Files(u64),
    /// A write that succeeds.
    Written,
}

/// What is left on a file system.
struct Left {
    bytes: u64,
    /// `None` where files are not counted.
    files: Option<u64>,
}

impl Taken {
    /// What a file takes.
    pub(super) fn by(file: &File) -> Self {
        // What can't be looked at is as good as nothing: trouble then ends early, and comes back.
        let blocks = file.metadata().map_or(0, |metadata| metadata.blocks());
        Self { bytes: blocks.saturating_mul(BLOCK), files: 1 }
    }

    /// Takes so much more.
    pub(super) fn add(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.files = self.files.saturating_add(more.files);
    }
}

impl Room {
    pub(super) fn new(layout: &Layout, min_free: u64) -> Self {
        Self { layout: layout.clone(), min_free, trouble: Arc::default() }
    }

    /// Whether there is enough room for something new.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there isn't, with how much there is.
    pub(super) fn check(&self) -> io::Result<()> {
        let Left { bytes, files } = self.left()?;
        let full = |what: String| {
            let message = format!("the store has {what}, so nothing new is kept");
            Err(io::Error::new(io::ErrorKind::StorageFull, message))
        };
        if bytes < self.min_free {
            let (bytes, min_free) = (HumanBytes(bytes), HumanBytes(self.min_free));
            return full(format!(
                "{bytes} of free space left and must keep {min_free} (store.min_free)"
            ));
        }
        if files == Some(0) {
            return full("no inode left for another file".to_owned());
        }
        Ok(())
    }

    /// Remembers how a write ended that was to be durable; `taken` is what it takes until it is
    /// undone.
    pub(super) fn note<T>(
        &self,
        written: io::Result<T>,
        taken: impl FnOnce() -> Taken,
    ) -> io::Result<T> {
        if written.is_ok() {
            self.succeeded();
        }
        self.note_failure(written, taken)
    }

    /// Remembers only if a write failed: what is not durable yet says nothing of the disk.
    pub(super) fn note_failure<T>(
        &self,
        written: io::Result<T>,
        taken: impl FnOnce() -> Taken,
    ) -> io::Result<T> {
        written.inspect_err(|error| self.failed(error, taken()))
    }

    /// Remembers that a write is durable.
    pub(super) fn succeeded(&self) {
        let mut trouble = self.trouble();
        if matches!(&*trouble, Some(Trouble { until: Until::Written, .. })) {
            *trouble = None;
        }
    }

    /// Remembers why a write failed.
    pub(super) fn failed(&self, error: &io::Error, taken: Taken) {
        // A quota has room of its own, which is not to be seen here.
        let is_full = error.kind() == io::ErrorKind::StorageFull;
        let (until, hint) = match self.left() {
            // Others may have given back a few since.
            Ok(Left { files: Some(left @ 0..=FEW_FILES), .. }) if is_full => {
                let needed = left.saturating_add(taken.files);
                (Until::Files(needed), ": no inode is left".to_owned())
            }
            Ok(Left { bytes, .. }) if is_full => {
                let needed = bytes.saturating_add(taken.bytes);
                (
                    Until::Bytes(needed),
                    format!(": more than {} of room are needed", HumanBytes(needed)),
                )
            }
            _ => (Until::Written, String::new()),
        };
        let problem = format!("a write to the store failed: {error}{hint}");
        *self.trouble() = Some(Trouble { problem, until });
    }

    /// Why nothing new can be kept, or why something could not; none when a file can be written
    /// and nothing is in its way any more.
    pub(super) fn problem(&self) -> Option<String> {
        if let Err(error) = self.check() {
            return Some(error.to_string());
        }
        if let Some(trouble) = self.lasting() {
            return Some(trouble);
        }
        let written = tempfile::tempfile_in(self.layout.work());
        let written = written.and_then(|mut file| file.write_all(b"ready"));
        written.err().map(|error| format!("the store is not writable: {error}"))
    }

    /// Writes a file to disk and removes it, so that trouble that only a write ends can end.
    pub(super) fn try_out(&self) {
        if self.lasting().is_some() {
            let written = tempfile::tempfile_in(self.layout.work())
                .and_then(|mut file| file.write_all(b"ready").and_then(|()| file.sync_all()));
            if written.is_ok() {
                self.succeeded();
            }
        }
    }

    /// What was in the way of a write, unless that is over.
    fn lasting(&self) -> Option<String> {
        let mut trouble = self.trouble();
        let Trouble { problem, until } = trouble.as_ref()?;
        let left = self.left();
        let is_over = match (*until, left) {
            (Until::Bytes(few), Ok(left)) => left.bytes > few.saturating_add(SLACK),
            (Until::Files(few), Ok(left)) => left.files.is_none_or(|files| files > few),
            (Until::Written, _) | (_, Err(_)) => false,
        };
        if is_over {
            *trouble = None;
            return None;
        }
        Some(problem.clone())
    }

    fn left(&self) -> io::Result<Left> {
        let system = rustix::fs::statvfs(self.directory())?;
        let bytes = system.f_bavail.saturating_mul(system.f_frsize);
        // Some file systems make inodes as they need them, and say that they have none.
        let files = (system.f_files > 0).then_some(system.f_favail);
        Ok(Left { bytes, files })
    }

    fn directory(&self) -> PathBuf {
        self.layout.blobs()
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The unit in which a file says what it takes, in bytes.
const BLOCK: u64 = 512;
/// A file system's own bookkeeping comes and goes; so many bytes are no room won.
const SLACK: u64 = 256 << 10;
/// With so few inodes left it was them that were missing.
const FEW_FILES: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn room(directory: &tempfile::TempDir) -> Room {
        let layout = Layout::new(directory.path());
        std::fs::create_dir_all(layout.blobs()).unwrap();
        std::fs::create_dir_all(layout.work()).unwrap();
        Room::new(&layout, 0)
    }

    fn full() -> io::Error {
        io::Error::from(io::ErrorKind::StorageFull)
    }

    #[test]
    fn what_found_no_room_is_told_until_there_is_more_than_was_too_little() {
        let directory = tempfile::tempdir().unwrap();
        let room = room(&directory);
        assert_eq!(room.problem(), None);
        // No file system has that much room.
        room.failed(&full(), Taken { bytes: u64::MAX, files: 1 });
        let problem = room.clone().problem().unwrap();
        assert!(problem.contains("more than") && problem.contains("are needed"), "{problem}");
        // Something small still finds room, which says nothing of what is large.
        room.succeeded();
        room.try_out();
        assert_eq!(room.problem(), Some(problem));
        *room.trouble() =
            Some(Trouble { problem: "it was full".to_owned(), until: Until::Bytes(0) });
        assert_eq!(room.problem(), None);
    }

    #[test]
    fn another_failure_is_told_until_a_write_succeeds() {
        let directory = tempfile::tempdir().unwrap();
        let room = room(&directory);
        let problems = [(io::ErrorKind::Other, "other"), (io::ErrorKind::QuotaExceeded, "quota")];
        for (end, (kind, says)) in [Room::succeeded, Room::try_out].into_iter().zip(problems) {
            let failed = room.note(Err::<(), _>(io::Error::from(kind)), Taken::default);
            assert!(failed.is_err());
            // What is not durable yet ends nothing.
            room.note_failure(Ok(()), Taken::default).unwrap();
            assert!(room.problem().is_some_and(|problem| problem.contains(says)));
            end(&room);
            assert_eq!(room.problem(), None);
        }
        std::fs::remove_dir(Layout::new(directory.path()).work()).unwrap();
        assert!(room.problem().is_some_and(|problem| problem.contains("not writable")));
    }
}
