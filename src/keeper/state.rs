//! One state of an upstream: read and validated, and made ready for the ledger.
//!
//! Pure but for reading and writing blobs; blocking, so it runs off the reactor.

use super::admit::{Admission, AdmitError};
use super::admitted::{Admitted, ended};
use super::exceptions::Whole;
use super::file_list::FileList;
use super::previous::Previous;
use super::refresh::RefreshError;
use super::served_tree::{self, Held, Merged};
use super::serving::Indexes;
use crate::config::{Mode, Policy};
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::{Package, RepoPath, Rewrite, Tree, TreeLimits};
use crate::store::Store;
use crate::upstream::repository::{Fetched, Revision};
use bytes::Bytes;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// One state of an upstream, read and not judged yet.
pub(super) struct State {
    pub tree: Tree,
    pub files: FileList,
    /// Upstream's own index, when that is what is served.
    pub index: Option<Bytes>,
    pub revision: Revision,
}

/// What is served of a state.
pub(super) enum Verdict {
    /// All of it but these versions, which stay as they are.
    AllBut(Vec<Held>),
    /// Nothing; what is served stays.
    Nothing(Whole),
}

impl State {
    /// Reads what was fetched; `None` when nothing was.
    pub(super) fn read(fetched: Fetched, mode: Mode) -> Result<Option<Self>, RefreshError> {
        let refused = |error: &dyn std::fmt::Display| RefreshError::Refused(error.to_string());
        let (tree, index, revision) = match fetched {
            Fetched::Unchanged => return Ok(None),
            Fetched::Index { bytes, revision } => {
                let read = match mode {
                    Mode::Managed => Tree::from_index,
                    Mode::Verbatim => Tree::from_verbatim_index,
                };
                let tree = read(&bytes, &TreeLimits::default());
                (tree.map_err(|error| refused(&error))?, Some(bytes), revision)
            }
            Fetched::Files { files, revision } => {
                (super::raw_files::tree(files).map_err(|error| refused(&error))?, None, revision)
            }
        };
        let tree = match mode {
            Mode::Managed => tree.in_place(),
            Mode::Verbatim => tree,
        };
        let files: Vec<_> = tree.files().collect();
        let named = files.into_par_iter().map(|(path, bytes)| (path.clone(), Sha256::of(bytes)));
        let files = FileList(named.collect());
        let index = index.filter(|_| mode == Mode::Verbatim);
        Ok(Some(Self { tree, files, index, revision }))
    }
}

/// What is served of a state, and all that the ledger says of it.
pub(super) struct Prepared {
    pub admission: Admission,
    /// What is served of the state, if that is another tree than upstream's.
    pub tree: Option<Tree>,
    /// Where it is another one than what is served.
    pub new: Option<NewSnapshot>,
    /// The versions that are served as they were because they can't be as upstream has them, each
    /// with the reason.
    pub kept: Vec<(String, String)>,
    /// Why nothing new is served, if so.
    pub whole: Option<Whole>,
}

/// A snapshot whose blobs are kept, ready for the ledger.
pub(super) struct NewSnapshot {
    /// Without time and place.
    pub snapshot: Snapshot,
    pub indexes: Indexes,
}

/// What a new state is prepared with.
pub(super) struct Preparing<'a> {
    pub store: &'a Store,
    /// The repository's name.
    pub repository: &'a str,
    pub policy: &'a Policy,
    /// Where sources point.
    pub rewrite: Option<&'a Rewrite>,
    /// Where the pages of its packages are.
    pub browse: Option<&'a str>,
    /// What is served by now.
    pub previous: Option<&'a Previous>,
}

/// Builds what is served of a state, and keeps its blobs.
pub(super) fn prepare(
    state: &State,
    verdict: Verdict,
    preparing: &Preparing<'_>,
) -> Result<Prepared, RefreshError> {
    std::thread::scope(|scope| {
        // The disk is waited for by threads of its own, while others compute.
        let keeping = scope.spawn(|| keep_files(state, preparing));
        let prepared = match (verdict, preparing.previous) {
            (Verdict::Nothing(whole), Some(previous)) => {
                as_before(state, previous, whole, preparing)
            }
            (Verdict::AllBut(held), Some(previous)) => beside(state, held, previous, preparing),
            (Verdict::AllBut(held), None) => first(state, &held, preparing),
            (Verdict::Nothing(_), None) => first(state, &[], preparing),
        };
        ended(keeping.join())?;
        prepared
    })
}

/// The first state that is served, without some of its versions.
fn first(
    state: &State,
    held: &[Held],
    preparing: &Preparing<'_>,
) -> Result<Prepared, RefreshError> {
    let (blobs, limits) = (preparing.store.blobs(), TreeLimits::default());
    if held.len() == state.tree.versions().len() {
        return Err(AdmitError::AllHeld.into());
    }
    let tree = match held.is_empty() {
        true => None,
        false => Some(served_tree::with_held(&state.tree, held, blobs, &limits)?.tree),
    };
    let made_of = tree.as_ref().unwrap_or(&state.tree);
    let admitted = Admitted::of(state, made_of, state.index.clone(), preparing)?;
    if admitted.admission.versions == 0 {
        let left_out = admitted.admission.refused.first().filter(|_| held.is_empty());
        return Err(match left_out {
            Some((package, why)) => AdmitError::AllLeftOut(format!("{package}: {why}")).into(),
            None => AdmitError::AllHeld.into(),
        });
    }
    whole(state, tree, admitted, preparing)
}

