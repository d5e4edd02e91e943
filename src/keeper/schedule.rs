//! When upstreams are asked: at start, at their interval, and when they say that they changed;
//! and that rechecks and alerts go on beside that.

use super::{Keeper, Repository};
use crate::upstream::repository::Watch;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a keeper does without being asked, until it is stopped or retires.
#[derive(Default)]
pub(super) struct Background {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Keeper {
    /// Starts asking every upstream regularly, and all that goes on beside.
    pub fn start(self: &Arc<Self>) {
        let can_be_asked = |it: &&Arc<Repository>| !self.is_offline || it.source.is_local();
        for repository in self.repositories.iter().filter(can_be_asked) {
            let (keeper, repository) = (Arc::clone(self), Arc::clone(repository));
            self.go_on(async move { keeper.keep_fresh(&repository).await });
        }
        if !self.is_offline {
            let keeper = Arc::clone(self);
            self.go_on(async move { keeper.recheck_regularly().await });
        }
        for courier in self.alerts.couriers(&self.store) {
            let stop = self.background.stop.clone();
            self.background.tasks.spawn(courier.run(stop));
        }
        let keeper = Arc::clone(self);
        self.go_on(async move { keeper.follow_edits().await });
        let keeper = Arc::clone(self);
        self.go_on(async move { keeper.measure().await });
        let keeper = Arc::clone(self);
        self.go_on(async move { keeper.watch_conditions().await });
    }

    /// Stops what goes on in the background; what clients wait for goes on.
    pub fn stop(&self) {
        self.background.stop.cancel();
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.background.stop.is_cancelled()
    }

    /// Leaves the field to another keeper of the same store: afterwards nothing goes on in the
    /// background and no state is admitted any more, while everything is served as before.
    pub async fn retire(&self) {
        self.stop();
        self.background.tasks.close();
        let ended = async {
            self.background.tasks.wait().await;
            for repository in &self.repositories {
                repository.retire().await;
            }
        };
        if tokio::time::timeout(RETIRE_PATIENCE, ended).await.is_err() {
            tracing::warn!("a refresh under way was not waited for");
        }
    }

    /// Names the keeper that has this one's place by now.
    pub fn succeeded_by(&self, next: &Arc<Self>) {
        self.successor.send_replace(Some(Arc::clone(next)));
    }

    /// Who admits states by now: this one, or the last of those that took its place.
    pub(super) fn in_charge(self: &Arc<Self>) -> Arc<Self> {
        let mut keeper = Arc::clone(self);
        while let Some(next) = keeper.successor_now() {
            keeper = next;
        }
        keeper
    }

    /// Who has this one's place by now, if somebody has.
    pub(super) fn successor_now(&self) -> Option<Arc<Self>> {
        self.successor.borrow().clone()
    }

    /// Who has this one's place, once somebody has.
    pub(super) async fn successor(&self) -> Option<Arc<Self>> {
        let mut named = self.successor.subscribe();
        let named = named.wait_for(Option::is_some);
        let named = tokio::time::timeout(RETIRE_PATIENCE, named).await.ok()?.ok()?;
        named.clone()
    }

    /// Waits until no task runs any more, for `patience` at most.
    pub async fn finish(&self, patience: Duration) {
        self.background.tasks.close();
        let ended = async {
            self.background.tasks.wait().await;
            self.tasks.finish().await;
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("fetches still under way are given up; they begin anew when asked for");
        }
    }

    fn go_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.background.stop.clone();
        self.background.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
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

/// How long a refresh that is under way may hold up a new configuration.
const RETIRE_PATIENCE: Duration = Duration::from_secs(120);
const FIRST_RETRY: Duration = Duration::from_secs(1);
