//! The decisions: what is admitted, what is pinned, who is asked, and what a client is told.
//!
//! One [`Keeper`] owns the store and all repositories of a running server. It promises that only
//! pinned bytes are given out (G1), that the first pin stands (G2), that whatever upstream says
//! otherwise becomes a divergence (G4), and that upstreams in any state never stop what is kept
//! from being served (G5). It knows nothing of HTTP on the clients' side.

mod admit;
pub mod alerts;
mod attempt;
pub mod audit;
pub mod browse;
mod built_index;
pub mod current;
mod decide;
mod differing;
pub mod divergences;
pub mod edited;
mod evidence;
pub mod export;
mod file_list;
mod fill;
mod fills;
pub mod first_said;
pub mod history;
pub mod import;
mod measured;
mod missing;
pub mod offered;
mod past;
mod progress;
pub mod proof;
mod raw_files;
pub mod readiness;
pub mod recheck;
mod refresh;
pub mod repair;
mod repository;
mod review;
mod schedule;
pub mod selector;
mod served;
mod serving;
pub mod snapshots;
mod sources;
mod state;
pub mod static_files;
mod stronger;
pub mod sync;
pub mod tally;
pub mod verified;
pub mod verify;
mod version_sources;

pub use admit::AdmitError;
pub use decide::Decided;
pub use file_list::{FileList, FileListError};
pub use missing::Missing;
pub use past::{NotAPoint, PastState, When};
pub use progress::{Arrival, Progress};
pub use refresh::{RefreshError, Refreshed};
pub use repository::{Health, Repository};
pub use served::Served;

use crate::clock::Clock;
use crate::config::{Config, Policy};
use crate::opam::Checksum;
use crate::sink::Sink;
use crate::store::Store;
use crate::store::blobs::Hashed;
use crate::store::catalog::{DeclaredArchive, IndexError, Kept};
use crate::store::layout::Layout;
use crate::upstream::repository::{RepositoryError, RepositorySource};
use crate::upstream::{self, Client, SetupError};
use alerts::{Alerts, AlertsError};
use browse::Browsed;
use evidence::EvidenceRoom;
use fills::Fills;
use measured::Measured;
use missing::NegativeCache;
use past::PastStates;
use recheck::Rechecking;
use schedule::Background;
use serving::Place;
use sources::Asked;
use std::sync::Arc;
use std::time::Duration;
use sync::Turns;
use tally::Tally;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;

/// Everything that a running server knows and decides.
pub struct Keeper {
    store: Store,
    clock: Clock,
    client: Client,
    policy: Arc<Policy>,
    caches: Vec<Url>,
    max_archive_size: u64,
    patience: Duration,
    turns: Turns,
    is_offline: bool,
    repositories: Vec<Arc<Repository>>,
    fills: Fills,
    negative: NegativeCache,
    past_states: PastStates,
    rechecking: Rechecking,
    alerts: Alerts,
    evidence: EvidenceRoom,
    browsed: Browsed,
    tally: Tally,
    measured: Measured,
    /// What goes on to its end, whoever waits for it.
    tasks: TaskTracker,
    background: Background,
    /// Who took this one's place.
    successor: watch::Sender<Option<Arc<Keeper>>>,
}

/// Which repositories' metadata may name an archive.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// Any of them.
    All,
    /// The one of this name.
    Repository(&'a str),
}

impl Scope<'_> {
    fn includes(self, repository: &str) -> bool {
        match self {
            Self::All => true,
            Self::Repository(name) => repository == name,
        }
    }
}

/// What there is of an archive.
pub enum Answer {
    /// It is pinned and in the store.
    Kept(Kept),
    /// It is being fetched, large, and may be read along.
    Arriving(Arrival, watch::Receiver<Progress>),
    /// It can't be had now.
    Missing(Missing),
}

/// Archives of one checksum or package, and the repository that declares them.
struct Declared {
    repository: Arc<Repository>,
    archives: Vec<DeclaredArchive>,
}

