//! Many small blobs, kept together: what makes one durable costs as much as what makes all.

use super::super::durable::{self, FileSystem};
use super::super::room::Taken;
use super::{Blobs, CHECK_ROOM_EVERY};
use crate::digest::Sha256;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::{BTreeSet, HashSet};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempPath;

impl Blobs {
    /// Keeps many small blobs and makes them durable together.
    ///
    /// # Errors
    /// Whatever the file system says; blobs that were written by then stay.
    pub fn put_all<'a>(
        &self,
        blobs: impl Iterator<Item = (Sha256, &'a [u8])>,
    ) -> io::Result<usize> {
        let mut seen = HashSet::new();
        let mut is_new = |name: &Sha256| seen.insert(*name) && !self.holds_durably(name);
        let mut blobs = blobs.filter(|(name, _)| is_new(name)).peekable();
        if blobs.peek().is_none() {
            return Ok(0);
        }
        let file_system = FileSystem::of(&self.layout.blobs())?;
        let mut staged = Vec::new();
        let mut taken = Taken::default();
        while blobs.peek().is_some() {
            self.room.check()?;
            let mut unchecked = 0;
            let some = std::iter::from_fn(|| {
                let next = blobs.next_if(|_| unchecked < CHECK_ROOM_EVERY)?;
                unchecked += next.1.len() as u64;
                Some(next)
            });
            let some: Vec<_> = some.take(AT_ONCE).collect();
            let stage = |(name, bytes): (Sha256, &[u8])| (name, self.stage(bytes));
            let some: Vec<_> = match some.len() {
                1 => some.into_iter().map(stage).collect(),
                _ => on_the_disk(|| some.into_par_iter().map(stage).collect()),
            };
            // Whichever of them failed, all others have taken room by now.
            for (_, more) in some.iter().filter_map(|(_, staged)| staged.as_ref().ok()) {
                taken.add(*more);
            }
            for (name, file) in some {
                let (path, _) = self.room.note_failure(file, || taken)?;
                staged.push((name, path));
            }
        }
        let written = staged.len();
        self.room.note(self.keep_staged(staged, &file_system), || taken)?;
        Ok(written)
    }

    /// Writes a file that is closed again: there may be more of them than can be open.
    fn stage(&self, bytes: &[u8]) -> io::Result<(TempPath, Taken)> {
        let temporary = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(self.layout.work())?;
        durable::append(temporary.as_file(), temporary.path(), bytes)?;
        let taken = Taken::by(temporary.as_file());
        Ok((temporary.into_temp_path(), taken))
    }

    fn keep_staged(
        &self,
        staged: Vec<(Sha256, TempPath)>,
        file_system: &FileSystem,
    ) -> io::Result<()> {
        let written = staged.len();
        // Bytes first, names second: no crash can leave a name on bytes that are not there.
        if written > FEW {
            file_system.sync()?;
        } else {
            // Together, so that the file system can write what they have in common once.
            let sync =
                |(_, path): &(Sha256, TempPath)| durable::sync_file(&File::open(path)?, path);
            match staged.len() {
                1 => staged.iter().try_for_each(sync),
                _ => on_the_disk(|| staged.par_iter().try_for_each(sync)),
            }?;
        }
        let mut directories = BTreeSet::new();
        let renaming = self.pending.begin(staged.iter().map(|(name, _)| *name).collect());
        for (name, temporary) in staged {
            let path = self.layout.blob(&name);
            directories.extend(path.parent().map(ToOwned::to_owned));
            durable::name(temporary, &path)?;
        }
        if written > FEW {
            file_system.sync()?;
        } else {
            let sync = |directory: &PathBuf| durable::sync_directory(directory);
            match directories.len() {
                1 => directories.iter().try_for_each(sync),
                _ => on_the_disk(|| directories.par_iter().try_for_each(sync)),
            }?;
        }
        renaming.durable();
        Ok(())
    }
}

/// Does work that waits for the disk by threads that do nothing else: those of others have to
/// compute meanwhile.
fn on_the_disk<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static THREADS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        let threads = ThreadPoolBuilder::new().num_threads(DISK_THREADS);
        threads.thread_name(|_| "disk".to_owned()).build().ok()
    });
    match &*THREADS {
        Some(threads) => threads.install(work),
        None => work(),
    }
}

const DISK_THREADS: usize = 4;
/// Most blobs that are staged together.
const AT_ONCE: usize = 1_024;
/// Up to so many files are made durable one by one; for more, syncing the whole file system, with
/// whatever else is being written to it, is faster.
const FEW: usize = 512;
