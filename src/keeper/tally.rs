//! What was asked of the keeper and what it asked, for whoever watches this process.

use super::refresh::{RefreshError, Refreshed};
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts};

/// Counts archives that clients asked for, and repositories' refreshes; all clones count together.
#[derive(Clone)]
pub struct Tally {
    archives: IntCounterVec,
    /// The archives that were here already.
    pub hits: IntCounter,
    /// Those for which a first fetch was begun.
    pub misses: IntCounter,
    /// Those whose first fetch was under way already.
    pub joined: IntCounter,
    /// Those that nobody was asked for.
    pub unasked: IntCounter,
    refreshes: IntCounterVec,
}

impl Default for Tally {
    fn default() -> Self {
        let counters = |name, help, label| {
            IntCounterVec::new(Opts::new(name, help), label).expect("a metric has a valid name")
        };
        let archives = counters(
            "opam_keep_archive_requests_total",
            "Archives that clients asked for: kept already (hit), fetched now (miss), under way \
             already (joined), or not to be asked for (unasked)",
            &["result"],
        );
        let of = |result| archives.with_label_values(&[result]);
        Self {
            hits: of("hit"),
            misses: of("miss"),
            joined: of("joined"),
            unasked: of("unasked"),
            refreshes: counters(
                "opam_keep_refreshes_total",
                "Times that a repository's upstream was asked for a new state",
                &["repository", "outcome"],
            ),
            archives,
        }
    }
}

impl Tally {
    /// Has a repository counted from 0 on.
    pub(super) fn expect(&self, repository: &str) {
        for outcome in ["unchanged", "admitted", "failed"] {
            self.refreshes.with_label_values(&[repository, outcome]);
        }
    }

    pub(super) fn refreshed(&self, repository: &str, outcome: &Result<Refreshed, RefreshError>) {
        let outcome = match outcome {
            Ok(Refreshed::Unchanged) => "unchanged",
            Ok(Refreshed::Admitted { .. }) => "admitted",
            Err(_) => "failed",
        };
        self.refreshes.with_label_values(&[repository, outcome]).inc();
    }

    /// What a registry collects.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.archives.clone()), Box::new(self.refreshes.clone())]
    }
}
