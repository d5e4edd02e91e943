//! Which divergences the ledger has, and what was decided about them.

use super::index::{Change, Index, IndexError, Table};
use super::{Catalog, number, number_at, put};
use crate::digest::Sha256;
use crate::ledger::entry::{Decision, Divergence, DivergenceKind, DivergenceState};
use std::collections::HashMap;

impl Catalog {
    /// The ledger index of a divergence that is the same as this one, or, when a source gives
    /// something else each time, of one of the [`MAX_DIVERGENCES`] that are recorded of it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergence(&self, divergence: &Divergence) -> Result<Option<u64>, IndexError> {
        let key = divergence_key(divergence);
        let alike = self.index().scan(Table::Divergence, &key.as_bytes()[..16])?;
        let same = alike.iter().find(|(found, _)| found == key.as_bytes());
        let full = alike.last().filter(|_| alike.len() >= MAX_DIVERGENCES);
        Ok(same.or(full).and_then(|(_, value)| number(value)))
    }

    /// How many divergences there are.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergences(&self) -> Result<u64, IndexError> {
        self.number(META_DIVERGENCES)
    }

    /// The ledger index of this very divergence.
    ///
    /// # Errors
    /// When the index fails.
    pub fn recorded(&self, divergence: &Divergence) -> Result<Option<u64>, IndexError> {
        let value = self.get(Table::Divergence, divergence_key(divergence).as_bytes())?;
        Ok(value.and_then(|value| number(&value)))
    }

    /// How many divergences nobody has decided about yet.
    ///
    /// # Errors
    /// When the index fails.
    pub fn open_divergences(&self) -> Result<u64, IndexError> {
        let counts = Counts::of(&*self.index())?;
        Ok(counts.divergences.saturating_sub(counts.decided))
    }

    /// The ledger indices of all divergences, the oldest first.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergence_ids(&self) -> Result<Vec<u64>, IndexError> {
        let mut ids = Vec::new();
        let mut each = |_: &[u8], value: &[u8]| ids.extend(number(value));
        self.index().visit(Table::Divergence, &[], &mut each)?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// The ledger indices of the decisions that brought a divergence to where it is, in order.
    ///
    /// # Errors
    /// When the index fails.
    pub fn decisions(&self, divergence: u64) -> Result<Vec<u64>, IndexError> {
        let decided = decided(&*self.index(), divergence)?;
        Ok(decided.map(|it| it.decisions).unwrap_or_default())
    }

    /// What has become of the divergence at a ledger index, and the ledger index of the decision
    /// that brought it there.
    ///
    /// # Errors
    /// When the index fails.
    pub fn decided(&self, divergence: u64) -> Result<Option<(DivergenceState, u64)>, IndexError> {
        let decided = decided(&*self.index(), divergence)?;
        Ok(decided.and_then(|it| Some((it.state, *it.decisions.last()?))))
    }
}

/// The counts of a batch of entries that is being taken in.
pub(super) struct Counts {
    divergences: u64,
    decided: u64,
    /// What this batch has changed.
    states: HashMap<u64, Decided>,
}

/// What became of a divergence, and the decisions that brought it there, in order.
#[derive(Clone)]
struct Decided {
    state: DivergenceState,
    decisions: Vec<u64>,
}

impl Counts {
    pub(super) fn of(index: &dyn Index) -> Result<Self, IndexError> {
        Ok(Self {
            divergences: number_at(index, META_DIVERGENCES)?,
            decided: number_at(index, META_DECIDED)?,
            states: HashMap::new(),
        })
    }

    pub(super) fn take_in(&mut self, number: u64, divergence: &Divergence) -> Change {
        self.divergences += 1;
        let key = divergence_key(divergence);
        put(Table::Divergence, key.as_bytes(), number.to_be_bytes().into())
    }

    /// Notes a decision, unless the divergence was brought as far before.
    pub(super) fn decide(
        &mut self,
        index: &dyn Index,
        number: u64,
        decision: &Decision,
    ) -> Result<Option<Change>, IndexError> {
        let (divergence, state) = (decision.divergence, decision.action.state());
        let before = match self.states.get(&divergence) {
            Some(decided) => Some(decided.clone()),
            None => decided(index, divergence)?,
        };
        if before.as_ref().is_some_and(|before| before.state >= state) {
            return Ok(None);
        }
        self.decided += u64::from(before.is_none());
        let mut decisions = before.map(|before| before.decisions).unwrap_or_default();
        decisions.push(number);
        let value = std::iter::once(state as u8);
        let value = value.chain(decisions.iter().flat_map(|number| number.to_be_bytes())).collect();
        self.states.insert(divergence, Decided { state, decisions });
        Ok(Some(put(Table::State, &divergence.to_be_bytes(), value)))
    }

    pub(super) fn changes(&self) -> [Change; 2] {
        [
            put(Table::Meta, META_DIVERGENCES, self.divergences.to_be_bytes().into()),
            put(Table::Meta, META_DECIDED, self.decided.to_be_bytes().into()),
        ]
    }
}

fn decided(index: &dyn Index, divergence: u64) -> Result<Option<Decided>, IndexError> {
    let value = index.get(Table::State, &divergence.to_be_bytes())?;
    Ok(value.and_then(|value| {
        let (first, decisions) = value.split_first()?;
        let states = [DivergenceState::Acknowledged, DivergenceState::Accepted];
        let state = states.into_iter().find(|state| *state as u8 == *first)?;
        let decisions = decisions.chunks_exact(8).filter_map(number).collect();
        Some(Decided { state, decisions })
    }))
}

/// What makes two divergences the same: the kind, who was asked about what, and what was
/// expected (the first half), and the bytes or, without any, who said what (the second half).
pub(in crate::store) fn divergence_key(divergence: &Divergence) -> Sha256 {
    let (from, detail) = (&divergence.from, &divergence.detail);
    let observed = match (&divergence.observed, divergence.what) {
        (Some(observed), _) => observed.sha256.to_string(),
        // Where it was cut is chance.
        (None, DivergenceKind::Truncated | DivergenceKind::TooLarge) => from.clone(),
        (None, _) => format!("{from} {detail}"),
    };
    let Divergence { what, url, expected, packages, .. } = divergence;
    // Of an archive, whoever uses it is no part of what diverged.
    let packages = if what.is_of_metadata() { packages.join(" ") } else { String::new() };
    let subject = format!("{what}\n{url}\n{}\n{packages}", expected.join(" "));
    let subject = Sha256::of(subject.as_bytes());
    let observed = Sha256::of(observed.as_bytes());
    let mut key = *subject.as_bytes();
    key[16..].copy_from_slice(&observed.as_bytes()[..16]);
    Sha256::from_bytes(key)
}

/// Most divergences of one kind that are recorded of one URL and what was expected of it: a login
/// page with a new token each time must not fill the disk.
pub const MAX_DIVERGENCES: usize = 16;
const META_DIVERGENCES: &[u8] = b"divergences";
const META_DECIDED: &[u8] = b"decided";
