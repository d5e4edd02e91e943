//! One state of an upstream: read and validated, and made ready for the ledger.
//!
//! Pure but for reading and writing blobs; blocking, so it runs off the reactor.

use super::admit::{Admission, AdmitError, Making};
use super::differing::Touched;
use super::file_list::FileList;
use super::opam_files::opam_files;
use super::previous::Previous;
use super::refresh::RefreshError;
use super::served_tree::{self, Held, Merged};
use super::serving::Indexes;
use super::stronger::Stronger;
use super::version_sources::VersionSources;
use crate::config::{ChecksumPolicy, Mode, Policy};
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::{Package, RepoPath, Rewrite, Tree, TreeLimits};
use crate::store::Store;
use crate::upstream::repository::{Fetched, Revision};
use bytes::Bytes;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};

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
    Nothing,
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
            (Verdict::Nothing, Some(previous)) => {
                let index = previous.index(preparing.store.blobs())?;
                as_before(state, previous, index, preparing)
            }
            (Verdict::AllBut(held), Some(previous)) => beside(state, held, previous, preparing),
            (Verdict::AllBut(_) | Verdict::Nothing, None) => {
                let admitted = Admitted::of(state, &state.tree, state.index.clone(), preparing)?;
                whole(state, None, admitted, preparing)
            }
        };
        ended(keeping.join())?;
        prepared
    })
}

/// What is served stays, whatever upstream has.
fn as_before(
    state: &State,
    previous: &Previous,
    index: Option<Bytes>,
    preparing: &Preparing<'_>,
) -> Result<Prepared, RefreshError> {
    let tree = served_tree::as_served(&previous.before.served, preparing.store.blobs())?;
    let revision = previous.last.snapshot.revision.clone();
    let admitted = Admitted::of(state, &tree, index, preparing)?;
    let (admission, new) = admitted.keep(&tree, revision, preparing)?;
    Ok(Prepared { admission, tree: Some(tree), new, kept: Vec::new() })
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
    Ok(Prepared { admission, tree, new, kept: Vec::new() })
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
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        for crowded_out in served_tree::crowded_out(&state.tree, &previous.before.served, &held) {
            kept.push((crowded_out.package.to_string(), CROWDED_OUT.to_owned()));
            held.push(crowded_out);
        }
        let (tree, left_out) = match held.is_empty() {
            true => (None, Vec::new()),
            false => match served_tree::with_held(&state.tree, &held, blobs) {
                Ok(Merged { tree, left_out }) => (Some(tree), left_out),
                Err(AdmitError::Held(why)) => {
                    tracing::warn!(repository, why, "what is held does not fit");
                    break;
                }
                Err(error) => return Err(error.into()),
            },
        };
        let made_of = tree.as_ref().unwrap_or(&state.tree);
        let mut admitted = Admitted::of(state, made_of, state.index.clone(), preparing)?;
        let refused = &mut admitted.admission.refused;
        refused.extend(left_out);
        let known: BTreeSet<&Package> = held.iter().map(|held| &held.package).collect();
        let mut lost = served_tree::lost(&state.tree, &previous.before.served, refused);
        lost.retain(|(lost, _)| !known.contains(&lost.package));
        if lost.is_empty() {
            let prepared = whole(state, tree, admitted, preparing)?;
            return Ok(Prepared { kept, ..prepared });
        }
        for (lost, why) in lost {
            kept.push((lost.package.to_string(), format!("it stays as it was: {why}")));
            held.push(lost);
        }
    }
    // All of it waits, and can be accepted.
    tracing::warn!(repository, "nothing new is served beside what is held, and stays as it was");
    as_before(state, previous, state.index.clone(), preparing)
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

/// What of a tree is served.
struct Admitted {
    admission: Admission,
    stronger: Stronger,
    /// What is served as it came.
    index: Option<Bytes>,
}

impl Admitted {
    fn of(
        state: &State,
        tree: &Tree,
        index: Option<Bytes>,
        preparing: &Preparing<'_>,
    ) -> Result<Self, RefreshError> {
        let Preparing { store, policy, rewrite, browse, .. } = *preparing;
        let files = list(tree, state);
        if index.is_some() {
            // What is signed is served as it is.
            let admission = Admission::verbatim(state, tree, files);
            return Ok(Self { admission, stronger: Stronger::default(), index });
        }
        let as_served = AsServed::of(preparing, &files)?;
        let sources = VersionSources::of_tree(tree, |package, directory| {
            as_served.as_ref().is_some_and(|it| it.has(package, directory))
        });
        drop(as_served);
        let stronger = Stronger::of(tree, &sources, store)?;
        let refuses_weak = refuses_weak(policy);
        let (sources, added) = (&sources[..], &stronger);
        let making = Making { sources, files, stronger: added, refuses_weak, rewrite, browse };
        let admission = Admission::of(state, tree, making);
        Ok(Self { admission, stronger, index })
    }

