//! The answers of one HTTP/2 connection: a peer that takes none of them must not keep much of them in
//! memory, nor for long.

use super::access::Logged;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// What is being sent on one connection.
#[derive(Clone)]
pub(super) struct Streams(Arc<Sending>);

struct Sending {
    next: AtomicU64,
    /// The answers of which the peer has yet to take something, and since when.
    waiting: Mutex<HashMap<u64, Instant>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(Arc::new(Sending { next: AtomicU64::new(0), waiting: Mutex::default() }))
    }

    /// The same body, sent within these bounds.
    pub(super) fn send(&self, body: Logged) -> Stream<Logged> {
        self.send_body(body.in_small_chunks())
    }

    fn send_body<B: HttpBody>(&self, body: B) -> Stream<B> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        if !body.is_end_stream() {
            // The library asks for nothing at all while the peer has no room.
            self.waiting(|waiting| waiting.insert(number, Instant::now()));
        }
        Stream { body, streams: self.clone(), number }
    }

    /// Resolves once the peer took nothing of an answer for so long.
    pub(super) async fn stuck(&self, patience: Duration) {
        loop {
            tokio::time::sleep(patience / 4).await;
            if self.waiting(|waiting| waiting.values().any(|since| since.elapsed() > patience)) {
                return;
            }
        }
    }

    fn waiting<T>(&self, work: impl FnOnce(&mut HashMap<u64, Instant>) -> T) -> T {
        work(&mut self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The body of one answer.
pub(super) struct Stream<B> {
    body: B,
    streams: Streams,
    number: u64,
}

impl<B: HttpBody<Data = Bytes, Error = io::Error> + Unpin> HttpBody for Stream<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        // The library asks for more when the peer has taken what there was.
        this.streams.waiting(|waiting| waiting.remove(&this.number));
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if frame.is_some() {
            this.streams.waiting(|waiting| waiting.insert(this.number, Instant::now()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        self.streams.waiting(|waiting| waiting.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::{Body, FilePart};
    use super::super::room::Place;
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    fn file() -> Body {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let mut part = FilePart::new(Arc::new(file), 0, 100_000, Place::none());
        part.in_small_chunks();
        Body::File(part)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nobody_takes_even_the_first_byte_is_noticed() {
        let (streams, patience) = (Streams::new(), Duration::from_secs(60));
        let empty = streams.send_body(Body::Empty);
        let stuck = tokio::time::timeout(patience * 10, streams.stuck(patience)).await;
        assert!(stuck.is_err(), "there is nothing to take");
        let unasked = streams.send_body(Body::Full(Bytes::from_static(b"at hand")));
        let stuck = tokio::time::timeout(patience * 2, streams.stuck(patience)).await;
        assert!(stuck.is_ok(), "it is let go of");
        drop((empty, unasked));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_noticed_whatever_else_is_taken() {
        let (streams, patience) = (Streams::new(), Duration::from_secs(60));
        let mut stuck = streams.send_body(file());
        stuck.frame().await.unwrap().unwrap();
        let taking = streams.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                taking.send_body(file()).collect().await.unwrap();
            }
        });
        let begun = Instant::now();
        streams.stuck(patience).await;
        assert!(begun.elapsed() <= patience * 3 / 2, "{:?}", begun.elapsed());
        drop(stuck);
        let stuck = tokio::time::timeout(patience * 10, streams.stuck(patience)).await;
        assert!(stuck.is_err(), "all others are taken");
    }
}
