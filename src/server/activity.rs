//! Notices when a connection carries nothing any more: one of HTTP/1 on which no request comes, one
//! of HTTP/2 whose peer answers pings and nothing else.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Counts what happens on one connection.
#[derive(Clone, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Requests, chunks and progress in writing.
    ticks: AtomicU64,
    /// Requests that are being answered.
    answering: AtomicU64,
}

impl Activity {
    /// Something happened.
    pub(super) fn tick(&self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request came.
    pub(super) fn answering(&self) -> Answering {
        self.tick();
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Resolves once no request was answered, and nothing happened, for between one and two times
    /// `patience`.
    pub(super) async fn idled(&self, patience: Duration) {
        loop {
            self.ceased(patience).await;
            if self.0.answering.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// Resolves once nothing happened for between one and two times `patience`.
    pub(super) async fn ceased(&self, patience: Duration) {
        let mut before = self.0.ticks.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(patience).await;
            let now = self.0.ticks.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// A request that is being answered, until this is dropped.
pub(super) struct Answering(Activity);

impl Answering {
    /// The same body, whose chunks count, and with whose end the answer is over.
    pub(super) fn until_sent<B>(self, body: B) -> Sent<B> {
        Sent { body, answering: self }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.tick();
        self.0.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body whose chunks count as activity of its connection, and with whose end a request is
/// answered.
pub(super) struct Sent<B> {
    body: B,
    answering: Answering,
}

impl<B: HttpBody<Data = Bytes, Error = io::Error> + Unpin> HttpBody for Sent<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.answering.0.tick();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_ceased_when_nothing_happened_and_not_before() {
        let activity = Activity::default();
        let patience = Duration::from_secs(60);
        let asking = activity.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                asking.tick();
            }
        });
        let begun = Instant::now();
        activity.ceased(patience).await;
        let after = begun.elapsed() - Duration::from_secs(20 * 50);
        assert!((patience..=2 * patience).contains(&after), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_does_not_idle_while_it_answers() {
        let activity = Activity::default();
        let patience = Duration::from_secs(30);
        let answering = activity.answering();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(500)).await;
            drop(answering);
        });
        let begun = Instant::now();
        activity.idled(patience).await;
        let after = begun.elapsed() - Duration::from_secs(500);
        assert!((patience..=2 * patience).contains(&after), "{after:?}");
    }
}
