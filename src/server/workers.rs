//! Threads that serve connections, one for each processor.
//!
//! A connection stays on its thread from its handshake to its end, so that no request makes one
//! thread wake another or wait for it.

use std::future::Future;
use std::io;
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The threads; they end with this, whatever they serve by then.
///
/// Shared by all listeners of a server.
pub(super) struct Workers {
    workers: Vec<Worker>,
    _end: DropGuard,
}

struct Worker {
    runtime: Handle,
    connections: TaskTracker,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let end = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let start = |number| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(MOST_BLOCKING)
                .build()?;
            let worker =
                Worker { runtime: runtime.handle().clone(), connections: TaskTracker::new() };
            let end = end.clone();
            thread::Builder::new().name(format!("serving-{number}")).spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_background();
            })?;
            Ok(worker)
        };
        let workers = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, _end: end.drop_guard() })
    }

    /// Serves a connection on the thread that has fewest of them.
    pub(super) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let least_busy = self.workers.iter().min_by_key(|worker| worker.connections.len());
        if let Some(Worker { runtime, connections }) = least_busy {
            connections.spawn_on(connection, runtime);
        }
    }

    /// How many connections are served.
    pub(super) fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.connections.len()).sum()
    }

    /// Waits until the last of them has ended; no more may begin.
    pub(super) async fn finish(&self) {
        for worker in &self.workers {
            worker.connections.close();
            worker.connections.wait().await;
        }
    }

    /// Waits until every thread has found a moment.
    pub(super) async fn all_turn(&self) {
        for worker in &self.workers {
            // It ends in no other way than by being done.
            let _ = worker.runtime.spawn(async {}).await;
        }
    }
}

/// Threads of one worker for what blocks, of which those who ask for it bound how much goes on.
const MOST_BLOCKING: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn connections_are_spread_and_waited_for() {
        let workers = Workers::start().unwrap();
        let (seen, go) = (Arc::new(Mutex::new(HashSet::new())), CancellationToken::new());
        let count = workers.workers.len();
        for _ in 0..count {
            let (seen, go) = (Arc::clone(&seen), go.clone());
            workers.serve(async move {
                seen.lock().unwrap().insert(thread::current().id());
                go.cancelled().await;
            });
        }
        workers.all_turn().await;
        assert_eq!((seen.lock().unwrap().len(), workers.connections()), (count, count));
        let moment = Duration::from_millis(50);
        assert!(timeout(moment, workers.finish()).await.is_err(), "they go on");
        go.cancel();
        workers.finish().await;
        assert_eq!(workers.connections(), 0);
    }

    #[tokio::test]
    async fn a_thread_that_does_not_turn_is_noticed() {
        let workers = Workers::start().unwrap();
        workers.all_turn().await;
        let (end, ended) = std::sync::mpsc::channel::<()>();
        workers.serve(async move { drop(ended.recv()) });
        assert!(timeout(Duration::from_millis(50), workers.all_turn()).await.is_err());
        drop(end);
        workers.all_turn().await;
    }
}
