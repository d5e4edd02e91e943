//! An operator's decision, carried out: what was accepted is served and pinned.

mod outcome;

use super::divergences::{self, DecideError, Deciding, ExplainError, Noted};
use super::refresh::RefreshError;
use super::repository::blocking;
use super::{Answer, Keeper, Missing, Scope};
use crate::ledger::entry::{Action, Decision, Divergence, Entry};
use outcome::{Outcome, outcomes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What became of an operator's decision.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// Where it is in the ledger.
    pub entry: u64,
    /// The decision that was there before and went as far, so that this one was not written.
    pub before: Option<Decision>,
    /// The ledger entries that pin what was accepted.
    pub pinned: Vec<u64>,
    /// The divergences of archives that told of the same bytes, and are acknowledged with this.
    #[serde(default)]
    pub acknowledged: Vec<u64>,
    /// Why what was accepted is not served, if it is not.
    pub problem: Option<String>,
    /// What else has to be accepted before it is served, if anything.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Why an archive of it is not pinned yet, although it is served.
    pub unpinned: Option<String>,
}

impl Keeper {
    /// Writes an operator's decision to the ledger; what was accepted is served at once, and its
    /// archive pinned beside the one before. Divergences that tell of these very bytes are
    /// acknowledged with it.
    ///
    /// # Errors
    /// As [`divergences::decide`].
    pub async fn decide(
        self: &Arc<Self>,
        divergence: u64,
        action: Action,
        by: String,
        why: Option<String>,
    ) -> Result<Decided, DecideError> {
        let decided = self.decide_all(vec![divergence], action, by, why).await?;
        let first = decided.into_iter().next();
        first.ok_or_else(|| DecideError::Broken("nothing was decided".to_owned()))
    }

    /// The same about several, which upstream is asked for once.
    ///
    /// # Errors
    /// As [`divergences::decide`]; those before the one that fails are decided, and carried out.
    pub async fn decide_all(
        self: &Arc<Self>,
        divergences: Vec<u64>,
        action: Action,
        by: String,
        why: Option<String>,
    ) -> Result<Vec<Decided>, DecideError> {
        let keeper = Arc::clone(self);
        let deciding = async move {
            let since = keeper.store.log().size()?;
            let deciding = Deciding { action, by, why, with: None };
            let (noted, result) = keeper.write_decision(divergences, &deciding).await;
            let noted = noted.into_iter().map(|it| (Decided::noted(it.entry, it.before), it.about));
            let mut all: Vec<_> = noted.collect();
            if action == Action::Accept {
                keeper.in_charge().carry_out(&mut all, since).await;
            }
            result.map(|()| all.into_iter().map(|(decided, _)| decided).collect())
        };
        self.tasks.spawn(deciding).await.map_err(|error| DecideError::Broken(error.to_string()))?
    }

    /// Writes a decision to the ledger, unless another keeper admits states by now: then that does.
    async fn write_decision(
        &self,
        divergences: Vec<u64>,
        deciding: &Deciding,
    ) -> (Vec<Noted>, Result<(), DecideError>) {
        // What upstream says must not change between the look at it and the decision.
        let mut admitting = Vec::new();
        for repository in &self.repositories {
            admitting.push(repository.admitting.read().await);
        }
        if !self.repositories.iter().any(|it| it.is_retired.load(Ordering::Relaxed)) {
            return divergences::decide(&self.store, &self.clock, divergences, deciding).await;
        }
        drop(admitting);
        match self.successor().await {
            Some(next) => Box::pin(next.write_decision(divergences, deciding)).await,
            None => (Vec::new(), Err(DecideError::Broken(RefreshError::Retired.to_string()))),
        }
    }

