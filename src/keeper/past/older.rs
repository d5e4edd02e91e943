//! States from before the first snapshot, brought in from upstream's own history.
//!
//! They come from the history of the first commit that was admitted here, which no later change
//! of upstream's can alter; nobody reviews them, and they are served for their times alone.

use super::states::{missing, read_snapshot};
use crate::keeper::refresh::RefreshError;
use crate::keeper::repository::blocking;
use crate::keeper::state::{NewSnapshot, Preparing, State, Verdict, prepare};
use crate::keeper::{Keeper, Missing, Repository};
use crate::ledger::entry::{Entry, Past};
use crate::store::Appended;
use crate::store::catalog::{Before, IndexError};
use crate::upstream::repository::{GitHistory, PastCommit, Revision};
use jiff::Timestamp;
use std::sync::Arc;

/// Where a time before the first snapshot lies.
struct Gap {
    /// The commit whose history is asked.
    tip: Revision,
    /// From when on nothing stands, as far as that is bounded.
    since: Option<i64>,
    /// Until when nothing stands.
    until: i64,
}

impl Keeper {
    /// Brings in what upstream had at `time` and returns its ledger entry; asks upstream only when
    /// nothing stands for that time yet.
    pub(super) async fn bring_in(
        self: &Arc<Self>,
        repository: &Arc<Repository>,
        time: Timestamp,
    ) -> Result<u64, Missing> {
        let _alone = repository.bringing_in.lock().await;
        let name = repository.name();
        // Whoever held it may have brought in this state.
        let before = self.store.lookup(|catalog| catalog.before_first(name, time.as_second()));
        let (since, until) = match before.map_err(|error| super::failed(&error))? {
            Before::Entry(entry) => return Ok(entry),
            Before::Nothing { since, until } => (since, until),
        };
        let known = self.store.lookup(|catalog| catalog.past_states(name));
        if known.map_err(|error| super::failed(&error))? >= MAX_PAST_STATES {
            return Err(Missing::Refused(
                "so many old states were brought in already that no other is; \
                 opam-keep snapshots lists them",
            ));
        }
        let found = self.first_commit(repository);
        let (tip, first) = found.map_err(|error| missing(&error))?.ok_or_else(|| {
            let sentence = "no snapshot came from the upstream that is configured now";
            Missing::NoSnapshot(sentence.to_owned())
        })?;
        let history = repository.source.history().ok_or(Missing::Undeclared)?;
        let gap = Gap { tip, since, until: until.unwrap_or(first).min(first) };
        self.bring_in_from(repository, history, time, gap).await
    }

    async fn bring_in_from(
        &self,
        repository: &Repository,
        history: GitHistory<'_>,
        time: Timestamp,
        gap: Gap,
    ) -> Result<u64, Missing> {
        let upstream = |error| missing(&RefreshError::Upstream(error));
        let (revision, past) = match history.find(&gap.tip, time).await.map_err(upstream)? {
            PastCommit::None { begins } => {
                return Err(Missing::NoSnapshot(format!("upstream's history begins at {begins}")));
            }
            PastCommit::Commit { revision, since, until } => {
                let since = gap.since.map_or(since.as_second(), |it| it.max(since.as_second()));
                let until = until.map_or(gap.until, |it| it.as_second().min(gap.until));
                let second = |second| Timestamp::from_second(second).unwrap_or(time);
                (revision, Past { since: second(since), until: second(until) })
            }
        };
        let fetched = history.fetch(&revision).await.map_err(upstream)?;
        let (mode, store) = (repository.settings().mode, self.store.clone());
        let (policy, name) = (Arc::clone(&self.policy), repository.name().to_owned());
        let prepared = blocking(move || {
            let Some(state) = State::read(fetched, mode)? else { return Ok(None) };
            let all = Verdict::AllBut(Vec::new());
            // Its indexes are built where they are asked for.
            let preparing = Preparing {
                store: &store,
                repository: &name,
                policy: &policy,
                rewrite: None,
                browse: None,
                previous: None,
            };
            prepare(&state, all, &preparing).map(Some)
        });
        let prepared = prepared.await.and_then(|prepared| prepared);
        let prepared = prepared.map_err(|error| missing(&error))?;
        // Compared with nothing that is served, it is new.
        let Some(NewSnapshot { mut snapshot, .. }) = prepared.and_then(|prepared| prepared.new)
        else {
            return Err(Missing::Unavailable(format!("upstream gave nothing of {revision}")));
        };
        repository.say_whence(&mut snapshot);
        snapshot.at = self.clock.now();
        snapshot.past = Some(past);
        let appended = self.store.append(Entry::Snapshot(snapshot)).await;
        let entry = match appended.map_err(|error| missing(&error.into()))? {
            Appended::New(entry) | Appended::Known(entry) => entry,
            Appended::PinnedOtherwise(kept) => kept.entry,
        };
        let Past { since, until } = past;
        let name = repository.name();
        tracing::info!(repository = name, %revision, %since, %until, entry, "old state brought in");
        Ok(entry)
    }

    /// The first commit that was admitted from the configured upstream, and when the first snapshot
    /// of all was.
    fn first_commit(
        &self,
        repository: &Repository,
    ) -> Result<Option<(Revision, i64)>, RefreshError> {
        let upstream = repository.settings().upstream.get_ref().to_string();
        let name = repository.name();
        let found = self.store.lookup(|catalog| -> Result<_, IndexError> {
            let entry = catalog.first_snapshot_from(name, &upstream)?;
            Ok(entry.zip(catalog.first_snapshot(name)?))
        })?;
        let Some((entry, (_, first))) = found else { return Ok(None) };
        let snapshot = read_snapshot(&self.store, name, entry)?;
        Ok(snapshot.revision.map(|revision| (Revision::from_text(revision), first)))
    }
}

/// Most states of one repository that are brought in: each takes some megabytes for its lists, and
/// anyone may ask for them.
const MAX_PAST_STATES: u64 = 4_096;
