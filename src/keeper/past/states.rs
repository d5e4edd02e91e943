//! Past states that are built: a few in memory, each built once however many clients wait.

use super::Standing;
use crate::digest::Sha256;
use crate::keeper::admit::{AdmitError, Declarations};
use crate::keeper::refresh::RefreshError;
use crate::keeper::repository::{apart, read_list};
use crate::keeper::{Keeper, Missing, Repository, Served};
use crate::ledger::entry::{Entry, Snapshot};
use crate::opam::Checksum;
use crate::store::Store;
use crate::store::catalog::DeclaredArchive;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};

/// A state of a repository that was served once, or that upstream had before; never changes.
pub struct PastState {
    /// What clients get of it.
    pub served: Served,
    declarations: Declarations,
}

/// The past states that are at hand, and those that are being built.
///
/// Owned by the keeper. What is built stays until others were asked for since; it is gone at a
/// restart, and built again to the same bytes.
pub(in crate::keeper) struct PastStates {
    built: Mutex<VecDeque<Built>>,
    running: Mutex<HashMap<Question, Receiver>>,
    /// Each build holds all files of a repository in memory.
    builds: Semaphore,
}

/// A built state, the one that was asked for last first.
struct Built {
    entry: u64,
    state: Arc<PastState>,
    /// About how many bytes of memory it takes.
    weight: usize,
}

/// What of which repository is being built.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    repository: String,
    standing: Standing,
}

type Outcome = Result<Arc<PastState>, Missing>;
type Receiver = watch::Receiver<Option<Outcome>>;

impl PastState {
    /// The archives that it declares under a checksum.
    pub(super) fn archives_with(&self, checksum: &Checksum) -> Vec<DeclaredArchive> {
        self.declarations.with(checksum)
    }

    /// The archive of a name, see [`source_name`](crate::opam::source_name).
    pub(super) fn named_archive(&self, name: &str) -> Option<DeclaredArchive> {
        self.declarations.of_name(name)
    }

    /// About how many bytes of memory it takes.
    fn weight(&self) -> usize {
        let Served { index, index_for_old_clients: old, repo, .. } = &self.served;
        let indexes = index.bytes.len() + old.as_ref().map_or(0, |it| it.bytes.len());
        indexes + repo.len() + self.declarations.weight()
    }
}

impl Default for PastStates {
    fn default() -> Self {
        Self {
            built: Mutex::default(),
            running: Mutex::default(),
            builds: Semaphore::new(MAX_BUILDS),
        }
    }
}

impl PastStates {
    fn find(&self, entry: u64) -> Option<Arc<PastState>> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let place = built.iter().position(|it| it.entry == entry)?;
        let found = built.remove(place)?;
        let state = Arc::clone(&found.state);
        built.push_front(found);
        Some(state)
    }

    /// Keeps a state, and lets go of those that were not asked for in the longest time.
    fn keep(&self, entry: u64, state: &Arc<PastState>) {
        let weight = state.weight();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.retain(|it| it.entry != entry);
        built.push_front(Built { entry, state: Arc::clone(state), weight });
        let mut bytes = 0;
        let fitting = built.iter().take(MAX_STATES).take_while(|it| {
            bytes += it.weight;
            bytes <= MAX_BYTES
        });
        // One that is too large for the bound alone is still built only once while it is asked for.
        let fitting = fitting.count().max(1);
        let gone = built.split_off(fitting);
        // Letting go of them takes long, and others look for theirs.
        drop(built);
        drop(gone);
    }
}

