//! Response bodies: nothing, bytes at hand, a file, or a stream of an archive still arriving.

use super::refusal::Refusal;
use super::room::{Held, Place};
use crate::places::Places;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use rustix::io::{Errno, ReadWriteFlags};
use std::error::Error;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The body of a response.
pub(super) enum Body {
    /// No bytes.
    Empty,
    /// Bytes that are all at hand.
    Full(Bytes),
    /// Bytes at hand that have a place in their connection's room.
    Held(Held),
    /// A part of a checked file.
    File(FilePart),
    /// Bytes as they come; an error cuts the connection short.
    Stream { stream: ByteStream, length: Option<u64> },
}

/// What a client sends, when that is small: up to `limit` bytes, within half a minute.
pub(super) async fn read_small(body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(SENDING_PATIENCE, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long for this"))
        }
        Ok(Err(_)) => Err(Refusal::bad("the body is not as HTTP has it, or has no end")),
        Err(_) => {
            let message = "the body took longer than 30 seconds to come";
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// Takes what a client sends to no use, when that is small: one that is still sending may not hear
/// why it was refused.
pub(super) async fn let_pass<B>(body: B)
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return;
    }
    let mut rest = Limited::new(body, LET_PASS);
    // What is too long, or not as HTTP has it, ends here as well.
    let passing = async { while let Some(Ok(_)) = rest.frame().await {} };
    let _over = tokio::time::timeout(SENDING_PATIENCE, passing).await;
}

/// A chunk that is on its way.
type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

pub(super) type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Part of a file that is read as the client takes it.
pub(super) struct FilePart {
    file: Arc<File>,
    position: u64,
    remaining: u64,
    /// Bytes read at a time.
    chunk: usize,
    reading: Option<Reading>,
    /// Among the files that its connection may have open.
    _place: Place,
}

impl FilePart {
    /// The `length` bytes of `file`, which was opened for that place, from `position` on.
    pub(super) fn new(file: Arc<File>, position: u64, length: u64, place: Place) -> Self {
        let (remaining, chunk) = (length, CHUNK);
        Self { file, position, remaining, chunk, reading: None, _place: place }
    }

    /// Has less of it in memory at once.
    pub(super) fn in_small_chunks(&mut self) {
        self.chunk = SMALL_CHUNK;
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let chunk = match &mut self.reading {
            Some(reading) => {
                let chunk = ready!(reading.as_mut().poll(context));
                self.reading = None;
                chunk
            }
            None => {
                match read_cached(&self.file, self.position, buffer(self.remaining, self.chunk)) {
                    Ok(chunk) => chunk,
                    Err(buffer) => {
                        let file = Arc::clone(&self.file);
                        let reading = read_from_disk(file, self.position, buffer);
                        self.reading = Some(Box::pin(reading));
                        return self.poll_chunk(context);
                    }
                }
            }
        };
        Poll::Ready(Some(chunk.and_then(|chunk| {
            if chunk.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            self.position += chunk.len() as u64;
            self.remaining -= chunk.len() as u64;
            Ok(chunk)
        })))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let chunk = match self.get_mut() {
            Self::Empty => None,
            Self::Full(bytes) if bytes.is_empty() => None,
            Self::Full(bytes) => Some(Ok(std::mem::take(bytes))),
            Self::Held(held) => held.piece().map(Ok),
            Self::File(part) => ready!(part.poll_chunk(context)),
            Self::Stream { stream, .. } => ready!(stream.as_mut().poll_next(context)),
        };
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Held(held) => held.left() == 0,
            Self::File(part) => part.remaining == 0,
            Self::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Held(held) => SizeHint::with_exact(held.left() as u64),
            Self::File(part) => SizeHint::with_exact(part.remaining),
            Self::Stream { length: Some(length), .. } => SizeHint::with_exact(*length),
            Self::Stream { length: None, .. } => SizeHint::default(),
        }
    }
}

/// Reads up to one chunk, without blocking the reactor when the disk has to be asked.
pub(super) async fn read_chunk(file: &Arc<File>, position: u64, length: u64) -> io::Result<Bytes> {
    match read_cached(file, position, buffer(length, CHUNK)) {
        Ok(chunk) => chunk,
        Err(buffer) => read_from_disk(Arc::clone(file), position, buffer).await,
    }
}

fn buffer(remaining: u64, chunk: usize) -> BytesMut {
    // A chunk always fits.
    BytesMut::zeroed(SHIFT + remaining.min(chunk as u64) as usize).split_off(SHIFT)
}

/// Reads what the page cache has; gives the buffer back when the disk would have to be waited for.
fn read_cached(
    file: &File,
    position: u64,
    mut buffer: BytesMut,
) -> Result<io::Result<Bytes>, BytesMut> {
    let slices = &mut [IoSliceMut::new(&mut buffer)];
    match rustix::io::preadv2(file, slices, position, ReadWriteFlags::NOWAIT) {
        Ok(read) => {
            buffer.truncate(read);
            Ok(Ok(buffer.freeze()))
        }
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Err(buffer),
        Err(error) => Ok(Err(error.into())),
    }
}

async fn read_from_disk(file: Arc<File>, position: u64, mut buffer: BytesMut) -> io::Result<Bytes> {
    let read = READING.work(move || {
        let read = file.read_at(&mut buffer, position)?;
        buffer.truncate(read);
        Ok(buffer.freeze())
    });
    read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// For what the page cache does not have.
static READING: Places = Places::new(16);

/// Where a chunk begins in its memory: half a page from where the allocator lets large pieces begin,
/// and the TLS library its records. Between places that lie alike in their pages, some processors
/// copy several times slower (glibc's bug 30994).
const SHIFT: usize = 2 * 1024;
const SENDING_PATIENCE: Duration = Duration::from_secs(30);
const LET_PASS: usize = 64 * 1024;
/// Bytes read at a time: four TLS records. Small enough that hundreds of clients at once stay
/// within tens of MiB.
const CHUNK: usize = 64 * 1024;
/// As much as a frame of HTTP/2 holds; many of them are under way on one connection.
const SMALL_CHUNK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A piece that counts how many there are.
    struct Piece(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &[7; 1024]
        }
    }

    impl Drop for Piece {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_is_taken_to_no_use_is_not_kept_and_has_an_end() {
        let (kept, mut most, mut sent) = (Arc::new(AtomicUsize::new(0)), 0, 0);
        let pieces = std::iter::from_fn(|| {
            sent += 1;
            most = most.max(kept.fetch_add(1, Ordering::Relaxed));
            let piece = Bytes::from_owner(Piece(Arc::clone(&kept)));
            Some(Ok::<_, io::Error>(Frame::data(piece)))
        });
        let_pass(StreamBody::new(stream::iter(pieces))).await;
        assert_eq!(most, 0, "each is let go of before the next one");
        assert!(sent <= LET_PASS / 1024 + 1, "{sent} pieces of 1 KiB");
    }
}
