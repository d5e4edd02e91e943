//! What nobody was told yet of a state: divergences on their way to the ledger, and which of them
//! someone has accepted before.

use super::file_list::FileList;
use super::previous::Previous;
use super::refresh::RefreshError;
use super::repository::{Repository, blocking};
use super::said::{self, LetThrough, LookedAt};
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, DivergenceState, Entry};
use crate::store::catalog::{About, IndexError};
use crate::store::{AppendError, Appended, Store};
use std::sync::{Mutex, PoisonError};

/// A divergence, and the lists of files that it names.
pub(super) type Question<'a> = (Divergence, Vec<&'a FileList>);

/// Divergences for the ledger, and the lists of files that they name.
#[derive(Default)]
pub(super) struct Untold {
    divergences: Vec<Divergence>,
    lists: Vec<Vec<u8>>,
}

impl Untold {
    /// Which of these divergences someone has accepted; what is not in the ledger yet has to be told,
    /// with the lists of files that it names. What `waits` for something else is not served now.
    pub(super) fn accepted(
        &mut self,
        questions: Vec<Question<'_>>,
        waits: bool,
        previous: Option<&Previous>,
        looked_at: &Mutex<LookedAt>,
        store: &Store,
    ) -> Result<Vec<bool>, RefreshError> {
        let lists = questions.iter().flat_map(|(_, lists)| lists);
        self.lists.extend(lists.map(|list| list.to_bytes()));
        let told = |(divergence, _): &Question<'_>| -> Result<_, RefreshError> {
            let alike = store.lookup(|catalog| catalog.newest_alike(divergence))?;
            let decided = |alike: About| store.lookup(|catalog| catalog.decided(alike.index));
            let decided = alike.map(decided).transpose()?.flatten();
            Ok((alike, decided))
        };
        let told = questions.iter().map(told).collect::<Result<Vec<_>, _>>()?;
        let let_through = questions.iter().zip(&told).map(|((divergence, lists), told)| {
            let (since, is_held) = match told {
                (_, Some((DivergenceState::Accepted, decision))) => (*decision, false),
                // Who acknowledged it knows of no second time.
                (Some(alike), decided) if decided.is_some() || !alike.held => {
                    (alike.index, alike.held)
                }
                _ => return None,
            };
            Some(LetThrough { since, divergence, after: lists.get(1).copied(), is_held })
        });
        let let_through: Vec<Option<LetThrough<'_>>> = let_through.collect();
        let over = match previous {
            Some(previous) => {
                let mut looked_at = looked_at.lock().unwrap_or_else(PoisonError::into_inner);
                said::over(&let_through, waits, previous, &mut looked_at, store)?
            }
            None => let_through
                .iter()
                .map(|it| it.as_ref().map_or(Ok(false), |it| is_followed(it, store)))
                .collect::<Result<_, _>>()?,
        };
        let mut accepted = Vec::with_capacity(questions.len());
        for (((mut divergence, _), (alike, decided)), is_over) in
            questions.into_iter().zip(told).zip(over)
        {
            let is_accepted = decided.is_some_and(|(state, _)| state == DivergenceState::Accepted);
            // To be held is another matter than to be warned of, and the other way round.
            let is_as_told = |alike: About| {
                alike.tells(&divergence.edits)
                    && (divergence.held == alike.held || (is_accepted && alike.held))
            };
            if alike.is_some_and(|alike| !is_over && is_as_told(alike)) {
                accepted.push(is_accepted);
                continue;
            }
            divergence.again = alike.map(|alike| alike.index);
            self.divergences.push(divergence);
            accepted.push(false);
        }
        Ok(accepted)
    }
}

/// Whether something else was told of the same since. Before the first snapshot nothing else says what
/// upstream had in between.
fn is_followed(it: &LetThrough<'_>, store: &Store) -> Result<bool, IndexError> {
    let package = it.divergence.packages.first().map_or("", String::as_str);
    let told =
        store.lookup(|catalog| catalog.divergences_about(&it.divergence.repository, package))?;
    Ok(told.last().is_some_and(|newest| newest.index > it.since))
}

impl Repository {
    /// Records what nobody was told yet, once the lists that it names are kept.
    pub(super) async fn tell(&self, untold: Untold, store: &Store) -> Result<(), RefreshError> {
        let Untold { divergences, lists } = untold;
        let keeping = {
            let store = store.clone();
            move || {
                let named = lists.iter().map(|list| (Sha256::of(list), &list[..]));
                store.blobs().put_all(named)
            }
        };
        blocking(keeping).await??;
        let record = async |divergence: Divergence| -> Result<(), AppendError> {
            let (what, packages) = (divergence.what, divergence.packages.join(" "));
            let edits = divergence.edits.join(" ");
            if let Appended::New(entry) = store.append(Entry::Divergence(divergence)).await? {
                let repository = self.name();
                tracing::warn!(repository, %what, packages, edits, entry, "upstream diverged");
            }
            Ok(())
        };
        // Together, so that they share the ledger's appends.
        let recorded = futures_util::future::join_all(divergences.into_iter().map(record)).await;
        recorded.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }
}
