//! The decisions: what is admitted, what is pinned, who is asked, and what a client is told.
//!
//! One [`Keeper`] owns the store and all repositories of a running server. It promises that only
//! pinned bytes are given out (G1), that the first pin stands (G2), that whatever upstream says
//! otherwise becomes a divergence (G4), and that upstreams in any state never stop what is kept
//! from being served (G5). It knows nothing of HTTP on the clients' side.

mod accepted;
mod admit;
mod admitted;
pub mod alerts;
mod archives;
mod attempt;
pub mod audit;
pub mod browse;
mod built_index;
pub mod current;
mod decide;
mod departed;
mod differing;
pub mod divergences;
pub mod edited;
mod evidence;
mod exceptions;
pub mod export;
mod file_list;
mod fill;
mod fills;
pub mod first_said;
pub mod history;
pub mod import;
mod judging;
mod measured;
mod missing;
pub mod offered;
mod opam_files;
mod past;
mod pinned;
mod pinning;
mod previous;
mod progress;
pub mod proof;
mod raw_files;
pub mod readiness;
pub mod recheck;
mod refresh;
pub mod repair;
mod repository;
mod review;
mod said;
mod schedule;
pub mod selector;
mod served;
mod served_tree;
mod serving;
pub mod snapshots;
mod sources;
mod state;
pub mod static_files;
mod stronger;
pub mod sync;
mod sync_queue;
pub mod tally;
mod tasks;
mod untold;
pub mod verified;
pub mod verify;
mod version_sources;
mod versions;

pub use admit::AdmitError;
pub use archives::{Answer, Scope};
pub use decide::Decided;
pub use exceptions::{Exceptions, Whole};
pub use file_list::{FileList, FileListError};
pub use missing::Missing;
pub use past::{NotAPoint, PastState, When};
pub use progress::{Arrival, Progress};
pub use refresh::{RefreshError, Refreshed};
pub use repository::{Health, Repository};
pub use served::Served;

use crate::clock::Clock;
use crate::config::{Config, Policy};
use crate::sink::Sink;
use crate::store::Store;
use crate::store::blobs::Hashed;
use crate::store::layout::Layout;
use crate::upstream::repository::{RepositoryError, RepositorySource};
use crate::upstream::{self, Client, SetupError, Turns};
use alerts::{Alerts, AlertsError};
use browse::Browsed;
use evidence::EvidenceRoom;
use fills::Fills;
use measured::Measured;
use missing::NegativeCache;
use past::PastStates;
use recheck::Rechecking;
use said::LookedAt;
use schedule::Background;
use serving::Place;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally::Tally;
use tasks::Tasks;
use thiserror::Error;
use tokio::sync::watch;
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
    /// How many archives are fetched at one time where no client waits.
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
    tasks: Tasks,
    /// Bundles are taken in one after the other.
    importing: Arc<tokio::sync::Mutex<()>>,
    let_through: Arc<Mutex<LookedAt>>,
    background: Background,
    /// Who took this one's place.
    successor: watch::Sender<Option<Arc<Keeper>>>,
}

/// What goes on when another keeper takes one's place.
struct Lasting {
    tasks: Tasks,
    importing: Arc<tokio::sync::Mutex<()>>,
    fills: Fills,
    let_through: Arc<Mutex<LookedAt>>,
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
    /// Takes up every repository where the ledger left it; asks no upstream. What it does by itself
    /// is done on the runtime that this is called on.
    ///
    /// # Errors
    /// When the configuration can't be carried out.
    pub fn open(config: &Config, store: Store, clock: Clock) -> Result<Arc<Self>, OpenError> {
        let client = Client::new(&config.upstream)?;
        let rechecking = Rechecking::new(&config.recheck);
        let (tasks, importing, fills) = (Tasks::here(), Arc::default(), Fills::new(config));
        let lasting = Lasting { tasks, importing, fills, let_through: Arc::default() };
        let tally = Tally::default();
        Self::with_parts(config, store, clock, client, rechecking, tally, lasting)
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
        let (tasks, importing) = (self.tasks.clone(), Arc::clone(&self.importing));
        let (fills, let_through) = (self.fills.under(config), Arc::clone(&self.let_through));
        let lasting = Lasting { tasks, importing, fills, let_through };
        let tally = self.tally.clone();
        Self::with_parts(config, store, clock, client, rechecking, tally, lasting)
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
        Lasting { tasks, importing, fills, let_through }: Lasting,
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
            let looked = Arc::clone(&let_through);
            let repository =
                Repository::open(settings.clone(), place, browse, source, looked, &store);
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
            turns: Turns::new(&config.upstream).in_background(),
            is_offline: config.upstream.offline,
            fills,
            negative: NegativeCache::new(config.upstream.retry_after.get()),
            past_states: PastStates::default(),
            rechecking,
            alerts,
            evidence: EvidenceRoom::new(&config.store),
            browsed: Browsed::default(),
            tally,
            measured: Measured::default(),
            tasks,
            importing,
            let_through,
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

    /// Asks a repository's upstream now; goes on to its end, whoever waits for it or goes away.
    ///
    /// # Errors
    /// Whatever went wrong; what was served before is served on.
    pub async fn refresh(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
    ) -> Result<Refreshed, RefreshError> {
        let (keeper, asked) = (Arc::clone(self), Arc::clone(repository));
        let refreshing = async move {
            let refreshed = asked.refresh(&keeper.store, &keeper.clock, &keeper.policy).await;
            if !matches!(refreshed, Err(RefreshError::Retired)) {
                keeper.note_refresh(&asked, &refreshed).await;
            }
            refreshed
        };
        let refreshed = self.tasks.spawn(refreshing).await;
        let refreshed =
            refreshed.unwrap_or_else(|error| Err(RefreshError::Store(error.to_string())));
        if matches!(refreshed, Err(RefreshError::Retired)) {
            let next = self.successor().await.ok_or(RefreshError::Retired)?;
            let same = next.repository(repository.name()).ok_or(RefreshError::Retired)?;
            return Box::pin(next.refresh(same)).await;
        }
        refreshed
    }

    async fn note_refresh(
        self: &Arc<Self>,
        repository: &Repository,
        refreshed: &Result<Refreshed, RefreshError>,
    ) {
        self.tally.refreshed(repository.name(), refreshed);
        match refreshed {
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
    }

    /// Keeps a blob, off the reactor; durable once this returns.
    async fn keep(&self, hashed: Hashed) -> std::io::Result<()> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.blobs().keep(hashed))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }
}
