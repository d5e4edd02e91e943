//! The caller's reader, whose failures must not be mistaken for damage.

use std::io::{self, Read, Seek, SeekFrom};

/// What an archive is read from.
pub(super) trait Input: Read + Seek {}

impl<T: Read + Seek> Input for T {}

/// A reader that remembers how it failed, however the decoders above it disguise that.
pub(super) struct Source<'a> {
    input: &'a mut dyn Input,
    size: u64,
    failure: Option<io::Error>,
}

impl<'a> Source<'a> {
    pub(super) fn new(input: &'a mut dyn Input) -> io::Result<Self> {
        let size = input.seek(SeekFrom::End(0))?;
        Ok(Self { input, size, failure: None })
    }

    /// The bytes there are in all.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Goes back to the first byte.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.input.seek(SeekFrom::Start(0)).map(drop)
    }

    /// The reader's own failure, if it failed since this was last asked.
    pub(super) fn failure(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn remember<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let told = io::Error::from(error.kind());
                self.failure.get_or_insert(error);
                return told;
            }
            error
        })
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.input.read(buffer);
        self.remember(result)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let result = self.input.seek(to);
        self.remember(result)
    }
}

/// Fills as much of the buffer as there are bytes for.
pub(super) fn read_full(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
