//! How an archive is found: it is kept, or someone declares it and it is fetched.

use super::Keeper;
use super::missing::Missing;
use super::progress::{Arrival, Progress};
use super::repository::Repository;
use super::sources::Asked;
use crate::opam::Checksum;
use crate::store::catalog::{DeclaredArchive, IndexError, Kept};
use crate::upstream::Awaited;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Which repositories' metadata may name an archive.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// Any of them.
    All,
    /// The one of this name.
    Repository(&'a str),
}

impl Scope<'_> {
    pub(super) fn includes(self, repository: &str) -> bool {
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
pub(super) struct Declared {
    pub repository: Arc<Repository>,
    pub archives: Vec<DeclaredArchive>,
}

impl Keeper {
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
    pub(super) fn kept_archive(&self, archive: &DeclaredArchive) -> Option<Kept> {
        let found = self.store.lookup(|catalog| catalog.kept_of(&archive.checksums, &archive.urls));
        // A catalog that fails fails the fetch as well, which says so.
        found.ok().flatten()
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

    /// What a client is told, who waits as long as the configured patience at most.
    pub(super) async fn answer(
        self: &Arc<Self>,
        declared: Result<Option<Declared>, IndexError>,
    ) -> Answer {
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
        let (asked, awaited) = (Asked::Sources, Awaited::by_client());
        match self.fills.join(self, repository.name(), archives, asked, awaited) {
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
