//! Going through an archive once, entry after entry.

use super::bounds::{Meter, Tally};
use super::entry::Header;
use super::format::{BLOCK, Compression, Container, Format, HEAD};
use super::inflate::{Inflate, inflate};
use super::limits::Limits;
use super::list::{Inflated, Remark};
use super::problem::Problem;
use super::source::{Source, read_full};
use super::{tar, zip};
use crate::digest::Sha256;
use sha2::Digest as _;
use std::io::{self, Read};
use std::ops::ControlFlow;

/// Is told of everything in an archive.
pub(super) trait Visit {
    /// A new entry.
    fn begin(&mut self, header: Header);
    /// More of its content.
    fn content(&mut self, bytes: &[u8]);
    /// The end of its content; breaks off when nothing more is of interest.
    fn end(&mut self) -> ControlFlow<()>;
    /// Something noteworthy.
    fn remark(&mut self, remark: Remark);
    /// A comment on the whole archive, as `git archive` puts the commit there.
    fn comment(&mut self, comment: &[u8]);
}

/// What is known of a whole archive after a walk.
pub(super) struct Walked {
    pub(super) format: Format,
    /// The beginning of the inflated bytes, of what is not zip.
    pub(super) head: Vec<u8>,
    /// All inflated bytes; of what is not zip, and only if it was read to its end.
    pub(super) inflated: Option<Inflated>,
    /// What ended the walk early.
    pub(super) problem: Option<Problem>,
}

/// Goes through the archive.
///
/// # Errors
/// Only those of the source itself: what is wrong with the archive is an answer.
pub(super) fn walk(
    source: &mut Source<'_>,
    limits: &Limits,
    visit: &mut dyn Visit,
) -> io::Result<Walked> {
    source.rewind()?;
    let mut magic = [0; BLOCK];
    let length = read_full(source, &mut magic)?;
    source.rewind()?;
    let compression = Compression::detect(&magic[..length]);
    let container = Container::detect(compression, &magic[..length]);
    let walked = if container == Container::Zip {
        let problem = zip::walk(source, limits, visit).err();
        Walked {
            format: Format { compression, container },
            head: Vec::new(),
            inflated: None,
            problem,
        }
    } else {
        walk_stream(source, compression, limits, visit)
    };
    source.failure()?;
    Ok(walked)
}

fn walk_stream(
    source: &mut Source<'_>,
    compression: Compression,
    limits: &Limits,
    visit: &mut dyn Visit,
) -> Walked {
    let meter = Meter::new(limits, source.size());
    let mut stream = Stream::new(inflate(source, compression, limits), meter);
    let container = Container::detect(compression, &stream.head);
    let result = match container {
        Container::Tar => tar::walk(&mut stream, &mut Tally::new(limits), visit),
        Container::Plain | Container::Zip => plain(&mut stream, visit),
    };
    if stream.inner.has_trailing_bytes() {
        visit.remark(Remark::TrailingBytes);
    }
    let complete = matches!(result, Ok(ControlFlow::Continue(())));
    let format = Format { compression, container };
    let (head, inflated) = stream.finish();
    Walked { format, head, inflated: complete.then_some(inflated), problem: result.err() }
}

/// A file without a container.
fn plain(stream: &mut Stream<'_>, visit: &mut dyn Visit) -> Result<ControlFlow<()>, Problem> {
    visit.begin(Header::nameless());
    let mut chunk = vec![0; CHUNK];
    loop {
        match read_full(stream, &mut chunk)? {
            0 => return Ok(visit.end()),
            count => visit.content(&chunk[..count]),
        }
    }
}

/// Inflated bytes: counted, hashed, the first of them known in advance.
pub(super) struct Stream<'s> {
    inner: Box<dyn Inflate + 's>,
    meter: Meter,
    hasher: sha2::Sha256,
    head: Vec<u8>,
    /// How much of the head was given out.
    given: usize,
    /// What went wrong just after the head.
    pending: Option<io::Error>,
}

impl<'s> Stream<'s> {
    fn new(mut inner: Box<dyn Inflate + 's>, meter: Meter) -> Self {
        let mut head = vec![0; HEAD];
        let mut length = 0;
        let mut pending = None;
        while length < head.len() && pending.is_none() {
            match inner.read(&mut head[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => pending = Some(error),
            }
        }
        head.truncate(length);
        Self { inner, meter, hasher: sha2::Sha256::new(), head, given: 0, pending }
    }

    fn finish(self) -> (Vec<u8>, Inflated) {
        let sha256 = Sha256::from_bytes(self.hasher.finalize().into());
        (self.head, Inflated { size: self.meter.used(), sha256 })
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given < self.head.len() {
            let rest = &self.head[self.given..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.given += count;
            return Ok(count);
        }
        match self.pending.take() {
            Some(error) => Err(error),
            None => self.inner.read(buffer),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.next(buffer)?;
        self.meter.count(count)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// How much content is passed on at a time.
pub(super) const CHUNK: usize = 64 << 10;
