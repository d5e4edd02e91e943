//! The divergences that the ledger has: what became of each, why the bytes differ, and how an
//! operator's decision gets in.

use super::current::Current;
use super::edited;
use super::repository::blocking;
use crate::archive::{self, Explanation, Limits};
use crate::clock::Clock;
use crate::digest::Sha256;
use crate::ledger::entry::{
    Action, Decision, Divergence, DivergenceKind, DivergenceState, Entry, Pin,
};
use crate::opam::Checksum;
use crate::store::blobs::{BlobError, Blobs};
use crate::store::catalog::IndexError;
use crate::store::log::{LogError, LogReader};
use crate::store::{AppendError, Appended, Store};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use thiserror::Error;

/// A divergence with its place in the ledger and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Recorded {
    /// The ledger index of the divergence, which is its id.
    pub id: u64,
    /// What has become of it.
    pub state: DivergenceState,
    /// The divergence.
    pub divergence: Divergence,
    /// What was decided about it, in order.
    pub decisions: Vec<Decision>,
    /// Whether upstream says something else of the metadata by now: it withdrew this, or edited it
    /// again, which is a divergence of its own.
    pub outdated: bool,
}

/// Why a divergence can't be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The catalog can't be asked.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The pinned bytes or the evidence can't be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// They can't be read to their end.
    #[error("the bytes can't be compared: {0}")]
    Io(#[from] io::Error),
}

/// Why a decision is not in the ledger.
#[derive(Debug, Error)]
pub enum DecideError {
    /// There is no such divergence.
    #[error("ledger entry {0} is no divergence")]
    NoDivergence(u64),
    /// There is nothing in it that could be accepted.
    #[error(
        "divergence {id} is \"{what}\", and only edits and whole states of a repository can be \
         accepted: acknowledge it instead"
    )]
    NothingToAccept {
        /// The divergence.
        id: u64,
        /// Its kind.
        what: DivergenceKind,
    },
    /// Upstream withdrew it, or edited it again.
    #[error(
        "divergence {0} is outdated: upstream says something else by now, and should it say this \
         again, that is a divergence of its own"
    )]
    Outdated(u64),
    /// It was broken off in the middle.
    #[error("the decision was broken off: {0}")]
    Broken(String),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The ledger can't be appended to.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Reads all divergences, oldest first, none of them marked as outdated.
///
/// # Errors
/// When the ledger can't be read.
pub fn all(log: &LogReader) -> Result<Vec<Recorded>, LogError> {
    let mut recorded = BTreeMap::new();
    for entry in log.entries(0, log.size()?) {
        match entry? {
            (id, Entry::Divergence(divergence)) => {
                let (state, decisions) = (DivergenceState::Open, Vec::new());
                let outdated = false;
                recorded.insert(id, Recorded { id, state, divergence, decisions, outdated });
            }
            (_, Entry::Decision(decision)) => {
                if let Some(about) = recorded.get_mut(&decision.divergence) {
                    about.state = about.state.max(decision.action.state());
                    about.decisions.push(decision);
                }
            }
            (
                _,
                Entry::Key(_)
                | Entry::Pin(_)
                | Entry::Snapshot(_)
                | Entry::Recheck(_)
                | Entry::History(_)
                | Entry::Import(_)
                | Entry::Other(_),
            ) => {}
        }
    }
    Ok(recorded.into_values().collect())
}

/// Why the observed bytes are not the expected ones, and of an edited version why its main archive
/// is not the one from before; `None` where there are not both: nothing expected is pinned, or the
/// evidence is no more than a part.
///
/// `pinned` tells the pinned bytes that one of some checksums names. Reads both blobs; takes
/// seconds for large ones.
///
/// # Errors
/// When they can't be read.
pub fn explain(
    pinned: &Pinned<'_>,
    blobs: &Blobs,
    divergence: &Divergence,
) -> Result<Option<Explanation>, ExplainError> {
    if divergence.what.is_of_metadata() {
        return edited::explain(pinned, blobs, divergence);
    }
    let observed = divergence.observed.map(|observed| observed.sha256);
    let Some(observed) = divergence.evidence.filter(|name| observed == Some(*name)) else {
        return Ok(None);
    };
    let expected: Vec<Checksum> =
        divergence.expected.iter().filter_map(|text| text.parse().ok()).collect();
    match pinned(&expected)? {
        Some(expected) => compare(blobs, &expected, &observed),
        None => Ok(None),
    }
}

/// Why the bytes of one blob are not those of another; `None` when they are.
///
/// # Errors
/// When they can't be read.
pub(super) fn compare(
    blobs: &Blobs,
    expected: &Sha256,
    observed: &Sha256,
) -> Result<Option<Explanation>, ExplainError> {
    let (expected, observed) = (blobs.open(expected)?, blobs.open(observed)?);
    Ok(archive::explain(&mut &*expected.file, &mut &*observed.file, &Limits::default())?)
}