impl Keeper {
    /// The state that stands, built if it is not at hand; waits for the configured patience.
    pub(super) async fn past_state(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
        standing: Standing,
    ) -> Outcome {
        if let Standing::Entry(entry) = standing
            && let Some(state) = self.past_states.find(entry)
        {
            return Ok(state);
        }
        let mut building = self.join_build(repository, standing)?;
        let built = building.wait_for(Option::is_some);
        match tokio::time::timeout(self.patience, built).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(Missing::StillFetching)),
            Ok(Err(_)) => Err(Missing::Store("the state could not be built".to_owned())),
            Err(_) => Err(Missing::StillFetching),
        }
    }

    /// Joins the build of a state or begins it; it goes on to its end, whoever waits for it.
    fn join_build(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
        standing: Standing,
    ) -> Result<Receiver, Missing> {
        let question = Question { repository: repository.name().to_owned(), standing };
        let mut running = self.past_states.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = running.get(&question) {
            return Ok(receiver.clone());
        }
        // A build that ended since the caller looked has left its state or its failure here.
        if let Standing::Entry(entry) = standing
            && let Some(state) = self.past_states.find(entry)
        {
            return Ok(watch::channel(Some(Ok(state))).1);
        }
        if let Some(missing) = self.negative.find(&question.id()) {
            return Err(missing);
        }
        // Upstream's slowness keeps nobody from what is in the store.
        let is_here = matches!(standing, Standing::Entry(_));
        let alike =
            running.keys().filter(|it| matches!(it.standing, Standing::Entry(_)) == is_here);
        if alike.count() >= MAX_WAITING {
            return Err(Missing::Busy);
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(question.clone(), receiver.clone());
        // Its place takes the lock again when it ends, and a task may end at once.
        drop(running);
        let place = Place { keeper: Arc::clone(self), question: question.clone() };
        let (keeper, repository) = (Arc::clone(self), Arc::clone(repository));
        self.tasks.spawn(async move {
            let outcome = keeper.build(&repository, standing).await;
            if let Err(missing) = &outcome {
                let (name, reason) = (repository.name(), missing);
                tracing::info!(repository = name, %standing, %reason, "past state not to be had");
                keeper.negative.remember(question.id(), missing.clone());
            }
            drop(place);
            sender.send_replace(Some(outcome));
        });
        Ok(receiver)
    }

    async fn build(self: &Arc<Self>, repository: &Arc<Repository>, standing: Standing) -> Outcome {
        let entry = match standing {
            Standing::Entry(entry) => entry,
            Standing::Upstream(time) => self.bring_in(repository, time).await?,
        };
        if let Some(state) = self.past_states.find(entry) {
            return Ok(state);
        }
        let _place = self.past_states.builds.acquire().await;
        let (store, shared) = (self.store.clone(), Arc::clone(repository));
        let built = apart(move || read_state(&store, &shared, entry)).await;
        let state = Arc::new(built.and_then(|built| built).map_err(|error| missing(&error))?);
        self.past_states.keep(entry, &state);
        tracing::info!(repository = repository.name(), entry, "past state built");
        Ok(state)
    }
}

/// A build's place among those that are under way, given up however its task ends.
struct Place {
    keeper: Arc<Keeper>,
    question: Question,
}

impl Drop for Place {
    fn drop(&mut self) {
        let running = &self.keeper.past_states.running;
        running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.question);
    }
}

impl Question {
    /// What tells its failure from others that are remembered.
    fn id(&self) -> Sha256 {
        Sha256::of(format!("past state\n{}\n{}", self.repository, self.standing).as_bytes())
    }
}

/// Reads a state as it was admitted by a ledger entry.
fn read_state(
    store: &Store,
    repository: &Repository,
    entry: u64,
) -> Result<PastState, RefreshError> {
    let snapshot = read_snapshot(store, repository.name(), entry)?;
    let admitted = read_list(store, &snapshot.admitted)?;
    let declarations = Declarations::of_list(store.blobs(), &admitted)?;
    let files = read_list(store, &snapshot.files)?;
    let point = point(entry, &snapshot);
    let rewrite = repository.place.as_ref().map(|place| place.at(&point));
    let served =
        repository.read_back(store, entry, snapshot, &admitted, &files, rewrite.as_ref())?;
    Ok(PastState { served, declarations })
}

/// One point in the past at which a snapshot stands, as it is written in a path.
fn point(entry: u64, snapshot: &Snapshot) -> String {
    match snapshot.past {
        Some(past) => past.since.to_string().replace(':', "%3A"),
        None => (entry + 1).to_string(),
    }
}

/// The snapshot that a ledger entry is.
pub(super) fn read_snapshot(
    store: &Store,
    repository: &str,
    entry: u64,
) -> Result<Snapshot, RefreshError> {
    let found = store.log().entries(entry, entry + 1).next().transpose();
    match found.map_err(|error| RefreshError::Store(error.to_string()))? {
        Some((_, Entry::Snapshot(snapshot))) if snapshot.repository == repository => Ok(snapshot),
        _ => Err(RefreshError::Store(format!("ledger entry {entry} is no snapshot of it"))),
    }
}

/// What clients hear of a state that can't be had.
pub(super) fn missing(error: &RefreshError) -> Missing {
    match error {
        RefreshError::Upstream(_) | RefreshError::Refused(_) | RefreshError::Retired => {
            Missing::Unavailable(error.to_string())
        }
        RefreshError::Admit(
            AdmitError::Index(_)
            | AdmitError::Held(_)
            | AdmitError::AllHeld
            | AdmitError::AllLeftOut(_),
        ) => Missing::Unavailable(error.to_string()),
        RefreshError::Admit(AdmitError::Blob(_) | AdmitError::List(_))
        | RefreshError::Unreadable(_)
        | RefreshError::Store(_) => {
            tracing::error!(%error, "a past state can't be read or kept");
            Missing::Store("our store could not give it; see the server's log".to_owned())
        }
    }
}

/// Most states in memory.
const MAX_STATES: usize = 8;
/// About how many bytes all states in memory take; the largest known repository takes 15 MB.
const MAX_BYTES: usize = 96 << 20;
/// Most states that are built at one time.
const MAX_BUILDS: usize = 2;
/// Most states that are being built or wait for it, of those in the store and of those upstream.
const MAX_WAITING: usize = 64;
