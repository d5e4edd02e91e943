//! When rechecks happen by themselves: each subject once a round, spread over all of it.

use super::super::Keeper;
use super::{Asker, CheckError, Checked};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;

impl Keeper {
    /// Rechecks whatever is due, for as long as it runs.
    ///
    /// What was begun and not ended, because the server stopped, is still due at the next start.
    pub(in crate::keeper) async fn recheck_regularly(self: &Arc<Self>) {
        let pause = self.rechecking.every.unsigned_abs() / LOOKS_A_ROUND;
        let pause = Duration::from_secs(pause).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        loop {
            tokio::time::sleep(pause).await;
            if self.store.blobs().problem().is_some() {
                // What comes can't be written down to be compared, and `status` says why.
                continue;
            }
            match self.round(AT_A_TIME).await {
                Ok(round) => {
                    let checks = self.recheck(round.due, Asker::Schedule);
                    checks.for_each(log_failure).await;
                }
                Err(error) => tracing::error!(%error, "what is to be rechecked is not known"),
            }
        }
    }
}

async fn log_failure(checked: Result<Checked, CheckError>) {
    if let Err(error @ CheckError::Store { .. }) = checked {
        tracing::error!(%error, "recheck failed");
    }
}

const LOOKS_A_ROUND: u64 = 10_000;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How many due subjects are taken at a time.
const AT_A_TIME: usize = 1_024;