/// What is decided about divergences.
pub struct Deciding {
    /// What becomes of them.
    pub action: Action,
    /// Who decides.
    pub by: String,
    /// Why, in their words.
    pub why: Option<String>,
    /// The accepted divergence that brings the same bytes, where that decides about these.
    pub with: Option<u64>,
}

/// An operator's decision, as the ledger has it.
pub struct Noted {
    /// Its index.
    pub entry: u64,
    /// The divergence that it is about.
    pub id: u64,
    /// What that tells.
    pub about: Divergence,
    /// The decision that was there before and went as far, so that this one was not written.
    pub before: Option<Decision>,
}

/// Writes an operator's decision about each of these to the ledger, up to the first that is no
/// divergence, in which there is nothing to accept, or instead of which upstream says something else
/// by now; says what is in the ledger then, and what went wrong.
///
/// What was accepted is served from the next refresh on.
pub async fn decide(
    store: &Store,
    clock: &Clock,
    divergences: Vec<u64>,
    deciding: &Deciding,
) -> (Vec<Noted>, Result<(), DecideError>) {
    let (copy, action) = (store.clone(), deciding.action);
    let looking = blocking(move || {
        let (mut current, mut found) = (Current::in_store(&copy), Vec::new());
        for id in divergences {
            match find(&copy, &mut current, id, action) {
                Ok(about) => found.push((id, about)),
                Err(error) => return (found, Err(error)),
            }
        }
        (found, Ok(()))
    });
    let (found, mut result) = match looking.await {
        Ok(looked) => looked,
        Err(error) => (Vec::new(), Err(DecideError::Broken(error.to_string()))),
    };
    // Together, so that they share the ledger's appends.
    let noting = found.into_iter().map(|(id, about)| note(store, clock, id, about, deciding));
    let mut all = Vec::new();
    for noted in join_all(noting).await {
        match noted {
            Ok(noted) => all.push(noted),
            Err(error) => result = Err(error),
        }
    }
    (all, result)
}

/// A divergence about which that can be decided.
fn find(
    store: &Store,
    current: &mut Current<'_>,
    id: u64,
    action: Action,
) -> Result<Divergence, DecideError> {
    let log = store.log();
    let entry = log.entries(id, log.size()?.min(id.saturating_add(1))).next();
    let Some((_, Entry::Divergence(about))) = entry.transpose()? else {
        return Err(DecideError::NoDivergence(id));
    };
    if action == Action::Accept && !about.what.is_of_metadata() {
        return Err(DecideError::NothingToAccept { id, what: about.what });
    }
    // What can't be told is told by the next refresh.
    if action == Action::Accept && current.is_outdated(id, &about).unwrap_or(false) {
        return Err(DecideError::Outdated(id));
    }
    Ok(about)
}

async fn note(
    store: &Store,
    clock: &Clock,
    id: u64,
    about: Divergence,
    deciding: &Deciding,
) -> Result<Noted, DecideError> {
    let Deciding { action, by, why, with } = deciding;
    let (by, why) = (by.clone(), why.clone());
    let (at, divergence, action, with) = (clock.now(), id, *action, *with);
    let decision = Decision { at, divergence, action, by, why, with };
    let entry = match store.append(Entry::Decision(decision)).await? {
        Appended::New(entry) => return Ok(Noted { entry, id, about, before: None }),
        Appended::Known(entry) => entry,
        Appended::PinnedOtherwise(kept) => kept.entry,
    };
    let known = store.log().entries(entry, entry.saturating_add(1)).next().transpose()?;
    let before = known.and_then(|(_, known)| match known {
        Entry::Decision(decision) => Some(decision),
        _ => None,
    });
    Ok(Noted { entry, id, about, before })
}

/// Finds the pinned bytes that one of some checksums names.
pub type Pinned<'a> = dyn Fn(&[Checksum]) -> Result<Option<Sha256>, ExplainError> + 'a;

/// The pinned bytes that one of the checksums names, as the catalog has it.
pub(super) fn pinned_in(
    store: &Store,
    expected: &[Checksum],
) -> Result<Option<Sha256>, ExplainError> {
    for checksum in expected {
        if let Some(kept) = store.lookup(|catalog| catalog.kept(checksum))? {
            return Ok(Some(kept.sha256));
        }
    }
    Ok(None)
}

/// The pinned bytes that one of the checksums names. Reads the whole ledger.
///
/// # Errors
/// When it can't be read.
pub fn pinned(log: &LogReader, expected: &[Checksum]) -> Result<Option<Sha256>, LogError> {
    let is_expected = |pin: &Pin| {
        expected.iter().any(|checksum| match checksum {
            Checksum::Md5(md5) => *md5 == pin.md5,
            Checksum::Sha256(sha256) => *sha256 == pin.sha256,
            Checksum::Sha512(sha512) => *sha512 == pin.sha512,
        })
    };
    for entry in log.entries(0, log.size()?) {
        if let (_, Entry::Pin(pin)) = entry?
            && is_expected(&pin)
        {
            return Ok(Some(pin.sha256));
        }
    }
    Ok(None)
}
