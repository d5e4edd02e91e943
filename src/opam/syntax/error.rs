//! Where and why bytes are no opam file.

use super::MAX_FILE_SIZE;

/// Bytes that are no opam file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in bytes, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl SyntaxError {
    /// Something wrong at a byte offset of `source`.
    pub(super) fn at(source: &[u8], offset: usize, message: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Self {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + before.len() - line_start,
            message: message.into(),
        }
    }

    pub(super) fn too_large() -> Self {
        let message = format!("the file is larger than {MAX_FILE_SIZE} bytes");
        Self { line: 1, column: 1, message }
    }
}
