//! What goes on to its end, whoever waits for it or goes away.

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Runs such work where the keeper was opened: the thread of who asks serves others meanwhile, and
/// may end sooner.
///
/// Clones share what runs.
#[derive(Clone)]
pub(super) struct Tasks {
    runtime: Handle,
    running: TaskTracker,
}

impl Tasks {
    /// On the runtime of the caller.
    pub(super) fn here() -> Self {
        Self { runtime: Handle::current(), running: TaskTracker::new() }
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.running.spawn_on(work, &self.runtime)
    }

    /// Has a stream's items made there, one at a time, until whoever takes them goes away.
    pub(super) fn stream<T: Send + 'static>(
        &self,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> BoxStream<'static, T> {
        let (sender, receiver) = mpsc::channel(1);
        let making = self.runtime.spawn(async move {
            let mut items = std::pin::pin!(items);
            let sent = async {
                while let Some(item) = items.next().await {
                    // That nobody takes it is seen below.
                    let _ = sender.send(item).await;
                }
            };
            tokio::select! {
                () = sent => {}
                () = sender.closed() => {}
            }
        });
        let next = |(mut receiver, making): (mpsc::Receiver<T>, JoinHandle<()>)| async {
            let Some(item) = receiver.recv().await else {
                // What ends in the middle is no whole list.
                if let Err(error) = making.await {
                    std::panic::resume_unwind(error.try_into_panic().ok()?);
                }
                return None;
            };
            Some((item, (receiver, making)))
        };
        stream::unfold((receiver, making), next).boxed()
    }

    /// Waits until nothing runs any more.
    pub(super) async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}
