//! What goes on to its end, whoever waits for it or goes away.

use tokio::runtime::Handle;
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

    /// Waits until nothing runs any more.
    pub(super) async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}
