//! Notices when an HTTP/2 connection carries nothing any more, although its peer answers pings.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Counts requests and chunks of one connection.
#[derive(Clone, Default)]
pub(super) struct Activity(Arc<AtomicU64>);

impl Activity {
    /// Something happened.
    pub(super) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves once nothing happened for between one and two times `patience`.
    pub(super) async fn ceased(&self, patience: Duration) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(patience).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// The same body, whose chunks count.
    pub(super) fn watch<B>(self, body: B) -> Watched<B> {
        Watched { body, activity: self }
    }
}

/// A body whose chunks count as activity of its connection.
pub(super) struct Watched<B> {
    body: B,
    activity: Activity,
}

impl<B: HttpBody<Data = Bytes, Error = io::Error> + Unpin> HttpBody for Watched<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.activity.tick();
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
}
