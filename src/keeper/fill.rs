//! A first fetch: one source after the other until one gives the right bytes, and a durable pin
//! before any client gets the last of them.

use super::attempt::{self, Attempt, Question};
use super::missing::Missing;
use super::pinning::Given;
use super::progress::{Arrival, Progress};
use super::sources::Asked;
use super::{Keeper, sources};
use crate::config::ChecksumPolicy;
use crate::digest::Sha256;
use crate::ledger::entry::{DivergenceKind, Observed};
use crate::opam::{DeclaredChecksums, Strength};
use crate::store::blobs::Hashed;
use crate::store::catalog::{DeclaredArchive, Kept};
use crate::upstream::Awaited;
use std::fs::File;
use std::sync::Arc;
use tokio::sync::watch;
use url::Url;

/// One first fetch; owned by its task.
pub(super) struct Fill {
    pub keeper: Arc<Keeper>,
    pub repository: String,
    /// Who is asked.
    pub asked: Asked,
    /// Who waits for it.
    pub awaited: Awaited,
    /// Where those who wait see how far it has come.
    pub progress: watch::Sender<Progress>,
}

impl Fill {
    /// For bytes that someone brings, so that no source is asked.
    pub(super) fn of_offer(keeper: &Arc<Keeper>, repository: &str) -> Self {
        let (progress, _) = watch::channel(Progress::Asking);
        let (keeper, repository) = (Arc::clone(keeper), repository.to_owned());
        let awaited = Awaited::by_none();
        Self { keeper, repository, asked: Asked::Sources, awaited, progress }
    }

    /// Pins bytes that match every declared checksum, as given by `origin`.
    pub(super) async fn pin_offered(
        &self,
        archive: &DeclaredArchive,
        origin: &Url,
        hashed: Hashed,
    ) -> Result<Kept, Missing> {
        let strength = DeclaredChecksums::new(archive.checksums.clone()).strength();
        self.follow_policy(archive, strength)?;
        let given = Given { source: origin, from: origin.to_string(), hashed };
        self.pin(archive, strength, given, Vec::new()).await
    }

    /// Tries one declaration of the archive after the other.
    pub(super) async fn run(&self, archives: &[DeclaredArchive]) -> Progress {
        let mut missing = Missing::Undeclared;
        for archive in archives {
            match self.try_sources(archive).await {
                Ok((kept, file)) => return Progress::Kept(kept, Some(file)),
                Err(next) => missing = next,
            }
        }
        self.log_missing(archives, &missing);
        Progress::Missing(missing)
    }

    fn log_missing(&self, archives: &[DeclaredArchive], missing: &Missing) {
        let repository = &self.repository;
        let packages: Vec<&str> =
            archives.iter().flat_map(|it| &it.packages).map(String::as_str).collect();
        let urls: Vec<&str> =
            archives.iter().filter_map(|it| it.urls.first()).map(String::as_str).collect();
        let (packages, url) = (packages.join(" "), urls.join(" "));
        match missing {
            Missing::Store(_) => {
                tracing::error!(repository, packages, url, reason = %missing, "archive not kept");
            }
            _ => {
                tracing::info!(repository, packages, url, reason = %missing, "archive not to be had");
            }
        }
    }

    async fn try_sources(&self, archive: &DeclaredArchive) -> Result<(Kept, Arc<File>), Missing> {
        let strength = DeclaredChecksums::new(archive.checksums.clone()).strength();
        self.follow_policy(archive, strength)?;
        let sources = sources::in_order(&self.keeper, &self.repository, archive, &self.asked);
        let mut answers = Answers::default();
        for (number, source) in (0..).zip(&sources) {
            match self.attempt(archive, number, source).await {
                Attempt::Sound { hashed, from } => {
                    let others = &sources[number as usize + 1..];
                    let agreed = match strength {
                        Strength::Strong => Vec::new(),
                        _ => self.second_opinions(archive, hashed.digests().sha256, others).await?,
                    };
                    let file = hashed.file();
                    let given = Given { source, from, hashed };
                    let kept = self.pin(archive, strength, given, agreed).await?;
                    return Ok((kept, file));
                }
                Attempt::Diverged(observation) => {
                    self.diverge(archive, source, observation).await?;
                    answers.diverged.push(format!("{} gave something else", host(source)));
                }
                Attempt::Unavailable(reason) => {
                    answers.unavailable.push(format!("{}: {reason}", host(source)));
                }
                Attempt::Failed(problem) => return Err(Missing::Store(problem)),
            }
        }
        Err(answers.into_missing())
    }

