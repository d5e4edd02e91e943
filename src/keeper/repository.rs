//! One mirrored repository: what is served of it, and how its upstream has been doing.

use super::admit::{self, Admission, AdmitError, Declarations};
use super::built_index;
use super::file_list::FileList;
use super::served::Served;
use super::sources;
use crate::clock::Clock;
use crate::config::{self, Mode};
use crate::digest::Sha256;
use crate::ledger::entry::{Entry, Snapshot};
use crate::opam::{Tree, TreeLimits};
use crate::store::catalog::IndexError;
use crate::store::{AppendError, Appended, Store};
use crate::upstream::repository::{Fetched, RepositoryError, RepositorySource, Revision, Watch};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use url::Url;

/// A repository that is mirrored; lives as long as the keeper.
pub struct Repository {
    settings: config::Repository,
    source: RepositorySource,
    served: ArcSwapOption<Served>,
    health: Mutex<Health>,
    /// Held while upstream is asked, so that two refreshes never run at once.
    refreshing: tokio::sync::Mutex<()>,
    /// Held while the catalog learns what is declared, until that is served too.
    declaring: tokio::sync::Mutex<()>,
}

/// How a repository's upstream has been doing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// When upstream last answered with something that could be admitted or was no change.
    pub fresh_at: Option<Timestamp>,
    /// When upstream was last asked.
    pub asked_at: Option<Timestamp>,
    /// Why the last attempt failed, if it did.
    pub problem: Option<String>,
    /// Versions of the last snapshot that are not served, with the reason.
    pub refused: Vec<(String, String)>,
    /// What upstream called its last good answer.
    #[serde(skip)]
    revision: Option<Revision>,
}

/// What a refresh did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Refreshed {
    /// Upstream has nothing new.
    Unchanged,
    /// A new snapshot is served.
    Admitted {
        /// Its index in the ledger.
        entry: u64,
        /// How many package versions it has.
        versions: u64,
    },
}

/// Why a refresh left the last good snapshot in service.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// Upstream could not be asked.
    #[error("{0}")]
    Upstream(#[from] RepositoryError),
    /// What upstream gave is no repository.
    #[error("upstream's repository is not taken: {0}")]
    Refused(String),
    /// The new snapshot can't be built.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// The new snapshot can't be kept.
    #[error("the snapshot can't be kept: {0}")]
    Store(String),
}

