//! Divergences as they are listed and shown, found through the catalog.

use super::{BrowseError, PAGE, off_the_reactor, to_its_end};
use crate::keeper::current::Current;
use crate::keeper::divergences::{self, Recorded};
use crate::keeper::{Keeper, edited};
use crate::ledger::entry::{Divergence, DivergenceKind, DivergenceState, Entry};
use crate::ledger::tile::WIDTH;
use crate::opam::Checksum;
use crate::store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Which divergences are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateFilter {
    /// Those that nobody has decided about yet.
    #[default]
    Open,
    /// Those that someone has seen.
    Acknowledged,
    /// Those that are served since someone accepted them.
    Accepted,
    /// All of them.
    All,
}

impl StateFilter {
    /// All filters, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::Open, Self::Acknowledged, Self::Accepted, Self::All];

    fn lets_in(self, state: DivergenceState) -> bool {
        match self {
            Self::Open => state == DivergenceState::Open,
            Self::Acknowledged => state == DivergenceState::Acknowledged,
            Self::Accepted => state == DivergenceState::Accepted,
            Self::All => true,
        }
    }
}

impl fmt::Display for StateFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Accepted => "accepted",
            Self::All => "all",
        })
    }
}

/// A page of divergences.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DivergencePage {
    /// Those of this page, the newest first.
    pub divergences: Vec<Recorded>,
    /// How many there are on all pages.
    pub total: usize,
}

/// A divergence with all that can be said of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explained {
    /// The divergence and what was decided about it.
    pub recorded: Recorded,
    /// Why the bytes differ, in a sentence; none where there are not both to compare.
    pub explanation: Option<String>,
    /// How the files of the edited version differ, as a unified diff.
    pub files_diff: Option<String>,
    /// How the files in the archives differ, as a unified diff.
    pub archives_diff: Option<String>,
    /// Why there is no explanation, where one was to be had.
    pub problem: Option<String>,
}

/// What was explained before: the ledger's entries and blobs never change, so that holds.
#[derive(Default)]
pub(super) struct Explanations {
    known: Mutex<BTreeMap<u64, Given>>,
    /// Comparing archives takes a core for seconds, so one is compared at a time. Held by what
    /// compares, whoever still waits for that.
    comparing: Arc<tokio::sync::Mutex<()>>,
}

/// An explanation that someone asked for.
struct Given {
    why: Arc<Why>,
    /// When it was begun; no value if it holds for ever.
    begun: Option<Instant>,
}

/// How two states differ.
struct Why {
    explanation: Option<String>,
    files_diff: Option<String>,
    archives_diff: Option<String>,
    problem: Option<String>,
}

impl Explanations {
    /// What is as good as an explanation that is begun now, for one who has asked since `asked`.
    fn of(&self, id: u64, asked: Instant) -> Option<Arc<Why>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let given = known.get(&id).filter(|it| it.begun.is_none_or(|begun| begun >= asked))?;
        Some(Arc::clone(&given.why))
    }

    fn keep(&self, id: u64, given: Given) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&id) {
            known.pop_first();
        }
        known.insert(id, given);
    }
}

impl Keeper {
    /// A page of divergences.
    ///
    /// # Errors
    /// When the catalog or the ledger fails.
    pub async fn recorded_divergences(
        self: &Arc<Self>,
        filter: StateFilter,
        page: usize,
    ) -> Result<DivergencePage, BrowseError> {
        let keeper = Arc::clone(self);
        off_the_reactor(move || {
            let mut ids = Vec::new();
            for id in keeper.store.lookup(|catalog| catalog.divergence_ids())?.into_iter().rev() {
                let decided = keeper.store.lookup(|catalog| catalog.decided(id))?;
                if filter.lets_in(decided.map_or(DivergenceState::Open, |(state, _)| state)) {
                    ids.push(id);
                }
            }
            let total = ids.len();
            let shown = ids.into_iter().skip(page.saturating_mul(PAGE)).take(PAGE);
            let mut current = Current::in_store(&keeper.store);
            let divergences = shown.map(|id| {
                let mut recorded = keeper.recorded(id)?;
                current.mark(&mut recorded);
                Ok(recorded)
            });
            let divergences = divergences.collect::<Result<_, BrowseError>>()?;
            Ok(DivergencePage { divergences, total })
        })
        .await
    }

    /// A divergence, explained. The first time that takes as long as reading both archives.
    ///
    /// # Errors
    /// When there is no such divergence, or the store fails.
    pub async fn explained_divergence(self: &Arc<Self>, id: u64) -> Result<Explained, BrowseError> {
        let keeper = Arc::clone(self);
        let recorded = off_the_reactor(move || {
            let mut recorded = keeper.recorded(id)?;
            Current::in_store(&keeper.store).mark(&mut recorded);
            Ok(recorded)
        });
        let recorded = recorded.await?;
        let why = self.why(id, &recorded.divergence).await?;
        Ok(Explained {
            recorded,
            explanation: why.explanation.clone(),
            files_diff: why.files_diff.clone(),
            archives_diff: why.archives_diff.clone(),
            problem: why.problem.clone(),
        })
    }

