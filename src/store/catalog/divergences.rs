//! Which divergences the ledger has, and what was decided about them.

use super::index::{Change, Index, IndexError, Table};
use super::{Catalog, number, number_at, put};
use crate::digest::Sha256;
use crate::ledger::entry::{Decision, Divergence, DivergenceKind, DivergenceState};
use crate::opam::EditKind;
use std::collections::HashMap;

impl Catalog {
    /// The ledger index of a divergence that is the same as this one, or, when a source of an archive
    /// gives something else each time, of one of the [`MAX_DIVERGENCES`] that are recorded of it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergence(&self, divergence: &Divergence) -> Result<Option<u64>, IndexError> {
        let key = divergence_key(divergence);
        // What upstream says now must be there to be accepted, however often it said something else.
        if divergence.what.is_of_metadata() {
            let value = self.get(Table::Divergence, key.as_bytes())?;
            return Ok(value.and_then(|value| number(&value)));
        }
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

    /// The divergences of a version, or with no name those of a repository as a whole, the oldest
    /// first.
    ///
    /// # Errors
    /// When the index fails.
    pub fn divergences_about(
        &self,
        repository: &str,
        package: &str,
    ) -> Result<Vec<About>, IndexError> {
        let mut found = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| found.extend(About::read(key, value));
        self.index().visit(Table::About, &about_prefix(repository, package), &mut each)?;
        Ok(found)
    }

    /// The ledger index of the newest divergence of a repository's metadata.
    ///
    /// # Errors
    /// When the index fails.
    pub fn newest_of_metadata(&self, repository: &str) -> Result<Option<u64>, IndexError> {
        let value = self.get(Table::Meta, &newest_key(repository))?;
        Ok(value.and_then(|value| number(&value)))
    }

    /// The newest divergence of the same from the same to the same, however often it came.
    ///
    /// # Errors
    /// When the index fails.
    pub fn newest_alike(&self, divergence: &Divergence) -> Result<Option<About>, IndexError> {
        Ok(self.alike(divergence)?.pop())
    }

    /// The ledger indices of those of the same, from the same to the same, that came before an index
    /// and that nobody decided about.
    ///
    /// # Errors
    /// When the index fails.
    pub fn open_before(&self, divergence: &Divergence, end: u64) -> Result<Vec<u64>, IndexError> {
        let mut open = Vec::new();
        for told in self.alike(divergence)?.iter().filter(|it| it.index < end) {
            if self.decided(told.index)?.is_none() {
                open.push(told.index);
            }
        }
        Ok(open)
    }

    fn alike(&self, divergence: &Divergence) -> Result<Vec<About>, IndexError> {
        let package = divergence.packages.first().map_or("", String::as_str);
        let content = content(divergence);
        let mut about = self.divergences_about(&divergence.repository, package)?;
        about.retain(|it| it.content == content);
        Ok(about)
    }

    /// How many divergences nobody has decided about yet.
    ///
    /// # Errors
    /// When the index fails.
    pub fn open_divergences(&self) -> Result<u64, IndexError> {
        let counts = Counts::of(&*self.index())?;
        Ok(counts.divergences.saturating_sub(counts.decided))
    }

    /// How many divergences were accepted: what is let through changes with each.
    ///
    /// # Errors
    /// When the index fails.
    pub fn accepted_divergences(&self) -> Result<u64, IndexError> {
        self.number(META_ACCEPTED)
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

/// What the catalog knows of a divergence that is about a version, or about a repository as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its ledger index.
    pub index: u64,
    /// The bytes that came, if any did.
    pub observed: Option<Sha256>,
    /// Whether the policy of then held it back.
    pub held: bool,
    /// The kinds of edits that it told of, as [`kinds`] has them.
    kinds: u16,
    /// Equal where two are of the same from the same to the same.
    content: Sha256,
}

impl About {
    /// Whether it told of edits of all these kinds.
    pub fn tells(&self, edits: &[String]) -> bool {
        kinds(edits) & !self.kinds == 0
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (content, rest) = value.split_first_chunk::<32>()?;
        let (held, rest) = rest.split_first()?;
        let (kinds, observed) = rest.split_first_chunk::<2>()?;
        Some(Self {
            index: number(key.last_chunk::<8>()?)?,
            observed: observed.try_into().ok().map(Sha256::from_bytes),
            held: *held != 0,
            kinds: u16::from_be_bytes(*kinds),
            content: Sha256::from_bytes(*content),
        })
    }

