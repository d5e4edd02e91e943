//! Notices when a connection carries nothing any more: one of HTTP/1 on which no request comes, one
//! of HTTP/2 whose peer answers pings and nothing else.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Counts what happens on one connection.
#[derive(Clone, Default)]
pub(super) struct Activity(Arc<Counts>);

/// Counts the connections of one thread that have requests under way. All clones are the same
/// count.
#[derive(Clone, Default)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(super) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Counts {
    thread: Load,
    /// Requests, chunks and progress in writing.
    ticks: AtomicU64,
    /// Requests whose answers are awaited of this server.
    answering: AtomicU64,
    /// Requests whose answers did not end yet.
    under_way: AtomicU64,
}

impl Activity {
    /// Of a connection that is served by the thread of this load.
    pub(super) fn on(thread: &Load) -> Self {
        Self(Arc::new(Counts { thread: thread.clone(), ..Counts::default() }))
    }

    /// Counts anew, on the same thread.
    pub(super) fn afresh(&self) -> Self {
        Self::on(&self.0.thread)
    }

    /// Something happened.
    pub(super) fn tick(&self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request came.
    pub(super) fn answering(&self) -> Answering {
        self.tick();
        if self.0.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.thread.0.fetch_add(1, Ordering::Relaxed);
        }
        let mut answering = Answering { activity: self.clone(), is_counted: false };
        answering.count(true);
        answering
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
    async fn ceased(&self, patience: Duration) {
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
pub(super) struct Answering {
    activity: Activity,
    /// Whether it keeps the connection from idling.
    is_counted: bool,
}

impl Answering {
    /// Of the connection.
    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The same body, whose chunks count, and with whose end the answer is over.
    pub(super) fn until_sent<B>(self, body: B) -> Sent<B> {
        Sent { body, answering: self, is_by_turns: false }
    }

    /// The same, of which only what this server has yet to make keeps the connection from idling,
    /// and not what the peer does not take: the library asks for more once it has taken something.
    pub(super) fn while_made<B>(mut self, body: B) -> Sent<B> {
        self.activity.tick();
        self.count(false);
        Sent { body, answering: self, is_by_turns: true }
    }

    fn count(&mut self, is_counted: bool) {
        let answering = &self.activity.0.answering;
        match (self.is_counted, is_counted) {
            (false, true) => drop(answering.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(answering.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        self.is_counted = is_counted;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.activity.tick();
        self.count(false);
        let Counts { under_way, thread, .. } = &*self.activity.0;
        if under_way.fetch_sub(1, Ordering::Relaxed) == 1 {
            thread.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A body whose chunks count as activity of its connection, and with whose end a request is
/// answered.
pub(super) struct Sent<B> {
    body: B,
    answering: Answering,
    is_by_turns: bool,
}

impl<B: HttpBody<Data = Bytes, Error = io::Error> + Unpin> HttpBody for Sent<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.as_mut().get_mut();
        this.answering.activity.tick();
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if this.is_by_turns {
            this.answering.count(frame.is_pending());
        }
        frame
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
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, Full, StreamBody};
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

    #[tokio::test(start_paused = true)]
    async fn an_answer_by_turns_is_awaited_while_it_is_made_and_not_while_the_peer_takes_none() {
        let patience = Duration::from_secs(60);
        let activity = Activity::default();
        // Made for long, and then not taken.
        let answering = activity.answering();
        let untaken = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(500)).await;
            answering.while_made(
                Full::new(Bytes::from_static(b"an answer")).map_err(|never| match never {}),
            )
        });
        let begun = Instant::now();
        activity.idled(patience).await;
        let after = begun.elapsed() - Duration::from_secs(500);
        assert!((patience..=2 * patience).contains(&after), "{after:?}");
        let _untaken = untaken.await.unwrap();
        // Begun, and its next part made for long.
        let parts = futures_util::stream::unfold(0, |part| async move {
            tokio::time::sleep(Duration::from_secs(500 * part)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"part"))), part + 1))
        });
        let mut body = activity.answering().while_made(StreamBody::new(parts.boxed()));
        body.frame().await.unwrap().unwrap();
        let begun = Instant::now();
        let taken = tokio::spawn(async move {
            body.frame().await.unwrap().unwrap();
            body
        });
        activity.idled(patience).await;
        let after = begun.elapsed() - Duration::from_secs(500);
        assert!((patience..=2 * patience).contains(&after), "{after:?}");
        let _untaken = taken.await.unwrap();
    }
}
