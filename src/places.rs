//! Work that blocks and that clients ask for: so much of it at once and no more, whether they go on
//! waiting for it or not.

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// How many pieces of work of one kind go on at once, beside the reactor.
#[derive(Debug)]
pub struct Places(Semaphore);

impl Places {
    /// For so many at once.
    pub const fn new(count: usize) -> Self {
        Self(Semaphore::const_new(count))
    }

    /// Does `work` when it is its turn.
    ///
    /// Who stops waiting before that leaves the queue. What has begun goes on to its end, and has
    /// its place as long: nothing interrupts a thread.
    ///
    /// # Errors
    /// When the work panics.
    pub async fn work<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let place = self.0.acquire().await;
        spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_keeps_its_place_until_it_is_done() {
        static PLACES: Places = Places::new(1);
        let (end, ended) = mpsc::channel::<()>();
        let moment = Duration::from_millis(100);
        let slow = PLACES.work(move || ended.recv());
        assert!(timeout(moment, slow).await.is_err(), "it goes on");
        let (begin, begun) = mpsc::channel();
        let left = PLACES.work(move || begin.send(()));
        assert!(timeout(moment, left).await.is_err(), "it waits for the place");
        assert!(timeout(moment, PLACES.work(|| ())).await.is_err(), "and so does this one");
        end.send(()).unwrap();
        PLACES.work(|| ()).await.unwrap();
        assert!(begun.try_recv().is_err(), "who left the queue has nothing done");
    }

    #[tokio::test]
    async fn a_panic_gives_the_place_back() {
        static PLACES: Places = Places::new(1);
        assert!(PLACES.work(|| panic!("as it happens")).await.is_err());
        PLACES.work(|| ()).await.unwrap();
    }
}
