//! Fills the store ahead of time: every archive that a selector means, as clients would have it
//! filled by asking.

use super::selector::{SelectError, Selected, SelectedArchive, Selector};
use super::sources::Asked;
use super::sync_queue::Queue;
use super::{Keeper, Missing, Progress};
use crate::upstream::{Awaited, FetchError, FetchErrorKind, Request};
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use url::Url;

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// How many package versions are selected.
    pub versions: u64,
    /// How many archives they have.
    pub archives: u64,
    /// How many of them are kept already.
    pub kept: u64,
    /// Whom the others are asked of first, with how many each.
    pub hosts: BTreeMap<String, u64>,
    /// What was named, and stands for no version that is served.
    pub unknown: Vec<String>,
}

/// What happens on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Synced {
    /// So many bytes have come until now.
    Bytes(u64),
    /// What became of one archive.
    Archive(SyncedArchive),
}

/// What became of one archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncedArchive {
    /// The repository that declares it.
    pub repository: String,
    /// Packages that use it, as `name.version`.
    pub packages: Vec<String>,
    /// Where it is declared to be.
    pub url: String,
    /// The ledger entry that pins it, when it is kept now.
    pub entry: Option<u64>,
    /// Its size in bytes, when it is kept now.
    pub size: Option<u64>,
    /// Why it can't be had, if it can't.
    pub problem: Option<String>,
}

/// Why nothing can come from a cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It takes no request from us.
    #[error("{0}")]
    Unreachable(FetchError),
    /// It is not known to be who it says.
    #[error(
        "{0}: where its certificate comes from an authority of its own, name that one's \
         certificate as upstream.extra_ca (another opam-keep gives it out at /assets/ca.pem)"
    )]
    Tls(FetchError),
    /// It wants to know who asks.
    #[error("{0}: where it is read with a token, write https://user:TOKEN@host/cache")]
    Closed(FetchError),
}

impl Keeper {
    /// The archives that a selector means, those that are not kept yet among them, and the plan
    /// for these. A repository of which nothing was ever admitted is asked for first.
    ///
    /// # Errors
    /// As [`Keeper::selected`], and when upstream has no state to admit.
    pub async fn plan_sync(
        self: &Arc<Self>,
        selector: Selector,
    ) -> Result<(Plan, Vec<SelectedArchive>), SelectError> {
        self.begin(selector.repository.as_deref()).await?;
        let Selected { versions, archives, unknown } = self.selected(selector).await?;
        let mut plan = Plan {
            versions,
            archives: archives.len() as u64,
            kept: 0,
            hosts: BTreeMap::new(),
            unknown,
        };
        let keeper = Arc::clone(self);
        let is_kept = move |archive: &SelectedArchive| {
            archive.declared.iter().any(|archive| keeper.kept_archive(archive).is_some())
        };
        let (kept, missing): (Vec<_>, Vec<_>) =
            super::repository::blocking(move || archives.into_iter().partition(is_kept)).await?;
        plan.kept = kept.len() as u64;
        for archive in &missing {
            *plan.hosts.entry(host(archive)).or_default() += 1;
        }
        Ok((plan, missing))
    }

    /// Asks for the repositories, or the one of this name, of which nothing was ever admitted.
    ///
    /// # Errors
    /// When there is no such repository, and when upstream has no state to admit.
    pub async fn begin(self: &Arc<Self>, repository: Option<&str>) -> Result<(), SelectError> {
        for repository in self.in_scope(repository)? {
            if repository.served().is_none()
                && let Err(error) = self.refresh(repository).await
            {
                let (name, reason) = (repository.name().to_owned(), error.to_string());
                return Err(SelectError::NoSnapshot { name, reason });
            }
        }
        Ok(())
    }

    /// Fetches archives, from their own sources or from one cache alone, and tells what became of
    /// every one as it is done.
    ///
    /// Nothing is begun any more once the stream is dropped; what is under way goes on.
    pub fn sync(
        self: &Arc<Self>,
        archives: Vec<SelectedArchive>,
        cache: Option<Url>,
    ) -> impl Stream<Item = Synced> + Send + Unpin + use<> {
        let asked = cache.map_or(Asked::Sources, Asked::Cache);
        let mut hosts: BTreeMap<String, Vec<SelectedArchive>> = BTreeMap::new();
        for archive in archives {
            let host = match &asked {
                Asked::Sources => host(&archive),
                Asked::Cache(cache) => cache.host_str().unwrap_or_default().to_owned(),
            };
            hosts.entry(host).or_default().push(archive);
        }
        let bytes = Arc::new(AtomicU64::new(0));
        let fetching = Fetching { keeper: Arc::clone(self), asked, arrived: Arc::clone(&bytes) };
        let queue = Queue::new(hosts.into_values(), self.turns);
        let fetched = fetching
            .all_of(queue)
            .map(|archive| Some(Synced::Archive(archive)))
            .chain(stream::iter([None]));
        let ticks = stream::unfold(tokio::time::interval(TICK), move |mut interval| {
            let bytes = Arc::clone(&bytes);
            async move {
                interval.tick().await;
                Some((Some(Synced::Bytes(bytes.load(Ordering::Relaxed))), interval))
            }
        });
        stream::select(fetched, ticks)
            .take_while(|event| std::future::ready(event.is_some()))
            .filter_map(std::future::ready)
            .boxed()
    }

