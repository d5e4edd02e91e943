//! One compressed member: a gzip member, a bzip2 or xz stream, a zstd frame.

use crate::archive::limits::Limits;
use crate::archive::problem::Problem;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::error::Error;
use std::io::{self, BufRead, Read};

/// Reads the inflated bytes of one member and gives the input back, just after it.
pub(super) trait Member<R>: Read + Sized {
    /// The length of something to pass over, with its own head, where that comes instead.
    fn skippable(_head: &[u8]) -> Option<u64> {
        None
    }

    /// Begins with the member that the input stands at.
    fn open(input: R, limits: &Limits) -> io::Result<Self>;

    /// Ends after all was read.
    fn finish(self) -> io::Result<R>;
}

impl<R: BufRead> Member<R> for GzDecoder<R> {
    fn open(input: R, _: &Limits) -> io::Result<Self> {
        Ok(Self::new(input))
    }

    fn finish(self) -> io::Result<R> {
        Ok(self.into_inner())
    }
}

impl<R: BufRead> Member<R> for bzip2::bufread::BzDecoder<R> {
    fn open(input: R, _: &Limits) -> io::Result<Self> {
        Ok(Self::new(input))
    }

    fn finish(self) -> io::Result<R> {
        Ok(self.into_inner())
    }
}

/// A stream of xz.
pub(super) struct XzStream<R: Read> {
    reader: XzReader<R>,
    window: u64,
}

impl<R: Read> Read for XzStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => Problem::WindowTooLarge { limit: self.window }.into(),
            _ => error,
        })
    }
}

impl<R: BufRead> Member<R> for XzStream<R> {
    fn open(input: R, limits: &Limits) -> io::Result<Self> {
        let kib = u32::try_from(limits.window / 1024).unwrap_or(u32::MAX);
        let reader = XzReader::new_mem_limit(input, false, kib);
        Ok(Self { reader, window: limits.window })
    }

    fn finish(self) -> io::Result<R> {
        let mut input = self.reader.into_inner();
        // Streams may be padded with zeros, four at a time.
        while let Ok([0, ..]) = input.fill_buf() {
            input.consume(1);
        }
        Ok(input)
    }
}

/// A frame of zstd.
pub(super) struct ZstdFrame<R: Read> {
    reader: StreamingDecoder<R, FrameDecoder>,
}

impl<R: Read> Read for ZstdFrame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader
            .read(buffer)
            .map_err(|error| if ends_early(&error) { Problem::EndsEarly.into() } else { error })
    }
}

impl<R: Read> Member<R> for ZstdFrame<R> {
    fn skippable(head: &[u8]) -> Option<u64> {
        match head {
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                Some(8 + u64::from(u32::from_le_bytes([*a, *b, *c, *d])))
            }
            // The head itself is cut short.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(u64::MAX),
            _ => None,
        }
    }

    fn open(input: R, limits: &Limits) -> io::Result<Self> {
        let window = limits.window;
        let reader = StreamingDecoder::new_with_max_window_size(input, window);
        let reader = reader.map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => Problem::WindowTooLarge { limit: window },
            error if ends_early(&error) => Problem::EndsEarly,
            error => Problem::damaged(error),
        })?;
        Ok(Self { reader })
    }

    fn finish(self) -> io::Result<R> {
        let decoder = &self.reader.decoder;
        // The decoder reads the checksum and leaves the comparison to its caller.
        let stated = decoder.get_checksum_from_data();
        if stated.is_some() && stated != decoder.get_calculated_checksum() {
            return Err(Problem::damaged("the checksum of a zstd frame is wrong").into());
        }
        Ok(self.reader.into_inner())
    }
}

/// Whether the end of the input is at the bottom of an error.
fn ends_early(error: &(dyn Error + 'static)) -> bool {
    let is_end = |error: &(dyn Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
    };
    let mut next = Some(error);
    while let Some(error) = next {
        // The cause inside an io::Error is not its `source`, but itself.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if is_end(error) {
            return true;
        }
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    false
}
