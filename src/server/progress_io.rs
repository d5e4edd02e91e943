//! A connection that ends when its peer stops taking what it is sent.
//!
//! hyper knows no bound on writing; this wrapper around the socket adds it.

use super::activity::Activity;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream whose writes must make progress.
///
/// Owned by its connection. At least [`MIN_PROGRESS`] bytes must leave in every `patience`
/// during which there is something to write.
pub(super) struct ProgressIo<T> {
    stream: T,
    patience: Duration,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    written: usize,
    activity: Activity,
}

impl<T> ProgressIo<T> {
    /// Progress is told to `activity`.
    pub(super) fn new(stream: T, patience: Duration, activity: Activity) -> Self {
        Self { stream, patience, deadline: None, written: 0, activity }
    }

    fn note(
        &mut self,
        result: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &result {
            self.written += written;
            if self.written >= MIN_PROGRESS {
                self.written = 0;
                self.deadline = None;
                self.activity.tick();
            }
            return result;
        }
        if result.is_ready() {
            return result;
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| {
            let mut deadline = Box::pin(sleep(patience));
            deadline.as_mut().reset(Instant::now() + patience);
            deadline
        });
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ProgressIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ProgressIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let result = match slices {
            // What is one piece, as most answers are, takes the system less time so.
            [only] => stream.poll_write(context, only),
            slices => stream.poll_write_vectored(context, slices),
        };
        self.note(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context).map_ok(|()| 0);
        if let Poll::Ready(Ok(_)) = result {
            // Nothing is left to write, so nothing waits.
            self.written = 0;
            self.deadline = None;
        }
        self.note(result, context).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context).map_ok(|()| 0);
        self.note(result, context).map_ok(drop)
    }
}

/// Fewest bytes that count as progress, so that one byte now and then does not.
const MIN_PROGRESS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_is_let_go_of() {
        let (mut peer, stream) = tokio::io::duplex(1_024);
        let mut stream = ProgressIo::new(stream, Duration::from_secs(30), Activity::default());
        let reads_a_little = tokio::spawn(async move {
            let mut byte = [0];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                peer.read_exact(&mut byte).await.unwrap();
            }
        });
        let begun = Instant::now();
        let error = stream.write_all(&[0; 100_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(60));
        reads_a_little.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_goes_on_reading_is_served_to_the_end() {
        let (mut peer, stream) = tokio::io::duplex(1_024);
        let mut stream = ProgressIo::new(stream, Duration::from_secs(30), Activity::default());
        let reads = tokio::spawn(async move {
            let mut bytes = [0; 1_000];
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                peer.read_exact(&mut bytes).await.unwrap();
            }
        });
        stream.write_all(&[0; 100_000]).await.unwrap();
        reads.await.unwrap();
    }
}
