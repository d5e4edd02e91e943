//! How much the store holds, measured now and then: it takes a look at every file.

use super::Keeper;
use crate::store::blobs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What was measured last.
#[derive(Default)]
pub(super) struct Measured {
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl Keeper {
    /// How many blobs the store held when it was measured last, and how many bytes they had.
    pub fn measured(&self) -> (u64, u64) {
        let Measured { blobs, bytes } = &self.measured;
        (blobs.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// Measures for as long as it runs; again only after something was added.
    pub(super) async fn measure(&self) {
        let mut growth = self.store.growth();
        tokio::time::sleep(AT_FIRST).await;
        loop {
            let begun = Instant::now();
            let layout = self.store.layout().clone();
            let measure = move || {
                let sizes =
                    blobs::files(&layout).filter_map(|path| Some(path.metadata().ok()?.len()));
                sizes.fold((0, 0), |(blobs, bytes), size| (blobs + 1, bytes + size))
            };
            if let Ok((blobs, bytes)) = tokio::task::spawn_blocking(measure).await {
                self.measured.blobs.store(blobs, Ordering::Relaxed);
                self.measured.bytes.store(bytes, Ordering::Relaxed);
            }
            tokio::time::sleep((SHARE * begun.elapsed()).clamp(MIN_PAUSE, MAX_PAUSE)).await;
            if growth.changed().await.is_err() {
                return;
            }
        }
    }
}

/// How long a start is left alone.
const AT_FIRST: Duration = Duration::from_secs(1);
/// The time between two measurements, in measurements: of a large store they take seconds.
const SHARE: u32 = 100;
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