    /// Whether a cache answers at all, whatever it says; who asks nobody else wants to know that
    /// before it is asked for thousands of archives.
    ///
    /// # Errors
    /// Why nothing can come from there, and what to do about it.
    pub async fn can_ask(&self, cache: &Url) -> Result<(), CacheError> {
        let request = Request::new(cache.clone().into(), u64::MAX);
        let Err(error) = self.client.get(request).await else { return Ok(()) };
        match error.kind {
            FetchErrorKind::Status(StatusCode::UNAUTHORIZED) => Err(CacheError::Closed(error)),
            FetchErrorKind::Tls(_) => Err(CacheError::Tls(error)),
            FetchErrorKind::UnusableUrl(_)
            | FetchErrorKind::Offline
            | FetchErrorKind::ForbiddenAddress { .. }
            | FetchErrorKind::Connect(_)
            | FetchErrorKind::Timeout(_)
            | FetchErrorKind::Interrupted { .. }
            | FetchErrorKind::CircuitOpen { .. } => Err(CacheError::Unreachable(error)),
            // It answers; of its archives that says nothing.
            FetchErrorKind::Status(_)
            | FetchErrorKind::BadRedirect { .. }
            | FetchErrorKind::InsecureRedirect { .. }
            | FetchErrorKind::TooManyRedirects { .. }
            | FetchErrorKind::Truncated { .. }
            | FetchErrorKind::TooLarge { .. }
            | FetchErrorKind::TooSlow { .. }
            | FetchErrorKind::Busy { .. } => Ok(()),
        }
    }
}

/// What every fetch of one sync needs.
#[derive(Clone)]
struct Fetching {
    keeper: Arc<Keeper>,
    asked: Asked,
    /// How many bytes have come.
    arrived: Arc<AtomicU64>,
}

impl Fetching {
    fn all_of(self, queue: Queue<SelectedArchive>) -> impl Stream<Item = SyncedArchive> + Send {
        stream::unfold((queue, FuturesUnordered::new()), move |(mut queue, mut under_way)| {
            let fetching = self.clone();
            async move {
                while let Some((turn, archive)) = queue.next() {
                    let fetched = fetching.clone().one(archive);
                    under_way.push(async move { (turn, fetched.await) });
                }
                let (turn, synced) = under_way.next().await?;
                queue.end(turn);
                Some((synced, (queue, under_way)))
            }
        })
    }

    async fn one(self, archive: SelectedArchive) -> SyncedArchive {
        let Self { keeper, asked, arrived } = self;
        let SelectedArchive { repository, declared } = archive;
        let first = declared.first();
        let packages = first.map(|it| it.packages.clone()).unwrap_or_default();
        let url = first.and_then(|it| it.urls.first()).cloned().unwrap_or_default();
        let fetched = loop {
            // A person who asks wants it asked for again.
            keeper.fills.forget_failure(&keeper, &repository, &declared, &asked);
            let (declared, asked, awaited) = (declared.clone(), asked.clone(), Awaited::by_none());
            match keeper.fills.join(&keeper, &repository, declared, asked, awaited) {
                Err(Missing::Busy) => tokio::time::sleep(TICK).await,
                Err(missing) => break Err(missing),
                Ok(fill) => break to_its_end(fill.progress, &arrived).await,
            }
        };
        let (kept, problem) = match fetched {
            Ok(kept) => (Some(kept), None),
            Err(missing) => (None, Some(missing.to_string())),
        };
        let (entry, size) = (kept.map(|kept| kept.entry), kept.map(|kept| kept.size));
        SyncedArchive { repository, packages, url, entry, size, problem }
    }
}

/// Waits for a fetch however long it takes, and counts what it brings.
async fn to_its_end(
    mut progress: watch::Receiver<Progress>,
    bytes: &AtomicU64,
) -> Result<crate::store::catalog::Kept, Missing> {
    let mut counted = 0;
    loop {
        let received = match &*progress.borrow_and_update() {
            Progress::Asking => 0,
            Progress::Arriving(arrival) => arrival.received,
            Progress::Kept(kept, file) => {
                // What was here before did not come now.
                let size = file.as_ref().map_or(0, |_| kept.size);
                bytes.fetch_add(size.saturating_sub(counted), Ordering::Relaxed);
                return Ok(*kept);
            }
            Progress::Missing(missing) => return Err(missing.clone()),
        };
        // A source that failed is followed by one whose bytes count from nothing.
        if received > counted {
            bytes.fetch_add(received - counted, Ordering::Relaxed);
            counted = received;
        }
        if progress.changed().await.is_err() {
            return Err(Missing::Store("the fetch was given up; see the log".to_owned()));
        }
    }
}

/// Whom an archive is asked of first, its caches aside.
fn host(archive: &SelectedArchive) -> String {
    let url = archive.declared.first().and_then(|it| it.urls.first());
    let url = url.and_then(|url| Url::parse(url).ok());
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// How often the bytes are told.
const TICK: Duration = Duration::from_millis(500);
