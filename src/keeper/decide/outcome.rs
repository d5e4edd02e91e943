//! What became of what was accepted: whether it is served by now, and why not.

use super::super::current::Current;
use super::super::divergences::ExplainError;
use super::super::edited::{self, Sides};
use super::super::exceptions::Exceptions;
use super::super::refresh::RefreshError;
use super::super::repository::{Repository, read_list};
use super::super::versions::Versions;
use crate::ledger::entry::Divergence;
use crate::store::Store;

/// What became of something that was accepted.
#[derive(Clone)]
pub(super) enum Outcome {
    Served,
    /// For something else to be accepted.
    Waiting(String),
    Problem(String),
}

/// What became of each of these after a refresh; blocks.
pub(super) fn outcomes(
    store: &Store,
    repository: &Repository,
    accepted: &[Divergence],
) -> Result<Vec<Outcome>, RefreshError> {
    let mut current = Current::in_store(store);
    let Some(served) = repository.served() else { return Err(RefreshError::Retired) };
    let versions = Versions::of(read_list(store, &served.snapshot.admitted)?);
    let Exceptions { refused, kept, whole, .. } = repository.health().exceptions;
    let why = |package: &String| {
        let find = |list: &[(String, String)]| {
            list.iter().find(|(it, _)| it == package).map(|(_, why)| why.clone())
        };
        let refused = find(&refused).map(|why| format!("it is not served: {why}"));
        refused.or_else(|| Some(format!("it stays as it was: {}", find(&kept)?)))
    };
    let outcome = |about: &Divergence| -> Result<Outcome, ExplainError> {
        if !current.says(about)? {
            return Ok(Outcome::Problem(OUTDATED.to_owned()));
        }
        let sides = edited::sides(store.blobs(), about)?;
        let Some((Sides { after, .. }, package)) = sides.zip(about.packages.first()) else {
            return Ok(Outcome::Served);
        };
        Ok(match why(package) {
            _ if versions.has(package, &after) => Outcome::Served,
            Some(why) => Outcome::Problem(why),
            None if whole.is_some() => Outcome::Waiting(WAITING.to_owned()),
            None => Outcome::Problem(TOLD_ANEW.to_owned()),
        })
    };
    let outcomes = accepted.iter().map(outcome).collect::<Result<_, _>>();
    outcomes.map_err(|error| RefreshError::Store(error.to_string()))
}

const WAITING: &str = "all that is held of the same state as a whole has to be accepted too, and \
                       opam-keep divergences lists it";
const TOLD_ANEW: &str = "it is not served: something else has been served in between, so a newer \
                         divergence, which opam-keep divergences lists, tells of this edit";
const OUTDATED: &str = "upstream says something else by now: it withdrew this, or edited it again, \
                        which is a divergence of its own";
