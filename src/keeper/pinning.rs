//! What a first fetch makes durable: the pin of the bytes that it found, and what has to be told of
//! those that it refused.

use super::accepted::AcceptedBytes;
use super::attempt;
use super::fill::Fill;
use super::missing::Missing;
use crate::digest::Digests;
use crate::ledger::entry::{self, Divergence, DivergenceKind, Entry, Observed, Pin};
use crate::opam::{Checksum, Strength};
use crate::safe_url::SafeUrl;
use crate::store::blobs::Hashed;
use crate::store::catalog::{Catalog, DeclaredArchive, FirstDeclared, Kept};
use crate::store::{Accepted, AppendError, Appended};
use url::Url;

/// Bytes that match what is declared, and who gave them.
pub(super) struct Given<'a> {
    pub source: &'a Url,
    pub from: String,
    pub hashed: Hashed,
}

impl Fill {
    /// Blob first, then the ledger, then the answer.
    pub(super) async fn pin(
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
    pub(super) async fn diverge(
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

/// Longest URL or explanation that goes into an entry, in bytes.
const MAX_TEXT: usize = 4_096;
