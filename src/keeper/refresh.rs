//! A refresh: what upstream has now, what of it is served, and what the ledger hears of it.

use super::admit::{Admission, AdmitError, Declarations, repo_path};
use super::built_index::{self, Recipe};
use super::exceptions::Exceptions;
use super::judging::Judged;
use super::previous::{Last, Previous};
use super::repository::{Repository, apart, blocking, caches, declare, strengthened};
use super::served::Served;
use super::serving::Place;
use super::state::{NewSnapshot, Prepared, Preparing, State, prepare};
use super::stronger;
use crate::clock::Clock;
use crate::config::{ChecksumPolicy, Mode, Policy};
use crate::ledger::entry::Entry;
use crate::opam::{Tree, rewrite_repo_file};
use crate::store::catalog::IndexError;
use crate::store::{AppendError, Appended, Store};
use crate::upstream::repository::{Fetched, RepositoryError, Revision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use thiserror::Error;

/// What a refresh did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// There is nothing to compare a new state with.
    #[error(
        "what was served last can't be read back, and nothing new is served without a comparison with \
         it: {0}; opam-keep verify names what is damaged, and repair restores it from a backup or \
         another mirror; without either, the repository begins anew under another name in mirror.toml"
    )]
    Unreadable(Box<RefreshError>),
    /// The new snapshot can't be built.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// Another configuration is in force by now.
    #[error("the configuration was reloaded meanwhile: ask again")]
    Retired,
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

/// What a refresh learned beside what is served.
struct News {
    revision: Revision,
    exceptions: Exceptions,
}

