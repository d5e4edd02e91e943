//! The divergences that the ledger has, each with what was decided about it.

use crate::ledger::entry::{Decision, Divergence, DivergenceState, Entry};
use crate::store::log::{LogError, LogReader};
use serde::Serialize;
use std::collections::BTreeMap;

/// A divergence with its place in the ledger and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// The ledger index of the divergence, which is its id.
    pub id: u64,
    /// What has become of it.
    pub state: DivergenceState,
    /// The divergence.
    pub divergence: Divergence,
    /// What was decided about it, in order, each with its ledger index.
    pub decisions: Vec<(u64, Decision)>,
}

/// Reads all divergences, oldest first.
///
/// # Errors
/// When the ledger can't be read.
pub fn all(log: &LogReader) -> Result<Vec<Recorded>, LogError> {
    let mut recorded = BTreeMap::new();
    for entry in log.entries(0, log.size()?) {
        match entry? {
            (id, Entry::Divergence(divergence)) => {
                let (state, decisions) = (DivergenceState::Open, Vec::new());
                recorded.insert(id, Recorded { id, state, divergence, decisions });
            }
            (index, Entry::Decision(decision)) => {
                if let Some(about) = recorded.get_mut(&decision.divergence) {
                    about.state = about.state.max(decision.action.state());
                    about.decisions.push((index, decision));
                }
            }
            (_, Entry::Key(_) | Entry::Pin(_) | Entry::Snapshot(_) | Entry::Other(_)) => {}
        }
    }
    Ok(recorded.into_values().collect())
}