impl From<AppendError> for RefreshError {
    fn from(error: AppendError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<IndexError> for RefreshError {
    fn from(error: IndexError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<std::io::Error> for RefreshError {
    fn from(error: std::io::Error) -> Self {
        Self::Store(error.to_string())
    }
}

impl Repository {
    /// Takes up a repository where the ledger left it, without asking upstream.
    ///
    /// What can't be read back is not served, says so in its health, and keeps no other
    /// repository from being served; the next refresh admits upstream's state anew.
    pub(super) fn open(
        settings: config::Repository,
        source: RepositorySource,
        store: &Store,
    ) -> Self {
        let repository = Self {
            served: ArcSwapOption::empty(),
            health: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            declaring: tokio::sync::Mutex::default(),
            settings,
            source,
        };
        let health = match repository.take_up(store) {
            Ok(health) => health,
            Err(error) => {
                let problem = format!("what was admitted can't be read back: {error}");
                tracing::error!(repository = repository.name(), problem, "run opam-keep verify");
                Health { problem: Some(problem), ..Health::default() }
            }
        };
        *repository.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
        repository
    }

    /// The repository's name.
    pub fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// What mirror.toml says of it.
    pub fn settings(&self) -> &config::Repository {
        &self.settings
    }

    /// What is served; `None` until the first snapshot was admitted.
    pub fn served(&self) -> Option<Arc<Served>> {
        self.served.load_full()
    }

    /// How upstream has been doing.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells when upstream changes, where that can be known: in a directory.
    pub(super) fn watch(&self) -> Option<Watch> {
        self.source.watch()
    }

    /// Asks upstream and admits what is new.
    ///
    /// # Errors
    /// Whatever went wrong; what was served before is served on.
    pub(super) async fn refresh(
        &self,
        store: &Store,
        clock: &Clock,
    ) -> Result<Refreshed, RefreshError> {
        let _alone = self.refreshing.lock().await;
        let known = self.health().revision.filter(|_| self.served().is_some());
        let result = self.fetch_and_admit(known, store, clock).await;
        let now = clock.now();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.asked_at = Some(now);
        match result {
            Ok((refreshed, news)) => {
                health.fresh_at = Some(now);
                health.problem = None;
                if let Some((revision, refused)) = news {
                    health.revision = Some(revision);
                    health.refused = refused;
                }
                Ok(refreshed)
            }
            Err(error) => {
                health.problem = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Makes the catalog know the archives of what is served, after it was rebuilt.
    ///
    /// # Errors
    /// When the snapshot or the catalog can't be read.
    pub(super) async fn ensure_declared(&self, store: &Store) -> Result<(), RefreshError> {
        if self.undeclared(store)?.is_none() {
            return Ok(());
        }
        let _alone = self.declaring.lock().await;
        // Whoever held it may have declared this state, or another one that is served now.
        let Some(served) = self.undeclared(store)? else { return Ok(()) };
        let (store, name) = (store.clone(), self.name().to_owned());
        blocking(move || declare_again(&store, &name, &served.snapshot)).await?
    }

    /// What is served, if the catalog does not know its archives.
    fn undeclared(&self, store: &Store) -> Result<Option<Arc<Served>>, RefreshError> {
        let Some(served) = self.served() else { return Ok(None) };
        let declared = store.lookup(|catalog| catalog.declared_state(self.name()))?;
        Ok(Some(served).filter(|served| declared != Some(served.snapshot.admitted)))
    }

    fn take_up(&self, store: &Store) -> Result<Health, RefreshError> {
        let name = self.name();
        let Some((entry, snapshot)) = store.lookup(|catalog| catalog.snapshot(name))? else {
            return Ok(Health::default());
        };
        // A change of mode shows with the next snapshot.
        let (served, refused) = load(name, &self.settings, store, entry, snapshot)?;
        let declared = store.lookup(|catalog| catalog.declared_state(name))?;
        if declared != Some(served.snapshot.admitted) {
            declare_again(store, name, &served.snapshot)?;
        }
        let revision = self.revision_of(&served.snapshot);
        self.served.store(Some(Arc::new(served)));
        Ok(Health { revision, refused, ..Health::default() })
    }

    /// What upstream calls the state that is served, if it came from there in this very way.
    fn revision_of(&self, snapshot: &Snapshot) -> Option<Revision> {
        let same = snapshot.upstream == self.settings.upstream.get_ref().to_string()
            && snapshot.mode == Admission::mode_name(self.settings.mode);
        snapshot.revision.clone().filter(|_| same).map(Revision::from_text)
    }

    async fn fetch_and_admit(
        &self,
        known: Option<Revision>,
        store: &Store,
        clock: &Clock,
    ) -> Result<(Refreshed, Option<News>), RefreshError> {
        let fetched = self.source.fetch(known.as_ref()).await?;
        let (tree, index, revision) = match fetched {
            Fetched::Unchanged => return Ok((Refreshed::Unchanged, None)),
            Fetched::Index { bytes, revision } => {
                let index = bytes.clone();
                let tree = blocking(move || Tree::from_index(&bytes, &TreeLimits::default()))
                    .await?
                    .map_err(|error| RefreshError::Refused(error.to_string()))?;
                (tree, Some(index), revision)
            }
            Fetched::Files { files, revision } => {
                let tree = blocking(move || super::raw_files::tree(files))
                    .await?
                    .map_err(|error| RefreshError::Refused(error.to_string()))?;
                (tree, None, revision)
            }
        };
        let verbatim = match self.settings.mode {
            Mode::Managed => None,
            Mode::Verbatim => index,
        };
        let (store_clone, previous) = (store.clone(), self.served());
        let admission = blocking(move || -> Result<_, RefreshError> {
            let admission = Admission::of(&tree, verbatim.clone())?;
            let (files, admitted) = (admission.files.to_bytes(), admission.admitted.to_bytes());
            let (files_name, admitted_name) = (Sha256::of(&files), Sha256::of(&admitted));
            let index_name = verbatim.as_ref().map(|index| Sha256::of(index));
            let unchanged = previous.is_some_and(|served| {
                served.snapshot.files == files_name
                    && served.snapshot.admitted == admitted_name
                    && served.snapshot.index == index_name
            });
            if !unchanged {
                let contents = admission.files.0.values().zip(tree.files());
                let blobs = contents
                    .map(|(name, (_, bytes))| (*name, &bytes[..]))
                    .chain([
                        (Sha256::of(&admission.repo), &admission.repo[..]),
                        (files_name, &files[..]),
                        (admitted_name, &admitted[..]),
                    ])
                    .chain(
                        index_name.iter().zip(&verbatim).map(|(name, index)| (*name, &index[..])),
                    );
                store_clone.blobs().put_all(blobs)?;
            }
            Ok((!unchanged).then_some((admission, files_name, admitted_name, index_name)))
        })
        .await??;
        let Some((admission, files, admitted, index)) = admission else {
            let refused = self.health().refused;
            return Ok((Refreshed::Unchanged, Some((revision, refused))));
        };
        let snapshot = Snapshot {
            at: clock.now(),
            repository: self.name().to_owned(),
            upstream: self.settings.upstream.get_ref().to_string(),
            revision: Some(revision.to_string()),
            mode: Admission::mode_name(self.settings.mode).to_owned(),
            files,
            admitted,
            index,
            versions: admission.versions,
        };
        self.admit(snapshot, admission, revision, store).await
    }

    async fn admit(
        &self,
        snapshot: Snapshot,
        admission: Admission,
        revision: Revision,
        store: &Store,
    ) -> Result<(Refreshed, Option<News>), RefreshError> {
        let entry = match store.append(Entry::Snapshot(snapshot.clone())).await? {
            Appended::New(entry) | Appended::Known(entry) => entry,
            Appended::PinnedOtherwise(kept) => kept.entry,
        };
        let Admission { index, repo, upstream_repo, archives, versions, refused, .. } = admission;
        for (package, reason) in &refused {
            tracing::warn!(repository = self.name(), package, reason, "version not served");
        }
        let caches = caches(&self.settings, upstream_repo.as_deref());
        let alone = self.declaring.lock().await;
        let (store, name) = (store.clone(), self.name().to_owned());
        let served = blocking(move || -> Result<_, RefreshError> {
            declare(&store, &name, snapshot.admitted, &archives)?;
            let served = Served::new(index, repo, snapshot, entry, caches);
            built_index::keep(&store, &name, &served);
            Ok(served)
        });
        self.served.store(Some(Arc::new(served.await??)));
        drop(alone);
        Ok((Refreshed::Admitted { entry, versions }, Some((revision, refused))))
    }
}

type News = (Revision, Vec<(String, String)>);

/// Tells the catalog what a repository declares.
fn declare(
    store: &Store,
    name: &str,
    state: Sha256,
    declarations: &Declarations,
) -> Result<(), RefreshError> {
    let (archives, main) = (declarations.archives(), declarations.main());
    Ok(store.lookup(|catalog| catalog.declare(name, state, &archives, main))?)
}

/// The same, from the files of an admitted snapshot.
fn declare_again(store: &Store, name: &str, snapshot: &Snapshot) -> Result<(), RefreshError> {
    let list = read_list(store, &snapshot.admitted)?;
    let declarations = Declarations::of_list(store.blobs(), &list)?;
    declare(store, name, snapshot.admitted, &declarations)
}

/// Reads what is served of a snapshot from the store.
fn load(
    name: &str,
    settings: &config::Repository,
    store: &Store,
    entry: u64,
    snapshot: Snapshot,
) -> Result<(Served, Vec<(String, String)>), RefreshError> {
    let blobs = store.blobs();
    let admitted = read_list(store, &snapshot.admitted)?;
    let files = read_list(store, &snapshot.files)?;
    let read_repo = |list: &FileList| -> Result<Option<Bytes>, RefreshError> {
        let repo = list.0.get(&admit::repo_path()).map(|name| blobs.read(name, MAX_REPO_FILE));
        Ok(repo.transpose().map_err(AdmitError::from)?.map(Bytes::from))
    };
    let repo = read_repo(&admitted)?.unwrap_or_default();
    let upstream_repo = read_repo(&files)?;
    let refused = files.0.keys().filter(|path| !admitted.0.contains_key(*path));
    let refused = refused.filter_map(admit::package_of).map(|package| {
        (package.to_string(), format!("left out when ledger entry {entry} was admitted"))
    });
    let refused = refused.collect();
    let index = match (&snapshot.index, built_index::find(store, name, &snapshot)) {
        (Some(index), _) => Bytes::from(blobs.read(index, MAX_INDEX).map_err(AdmitError::from)?),
        (None, Some(built)) => built,
        (None, None) => admit::index_of_list(blobs, &admitted)?,
    };
    let caches = caches(settings, upstream_repo.as_deref());
    let served = Served::new(index, repo, snapshot, entry, caches);
    built_index::keep(store, name, &served);
    Ok((served, refused))
}

fn read_list(store: &Store, name: &Sha256) -> Result<FileList, RefreshError> {
    let bytes = store.blobs().read(name, FileList::MAX_SIZE).map_err(AdmitError::from)?;
    Ok(FileList::parse(&bytes).map_err(AdmitError::from)?)
}

/// The archive caches that upstream's `repo` file names.
fn caches(settings: &config::Repository, upstream_repo: Option<&[u8]>) -> Vec<Url> {
    let upstream = settings.upstream.get_ref().expose();
    upstream_repo.map(|repo| sources::caches_of(upstream, repo)).unwrap_or_default()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RefreshError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| RefreshError::Store(error.to_string()))
}

/// As large as the file may be when it is admitted.
const MAX_REPO_FILE: u64 = 64 << 20;
const MAX_INDEX: u64 = 1 << 30;