/// Why a keeper can't start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The HTTP client can't be set up.
    #[error(transparent)]
    Client(#[from] SetupError),
    /// Alerts can't be sent.
    #[error(transparent)]
    Alerts(#[from] AlertsError),
    /// A repository's upstream can't be set up.
    #[error("repository {name}: {source}")]
    Source {
        /// The repository.
        name: String,
        /// What is wrong.
        source: RepositoryError,
    },
}

impl Keeper {
    /// Takes up every repository where the ledger left it; asks no upstream.
    ///
    /// # Errors
    /// When the configuration can't be carried out.
    pub fn open(config: &Config, store: Store, clock: Clock) -> Result<Arc<Self>, OpenError> {
        let client = Client::new(&config.upstream)?;
        let rechecking = Rechecking::new(&config.recheck);
        let (tally, tasks) = (Tally::default(), TaskTracker::new());
        Self::with_parts(config, store, clock, client, rechecking, tally, tasks)
    }

    /// The keeper of another configuration, to take this one's place once this one has retired;
    /// what was counted goes on.
    ///
    /// # Errors
    /// As [`Keeper::open`].
    pub fn reopen(&self, config: &Config) -> Result<Arc<Self>, OpenError> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let client = self.client.in_place_of(&config.upstream)?;
        let rechecking = self.rechecking.by(&config.recheck);
        let (tally, tasks) = (self.tally.clone(), self.tasks.clone());
        Self::with_parts(config, store, clock, client, rechecking, tally, tasks)
    }

    /// Whether a keeper of this configuration could be opened, as far as that can be said without
    /// touching the store.
    ///
    /// # Errors
    /// What is in the way.
    pub fn could_open(config: &Config, layout: &Layout) -> Result<(), OpenError> {
        let client = Client::new(&config.upstream)?;
        Sink::all(config).map_err(AlertsError::from)?;
        for settings in &config.repository {
            let name = settings.name.to_string();
            RepositorySource::new(settings, &client, &layout.git().join(&name))
                .map_err(|source| OpenError::Source { name, source })?;
        }
        Ok(())
    }

    fn with_parts(
        config: &Config,
        store: Store,
        clock: Clock,
        client: Client,
        rechecking: Rechecking,
        tally: Tally,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, OpenError> {
        let alerts = Alerts::open(config, &store, &clock)?;
        let mut repositories = Vec::new();
        for (position, settings) in config.repository.iter().enumerate() {
            let place = Place::of(config, position, None);
            let name = settings.name.to_string();
            let directory = store.layout().git().join(&name);
            let public = config.server.public_url.as_ref().map(ToString::to_string);
            let browse = public.map(|it| format!("{}/{name}/packages/", it.trim_end_matches('/')));
            let source = RepositorySource::new(settings, &client, &directory)
                .map_err(|source| OpenError::Source { name, source })?;
            let repository = Repository::open(settings.clone(), place, browse, source, &store);
            repositories.push(Arc::new(repository));
            tally.expect(settings.name.as_str());
            if let Some(host) = settings.upstream.get_ref().expose().host_str() {
                client.tally().expect(host);
            }
        }
        Ok(Arc::new(Self {
            client,
            clock,
            store,
            repositories,
            policy: Arc::new(config.policy.clone()),
            caches: config.upstream.caches.iter().map(|cache| cache.expose().clone()).collect(),
            max_archive_size: config.upstream.max_archive_size.bytes(),
            patience: config.upstream.patience.get(),
            turns: Turns::new(&config.upstream),
            is_offline: config.upstream.offline,
            fills: Fills::default(),
            negative: NegativeCache::new(config.upstream.retry_after.get()),
            past_states: PastStates::default(),
            rechecking,
            alerts,
            evidence: EvidenceRoom::new(&config.store),
            browsed: Browsed::default(),
            tally,
            measured: Measured::default(),
            tasks,
            background: Background::default(),
            successor: watch::Sender::default(),
        }))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What clients asked for.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What was asked of upstream hosts.
    pub fn upstream_tally(&self) -> &upstream::Tally {
        self.client.tally()
    }

    /// What people are told.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// All repositories, in the order of mirror.toml.
    pub fn repositories(&self) -> &[Arc<Repository>] {
        &self.repositories
    }

    /// The repository of a name.
    pub fn repository(&self, name: &str) -> Option<&Arc<Repository>> {
        self.repositories.iter().find(|repository| repository.name() == name)
    }

    /// A sentence for who names another one.
    pub fn no_repository(&self, name: &str) -> String {
        let names: Vec<&str> = self.repositories.iter().map(|it| it.name()).collect();
        format!("no repository \"{name}\" is configured; these are: {}", names.join(", "))
    }

    /// Whether nothing is asked of any upstream on another machine.
    pub fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// How many first fetches are under way.
    pub fn fills(&self) -> usize {
        self.fills.count()
    }

    /// The pinned blob with this checksum, without asking anyone.
    ///
    /// # Errors
    /// When the catalog fails and can't be rebuilt.
    pub fn kept(&self, checksum: &Checksum) -> Result<Option<Kept>, IndexError> {
        self.store.lookup(|catalog| catalog.kept(checksum))
    }

    /// An archive by one of its checksums, fetched from upstream if it is declared and not here.
    ///
    /// Takes as long as the configured patience at most.
    pub async fn archive(self: &Arc<Self>, scope: Scope<'_>, checksum: &Checksum) -> Answer {
        let archives = match self.kept(checksum) {
            Ok(Some(kept)) => return Answer::Kept(kept),
            Ok(None) => {
                let find = |repository: &Repository| {
                    self.store.lookup(|catalog| catalog.declared(repository.name(), checksum))
                };
                self.declared(scope, find).await
            }
            Err(error) => Err(error),
        };
        self.answer(archives).await
    }

    /// The pinned blob of an archive of this name, without asking anyone; see
    /// [`source_name`](crate::opam::source_name).
    pub async fn kept_by_name(&self, scope: Scope<'_>, name: &str) -> Option<Kept> {
        let declared = self.declared_by_name(scope, name).await.ok()??;
        declared.archives.iter().find_map(|it| self.kept_archive(it))
    }

    /// An archive by its name.
    ///
    /// Takes as long as the configured patience at most.
    pub async fn named_archive(self: &Arc<Self>, scope: Scope<'_>, name: &str) -> Answer {
        let archives = self.declared_by_name(scope, name).await;
        if let Ok(Some(declared)) = &archives
            && let Some(kept) = declared.archives.iter().find_map(|it| self.kept_archive(it))
        {
            return Answer::Kept(kept);
        }
        self.answer(archives).await
    }

    async fn declared_by_name(
        &self,
        scope: Scope<'_>,
        name: &str,
    ) -> Result<Option<Declared>, IndexError> {
        let find = |repository: &Repository| {
            let archive =
                self.store.lookup(|catalog| catalog.named_archive(repository.name(), name))?;
            Ok(archive.into_iter().collect())
        };
        self.declared(scope, find).await
    }

    /// The pinned blob of a declared archive: the one that all its checksums lead to or, without
    /// any, the first that one of its URLs was pinned to.
    fn kept_archive(&self, archive: &DeclaredArchive) -> Option<Kept> {
        let found = self.store.lookup(|catalog| {
            let mut found: Option<Kept> = None;
            for checksum in &archive.checksums {
                match (catalog.kept(checksum)?, found) {
                    (Some(kept), Some(first)) if kept.sha256 != first.sha256 => return Ok(None),
                    (Some(kept), _) => found = Some(kept),
                    (None, _) => return Ok(None),
                }
            }
            for url in archive.urls.iter().filter(|_| archive.checksums.is_empty()) {
                found = match found {
                    Some(_) => return Ok(found),
                    None => catalog.pin(url)?,
                };
            }
            Ok(found)
        });
        // A catalog that fails fails the fetch as well, which says so.
        found.ok().flatten()
    }

    /// Asks a repository's upstream now; goes on to its end, whoever waits for it or goes away.
    ///
    /// # Errors
    /// Whatever went wrong; what was served before is served on.
    pub async fn refresh(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
    ) -> Result<Refreshed, RefreshError> {
        let (keeper, asked) = (Arc::clone(self), Arc::clone(repository));
        let refresh =
            async move { asked.refresh(&keeper.store, &keeper.clock, &keeper.policy).await };
        let refreshed = match self.tasks.spawn(refresh).await {
            Ok(refreshed) => refreshed,
            Err(error) => Err(RefreshError::Store(error.to_string())),
        };
        if matches!(refreshed, Err(RefreshError::Retired)) {
            let next = self.successor().await.ok_or(RefreshError::Retired)?;
            let same = next.repository(repository.name()).ok_or(RefreshError::Retired)?;
            return Box::pin(next.refresh(same)).await;
        }
        self.tally.refreshed(repository.name(), &refreshed);
        match &refreshed {
            Ok(Refreshed::Admitted { entry, versions }) => {
                self.negative.clear();
                tracing::info!(
                    repository = repository.name(),
                    entry,
                    versions,
                    "snapshot admitted"
                );
            }
            Ok(Refreshed::Unchanged) => {
                tracing::debug!(repository = repository.name(), "upstream has nothing new");
            }
            Err(error) => {
                tracing::warn!(repository = repository.name(), %error, "refresh failed");
            }
        }
        if refreshed.is_ok() {
            let keeper = Arc::clone(self);
            // The next start knows of it too; a panic in there is told by the runtime.
            let _ = tokio::task::spawn_blocking(move || keeper.look_at_upstreams()).await;
        }
        refreshed
    }

    /// The first repository in scope that declares an archive, with the archives.
    async fn declared(
        &self,
        scope: Scope<'_>,
        find: impl Fn(&Repository) -> Result<Vec<DeclaredArchive>, IndexError>,
    ) -> Result<Option<Declared>, IndexError> {
        for repository in &self.repositories {
            if !scope.includes(repository.name()) || repository.served().is_none() {
                continue;
            }
            if let Err(error) = repository.ensure_declared(&self.store).await {
                tracing::error!(repository = repository.name(), %error, "archives not known");
                continue;
            }
            let mut archives = find(repository)?;
            // The catalog may have been rebuilt just now.
            if archives.is_empty() && repository.ensure_declared(&self.store).await.is_ok() {
                archives = find(repository)?;
            }
            if !archives.is_empty() {
                let repository = Arc::clone(repository);
                return Ok(Some(Declared { repository, archives }));
            }
        }
        Ok(None)
    }

    /// Keeps a blob, off the reactor; durable once this returns.
    async fn keep(&self, hashed: Hashed) -> std::io::Result<()> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.blobs().keep(hashed))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    async fn answer(self: &Arc<Self>, declared: Result<Option<Declared>, IndexError>) -> Answer {
        let Declared { repository, archives } = match declared {
            Ok(Some(declared)) => declared,
            Ok(None) => {
                self.tally.unasked.inc();
                return Answer::Missing(Missing::Undeclared);
            }
            Err(error) => {
                self.tally.unasked.inc();
                tracing::error!(%error, "the catalog failed");
                return Answer::Missing(Missing::Store("the catalog failed".to_owned()));
            }
        };
        match self.fills.join(self, repository.name(), archives, Asked::Sources) {
            Ok(fill) => {
                match fill.is_joined {
                    true => self.tally.joined.inc(),
                    false => self.tally.misses.inc(),
                }
                let patience = fill.patience(self.patience);
                wait(fill.progress, patience).await
            }
            Err(missing) => {
                self.tally.unasked.inc();
                Answer::Missing(missing)
            }
        }
    }
}

/// Waits until the archive is kept, until enough of a large one is here to begin, or until a
/// client's patience is over.
async fn wait(mut progress: watch::Receiver<Progress>, patience: Duration) -> Answer {
    let settled = progress.wait_for(|progress| match progress {
        Progress::Asking => false,
        Progress::Arriving(arrival) => arrival.is_large(),
        Progress::Kept(..) | Progress::Missing(_) => true,
    });
    let settled = match tokio::time::timeout(patience, settled).await {
        Ok(Ok(settled)) => settled.clone(),
        Ok(Err(_)) => Progress::Missing(Missing::Store("the fetch was given up".to_owned())),
        Err(_) => Progress::Missing(Missing::StillFetching),
    };
    match settled {
        Progress::Kept(kept, _) => Answer::Kept(kept),
        Progress::Arriving(arrival) => Answer::Arriving(arrival, progress),
        Progress::Missing(missing) => Answer::Missing(missing),
        Progress::Asking => Answer::Missing(Missing::StillFetching),
    }
}
