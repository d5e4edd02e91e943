//! One mirrored repository: what is served of it, and how its upstream has been doing.

use super::admit::{self, Admission, AdmitError, Declarations};
use super::built_index::{self, Recipe};
use super::exceptions::Exceptions;
use super::file_list::FileList;
use super::refresh::RefreshError;
use super::said::LookedAt;
use super::served::Served;
use super::serving::{self, Indexes, Place};
use super::sources;
use crate::config;
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::Rewrite;
use crate::store::Store;
use crate::upstream::repository::{RepositorySource, Revision, Watch};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use url::Url;

/// A repository that is mirrored; lives as long as the keeper.
pub struct Repository {
    pub(super) settings: config::Repository,
    /// Where sources point, if they are rewritten.
    pub(super) place: Option<Place>,
    /// Where the pages of its packages are, where that is configured.
    pub(super) browse: Option<String>,
    pub(super) source: RepositorySource,
    pub(super) served: ArcSwapOption<Served>,
    pub(super) health: Mutex<Health>,
    /// The archives for which the last refresh looked at upstream's state again, because what is
    /// served of it would be made otherwise by now.
    pub(super) looked_at: Mutex<BTreeSet<String>>,
    /// What was let through and is not served yet, as far as that was looked at; of all
    /// repositories, as ledger indices tell them apart.
    pub(super) let_through: Arc<Mutex<LookedAt>>,
    /// Held while upstream is asked, so that two refreshes never run at once.
    pub(super) refreshing: tokio::sync::Mutex<()>,
    /// Whether another keeper admits its states by now; looked at while nobody refreshes, or
    /// nothing can be admitted.
    pub(super) is_retired: AtomicBool,
    /// Held while the catalog learns what is declared, until that is served too.
    pub(super) declaring: tokio::sync::Mutex<()>,
    /// Held for writing from when a snapshot gets its time until it is in the ledger.
    pub(super) admitting: tokio::sync::RwLock<()>,
    /// Held while an old state is brought in, one at a time.
    pub(super) bringing_in: tokio::sync::Mutex<()>,
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
    /// What is not served as upstream has it.
    #[serde(flatten)]
    pub exceptions: Exceptions,
    /// What upstream called its last good answer.
    #[serde(skip)]
    pub(super) revision: Option<Revision>,
    /// How many divergences were accepted before that was judged.
    #[serde(skip)]
    pub(super) accepted: u64,
}

