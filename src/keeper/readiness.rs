//! Whether everything is as it should be, part by part: the store, each index, the clock.

use super::Keeper;
use super::alerts::stale_index;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One part, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// `store`, `index NAME` or `clock`.
    pub part: String,
    /// What is wrong; none while all is well.
    pub problem: Option<String>,
}

impl Keeper {
    /// Looks at every part.
    pub async fn readiness(self: &Arc<Self>) -> Vec<Part> {
        let keeper = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let mut parts = vec![part("store", keeper.store.blobs().problem())];
            for repository in &keeper.repositories {
                let name = repository.name();
                let problem = match repository.served() {
                    None => Some("nothing was admitted yet".to_owned()),
                    Some(_) if keeper.alerts.is_raised(&stale_index(name)) => {
                        let reason = repository.health().problem;
                        let reason = reason.map_or_else(String::new, |it| format!(": {it}"));
                        Some(format!("stale, upstream gives no good index{reason}"))
                    }
                    Some(_) => None,
                };
                parts.push(part(&format!("index {name}"), problem));
            }
            let now = keeper.clock.now();
            parts.push(part("clock", clock_problem(now, keeper.newest())));
            parts
        });
        looked.await.unwrap_or_else(|error| vec![part("server", Some(error.to_string()))])
    }

    /// When the newest entry was written.
    fn newest(&self) -> Option<Timestamp> {
        let size = self.store.log().size().ok()?;
        self.entry(size.checked_sub(1)?).ok().map(|entry| entry.at())
    }
}

fn part(name: &str, problem: Option<String>) -> Part {
    Part { part: name.to_owned(), problem }
}

/// Time goes on, so the ledger's newest entry is not of tomorrow.
fn clock_problem(now: Timestamp, newest: Option<Timestamp>) -> Option<String> {
    let ahead = newest?.duration_since(now);
    (ahead > TOLERANCE).then(|| {
        format!(
            "off: it says {now}, and the ledger was written to {} seconds later",
            ahead.as_secs()
        )
    })
}

const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_is_noticed() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        for (now, newest, is_off) in [
            (at(0), None, false),
            (at(0), Some(at(0)), false),
            (at(0), Some(at(-900)), false),
            (at(0), Some(at(30)), false),
            (at(0), Some(at(900)), true),
        ] {
            assert_eq!(clock_problem(now, newest).is_some(), is_off, "{now} {newest:?}");
        }
    }
}