    async fn why(
        self: &Arc<Self>,
        id: u64,
        divergence: &Divergence,
    ) -> Result<Arc<Why>, BrowseError> {
        let explanations = &self.browsed.explanations;
        let asked = Instant::now();
        if let Some(why) = explanations.of(id, asked) {
            return Ok(why);
        }
        let alone = Arc::clone(&explanations.comparing).lock_owned().await;
        if let Some(why) = explanations.of(id, asked) {
            return Ok(why);
        }
        let (keeper, divergence) = (Arc::clone(self), divergence.clone());
        to_its_end(async move {
            let _alone = alone;
            let (store, begun) = (keeper.store.clone(), Instant::now());
            let (why, is_final) = off_the_reactor(move || Ok(explain(&store, &divergence))).await?;
            let why = Arc::new(why);
            let begun = (!is_final).then_some(begun);
            keeper.browsed.explanations.keep(id, Given { why: Arc::clone(&why), begun });
            Ok(why)
        })
        .await
    }

    /// How many divergences there are of each kind in each state. Blocks.
    ///
    /// # Errors
    /// When the catalog or the ledger fails.
    pub fn divergence_counts(
        &self,
    ) -> Result<BTreeMap<(DivergenceKind, DivergenceState), u64>, BrowseError> {
        let mut counts = BTreeMap::new();
        let mut kinds = self.browsed.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = self.store.lookup(|catalog| catalog.divergence_ids())?;
        let unknown: Vec<u64> = ids.iter().copied().filter(|id| !kinds.contains_key(id)).collect();
        // Those that came together lie together.
        for near in unknown.chunk_by(|one, other| one / WIDTH == other / WIDTH) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            for entry in self.store.log().entries(*first, last + 1) {
                if let (id, Entry::Divergence(Divergence { what, .. })) = entry? {
                    kinds.insert(id, what);
                }
            }
        }
        for id in ids {
            let Some(kind) = kinds.get(&id).copied() else { continue };
            let decided = self.store.lookup(|catalog| catalog.decided(id))?;
            let state = decided.map_or(DivergenceState::Open, |(state, _)| state);
            *counts.entry((kind, state)).or_default() += 1;
        }
        Ok(counts)
    }

    /// What upstream did about a version, the newest first.
    pub(super) fn divergences_of(
        &self,
        repository: &str,
        package: &str,
    ) -> Result<Vec<Recorded>, BrowseError> {
        let mut current = Current::in_store(&self.store);
        let about = self.store.lookup(|catalog| catalog.divergences_about(repository, package))?;
        let recorded = about.into_iter().rev().take(PAGE).map(|about| {
            let mut recorded = self.recorded(about.index)?;
            current.mark(&mut recorded);
            Ok(recorded)
        });
        recorded.collect()
    }

    fn recorded(&self, id: u64) -> Result<Recorded, BrowseError> {
        let not_found = || {
            BrowseError::NotFound(format!(
                "ledger entry {id} is no divergence; /divergences lists them"
            ))
        };
        let divergence = match self.entry(id) {
            Ok(Entry::Divergence(divergence)) => divergence,
            Ok(_) | Err(BrowseError::NotFound(_)) => return Err(not_found()),
            Err(error) => return Err(error),
        };
        let mut decisions = Vec::new();
        for entry in self.store.lookup(|catalog| catalog.decisions(id))? {
            if let Entry::Decision(decision) = self.entry(entry)? {
                decisions.push(decision);
            }
        }
        let state = decisions.iter().map(|it| it.action.state()).max();
        let state = state.unwrap_or(DivergenceState::Open);
        Ok(Recorded { id, state, divergence, decisions, outdated: false })
    }
}

/// Says how the two states differ, and whether that will be so for ever.
fn explain(store: &Store, divergence: &Divergence) -> (Why, bool) {
    let mut why = Why { explanation: None, files_diff: None, archives_diff: None, problem: None };
    let pinned = |expected: &[Checksum]| divergences::pinned_in(store, expected);
    match divergences::explain(&pinned, store.blobs(), divergence) {
        Ok(Some(explanation)) => {
            why.archives_diff = explanation.unified_diff();
            why.explanation = Some(explanation.to_string());
        }
        Ok(None) => {}
        Err(error) => why.problem = Some(error.to_string()),
    }
    match edited::files_diff(store.blobs(), divergence) {
        Ok(diff) => why.files_diff = diff,
        Err(error) => why.problem = Some(error.to_string()),
    }
    // The other side may be pinned yet, or a blob be repaired.
    let is_final = why.problem.is_none() && why.explanation.is_some();
    (why, is_final)
}

/// How many explanations are kept.
const MAX_KNOWN: usize = 256;
