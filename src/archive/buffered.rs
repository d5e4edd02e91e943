//! A buffered reader that can look ahead, which tells one compressed member's end from the next
//! one's beginning.

use super::source::{Source, read_full};
use std::io::{self, BufRead, Read};

/// Buffers a source.
pub(super) struct Buffered<'s, 'i> {
    source: &'s mut Source<'i>,
    buffer: Box<[u8]>,
    /// What of the buffer was read and not consumed.
    start: usize,
    end: usize,
}

impl<'s, 'i> Buffered<'s, 'i> {
    pub(super) fn new(source: &'s mut Source<'i>) -> Self {
        Self { source, buffer: vec![0; BUFFER_LEN].into(), start: 0, end: 0 }
    }

    /// The next bytes without consuming them; fewer than asked for only at the end.
    ///
    /// The whole buffer is filled, however little its source gives at a time: how far a damaged
    /// archive can be read depends on how much a decoder is given at once, and what is said of the
    /// same bytes must not differ from one time to the next.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let count = count.min(self.buffer.len());
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.end += read_full(self.source, &mut self.buffer[self.end..])?;
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }
}

impl BufRead for Buffered<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

impl Read for Buffered<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

const BUFFER_LEN: usize = 64 << 10;