    /// If that is new, keeps the lists of it and builds its indexes.
    fn keep(
        self,
        tree: &Tree,
        revision: Option<String>,
        preparing: &Preparing<'_>,
    ) -> Result<(Admission, Option<NewSnapshot>), RefreshError> {
        let Self { admission, stronger, index } = self;
        let Preparing { store, rewrite, previous, .. } = *preparing;
        let blobs = store.blobs();
        let written = |list: &FileList| {
            let bytes = list.to_bytes();
            (Sha256::of(&bytes), bytes)
        };
        let (files, admitted) = (&admission.files, &admission.admitted);
        let ((files_name, files), (admitted_name, admitted)) =
            rayon::join(|| written(files), || written(admitted));
        let strengthened = Some(admission.strengthened.to_bytes()).filter(|list| !list.is_empty());
        let strengthened_name = strengthened.as_ref().map(|list| Sha256::of(list));
        let index_name = index.as_ref().map(|index| Sha256::of(index));
        let is_new = previous.is_none_or(|Previous { last, .. }| {
            last.served.is_none()
                || last.snapshot.files != files_name
                || last.snapshot.admitted != admitted_name
                || last.snapshot.strengthened != strengthened_name
                || last.snapshot.index != index_name
        });
        if !is_new {
            return Ok((admission, None));
        }
        let gone = previous.map(|previous| previous.before.gone(&admission.admitted));
        let departed =
            gone.as_ref().map(|gone| gone.list.to_bytes()).filter(|list| !list.is_empty());
        let departed_name = departed.as_ref().map(|list| Sha256::of(list));
        let gone = gone.map(|gone| gone.versions).unwrap_or_default();
        let lists = [Some(&files), Some(&admitted), strengthened.as_ref(), departed.as_ref()];
        if lists.into_iter().flatten().any(|list| list.len() as u64 > FileList::MAX_SIZE) {
            return Err(RefreshError::Refused(TOO_LARGE.to_owned()));
        }
        let keep_lists = || -> std::io::Result<()> {
            let lists = [
                (Sha256::of(&admission.repo), &admission.repo[..]),
                (files_name, &files[..]),
                (admitted_name, &admitted[..]),
            ];
            let stronger = stronger.files.values().map(|bytes| (Sha256::of(bytes), &bytes[..]));
            let kept = lists
                .into_iter()
                .chain(stronger)
                .chain(gone.iter().map(|list| (Sha256::of(list), &list[..])))
                .chain(departed_name.iter().zip(&departed).map(|(name, list)| (*name, &list[..])))
                .chain(
                    strengthened_name.iter().zip(&strengthened).map(|(name, it)| (*name, &it[..])),
                )
                .chain(index_name.iter().zip(&index).map(|(name, index)| (*name, &index[..])));
            blobs.put_all(kept)?;
            Ok(())
        };
        let indexes = std::thread::scope(|scope| -> Result<_, RefreshError> {
            let keeping = scope.spawn(keep_lists);
            let served = previous.and_then(|previous| previous.last.served.as_deref());
            let indexes = match &index {
                Some(index) => Ok(Indexes { index: index.clone().into(), for_old_clients: None }),
                None => admission.indexes(tree, &stronger, rewrite, served),
            };
            ended(keeping.join())?;
            Ok(indexes?)
        })?;
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
        Ok((admission, Some(NewSnapshot { snapshot, indexes })))
    }
}

/// What a thread came to; a panic goes on in whoever waited for it.
fn ended<T>(joined: std::thread::Result<T>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The versions of a tree that are served already, as they are.
struct AsServed<'a> {
    touched: Touched<'a>,
    /// Those whose archives pins may confirm.
    weak: HashSet<String>,
}

impl<'a> AsServed<'a> {
    /// `None` where all versions have to be read again: this process did not build what is served,
    /// or they would be made into something else by now.
    fn of(preparing: &Preparing<'a>, files: &'a FileList) -> Result<Option<Self>, RefreshError> {
        let Preparing { store, repository, policy, rewrite, previous, .. } = *preparing;
        let is_same_way = rewrite.is_none() && !refuses_weak(policy);
        let Some(Previous { last, before }) = previous.filter(|_| is_same_way) else {
            return Ok(None);
        };
        let built_here = last.served.as_ref().filter(|served| served.index.is_built_here());
        let Some(served) = built_here else { return Ok(None) };
        let state = store.lookup(|catalog| catalog.declared_state(repository))?;
        if state != Some(served.snapshot.admitted) {
            return Ok(None);
        }
        let weak = store.lookup(|catalog| catalog.weak_archives(repository))?;
        // The name of an extra source begins with its package, too.
        let package = |name: String| name.split('/').next().map(str::to_owned);
        let mut weak: HashSet<String> =
            weak.into_iter().filter_map(|(name, _)| package(name)).collect();
        let strengthened = opam_files(&before.strengthened).map(|(package, _, _)| package);
        weak.extend(strengthened.map(|package| package.to_string()));
        Ok(Some(Self { touched: Touched::between(&before.served, files), weak }))
    }

    fn has(&self, package: &Package, directory: &RepoPath) -> bool {
        !self.touched.is_touched(directory.as_str()) && !self.weak.contains(&package.to_string())
    }
}

/// The list of the files of a tree, of which most are upstream's.
fn list(tree: &Tree, upstream: &State) -> FileList {
    let mut theirs = upstream.tree.files().zip(upstream.files.0.values()).peekable();
    let name = |(path, bytes): (&RepoPath, &Bytes)| {
        while theirs.next_if(|((other, _), _)| *other < path).is_some() {}
        let is_theirs = |it: &((&RepoPath, &Bytes), &Sha256)| {
            let (other, content) = it.0;
            other == path && content.as_ptr() == bytes.as_ptr() && content.len() == bytes.len()
        };
        let name = theirs.next_if(is_theirs).map(|(_, name)| *name);
        (path.clone(), name.unwrap_or_else(|| Sha256::of(bytes)))
    };
    tree.files().map(name).collect()
}

/// Whether versions that no pin confirms are left out.
fn refuses_weak(policy: &Policy) -> bool {
    policy.weak_checksum == ChecksumPolicy::Refuse
}

/// So often what is served as it was is put together with a new state.
const ROUNDS: usize = 4;
const CROWDED_OUT: &str = "it stays where it was: by now it lies inside or around one that is held";
const TOO_LARGE: &str = "with the versions that are held, and those that were served once, it has more \
                         files than can be remembered: accept what is held, or give the repository \
                         another name in mirror.toml to begin anew";
