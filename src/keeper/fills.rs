//! First fetches that are under way: one upstream request however many clients wait.

use super::Keeper;
use super::fill::Fill;
use super::missing::Missing;
use super::progress::Progress;
use super::sources::Asked;
use crate::config::{Config, Upstream};
use crate::digest::Sha256;
use crate::safe_url::SafeUrl;
use crate::store::catalog::DeclaredArchive;
use crate::upstream::Awaited;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The fetches that are under way.
///
/// Each keeper has its own view of them, and all of a process share what they are: a fetch lives
/// until it is done, whoever waits for it or hangs up, and whatever keeper takes the place of the
/// one that began it.
pub(super) struct Fills {
    running: Arc<Mutex<HashMap<Sha256, Running>>>,
    terms: Terms,
}

/// What mirror.toml says that a fetch goes by: one that began under other terms is another fetch.
struct Terms {
    of_all: String,
    /// By repository, whose upstream names caches.
    of_repositories: HashMap<String, String>,
}

/// A fetch that is under way.
#[derive(Clone)]
pub(super) struct Running {
    /// How far it has come.
    pub progress: watch::Receiver<Progress>,
    awaited: Awaited,
    /// Whether someone else had it begun.
    pub is_joined: bool,
}

impl Running {
    /// How long one more client should wait, who waits from now on: a fetch from which nothing came
    /// for a whole `patience` keeps no one else waiting as long.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        let waited = self.awaited.join().elapsed();
        match *self.progress.borrow() {
            Progress::Asking => patience.saturating_sub(waited).max(LEAST_PATIENCE),
            _ => patience,
        }
    }
}

impl Fills {
    /// None yet.
    pub(super) fn new(config: &Config) -> Self {
        Self { running: Arc::default(), terms: Terms::of(config) }
    }

    /// The same, for a keeper of another configuration.
    pub(super) fn under(&self, config: &Config) -> Self {
        Self { running: Arc::clone(&self.running), terms: Terms::of(config) }
    }

    /// Joins the fetch of an archive or begins it, for whoever waits by now; a client that joins one
    /// says so by asking how long, see [`Running::patience`].
    pub(super) fn join(
        &self,
        keeper: &Arc<Keeper>,
        repository: &str,
        archives: Vec<DeclaredArchive>,
        asked: Asked,
        awaited: Awaited,
    ) -> Result<Running, Missing> {
        let id = self.id_of(repository, &archives, &asked);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fill) = running.get(&id) {
            return Ok(Running { is_joined: true, ..fill.clone() });
        }
        if keeper.is_offline {
            return Err(Missing::Offline);
        }
        if let Some(missing) = keeper.negative.find(&id) {
            return Err(missing);
        }
        if running.len() >= MAX_FILLS {
            return Err(Missing::Busy);
        }
        let (progress, receiver) = watch::channel(Progress::Asking);
        let fill = Running { progress: receiver, awaited: awaited.clone(), is_joined: false };
        running.insert(id, fill.clone());
        // Its place takes the lock again when it ends, and a task may end at once.
        drop(running);
        let place = Place { keeper: Arc::clone(keeper), id };
        let repository = repository.to_owned();
        let task = Fill { keeper: Arc::clone(keeper), repository, asked, awaited, progress };
        keeper.tasks.spawn(async move {
            // A fetch that ended since the caller looked has left its pin. The catalog is not looked
            // at while everyone waits for the lock: it may have to be rebuilt.
            let kept = archives.iter().find_map(|archive| task.keeper.kept_archive(archive));
            let outcome = match kept {
                Some(kept) => Progress::Kept(kept, None),
                None => task.run(&archives).await,
            };
            if let Progress::Missing(missing) = &outcome {
                // Whoever asks next asks the keeper that is in charge by now.
                task.keeper.in_charge().negative.remember(id, missing.clone());
            }
            drop(place);
            task.progress.send_replace(outcome);
        });
        Ok(fill)
    }

    /// Makes the next who asks for these archives ask upstream, though that failed just now.
    pub(super) fn forget_failure(
        &self,
        keeper: &Keeper,
        repository: &str,
        archives: &[DeclaredArchive],
        asked: &Asked,
    ) {
        keeper.negative.forget(&self.id_of(repository, archives, asked));
    }

    /// Why these archives could not be had, if someone asked for them not long ago.
    pub(super) fn failure(
        &self,
        keeper: &Keeper,
        repository: &str,
        archives: &[DeclaredArchive],
    ) -> Option<Missing> {
        keeper.negative.find(&self.id_of(repository, archives, &Asked::Sources))
    }

    /// What tells a fetch from others: who declares which archives, who is asked, and how.
    fn id_of(&self, repository: &str, archives: &[DeclaredArchive], asked: &Asked) -> Sha256 {
        let ids = archives.iter().map(|archive| archive.id().to_string());
        let cache = match asked {
            Asked::Sources => None,
            Asked::Cache(cache) => Some(cache.to_string()),
        };
        let terms = self.terms.of_repositories.get(repository).cloned().unwrap_or_default();
        let parts = [repository.to_owned(), terms, self.terms.of_all.clone()].into_iter();
        let parts: Vec<String> = parts.chain(ids).chain(cache).collect();
        Sha256::of(parts.join("\n").as_bytes())
    }

    /// How many fetches are under way.
    pub(super) fn count(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Terms {
    fn of(config: &Config) -> Self {
        // Not how long clients wait, nor when a failure is forgotten: that is no fetch's.
        let Upstream {
            timeout,
            patience: _,
            retry_after: _,
            max_archive_size,
            concurrency: _,
            per_host: _,
            proxy,
            extra_ca,
            caches,
            allow_addresses,
            offline,
            resolve,
        } = &config.upstream;
        let proxy = proxy.as_ref().map(SafeUrl::expose);
        let extra_ca = extra_ca.as_ref().map(toml::Spanned::get_ref);
        let caches: Vec<_> = caches.iter().map(SafeUrl::expose).collect();
        let policy = (config.policy.weak_checksum, config.policy.no_checksum);
        let of_all = format!(
            "{timeout:?} {max_archive_size:?} {proxy:?} {extra_ca:?} {caches:?} \
             {allow_addresses:?} {offline} {resolve:?} {policy:?}"
        );
        let of_repositories = config.repository.iter().map(|it| {
            let upstream = it.upstream.get_ref().expose().to_string();
            (it.name.to_string(), format!("{upstream} {:?}", it.mode))
        });
        Self { of_all, of_repositories: of_repositories.collect() }
    }
}

/// A fetch's place among those that are under way, given up however its task ends.
struct Place {
    keeper: Arc<Keeper>,
    id: Sha256,
}

impl Drop for Place {
    fn drop(&mut self) {
        let running = &self.keeper.fills.running;
        running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// How long even a client of a hopeless fetch waits.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);
/// Most first fetches at one time, running or waiting for a place.
const MAX_FILLS: usize = 4_096;