    fn change(number: u64, divergence: &Divergence, package: &str) -> Change {
        let key = about_prefix(&divergence.repository, package);
        let key = [&key[..], &number.to_be_bytes()].concat();
        let mut value = content(divergence).as_bytes().to_vec();
        value.push(u8::from(divergence.held));
        value.extend(kinds(&divergence.edits).to_be_bytes());
        value.extend(divergence.observed.iter().flat_map(|it| *it.sha256.as_bytes()));
        put(Table::About, &key, value)
    }
}

/// A bit for each of the kinds that are named.
fn kinds(edits: &[String]) -> u16 {
    let named = |kind: &EditKind| edits.iter().any(|edit| *edit == kind.to_string());
    let kinds = EditKind::ALL.iter().zip(0..).filter(|(kind, _)| named(kind));
    kinds.fold(0, |kinds, (_, place)| kinds | (1 << place))
}

fn newest_key(repository: &str) -> Vec<u8> {
    [META_NEWEST, repository.as_bytes()].concat()
}

/// Neither a repository's name nor a version has a NUL.
fn about_prefix(repository: &str, package: &str) -> Vec<u8> {
    [repository.as_bytes(), &[0], package.as_bytes(), &[0]].concat()
}

fn content(divergence: &Divergence) -> Sha256 {
    let observed = divergence.observed.map(|observed| observed.sha256.to_string());
    let Divergence { what, url, expected, .. } = divergence;
    let (expected, observed) = (expected.join(" "), observed.unwrap_or_default());
    Sha256::of(format!("{what}\n{url}\n{expected}\n{observed}").as_bytes())
}

/// The counts of a batch of entries that is being taken in.
pub(super) struct Counts {
    divergences: u64,
    decided: u64,
    accepted: u64,
    /// The newest divergence of each repository's metadata in this batch.
    newest: HashMap<String, u64>,
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
            accepted: number_at(index, META_ACCEPTED)?,
            newest: HashMap::new(),
            states: HashMap::new(),
        })
    }

    pub(super) fn take_in(&mut self, number: u64, divergence: &Divergence) -> Vec<Change> {
        self.divergences += 1;
        if divergence.what.is_of_metadata() {
            self.newest.insert(divergence.repository.clone(), number);
        }
        let key = divergence_key(divergence);
        let mut changes = vec![put(Table::Divergence, key.as_bytes(), number.to_be_bytes().into())];
        let packages = divergence.packages.iter();
        changes.extend(packages.map(|package| About::change(number, divergence, package)));
        if divergence.packages.is_empty() {
            changes.push(About::change(number, divergence, ""));
        }
        changes
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
        self.accepted += u64::from(state == DivergenceState::Accepted);
        let mut decisions = before.map(|before| before.decisions).unwrap_or_default();
        decisions.push(number);
        let value = std::iter::once(state as u8);
        let value = value.chain(decisions.iter().flat_map(|number| number.to_be_bytes())).collect();
        self.states.insert(divergence, Decided { state, decisions });
        Ok(Some(put(Table::State, &divergence.to_be_bytes(), value)))
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        let counts = [
            put(Table::Meta, META_DIVERGENCES, self.divergences.to_be_bytes().into()),
            put(Table::Meta, META_DECIDED, self.decided.to_be_bytes().into()),
            put(Table::Meta, META_ACCEPTED, self.accepted.to_be_bytes().into()),
        ];
        let newest = self.newest.iter();
        counts.into_iter().chain(newest.map(|(repository, number)| {
            put(Table::Meta, &newest_key(repository), number.to_be_bytes().into())
        }))
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
    let Divergence { what, repository, url, expected, packages, again, .. } = divergence;
    // Of an archive, whoever uses it is no part of what diverged.
    let packages = if what.is_of_metadata() { packages.join(" ") } else { String::new() };
    let mut subject = format!("{what}\n{repository}\n{url}\n{}\n{packages}", expected.join(" "));
    if let Some(again) = again {
        subject.push_str(&format!("\n{again}"));
    }
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
const META_ACCEPTED: &[u8] = b"accepted";
const META_NEWEST: &[u8] = b"newest-divergence:";
