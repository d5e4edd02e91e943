//! When upstreams are asked: at start, at their interval, and when they say that they changed;
//! and that rechecks and alerts go on beside that.

use super::{Keeper, Repository};
use crate::upstream::repository::Watch;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

impl Keeper {
    /// Starts asking every upstream regularly, until `stop`.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken) {
        let can_be_asked = |it: &&Arc<Repository>| !self.is_offline || it.source.is_local();
        for repository in self.repositories.iter().filter(can_be_asked) {
            let (keeper, repository) = (Arc::clone(self), Arc::clone(repository));
            let stop = stop.clone();
            self.tasks.spawn(async move {
                stop.run_until_cancelled(keeper.keep_fresh(&repository)).await;
            });
        }
        if !self.is_offline {
            let (keeper, recheck) = (Arc::clone(self), stop.clone());
            self.tasks.spawn(async move {
                recheck.run_until_cancelled(keeper.recheck_regularly()).await;
            });
        }
        for courier in self.alerts.couriers(&self.store) {
            self.tasks.spawn(courier.run(stop.clone()));
        }
        let (keeper, follow) = (Arc::clone(self), stop.clone());
        self.tasks.spawn(async move {
            follow.run_until_cancelled(keeper.follow_edits()).await;
        });
        let (keeper, measure) = (Arc::clone(self), stop.clone());
        self.tasks.spawn(async move {
            measure.run_until_cancelled(keeper.measure()).await;
        });
        let (keeper, watch) = (Arc::clone(self), stop.clone());
        self.tasks.spawn(async move {
            watch.run_until_cancelled(keeper.watch_conditions()).await;
        });
    }

    /// Waits until no background task runs any more, for `patience` at most.
    pub async fn finish(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("fetches still under way are given up; they begin anew when asked for");
        }
    }

    async fn keep_fresh(self: &Arc<Self>, repository: &Arc<Repository>) {
        let interval = repository.settings().refresh.get();
        let mut watch = repository.watch();
        let mut failures = 0;
        loop {
            match self.refresh(repository).await {
                Ok(_) => failures = 0,
                Err(_) => failures += 1,
            }
            let wait = match repository.served() {
                Some(_) => interval,
                // Nobody can be served yet, so the first answer is worth asking for often.
                None => interval.min(FIRST_RETRY * 2u32.pow(failures.min(6))),
            };
            tokio::select! {
                () = tokio::time::sleep(jittered(wait)) => {}
                () = changed(watch.as_mut()) => {}
            }
        }
    }
}

/// Resolves when upstream says that it changed; never where it can't say.
async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Up to a tenth longer, so that many mirrors do not ask in step.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers all mirrors ask in step, which is no worse than a timer.
    let _ = getrandom::fill(&mut random);
    wait + wait.mul_f64(f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX) / 10.0)
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
