//! Small archives that are asked for often, kept in memory.
//!
//! What is here was hashed when it was read, so it is right whatever happens to the disk.

use crate::opam::Checksum;
use crate::store::catalog::Kept;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A bounded cache of archives by the checksums that they were asked for.
///
/// Owned by the server. When it is full, what was not asked for since the last round goes.
#[derive(Default)]
pub(super) struct Hot {
    archives: RwLock<Archives>,
}

#[derive(Default)]
struct Archives {
    by_checksum: HashMap<Checksum, Arc<Archive>>,
    bytes: usize,
}

/// An archive in memory.
pub(super) struct Archive {
    pub kept: Kept,
    pub bytes: Bytes,
    asked: AtomicBool,
}

impl Hot {
    /// An archive, if it is in memory.
    pub(super) fn find(&self, checksum: &Checksum) -> Option<Arc<Archive>> {
        let archives = self.archives.read().unwrap_or_else(PoisonError::into_inner);
        let archive = archives.by_checksum.get(checksum)?;
        archive.asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(archive))
    }

    /// Whether an archive of this size is kept in memory at all.
    pub(super) fn takes(size: u64) -> bool {
        size <= MAX_ARCHIVE
    }

    /// Keeps an archive's checked bytes.
    pub(super) fn keep(&self, checksum: Checksum, kept: Kept, bytes: Bytes) {
        let mut archives = self.archives.write().unwrap_or_else(PoisonError::into_inner);
        let size = bytes.len() + OVERHEAD;
        if archives.bytes + size > CAPACITY {
            archives.make_room();
        }
        let archive = Archive { kept, bytes, asked: AtomicBool::new(false) };
        let old = archives.by_checksum.insert(checksum, Arc::new(archive));
        archives.bytes += size;
        archives.bytes -= old.map_or(0, |old| old.bytes.len() + OVERHEAD);
    }
}

impl Archives {
    /// Lets go of what was not asked for since last time, or of everything if all of it was.
    fn make_room(&mut self) {
        self.by_checksum.retain(|_, archive| archive.asked.swap(false, Ordering::Relaxed));
        self.count();
        if self.bytes > CAPACITY / 2 {
            self.by_checksum.clear();
            self.count();
        }
    }

    fn count(&mut self) {
        self.bytes = self.by_checksum.values().map(|archive| archive.bytes.len() + OVERHEAD).sum();
    }
}

const CAPACITY: usize = 16 << 20;
const MAX_ARCHIVE: u64 = 256 << 10;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digests;

    #[test]
    fn what_is_asked_for_stays_and_the_whole_is_bounded() {
        let hot = Hot::default();
        let put = |number: u32| {
            let digests = Digests::of(&number.to_be_bytes());
            let checksum = Checksum::Sha256(digests.sha256);
            let kept = Kept { sha256: digests.sha256, size: 100_000, entry: 0 };
            hot.keep(checksum, kept, Bytes::from(vec![0; 100_000]));
            checksum
        };
        let first = put(0);
        for number in 1..400 {
            put(number);
            assert!(hot.find(&first).is_some(), "{number}");
        }
        assert!(hot.archives.read().unwrap().bytes <= CAPACITY);
    }
}
