//! What of a tree is served, made ready for the ledger: its lists are kept and its indexes built.
//!
//! Pure but for reading and writing blobs; blocking, so it runs off the reactor.

use super::admit::{Admission, Making};
use super::differing::Touched;
use super::file_list::FileList;
use super::opam_files::opam_files;
use super::previous::Previous;
use super::refresh::RefreshError;
use super::serving::Indexes;
use super::state::{NewSnapshot, Preparing, State};
use super::stronger::Stronger;
use super::version_sources::VersionSources;
use crate::config::{ChecksumPolicy, Policy};
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::{Package, RepoPath, Tree};
use bytes::Bytes;
use std::collections::{BTreeSet, HashSet};

/// What of a tree is served.
pub(super) struct Admitted {
    pub admission: Admission,
    /// The versions of it that can't be read back.
    pub damaged: BTreeSet<Package>,
    stronger: Stronger,
    /// What is served as it came.
    index: Option<Bytes>,
}

impl Admitted {
    pub(super) fn of(
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
            let (stronger, damaged) = (Stronger::default(), BTreeSet::new());
            return Ok(Self { admission, damaged, stronger, index });
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
        Ok(Self { admission, damaged: BTreeSet::new(), stronger, index })
    }

    /// If that is new, keeps the lists of it and builds its indexes.
    pub(super) fn keep(
        self,
        tree: &Tree,
        revision: Option<String>,
        preparing: &Preparing<'_>,
    ) -> Result<(Admission, Option<NewSnapshot>), RefreshError> {
        let Self { admission, damaged, stronger, index } = self;
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
        let gone = previous.map(|previous| previous.before.gone(&admission.admitted, &damaged));
        let departed =
            gone.as_ref().map(|gone| gone.list.to_bytes()).filter(|list| !list.is_empty());
        let departed_name = departed.as_ref().map(|list| Sha256::of(list));
        let is_new = previous.is_none_or(|Previous { last, .. }| {
            last.is_behind
                || last.served.is_none()
                || last.snapshot.files != files_name
                || last.snapshot.admitted != admitted_name
                || last.snapshot.strengthened != strengthened_name
                || last.snapshot.departed != departed_name
                || last.snapshot.index != index_name
        });
        if !is_new {
            return Ok((admission, None));
        }
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
pub(super) fn ended<T>(joined: std::thread::Result<T>) -> T {
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

const TOO_LARGE: &str = "with the versions that are held, and those that were served once, it has more \
                         files than can be remembered: accept what is held, or give the repository \
                         another name in mirror.toml to begin anew";
