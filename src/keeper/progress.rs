//! How far a first fetch has come, as those who wait for it see it.

use super::missing::Missing;
use crate::store::catalog::Kept;
use std::fs::File;
use std::sync::Arc;

/// How far a first fetch has come.
#[derive(Clone, Debug)]
pub enum Progress {
    /// No source has answered yet.
    Asking,
    /// Bytes arrive from one source; they are not verified.
    Arriving(Arrival),
    /// The archive is pinned and kept; with the file that its bytes arrived in, if this fetch
    /// brought them, for those who read along in that very file.
    Kept(Kept, Option<Arc<File>>),
    /// It can't be had.
    Missing(Missing),
}

/// Unverified bytes on their way in from one source.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The file that they are written to.
    pub file: Arc<File>,
    /// How many there are so far.
    pub received: u64,
    /// How many there will be, if the source said so.
    pub length: Option<u64>,
    /// Counts the sources, so that those who read along notice when one has failed.
    pub source: u32,
}

impl Arrival {
    /// Whether it is, or is announced to be, so large that its bytes flow on as they come.
    ///
    /// Smaller archives are answered only once they are verified, so that a source that lies costs
    /// the client nothing.
    pub(super) fn is_large(&self) -> bool {
        self.received.max(self.length.unwrap_or_default()) >= LARGE
    }
}

/// What comes in a moment is worth that; what takes longer is not worth waiting for twice.
const LARGE: u64 = 2 << 20;