/// What is served stays, whatever upstream has.
fn as_before(
    state: &State,
    previous: &Previous,
    whole: Whole,
    preparing: &Preparing<'_>,
) -> Result<Prepared, RefreshError> {
    let index = previous.index(preparing.store.blobs())?;
    let tree = served_tree::as_served(&previous.before.served, preparing.store.blobs())?;
    let revision = previous.last.snapshot.revision.clone();
    let mut admitted = Admitted::of(state, &tree, index, preparing)?;
    admitted.damaged = previous.before.departed.damaged().clone();
    let (admission, new) = admitted.keep(&tree, revision, preparing)?;
    Ok(Prepared { admission, tree: Some(tree), new, kept: Vec::new(), whole: Some(whole) })
}

/// All of a state is served, or this tree in its place.
fn whole(
    state: &State,
    tree: Option<Tree>,
    admitted: Admitted,
    preparing: &Preparing<'_>,
) -> Result<Prepared, RefreshError> {
    let revision = Some(state.revision.to_string());
    let made_of = tree.as_ref().unwrap_or(&state.tree);
    let (admission, new) = admitted.keep(made_of, revision, preparing)?;
    Ok(Prepared { admission, tree, new, kept: Vec::new(), whole: None })
}

/// A state is served beside what is held, and what was served before and can't be as upstream has it
/// now.
fn beside(
    state: &State,
    mut held: Vec<Held>,
    previous: &Previous,
    preparing: &Preparing<'_>,
) -> Result<Prepared, RefreshError> {
    let (repository, blobs) = (preparing.repository, preparing.store.blobs());
    let limits = TreeLimits::default();
    let reason = |held: &Held| Some((held.package.to_string(), held.why.clone()?));
    let (new, served): (Vec<&Held>, Vec<&Held>) =
        held.iter().partition(|held| held.served.0.is_empty());
    let never: Vec<_> = new.into_iter().filter_map(reason).collect();
    let mut kept: Vec<_> = served.into_iter().filter_map(reason).collect();
    for _ in 0..ROUNDS {
        let (tree, left_out, damaged) = match held.is_empty() {
            true => (None, Vec::new(), BTreeSet::new()),
            false => match served_tree::with_held(&state.tree, &held, blobs, &limits) {
                Ok(Merged { tree, left_out, damaged }) => (Some(tree), left_out, damaged),
                Err(AdmitError::Held(why)) => {
                    tracing::warn!(repository, why, "what is held does not fit");
                    break;
                }
                Err(error) => return Err(error.into()),
            },
        };
        let made_of = tree.as_ref().unwrap_or(&state.tree);
        let mut admitted = Admitted::of(state, made_of, state.index.clone(), preparing)?;
        admitted.damaged = damaged;
        let refused = &mut admitted.admission.refused;
        refused.extend(left_out);
        refused.extend(never.iter().cloned());
        let known: BTreeSet<&Package> = held.iter().map(|held| &held.package).collect();
        let mut lost = served_tree::lost(&state.tree, &previous.before.served, refused);
        lost.retain(|lost| !known.contains(&lost.package));
        if lost.is_empty() {
            let prepared = whole(state, tree, admitted, preparing)?;
            return Ok(Prepared { kept, ..prepared });
        }
        kept.extend(lost.iter().filter_map(reason));
        held.extend(lost);
    }
    // All of it waits, and can be accepted.
    tracing::warn!(repository, "nothing new is served beside what is held, and stays as it was");
    as_before(state, previous, Whole::NoRoom, preparing)
}

/// Keeps the files of a state that were not served yet.
fn keep_files(state: &State, preparing: &Preparing<'_>) -> std::io::Result<()> {
    let files = state.files.0.values().zip(state.tree.files());
    let files = files.map(|(name, (path, bytes))| (path, name, &bytes[..]));
    // What is served was kept when it was admitted.
    let served = preparing.previous.filter(|previous| previous.last.served.is_some());
    let mut served = served.map(|previous| previous.before.served.0.iter().peekable());
    let mut is_served = |path: &RepoPath, name: &Sha256| {
        let served = served.as_mut()?;
        while served.next_if(|(other, _)| *other < path).is_some() {}
        served.next_if(|it| *it == (path, name))
    };
    let new = files.filter(|(path, name, _)| is_served(path, name).is_none());
    preparing.store.blobs().put_all(new.map(|(_, name, bytes)| (*name, bytes)))?;
    Ok(())
}

/// So often what is served as it was is put together with a new state: what can't be served of it is
/// known after the first time, and the same after the second.
const ROUNDS: usize = 2;
