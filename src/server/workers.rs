//! Threads that serve connections, one for each processor.
//!
//! A connection stays on its thread from its handshake to its end, so that no request makes one
//! thread wake another or wait for it.

use super::activity::{Activity, Load};
use futures_util::future::join_all;
use std::future::Future;
use std::io;
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::TaskTracker;

/// The threads; they end with this, whatever they serve by then.
///
/// Shared by all listeners of a server.
pub(super) struct Workers(Vec<Worker>);

struct Worker {
    /// With one thread, which another one takes the place of when it blocks and says so.
    runtime: Option<Runtime>,
    connections: TaskTracker,
    load: Load,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        (0..count).map(|_| Worker::start()).collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection on the thread where fewest others have requests under way, and of those
    /// where fewest are.
    pub(super) fn serve<F>(&self, connection: impl FnOnce(Activity) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let least_busy = self.0.iter().min_by_key(|it| (it.load.now(), it.connections.len()));
        if let Some(Worker { runtime: Some(runtime), connections, load }) = least_busy {
            connections.spawn_on(connection(Activity::on(load)), runtime.handle());
        }
    }

    /// How many connections are served.
    pub(super) fn connections(&self) -> usize {
        self.0.iter().map(|worker| worker.connections.len()).sum()
    }

    /// Waits until the last of them has ended; no more may begin.
    pub(super) async fn finish(&self) {
        for worker in &self.0 {
            worker.connections.close();
            worker.connections.wait().await;
        }
    }

    /// Waits until every thread has found a moment.
    pub(super) async fn all_turn(&self) {
        let runtimes = self.0.iter().filter_map(|worker| worker.runtime.as_ref());
        join_all(runtimes.map(|runtime| runtime.spawn(async {}))).await;
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("serving")
            .enable_all()
            .build()?;
        let (connections, load) = (TaskTracker::new(), Load::default());
        Ok(Self { runtime: Some(runtime), connections, load })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What still blocks a thread is work for nobody.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    const MOMENT: Duration = Duration::from_millis(50);

    fn two() -> Workers {
        Workers(vec![Worker::start().unwrap(), Worker::start().unwrap()])
    }

    /// Has a connection last until the token is cancelled; who serves it is seen.
    async fn connect(
        workers: &Workers,
        is_busy: bool,
        end: &CancellationToken,
    ) -> thread::ThreadId {
        let (tell, told) = tokio::sync::oneshot::channel();
        let end = end.clone();
        workers.serve(|activity| {
            let answering = is_busy.then(|| activity.answering());
            async move {
                tell.send(thread::current().id()).unwrap();
                end.cancelled().await;
                drop(answering);
            }
        });
        told.await.unwrap()
    }

    #[tokio::test]
    async fn connections_are_spread_by_what_there_is_to_do_and_waited_for() {
        let (workers, end) = (two(), CancellationToken::new());
        let mut idle = HashSet::new();
        for _ in 0..2 {
            idle.insert(connect(&workers, false, &end).await);
        }
        assert_eq!(idle.len(), 2, "each has one");
        // One thread is left with many that idle.
        let [first, second] = [CancellationToken::new(), CancellationToken::new()];
        for number in 0..10 {
            connect(&workers, false, [&first, &second][number % 2]).await;
        }
        second.cancel();
        timeout(Duration::from_secs(9), async {
            while workers.connections() > 7 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        let mut busy = Vec::new();
        for _ in 0..4 {
            busy.push(connect(&workers, true, &end).await);
        }
        let of_first = busy.iter().filter(|it| **it == busy[0]).count();
        assert_eq!(of_first, 2, "those that are busy are spread, whoever idles where");
        first.cancel();
        assert!(timeout(MOMENT, workers.finish()).await.is_err(), "they go on");
        end.cancel();
        workers.finish().await;
        assert_eq!(workers.connections(), 0);
    }

    #[tokio::test]
    async fn a_thread_that_does_not_turn_is_noticed() {
        let workers = two();
        workers.all_turn().await;
        let (end, ended) = std::sync::mpsc::channel::<()>();
        workers.serve(|_| async move {
            ended.recv().unwrap_err();
        });
        assert!(timeout(MOMENT, workers.all_turn()).await.is_err());
        drop(end);
        workers.all_turn().await;
    }

    #[tokio::test]
    async fn a_thread_that_says_that_it_blocks_is_stood_in_for() {
        let workers = two();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let done = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&done);
        workers.serve(|_| async move {
            tokio::task::block_in_place(|| ended.recv()).unwrap_err();
            *seen.lock().unwrap() = true;
        });
        timeout(Duration::from_secs(9), workers.all_turn()).await.expect("others are served");
        assert!(!*done.lock().unwrap());
        drop(end);
        workers.finish().await;
        assert!(*done.lock().unwrap());
    }
}
