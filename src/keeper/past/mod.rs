//! What was served at a time, and what upstream had before anything was.
//!
//! A point in the past always means the same ledger entry, so what is served for it never
//! changes: what lies ahead is refused, a snapshot that is just being written is waited for, and
//! what is brought in from upstream's own history is an entry with the times for which it stands.

mod older;
mod states;
mod when;

pub use states::PastState;
pub(super) use states::PastStates;
pub use when::{NotAPoint, When};

use super::archives::Declared;
use super::{Answer, Keeper, Missing, Repository, Scope};
use crate::config::Mode;
use crate::opam::Checksum;
use crate::store::catalog::{Before, DeclaredArchive, IndexError};
use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;
use when::{end_of, second_of};

/// What stands for a point in a repository's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// This ledger entry.
    Entry(u64),
    /// What upstream had then, which is not brought in yet.
    Upstream(Timestamp),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(entry) => write!(f, "ledger entry {entry}"),
            Self::Upstream(time) => write!(f, "what upstream had at {time}"),
        }
    }
}

impl Keeper {
    /// What is served of a repository for a point in the past.
    ///
    /// Takes as long as the configured patience at most; what takes longer goes on without whoever
    /// asked.
    ///
    /// # Errors
    /// Why there is nothing, or nothing yet.
    pub async fn past(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
        when: When,
    ) -> Result<Arc<PastState>, Missing> {
        let standing = self.standing(repository, when).await?;
        self.past_state(repository, standing).await
    }

    /// An archive by one of its checksums, as [`Keeper::archive`], for what was declared at a
    /// point in the past.
    pub async fn past_archive(
        self: &Arc<Self>,
        when: When,
        scope: Scope<'_>,
        checksum: &Checksum,
    ) -> Answer {
        match self.kept(checksum) {
            Ok(Some(kept)) => Answer::Kept(kept),
            Ok(None) => {
                self.past_declared(when, scope, |state| state.archives_with(checksum)).await
            }
            Err(error) => Answer::Missing(failed(&error)),
        }
    }

    /// An archive by its name, as [`Keeper::named_archive`], for what was declared at a point in
    /// the past.
    pub async fn past_named_archive(
        self: &Arc<Self>,
        when: When,
        scope: Scope<'_>,
        name: &str,
    ) -> Answer {
        self.past_declared(when, scope, |state| state.named_archive(name).into_iter().collect())
            .await
    }

    /// The archives of the first repository in scope that declared any; a state that is not
    /// brought in yet is left to those who ask for its index, which comes first.
    async fn past_declared(
        self: &Arc<Self>,
        when: When,
        scope: Scope<'_>,
        find: impl Fn(&PastState) -> Vec<DeclaredArchive>,
    ) -> Answer {
        let mut missing = Missing::Undeclared;
        for repository in self.repositories.iter().filter(|it| scope.includes(it.name())) {
            let state = match self.standing(repository, when).await {
                Ok(Standing::Upstream(_)) => {
                    let sentence = "the index of that time was not asked for yet: ask for it first";
                    Err(Missing::NoSnapshot(sentence.to_owned()))
                }
                Ok(standing) => self.past_state(repository, standing).await,
                Err(missing) => Err(missing),
            };
            let archives = match state {
                Ok(state) => find(&state),
                Err(reason) => {
                    missing = reason;
                    continue;
                }
            };
            if let Some(kept) = archives.iter().find_map(|it| self.kept_archive(it)) {
                return Answer::Kept(kept);
            }
            if !archives.is_empty() {
                let repository = Arc::clone(repository);
                return self.answer(Ok(Some(Declared { repository, archives }))).await;
            }
        }
        Answer::Missing(missing)
    }

    /// What stands for a point in the past, now and ever after.
    async fn standing(&self, repository: &Repository, when: When) -> Result<Standing, Missing> {
        let (time, now) = match when {
            When::Size(size) => return self.standing_in(repository, size),
            When::Day(day) => (end_of(day), self.clock.now()),
            When::Time(time) => (second_of(time), self.clock.now()),
        };
        if time < now {
            return self.standing_at(repository, time).await;
        }
        Err(Missing::NoSnapshot(match when {
            When::Day(day) => format!(
                "the day {day} is not over in UTC, and what was served then must not change: ask \
                 for a time before {now} or for the ledger's size"
            ),
            When::Time(_) | When::Size(_) => {
                format!("{when} lies ahead: ask for a time before {now}")
            }
        }))
    }

    async fn standing_at(
        &self,
        repository: &Repository,
        time: Timestamp,
    ) -> Result<Standing, Missing> {
        // A snapshot that is being written may have a time that is over by now.
        let _settled = repository.admitting.read().await;
        let (name, second) = (repository.name(), time.as_second());
        let first = self.store.lookup(|catalog| catalog.first_snapshot(name));
        let Some((entry, since)) = first.map_err(|error| failed(&error))? else {
            return Err(Missing::NoSnapshot(format!("no snapshot of {name} was admitted yet")));
        };
        if second >= since {
            let found = self.store.lookup(|catalog| catalog.snapshot_by_time(name, second));
            let found = found.map_err(|error| failed(&error))?;
            return Ok(Standing::Entry(found.unwrap_or(entry)));
        }
        let before = self.store.lookup(|catalog| catalog.before_first(name, second));
        match before.map_err(|error| failed(&error))? {
            Before::Entry(entry) => Ok(Standing::Entry(entry)),
            Before::Nothing { .. } if repository.has_past() => Ok(Standing::Upstream(time)),
            Before::Nothing { .. } => {
                let since = Timestamp::from_second(since).unwrap_or_default();
                Err(Missing::NoSnapshot(format!(
                    "no snapshot of {name} was admitted by {time}: the first one is of {since}"
                )))
            }
        }
    }

    fn standing_in(&self, repository: &Repository, size: u64) -> Result<Standing, Missing> {
        let name = repository.name();
        let found = self.store.lookup(|catalog| {
            let (known, first) = (catalog.ledger_size()?, catalog.first_snapshot(name)?);
            Ok((known, first, catalog.snapshot_by_size(name, size)?))
        });
        let (known, first, found) = found.map_err(|error| failed(&error))?;
        match (found, first) {
            _ if size > known => Err(Missing::NoSnapshot(format!(
                "the ledger has {known} entries: ask for that size or a smaller one"
            ))),
            (Some(entry), _) => Ok(Standing::Entry(entry)),
            (None, Some((first, _))) => Err(Missing::NoSnapshot(format!(
                "no snapshot of {name} is among the first {size} ledger entries: ask for {} or more",
                first + 1
            ))),
            (None, None) => {
                Err(Missing::NoSnapshot(format!("no snapshot of {name} was admitted yet")))
            }
        }
    }
}

impl Repository {
    /// Whether upstream's own history can say what was there before the first snapshot.
    fn has_past(&self) -> bool {
        self.settings.mode == Mode::Managed && self.source.history().is_some()
    }
}

fn failed(error: &IndexError) -> Missing {
    tracing::error!(%error, "the catalog failed");
    Missing::Store("the catalog failed".to_owned())
}