impl Repository {
    /// Asks upstream and admits what is new.
    ///
    /// # Errors
    /// Whatever went wrong; what was served before is served on.
    pub(super) async fn refresh(
        &self,
        store: &Store,
        clock: &Clock,
        policy: &Arc<Policy>,
    ) -> Result<Refreshed, RefreshError> {
        let _alone = self.refreshing.lock().await;
        if self.is_retired.load(Ordering::Relaxed) {
            return Err(RefreshError::Retired);
        }
        // What is accepted from now on may come too late for this judgement.
        let accepted = store.lookup(|catalog| catalog.accepted_divergences())?;
        let otherwise = self.served_otherwise(store, policy).await?;
        let is_new = {
            let looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            !otherwise.is_subset(&looked_at)
        };
        let is_behind = self.last(store)?.is_some_and(|last| last.is_behind);
        let known = match is_new || is_behind {
            // Upstream's state would be made into something else by now, or has no snapshot.
            true => None,
            false => self.known_revision(accepted),
        };
        let result = self.fetch_and_admit(known, store, clock, policy).await;
        let now = clock.now();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.asked_at = Some(now);
        match result {
            Ok((refreshed, news)) => {
                *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = otherwise;
                health.fresh_at = Some(now);
                health.problem = None;
                if let Some(news) = news {
                    (health.revision, health.accepted) = (Some(news.revision), accepted);
                    health.exceptions = news.exceptions;
                }
                Ok(refreshed)
            }
            Err(error) => {
                health.problem = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// What would be served otherwise by now of upstream's state, because of pins, policy or
    /// where its pages are.
    async fn served_otherwise(
        &self,
        store: &Store,
        policy: &Policy,
    ) -> Result<BTreeSet<String>, RefreshError> {
        let Some(served) = self.served().filter(|_| self.settings.mode == Mode::Managed) else {
            return Ok(BTreeSet::new());
        };
        let refuses_weak = policy.weak_checksum == ChecksumPolicy::Refuse;
        let (store, name) = (store.clone(), self.name().to_owned());
        let browse = self.browse.clone();
        let found = blocking(move || -> Result<_, RefreshError> {
            let strengthened = strengthened(&store, &served.snapshot)?;
            let mut found = stronger::served_otherwise(&store, &name, &strengthened, refuses_weak)?;
            if rewrite_repo_file(Some(&served.repo), browse.as_deref()) != served.repo {
                found.insert(repo_path().to_string());
            }
            Ok(found)
        });
        found.await?
    }

    /// What upstream called its last good answer, unless more of it may be let through by now: so
    /// many divergences are accepted.
    fn known_revision(&self, accepted: u64) -> Option<Revision> {
        let health = self.health();
        let is_judged = self.served().is_some() && health.accepted == accepted;
        health.revision.filter(|_| is_judged)
    }

    /// What was served last, with its place in the ledger; what can't be read back is no less to be
    /// compared with.
    pub(super) fn last(&self, store: &Store) -> Result<Option<Last>, IndexError> {
        let told = store.lookup(|catalog| catalog.newest_of_metadata(self.name()))?;
        let is_behind = |entry: u64| told.is_some_and(|told| told > entry);
        if let Some(served) = self.served() {
            let (entry, snapshot) = (served.entry, served.snapshot.clone());
            let is_behind = is_behind(entry);
            return Ok(Some(Last { entry, snapshot, served: Some(served), is_behind }));
        }
        let last = store.lookup(|catalog| catalog.snapshot(self.name()))?;
        Ok(last.map(|(entry, snapshot)| {
            let is_behind = is_behind(entry);
            Last { entry, snapshot, served: None, is_behind }
        }))
    }

    async fn fetch_and_admit(
        &self,
        known: Option<Revision>,
        store: &Store,
        clock: &Clock,
        policy: &Arc<Policy>,
    ) -> Result<(Refreshed, Option<News>), RefreshError> {
        let fetched = match self.source.fetch(known.as_ref()).await? {
            Fetched::Unchanged => return Ok((Refreshed::Unchanged, None)),
            fetched => fetched,
        };
        let (mode, last, copy) = (self.settings.mode, self.last(store)?, store.clone());
        let reading = apart(move || {
            let previous =
                || last.map(|last| Previous::read(&copy, last).map(Arc::new)).transpose();
            rayon::join(|| State::read(fetched, mode), previous)
        });
        let (state, previous) = reading.await?;
        let Some(state) = state? else { return Ok((Refreshed::Unchanged, None)) };
        let (state, previous) = (Arc::new(state), previous?);
        let judged = self.judge(&state, previous.as_ref(), store, clock, policy).await?;
        let Judged { verdict, untold } = judged;
        let preparing = {
            let (store, state, name) = (store.clone(), Arc::clone(&state), self.name().to_owned());
            let (policy, rewrite) = (Arc::clone(policy), self.place.as_ref().map(Place::now));
            let browse = self.browse.clone();
            apart(move || {
                let preparing = Preparing {
                    store: &store,
                    repository: &name,
                    policy: &policy,
                    rewrite: rewrite.as_ref(),
                    browse: browse.as_deref(),
                    previous: previous.as_deref(),
                };
                prepare(&state, verdict, &preparing)
            })
        };
        let (told, prepared) = tokio::join!(self.tell(untold, store), preparing);
        told?;
        let Prepared { admission, tree, new, kept, whole } = prepared??;
        let revision = state.revision.clone();
        let refreshed = match new {
            Some(new) => self.admit(new, &admission, state, tree, store, clock).await?,
            None => Refreshed::Unchanged,
        };
        let news = move || {
            let Admission { admitted, files, refused, .. } = admission;
            let exceptions = Exceptions { refused, kept, whole, ..Exceptions::default() };
            News { revision, exceptions: exceptions.and_held(&admitted, &files) }
        };
        let news = blocking(news).await?;
        self.keep_exceptions(&news.exceptions, &refreshed, store).await?;
        Ok((refreshed, Some(news)))
    }

    /// Keeps what is to be said of a snapshot for the next start, where that is something else than
    /// before.
    async fn keep_exceptions(
        &self,
        exceptions: &Exceptions,
        refreshed: &Refreshed,
        store: &Store,
    ) -> Result<(), RefreshError> {
        let (is_new, before) = (*refreshed != Refreshed::Unchanged, self.health().exceptions);
        let has_some = *exceptions != Exceptions::default();
        let Some(served) = self.served() else { return Ok(()) };
        if before == *exceptions && !(is_new && has_some) {
            return Ok(());
        }
        let (store, name, exceptions) = (store.clone(), self.name().to_owned(), exceptions.clone());
        blocking(move || exceptions.keep(&store, &name, served.entry)).await
    }

    async fn admit(
        &self,
        new: NewSnapshot,
        admission: &Admission,
        state: Arc<State>,
        tree: Option<Tree>,
        store: &Store,
        clock: &Clock,
    ) -> Result<Refreshed, RefreshError> {
        let NewSnapshot { mut snapshot, indexes } = new;
        self.say_whence(&mut snapshot);
        // Whoever asks for a time that is over waits for a snapshot of that time.
        let admitting = self.admitting.write().await;
        snapshot.at = clock.now();
        let entry = match store.append(Entry::Snapshot(snapshot.clone())).await? {
            Appended::New(entry) | Appended::Known(entry) => entry,
            Appended::PinnedOtherwise(kept) => kept.entry,
        };
        drop(admitting);
        let Admission { repo, upstream_repo, versions, refused, .. } = admission;
        let (versions, refused) = (*versions, refused.clone());
        for (package, reason) in refused.iter().take(MAX_NAMED) {
            tracing::warn!(repository = self.name(), package, reason, "version not served");
        }
        if let Some(more) = refused.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            tracing::warn!(repository = self.name(), more, "versions not served: see status");
        }
        let caches = caches(&self.settings, upstream_repo.as_deref());
        let served = Arc::new(Served::new(indexes, repo.clone(), snapshot, entry, caches));
        // Whoever asks for an archive of it waits until the catalog knows them.
        let _alone = self.declaring.lock().await;
        self.served.store(Some(Arc::clone(&served)));
        let (store, name) = (store.clone(), self.name().to_owned());
        let rewrite = self.place.as_ref().map(Place::now);
        let remember = move || {
            let recipe = Recipe::new(&name, &served.snapshot, rewrite.as_ref());
            let keep = || built_index::keep(&store, &recipe, &served);
            let declare = || {
                let tree = tree.as_ref().unwrap_or(&state.tree);
                let archives = Declarations::of_tree(tree, &refused);
                declare(&store, &name, served.snapshot.admitted, &archives)
            };
            rayon::join(declare, keep).0
        };
        apart(remember).await??;
        Ok(Refreshed::Admitted { entry, versions })
    }
}

/// Most versions of one snapshot that the log names.
const MAX_NAMED: usize = 16;
