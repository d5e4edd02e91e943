//! One state of an upstream: read and validated, and made ready for the ledger.
//!
//! Pure but for reading and writing blobs; blocking, so it runs off the reactor.

use super::admit::{Admission, Making};
use super::file_list::FileList;
use super::refresh::RefreshError;
use super::repository::read_list;
use super::review::{self, ReviewedEdit};
use super::served::Served;
use super::stronger::Stronger;
use super::version_sources::VersionSources;
use crate::config::{ChecksumPolicy, Mode, Policy};
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::{Rewrite, Tree, TreeLimits};
use crate::store::Store;
use crate::upstream::repository::{Fetched, Revision};
use bytes::Bytes;
use rayon::prelude::*;

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
    AllBut(Vec<ReviewedEdit>),
    /// Nothing; what is served stays.
    Nothing,
}

impl State {
    /// Reads what was fetched; `None` when nothing was.
    pub(super) fn read(fetched: Fetched, mode: Mode) -> Result<Option<Self>, RefreshError> {
        let refused = |error: &dyn std::fmt::Display| RefreshError::Refused(error.to_string());
        let (tree, index, revision) = match fetched {
            Fetched::Unchanged => return Ok(None),
            Fetched::Index { bytes, revision } => {
                let tree = Tree::from_index(&bytes, &TreeLimits::default());
                (tree.map_err(|error| refused(&error))?, Some(bytes), revision)
            }
            Fetched::Files { files, revision } => {
                (super::raw_files::tree(files).map_err(|error| refused(&error))?, None, revision)
            }
        };
        let files: Vec<_> = tree.files().collect();
        let named = files.into_par_iter().map(|(path, bytes)| (path.clone(), Sha256::of(bytes)));
        let files = FileList(named.collect());
        let index = index.filter(|_| mode == Mode::Verbatim);
        Ok(Some(Self { tree, files, index, revision }))
    }
}

/// A snapshot whose blobs are kept, ready for the ledger.
pub(super) struct Prepared {
    pub admission: Admission,
    /// Without time and place.
    pub snapshot: Snapshot,
    /// Whether it is another one than what is served.
    pub is_new: bool,
}

/// Builds what is served of a state, and keeps its blobs.
pub(super) fn prepare(
    state: &State,
    verdict: Verdict,
    previous: Option<&Served>,
    store: &Store,
    policy: &Policy,
    rewrite: Option<&Rewrite>,
    browse: Option<&str>,
) -> Result<Prepared, RefreshError> {
    let blobs = store.blobs();
    let mut revision = Some(state.revision.to_string());
    let (tree, index) = match (verdict, previous) {
        (Verdict::Nothing, Some(served)) => {
            let list = read_list(store, &served.snapshot.admitted)?;
            let index = served.snapshot.index.map(|_| served.index.bytes.clone());
            revision.clone_from(&served.snapshot.revision);
            (Some(review::as_served(&list, blobs)?), index)
        }
        (Verdict::AllBut(held), _) if !held.is_empty() => {
            (Some(review::with_held(&state.tree, &held, blobs)?), state.index.clone())
        }
        (Verdict::AllBut(_) | Verdict::Nothing, _) => (None, state.index.clone()),
    };
    let tree = tree.as_ref().unwrap_or(&state.tree);
    let keep_files = || {
        let files = state.files.0.values().zip(state.tree.files());
        blobs.put_all(files.map(|(name, (_, bytes))| (*name, &bytes[..])))
    };
    let make = || -> Result<_, RefreshError> {
        let sources = VersionSources::of_tree(tree);
        let stronger = match index {
            // What is signed is served as it is.
            Some(_) => Stronger::default(),
            None => Stronger::of(tree, &sources, store)?,
        };
        let refuses_weak = policy.weak_checksum == ChecksumPolicy::Refuse;
        let (sources, added) = (&sources[..], &stronger);
        let making = Making { sources, stronger: added, refuses_weak, rewrite, browse, previous };
        let admission = Admission::of(state, tree, index.clone(), &making)?;
        Ok((admission, stronger))
    };
    let (kept, made) = rayon::join(keep_files, make);
    kept?;
    let (admission, stronger) = made?;
    let (files, admitted) = (admission.files.to_bytes(), admission.admitted.to_bytes());
    let (files_name, admitted_name) = (Sha256::of(&files), Sha256::of(&admitted));
    let strengthened = Some(admission.strengthened.to_bytes()).filter(|list| !list.is_empty());
    let strengthened_name = strengthened.as_ref().map(|list| Sha256::of(list));
    let index_name = index.as_ref().map(|index| Sha256::of(index));
    let is_new = previous.is_none_or(|served| {
        served.snapshot.files != files_name
            || served.snapshot.admitted != admitted_name
            || served.snapshot.strengthened != strengthened_name
            || served.snapshot.index != index_name
    });
    let mut departed_name = None;
    if is_new {
        if let Some(served) = previous {
            let before = read_list(store, &served.snapshot.admitted)?;
            let gone = review::departed(&departed(store, served)?, &before, &admission.admitted);
            if !gone.0.is_empty() {
                departed_name = Some(blobs.put(&gone.to_bytes())?);
            }
        }
        let lists = [
            (Sha256::of(&admission.repo), &admission.repo[..]),
            (files_name, &files[..]),
            (admitted_name, &admitted[..]),
        ];
        let kept = lists
            .into_iter()
            .chain(stronger.files.values().map(|bytes| (Sha256::of(bytes), &bytes[..])))
            .chain(
                strengthened_name.iter().zip(&strengthened).map(|(name, list)| (*name, &list[..])),
            )
            .chain(index_name.iter().zip(&index).map(|(name, index)| (*name, &index[..])));
        blobs.put_all(kept)?;
    }
    let snapshot = Snapshot {
        at: jiff::Timestamp::UNIX_EPOCH,
        repository: String::new(),
        upstream: String::new(),
        revision,
        mode: String::new(),
        files: files_name,
        admitted: admitted_name,
        strengthened: strengthened_name,
        departed: departed_name,
        index: index_name,
        versions: admission.versions,
        import: None,
        past: None,
    };
    Ok(Prepared { admission, snapshot, is_new })
}

/// The files of versions that were served once and are no more.
pub(super) fn departed(store: &Store, served: &Served) -> Result<FileList, RefreshError> {
    let departed = served.snapshot.departed.map(|name| read_list(store, &name));
    Ok(departed.transpose()?.unwrap_or_default())
}