    fn follow_policy(&self, archive: &DeclaredArchive, strength: Strength) -> Result<(), Missing> {
        let policy = &self.keeper.policy;
        let (policy, refusal, what) = match strength {
            Strength::Strong => return Ok(()),
            Strength::Weak => (
                policy.weak_checksum,
                "policy.weak_checksum: only an md5 vouches for it",
                "md5 only",
            ),
            Strength::None => (
                policy.no_checksum,
                "policy.no_checksum: no checksum vouches for it",
                "no checksum",
            ),
        };
        match policy {
            ChecksumPolicy::Refuse => Err(Missing::Refused(refusal)),
            ChecksumPolicy::Warn => {
                let packages = archive.packages.join(" ");
                let url = archive.urls.first().map_or("", String::as_str);
                tracing::warn!(packages, url, vouches = what, "fetching what little vouches for");
                Ok(())
            }
            ChecksumPolicy::Allow => Ok(()),
        }
    }

    async fn attempt(&self, archive: &DeclaredArchive, number: u32, source: &Url) -> Attempt {
        let question = self.question(archive, source);
        let attempt = attempt::fetch(&self.keeper, &question, |arrival| {
            self.progress.send_replace(Progress::Arriving(Arrival { source: number, ..arrival }));
        });
        let result = attempt.await;
        if !matches!(result, Attempt::Sound { .. }) {
            self.progress.send_replace(Progress::Asking);
        }
        result
    }

    fn question<'a>(&'a self, archive: &'a DeclaredArchive, source: &'a Url) -> Question<'a> {
        let max_size = self.keeper.max_archive_size;
        let (declared, awaited) = (&archive.checksums, &self.awaited);
        Question { source, declared, max_size, awaited, bandwidth: None }
    }

    /// Asks other sources of a weakly declared archive for the same bytes.
    async fn second_opinions(
        &self,
        archive: &DeclaredArchive,
        first: Sha256,
        others: &[Url],
    ) -> Result<Vec<String>, Missing> {
        let mut agreed = Vec::new();
        for source in others.iter().take(MAX_SECOND_OPINIONS) {
            match attempt::fetch(&self.keeper, &self.question(archive, source), |_| {}).await {
                Attempt::Sound { hashed, from } if hashed.digests().sha256 == first => {
                    agreed.push(from);
                }
                Attempt::Sound { hashed, from } => {
                    let observed =
                        Observed { sha256: hashed.digests().sha256, size: hashed.digests().size };
                    let detail = format!("another source gave sha256={first}");
                    let what = DivergenceKind::Disagreement;
                    let observation = attempt::Observation {
                        what,
                        from,
                        observed: Some(observed),
                        evidence: Some(hashed),
                        detail: detail.clone(),
                    };
                    self.diverge(archive, source, observation).await?;
                    return Err(Missing::Diverged(format!(
                        "its sources disagree and no strong checksum decides: {detail}"
                    )));
                }
                Attempt::Diverged(observation) => {
                    self.diverge(archive, source, observation).await?;
                }
                Attempt::Unavailable(_) => {}
                Attempt::Failed(problem) => return Err(Missing::Store(problem)),
            }
        }
        Ok(agreed)
    }
}

/// What the sources of one archive said, until one gives the right bytes.
#[derive(Default)]
struct Answers {
    diverged: Vec<String>,
    unavailable: Vec<String>,
}

impl Answers {
    fn into_missing(self) -> Missing {
        if self.diverged.is_empty() {
            return Missing::Unavailable(match self.unavailable.is_empty() {
                true => "it has no source that can be asked".to_owned(),
                false => self.unavailable.join(", "),
            });
        }
        let all: Vec<String> = self.diverged.into_iter().chain(self.unavailable).collect();
        Missing::Diverged(all.join(", "))
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("a source without host")
}

/// Most other sources that are asked about a weakly declared archive.
const MAX_SECOND_OPINIONS: usize = 3;
