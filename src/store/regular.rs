//! Opens regular files and nothing else: a FIFO would let its reader wait for ever, and a link
//! leads out of the store.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a file to read it.
///
/// # Errors
/// Whatever the file system says, and that it is no regular file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Without NONBLOCK, opening a FIFO waits for someone who writes to it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link and a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(irregular()),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

/// Whether a regular file is there.
pub(super) fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "is no regular file")
}
