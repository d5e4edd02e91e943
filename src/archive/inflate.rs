//! Inflating gzip, bzip2, xz and zstd, member after member.

mod member;

use self::member::Member;
use super::buffered::Buffered;
use super::format::Compression;
use super::limits::Limits;
use super::problem::Problem;
use super::source::Source;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// A stream of inflated bytes.
pub(super) trait Inflate: Read {
    /// Whether something else than compressed data follows, once the end was reached. gzip and
    /// its like leave such bytes alone.
    fn has_trailing_bytes(&self) -> bool;
}

/// Inflates a source, which stands at its beginning.
pub(super) fn inflate<'s>(
    source: &'s mut Source<'_>,
    compression: Compression,
    limits: &Limits,
) -> Box<dyn Inflate + 's> {
    let input = Buffered::new(source);
    match compression {
        Compression::None => Box::new(Uncompressed(input)),
        Compression::Gzip => Box::new(Members::<GzDecoder<_>>::new(input, compression, limits)),
        Compression::Bzip2 => {
            Box::new(Members::<bzip2::bufread::BzDecoder<_>>::new(input, compression, limits))
        }
        Compression::Xz => {
            Box::new(Members::<member::XzStream<_>>::new(input, compression, limits))
        }
        Compression::Zstd => {
            Box::new(Members::<member::ZstdFrame<_>>::new(input, compression, limits))
        }
    }
}

struct Uncompressed<'s, 'i>(Buffered<'s, 'i>);

impl Read for Uncompressed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Inflate for Uncompressed<'_, '_> {
    fn has_trailing_bytes(&self) -> bool {
        false
    }
}

/// Compressed members, one after the other.
struct Members<'s, 'i, M> {
    state: State<'s, 'i, M>,
    compression: Compression,
    count: usize,
    limits: Limits,
}

enum State<'s, 'i, M> {
    Between(Buffered<'s, 'i>),
    Inside(M),
    AtEnd { trailing: bool },
}

impl<'s, 'i, M: Member<Buffered<'s, 'i>>> Members<'s, 'i, M> {
    fn new(input: Buffered<'s, 'i>, compression: Compression, limits: &Limits) -> Self {
        Self { state: State::Between(input), compression, count: 0, limits: *limits }
    }

    /// Opens the next member, or finds that there is none.
    fn open(&mut self, mut input: Buffered<'s, 'i>) -> io::Result<State<'s, 'i, M>> {
        loop {
            let head = input.peek(LONGEST_MAGIC)?;
            if head.is_empty() || Compression::detect(head) != self.compression {
                return Ok(State::AtEnd { trailing: !head.is_empty() });
            }
            self.count += 1;
            let limit = self.limits.members;
            if self.count > limit {
                return Err(Problem::TooManyMembers { limit }.into());
            }
            match M::skippable(head) {
                Some(length) => skip(&mut input, length)?,
                None => return M::open(input, &self.limits).map(State::Inside),
            }
        }
    }
}

impl<'s, 'i, M: Member<Buffered<'s, 'i>>> Read for Members<'s, 'i, M> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // What failed once is at its end; no decoder is asked again after an error.
            let end = State::AtEnd { trailing: false };
            self.state = match std::mem::replace(&mut self.state, end) {
                State::AtEnd { trailing } => {
                    self.state = State::AtEnd { trailing };
                    return Ok(0);
                }
                State::Between(input) => self.open(input)?,
                State::Inside(mut member) => match read_on(&mut member, buffer)? {
                    0 => State::Between(member.finish()?),
                    count => {
                        self.state = State::Inside(member);
                        return Ok(count);
                    }
                },
            };
        }
    }
}

impl<'s, 'i, M: Member<Buffered<'s, 'i>>> Inflate for Members<'s, 'i, M> {
    fn has_trailing_bytes(&self) -> bool {
        matches!(self.state, State::AtEnd { trailing: true })
    }
}

/// Reads, whatever interrupts it.
fn read_on(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn skip(input: &mut impl BufRead, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(length), &mut io::sink())?;
    if skipped < length { Err(Problem::EndsEarly.into()) } else { Ok(()) }
}

/// Enough to tell what a member is, and how long a frame to skip is.
const LONGEST_MAGIC: usize = 10;
