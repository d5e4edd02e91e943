//! Room on the file system: what is new is kept only while some is left.
//!
//! A full file system would stop the ledger, which has to go on saying what happens; so whatever
//! upstream can make large stops earlier.

use super::layout::Layout;
use std::io;
use std::path::PathBuf;

/// The room that new blobs leave on the store's file system.
#[derive(Clone, Debug)]
pub(super) struct Room {
    directory: PathBuf,
    min_free: u64,
}

impl Room {
    pub(super) fn new(layout: &Layout, min_free: u64) -> Self {
        Self { directory: layout.blobs(), min_free }
    }

    /// Whether there is enough room for something new.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there isn't, with how much there is.
    pub(super) fn check(&self) -> io::Result<()> {
        let system = rustix::fs::statvfs(&self.directory)?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        if free >= self.min_free {
            return Ok(());
        }
        let message = format!(
            "{} has {free} bytes of free space left and must keep {} (store.min_free), so nothing \
             new is kept",
            self.directory.display(),
            self.min_free
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, message))
    }
}
