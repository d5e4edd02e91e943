//! What the last `verify` came to, left in the store for whoever asks later.

use super::verify::Report;
use crate::store::durable;
use crate::store::layout::Layout;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;

/// The last check of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// When it ended.
    pub at: Timestamp,
    /// How many ledger entries were checked.
    pub entries: u64,
    /// How many blobs were hashed.
    pub blobs: u64,
    /// How many bytes that was.
    pub bytes: u64,
    /// How many things were wrong.
    pub problems: u64,
}

impl Verified {
    /// The essence of a report.
    pub fn new(report: &Report, at: Timestamp) -> Self {
        let Report { entries, blobs, bytes, problems, .. } = report;
        Self {
            at,
            entries: *entries,
            blobs: *blobs,
            bytes: *bytes,
            problems: problems.len() as u64,
        }
    }

    /// Leaves it in the store.
    ///
    /// # Errors
    /// Whatever the file system says; who may read a store need not be able to write to it.
    pub fn leave(&self, layout: &Layout) -> io::Result<()> {
        durable::write(&layout.verified(), &serde_json::to_vec(self)?, 0o644)
    }

    /// What the last check left; nothing where there was none, or it can't be read.
    pub fn last(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(layout.verified()).ok()?).ok()
    }
}
