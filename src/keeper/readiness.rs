//! Whether everything is as it should be, part by part: the store, each index, the clock.

use super::Keeper;
use super::alerts::stale_index;
use super::verified::Verified;
use crate::places::Places;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One part, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// `store`, `index NAME`, `clock`, `configuration`, `certificate` or `tokens`.
    pub part: String,
    /// What is wrong; none while all is well.
    pub problem: Option<String>,
}

impl Part {
    /// A part that is called so.
    pub fn new(name: &str, problem: Option<String>) -> Self {
        Self { part: name.to_owned(), problem }
    }
}

impl Keeper {
    /// Looks at every part that it is made of.
    pub async fn readiness(self: &Arc<Self>) -> Vec<Part> {
        let keeper = Arc::clone(self);
        let looked = LOOKING.work(move || {
            let mut parts = vec![Part::new("store", keeper.store_problem())];
            for repository in &keeper.repositories {
                let name = repository.name();
                let problem = match repository.served() {
                    None => Some("nothing was admitted yet"),
                    Some(_) if keeper.alerts.is_raised(&stale_index(name)) => {
                        Some("stale, upstream gives no good index")
                    }
                    Some(_) => None,
                };
                let problem = problem.map(|problem| match repository.health().problem {
                    Some(reason) => format!("{problem}: {reason}"),
                    None => problem.to_owned(),
                });
                parts.push(Part::new(&format!("index {name}"), problem));
            }
            let now = keeper.clock.now();
            parts.push(Part::new("clock", clock_problem(now, keeper.newest())));
            parts
        });
        looked.await.unwrap_or_else(|error| vec![Part::new("server", Some(error.to_string()))])
    }

    /// What keeps the store from taking something new, or is known to be damaged in it.
    fn store_problem(&self) -> Option<String> {
        if let Some(problem) = self.store.blobs().problem() {
            return Some(problem);
        }
        match (self.alerts.damaged_blobs().len(), Verified::last(self.store.layout())) {
            (0, Some(Verified { problems: 1.., at, .. })) => Some(format!(
                "not sound when it was verified at {at}: opam-keep verify says what is wrong, and \
                 opam-keep repair fetches damaged blobs again"
            )),
            (0, _) => None,
            (count, _) => Some(format!(
                "{count} damaged: opam-keep repair fetches the same bytes again, from whoever has them"
            )),
        }
    }

    /// When the newest entry was written.
    fn newest(&self) -> Option<Timestamp> {
        let size = self.store.log().size().ok()?;
        self.entry(size.checked_sub(1)?).ok().map(|entry| entry.at())
    }
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

static LOOKING: Places = Places::new(1);

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
