//! The transparency log, as pure functions over bytes.
//!
//! In scope: entries and their canonical form; RFC 6962 hashing; C2SP tlog-tiles names and bytes;
//! the edge of a growing tree; C2SP signed notes, checkpoints and proofs. Out of scope, and not
//! known here: files, clocks, networks, and what entries are good for.
//!
//! Promises: every reader is strict and bounded and never panics; a tree that was grown is the
//! tree of its leaves, whatever the batches were (G7).

pub mod checkpoint;
pub mod edge;
pub mod entry;
pub mod frontier;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod tile;