impl Repository {
    /// Takes up a repository where the ledger left it, without asking upstream.
    ///
    /// What can't be read back is not served, says so in its health, and keeps no other
    /// repository from being served; the next refresh compares upstream's state with what of it can
    /// be read.
    pub(super) fn open(
        settings: config::Repository,
        place: Option<Place>,
        browse: Option<String>,
        source: RepositorySource,
        let_through: Arc<Mutex<LookedAt>>,
        store: &Store,
    ) -> Self {
        let repository = Self {
            served: ArcSwapOption::empty(),
            health: Mutex::default(),
            looked_at: Mutex::default(),
            let_through,
            refreshing: tokio::sync::Mutex::default(),
            is_retired: AtomicBool::new(false),
            declaring: tokio::sync::Mutex::default(),
            admitting: tokio::sync::RwLock::default(),
            bringing_in: tokio::sync::Mutex::default(),
            settings,
            place,
            browse,
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

    /// Admits nothing any more, once what is being admitted is, and what is being decided about it.
    pub(super) async fn retire(&self) {
        let _alone = self.refreshing.lock().await;
        let _decided = self.admitting.write().await;
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// Writes where a snapshot comes from, and how it is served.
    pub(super) fn say_whence(&self, snapshot: &mut Snapshot) {
        self.name().clone_into(&mut snapshot.repository);
        snapshot.upstream = self.settings.upstream.get_ref().to_string();
        snapshot.mode = Admission::mode_name(self.settings.mode).to_owned();
    }

    /// Tells when upstream changes, where that can be known: in a directory.
    pub(super) fn watch(&self) -> Option<Watch> {
        self.source.watch()
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
        apart(move || declare_again(&store, &name, &served.snapshot)).await?
    }

    /// What is served, if the catalog does not know its archives.
    fn undeclared(&self, store: &Store) -> Result<Option<Arc<Served>>, RefreshError> {
        let Some(served) = self.served() else { return Ok(None) };
        let declared = store.lookup(|catalog| catalog.declared_state(self.name()))?;
        Ok(Some(served).filter(|served| declared != Some(served.snapshot.admitted)))
    }

    /// Serves what the ledger has last, after something else than a refresh wrote it. Blocking.
    ///
    /// # Errors
    /// When it can't be read back; what was served before is served on.
    pub(super) fn take_up_again(&self, store: &Store) -> Result<(), RefreshError> {
        let health = self.take_up(store)?;
        let mut known = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        (known.revision, known.accepted) = (health.revision, health.accepted);
        known.exceptions = health.exceptions;
        Ok(())
    }

    fn take_up(&self, store: &Store) -> Result<Health, RefreshError> {
        let name = self.name();
        let accepted = store.lookup(|catalog| catalog.accepted_divergences())?;
        let Some((entry, snapshot)) = store.lookup(|catalog| catalog.snapshot(name))? else {
            return Ok(Health::default());
        };
        // A change of mode shows with the next snapshot.
        let Loaded { served, exceptions } = self.load(store, entry, snapshot)?;
        let declared = store.lookup(|catalog| catalog.declared_state(name))?;
        if declared != Some(served.snapshot.admitted) {
            declare_again(store, name, &served.snapshot)?;
        }
        // What is held may have been accepted since, what was refused may be allowed, and what is
        // made in another way may leave out other versions: upstream's state is looked at again.
        let revision = self.revision_of(&served.snapshot);
        let is_as_before = !served.index.is_built_here();
        let is_all = exceptions == Exceptions::default();
        let revision = revision.filter(|_| is_all && is_as_before);
        self.served.store(Some(Arc::new(served)));
        Ok(Health { revision, accepted, exceptions, ..Health::default() })
    }

    /// Reads what is served of a snapshot from the store.
    fn load(&self, store: &Store, entry: u64, snapshot: Snapshot) -> Result<Loaded, RefreshError> {
        let admitted = read_list(store, &snapshot.admitted)?;
        let files = read_list(store, &snapshot.files)?;
        let exceptions = Exceptions::of_snapshot(store, self.name(), entry, &admitted, &files);
        let rewrite = self.place.as_ref().map(Place::now);
        let served = self.read_back(store, entry, snapshot, &admitted, &files, rewrite.as_ref())?;
        let recipe = Recipe::new(self.name(), &served.snapshot, rewrite.as_ref());
        built_index::keep(store, &recipe, &served);
        Ok(Loaded { served, exceptions })
    }

    /// What is served of a snapshot, given its lists: to the byte what was served when it was
    /// admitted.
    pub(super) fn read_back(
        &self,
        store: &Store,
        entry: u64,
        snapshot: Snapshot,
        admitted: &FileList,
        files: &FileList,
        rewrite: Option<&Rewrite>,
    ) -> Result<Served, RefreshError> {
        let blobs = store.blobs();
        let read_repo = |list: &FileList| -> Result<Option<Bytes>, RefreshError> {
            let repo = list.0.get(&admit::repo_path()).map(|name| blobs.read(name, MAX_REPO_FILE));
            Ok(repo.transpose().map_err(AdmitError::from)?.map(Bytes::from))
        };
        let repo = read_repo(admitted)?.unwrap_or_default();
        let upstream_repo = read_repo(files)?;
        let recipe = Recipe::new(self.name(), &snapshot, rewrite);
        let indexes = match (&snapshot.index, built_index::find(store, &recipe)) {
            (Some(index), _) => {
                let index = blobs.read(index, MAX_INDEX).map_err(AdmitError::from)?;
                Indexes { index: Bytes::from(index).into(), for_old_clients: None }
            }
            (None, Some(built)) => built,
            (None, None) => {
                let strengthened = strengthened(store, &snapshot)?;
                let files = serving::read_files(blobs, admitted, &strengthened)?;
                serving::indexes(&files, rewrite, None)?
            }
        };
        let caches = caches(&self.settings, upstream_repo.as_deref());
        Ok(Served::new(indexes, repo, snapshot, entry, caches))
    }

    /// What upstream calls the state that is served, if it came from there in this very way.
    fn revision_of(&self, snapshot: &Snapshot) -> Option<Revision> {
        let same = snapshot.upstream == self.settings.upstream.get_ref().to_string()
            && snapshot.mode == Admission::mode_name(self.settings.mode);
        snapshot.revision.clone().filter(|_| same).map(Revision::from_text)
    }
}

/// Tells the catalog what a repository declares.
pub(super) fn declare(
    store: &Store,
    name: &str,
    state: Sha256,
    declarations: &Declarations,
) -> Result<(), RefreshError> {
    let (archives, named) = (declarations.archives(), declarations.named());
    Ok(store.lookup(|catalog| catalog.declare(name, state, archives, named))?)
}

/// The same, from the files of an admitted snapshot.
fn declare_again(store: &Store, name: &str, snapshot: &Snapshot) -> Result<(), RefreshError> {
    let list = read_list(store, &snapshot.admitted)?;
    let declarations = Declarations::of_list(store.blobs(), &list)?;
    declare(store, name, snapshot.admitted, &declarations)
}

/// What the store has of a snapshot.
struct Loaded {
    served: Served,
    exceptions: Exceptions,
}

/// The opam files that gain checksums before they are served.
pub(super) fn strengthened(store: &Store, snapshot: &Snapshot) -> Result<FileList, RefreshError> {
    let list = snapshot.strengthened.map(|name| read_list(store, &name));
    Ok(list.transpose()?.unwrap_or_default())
}

pub(super) fn read_list(store: &Store, name: &Sha256) -> Result<FileList, RefreshError> {
    let bytes = store.blobs().read(name, FileList::MAX_SIZE).map_err(AdmitError::from)?;
    Ok(FileList::parse(&bytes).map_err(AdmitError::from)?)
}

/// The archive caches that upstream's `repo` file names.
pub(super) fn caches(settings: &config::Repository, upstream_repo: Option<&[u8]>) -> Vec<Url> {
    let upstream = settings.upstream.get_ref().expose();
    upstream_repo.map(|repo| sources::caches_of(upstream, repo)).unwrap_or_default()
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RefreshError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| RefreshError::Store(error.to_string()))
}

/// Does work on all of a repository, by several cores and off the reactor.
///
/// The threads end with it: what is freed on a thread that lives on is kept for its next work, and
/// a refresh takes many times the memory that a mirror needs until the next one.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RefreshError> {
    let failed = |error: &dyn std::fmt::Display| RefreshError::Store(error.to_string());
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(cores.min(MAX_THREADS))
        .thread_name(|_| "repository".to_owned())
        // Whoever waits for the work is told.
        .panic_handler(drop)
        .build()
        .map_err(|error| failed(&error))?;
    let (done, result) = oneshot::channel();
    threads.spawn(move || drop(done.send(work())));
    result.await.map_err(|_| failed(&"the work panicked"))
}

/// Most threads that work on one repository; a mirror may have a hundred.
const MAX_THREADS: usize = 8;
/// As large as the file may be when it is admitted.
const MAX_REPO_FILE: u64 = 64 << 20;
const MAX_INDEX: u64 = 1 << 30;