    /// Serves what was accepted, and pins its archives.
    async fn carry_out(self: &Arc<Self>, all: &mut [(Decided, Divergence)], since: u64) {
        let names: BTreeSet<String> = all.iter().map(|(_, it)| it.repository.clone()).collect();
        for name in names {
            // What mirror.toml does not have is served by nobody.
            let Some(repository) = self.repository(&name) else { continue };
            let refreshed = self.refresh(repository).await;
            let mut of_it: Vec<_> =
                all.iter_mut().filter(|(_, it)| it.repository == name).collect();
            if let Err(error) = refreshed {
                let problem = format!("it is not served yet: {error}");
                of_it.iter_mut().for_each(|(decided, _)| decided.problem = Some(problem.clone()));
                continue;
            }
            // Who has taken over meanwhile serves it.
            let keeper = self.in_charge();
            let Some(repository) = keeper.repository(&name) else { continue };
            let accepted: Vec<Divergence> = of_it.iter().map(|(_, about)| about.clone()).collect();
            let (store, served) = (keeper.store.clone(), Arc::clone(repository));
            let outcomes = blocking(move || outcomes(&store, &served, &accepted)).await;
            let outcomes = outcomes.and_then(|outcomes| outcomes).unwrap_or_else(|error| {
                vec![
                    Outcome::Problem(format!("what is served can't be told: {error}"));
                    of_it.len()
                ]
            });
            for ((decided, _), outcome) in of_it.iter_mut().zip(outcomes) {
                match outcome {
                    Outcome::Served => {}
                    Outcome::Waiting(what) => decided.waiting = Some(what),
                    Outcome::Problem(problem) => decided.problem = Some(problem),
                }
            }
            of_it.retain(|(decided, _)| decided.problem.is_none() && decided.waiting.is_none());
            for some in of_it.chunks_mut(AT_ONCE) {
                let pinning =
                    some.iter_mut().map(|(decided, about)| keeper.pin(decided, about, since));
                futures_util::future::join_all(pinning).await;
            }
        }
    }

    /// Acknowledges what was told of the same before it was found to be more.
    async fn acknowledge_told_before(&self, decided: &mut Decided, about: &Divergence) {
        let (store, about, entry) = (self.store.clone(), about.clone(), decided.entry);
        let find = move || -> Result<_, ExplainError> {
            let decision =
                store.log().entries(entry, entry.saturating_add(1)).next().transpose()?;
            let Some((_, Entry::Decision(decision))) = decision else { return Ok(None) };
            let open = store.lookup(|catalog| catalog.open_before(&about, decision.divergence))?;
            Ok(Some((decision, open)))
        };
        // What stays open can be acknowledged by hand.
        let Ok(Ok(Some((decision, open)))) = blocking(find).await else { return };
        let why = Some(format!("it was accepted with divergence {}", decision.divergence));
        let (action, with) = (Action::Acknowledge, Some(decision.divergence));
        let deciding = Deciding { action, by: decision.by, why, with };
        let (noted, _) = divergences::decide(&self.store, &self.clock, open, &deciding).await;
        decided.acknowledged.extend(noted.into_iter().map(|noted| noted.id));
    }

    /// Pins the archives of what was accepted and is served.
    async fn pin(self: &Arc<Self>, decided: &mut Decided, about: &Divergence, since: u64) {
        self.acknowledge_told_before(decided, about).await;
        for package in &about.packages {
            match self.named_archive(Scope::Repository(&about.repository), package).await {
                Answer::Kept(kept) => decided.pinned.push(kept.entry),
                // It has none.
                Answer::Missing(Missing::Undeclared) => {}
                Answer::Arriving(..) => {
                    decided.unpinned = Some(format!("the archive of {package} is still arriving"));
                }
                Answer::Missing(missing) => {
                    let unpinned = format!("the archive of {package} is not pinned yet: {missing}");
                    decided.unpinned = Some(unpinned);
                }
            }
        }
        for &pin in &decided.pinned {
            let Ok(pin) = self.pin_at(pin).await else { continue };
            if let Some(accepted) = self.accepted_bytes(&pin, &about.packages).await {
                decided.acknowledged.extend(self.acknowledge_same(accepted, since).await);
            }
        }
    }
}

impl Decided {
    /// A decision that is in the ledger, of which nothing else came yet.
    pub(crate) fn noted(entry: u64, before: Option<Decision>) -> Self {
        let (pinned, acknowledged) = (Vec::new(), Vec::new());
        let (problem, waiting, unpinned) = (None, None, None);
        Self { entry, before, pinned, acknowledged, problem, waiting, unpinned }
    }
}

/// How many archives are waited for at once.
const AT_ONCE: usize = 8;

#[cfg(test)]
mod tests;
