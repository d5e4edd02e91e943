//! A first fetch: one source after the other until one gives the right bytes, and a durable pin
//! before any client gets the last of them.

use super::accepted::AcceptedBytes;
use super::attempt::{self, Attempt, Question};
use super::missing::Missing;
use super::progress::{Arrival, Progress};
use super::sources::Asked;
use super::{Keeper, sources};
use crate::config::ChecksumPolicy;
use crate::digest::Digests;
use crate::digest::Sha256;
use crate::ledger::entry::{self, Divergence, DivergenceKind, Entry, Observed, Pin};
use crate::opam::{Checksum, DeclaredChecksums, Strength};
use crate::safe_url::SafeUrl;
use crate::store::blobs::Hashed;
use crate::store::catalog::{Catalog, DeclaredArchive, FirstDeclared, Kept};
use crate::store::{Accepted, AppendError, Appended};
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

    /// Blob first, then the ledger, then the answer.
    async fn pin(
        &self,
        archive: &DeclaredArchive,
        strength: Strength,
        given: Given<'_>,
        agreed: Vec<String>,
    ) -> Result<Kept, Missing> {
        let Given { source, from, hashed } = given;
        let digests = *hashed.digests();
        self.keeper.keep(hashed).await.map_err(store_failed)?;
        let (url, src) = subject(archive, source);
        let pin = Pin {
            at: self.keeper.clock.now(),
            repository: self.repository.clone(),
            packages: archive.packages.clone(),
            url: url.clone(),
            src: src.clone(),
            from: short(from.clone()),
            sha256: digests.sha256,
            sha512: digests.sha512,
            md5: digests.md5,
            size: digests.size,
            declared: archive.checksums.iter().map(Checksum::to_string).collect(),
            strength: match strength {
                Strength::Strong => entry::Strength::Strong,
                Strength::Weak => entry::Strength::Weak,
                Strength::None => entry::Strength::None,
            },
            agreed,
            import: None,
        };
        let first = self.keeper.store.lookup(|catalog| catalog.pin(&url)).map_err(store_failed)?;
        let is_first = first.is_none();
        let first = first.filter(|first| first.sha256 != digests.sha256);
        let (accepted, edit) = match first {
            Some(first) => {
                let before = self.keeper.pin_at(first.entry).await.map_err(store_failed)?;
                let edit = match before.repository == pin.repository {
                    true => self.keeper.accepted_bytes(&pin, &before.packages).await,
                    false => None,
                };
                (edit.as_ref().map_or(Accepted::Never, |_| Accepted::Over(first.sha256)), edit)
            }
            None if is_first => (Accepted::Never, self.hold_against_history(archive, &pin).await?),
            None => (Accepted::Never, None),
        };
        let from = pin.from.clone();
        let pinned = self.keeper.store.pin(pin, accepted).await.map_err(store_failed)?;
        if let Some(Appended::New(entry)) = pinned.changed {
            let what = DivergenceKind::Changed;
            tracing::error!(%what, url, from, entry, "upstream diverged");
        }
        let entry = match pinned.appended {
            Appended::New(entry) => {
                tracing::info!(url, from, sha256 = %digests.sha256, size = digests.size, entry, "pinned");
                entry
            }
            Appended::Known(entry) => entry,
            Appended::PinnedOtherwise(first) => {
                return Err(Missing::Diverged(format!(
                    "ledger entry {} pinned {url} to other bytes, no strong checksum decides, and \
                     the first pin stands",
                    first.entry
                )));
            }
        };
        if let Some(edit) = edit {
            self.keeper.acknowledge_same(edit, entry).await;
        }
        self.hold_against_others(archive, source, digests, entry).await?;
        Ok(Kept { sha256: digests.sha256, size: digests.size, entry })
    }

    /// Refuses what nothing vouches for where another of its URLs was pinned to other bytes meanwhile:
    /// the first pin of all stands.
    async fn hold_against_others(
        &self,
        archive: &DeclaredArchive,
        source: &Url,
        Digests { sha256, size, .. }: Digests,
        entry: u64,
    ) -> Result<(), Missing> {
        if !archive.checksums.is_empty() {
            return Ok(());
        }
        let first = self.keeper.kept_archive(archive);
        let Some(first) = first.filter(|it| it.entry < entry && it.sha256 != sha256) else {
            return Ok(());
        };
        let detail = format!(
            "ledger entry {} pinned another of its URLs to sha256={}, and the first pin stands",
            first.entry, first.sha256
        );
        let observation = attempt::Observation {
            what: DivergenceKind::Disagreement,
            from: source.to_string(),
            observed: Some(Observed { sha256, size }),
            evidence: None,
            detail: detail.clone(),
        };
        self.diverge(archive, source, observation).await?;
        Err(Missing::Diverged(detail))
    }

    /// Tells of a first fetch that gives other bytes than the URL was first published with, unless
    /// someone accepted them.
    async fn hold_against_history(
        &self,
        archive: &DeclaredArchive,
        pin: &Pin,
    ) -> Result<Option<AcceptedBytes>, Missing> {
        let urls = std::iter::once(&pin.url).chain(&archive.urls).cloned().collect();
        let first = self.keeper.contradicted(&self.repository, urls, pin.digests()).await;
        let Some(FirstDeclared { checksums, package, commit }) = first else { return Ok(None) };
        let accepted = self.keeper.accepted_bytes(pin, std::slice::from_ref(&package)).await;
        if accepted.is_none() {
            let expected = checksums.iter().map(Checksum::to_string).collect();
            let detail =
                format!("{package} was first published with another archive, by commit {commit}");
            let mut divergence = Divergence::changed(pin, expected, detail);
            let (Pin { repository, url, packages, .. }, bytes) = (pin, pin.digests());
            let users = |catalog: &Catalog| catalog.users_at(repository, url, &bytes, packages);
            divergence.packages = self.keeper.store.lookup(users).map_err(store_failed)?;
            self.append_divergence(divergence).await?;
        }
        Ok(accepted)
    }

    /// Records what a source gave, with its bytes as evidence. While that can't be recorded, nothing
    /// is pinned: nobody would come to know of it.
    async fn diverge(
        &self,
        archive: &DeclaredArchive,
        source: &Url,
        observation: attempt::Observation,
    ) -> Result<(), Missing> {
        let (url, src) = subject(archive, source);
        let mut divergence = Divergence {
            at: self.keeper.clock.now(),
            repository: self.repository.clone(),
            packages: archive.packages.clone(),
            url,
            src,
            from: short(observation.from),
            what: observation.what,
            expected: archive.checksums.iter().map(Checksum::to_string).collect(),
            edits: Vec::new(),
            held: false,
            again: None,
            observed: observation.observed,
            evidence: None,
            detail: short(observation.detail),
        };
        // What is known already needs no evidence once more.
        let known = self.keeper.store.lookup(|catalog| catalog.divergence(&divergence));
        if known.map_err(store_failed)?.is_some() {
            return Ok(());
        }
        if let Some(evidence) = observation.evidence {
            divergence.evidence = self.keeper.keep_evidence(evidence).await;
        }
        self.append_divergence(divergence).await
    }

    async fn append_divergence(&self, divergence: Divergence) -> Result<(), Missing> {
        let (what, url, from) = (divergence.what, divergence.url.clone(), divergence.from.clone());
        match self.keeper.store.append(Entry::Divergence(divergence)).await {
            Ok(Appended::New(entry)) => {
                tracing::error!(%what, url, from, entry, "upstream diverged");
            }
            Ok(Appended::Known(_) | Appended::PinnedOtherwise(_)) => {}
            // It will never be written, whatever the disk does: that keeps nobody from other sources.
            Err(error @ AppendError::Entry(_)) => {
                tracing::error!(%what, url, from, %error, "a divergence can't be recorded");
            }
            Err(error) => return Err(store_failed(error)),
        }
        Ok(())
    }
}

/// Bytes that match what is declared, and who gave them.
struct Given<'a> {
    source: &'a Url,
    from: String,
    hashed: Hashed,
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

/// Who was asked for an archive, and the URL that it is declared under if that is another.
///
/// Bytes are never pinned under a URL that did not give them: else whoever may declare a URL could
/// pin it to bytes of their own.
fn subject(archive: &DeclaredArchive, source: &Url) -> (String, Option<String>) {
    let url = SafeUrl::from(source.clone()).to_string();
    let src = archive.urls.first().filter(|src| **src != url).cloned();
    (url, src)
}

/// Upstream chooses how long its redirects are; an entry must hold them.
pub(super) fn short(mut text: String) -> String {
    while text.len() > MAX_TEXT {
        text.pop();
    }
    text
}

fn store_failed(error: impl std::fmt::Display) -> Missing {
    tracing::error!(%error, "the store failed during a first fetch");
    Missing::Store("our store could not keep it; see the server's log".to_owned())
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("a source without host")
}

/// Longest URL or explanation that goes into an entry, in bytes.
const MAX_TEXT: usize = 4_096;
/// Most other sources that are asked about a weakly declared archive.
const MAX_SECOND_OPINIONS: usize = 3;
