//! Evidence: the bytes that upstream gave instead, kept within bounds.
//!
//! Whoever lies decides how much there is to keep, so there is a bound on one lie and on all of
//! them. A divergence whose evidence finds no room is recorded without.

use super::Keeper;
use crate::config;
use crate::digest::Sha256;
use crate::ledger::entry::Entry;
use crate::opam::Checksum;
use crate::store::Store;
use crate::store::blobs::{BlobWriter, Hashed};
use crate::store::log::LogError;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OnceCell;

/// How much evidence is kept; owned by the keeper.
pub(super) struct EvidenceRoom {
    /// Larger bytes are kept up to [`EVIDENCE_OF_MORE`].
    largest: u64,
    total: u64,
    /// What all evidence takes on disk, once somebody had to know.
    used: OnceCell<AtomicU64>,
}

impl EvidenceRoom {
    pub(super) fn new(settings: &config::Store) -> Self {
        let (largest, total) = (settings.max_evidence, settings.max_evidence_total);
        Self { largest: largest.bytes(), total: total.bytes(), used: OnceCell::new() }
    }

    /// Takes room for so many bytes.
    async fn take(&self, store: &Store, bytes: u64) -> bool {
        let count = || async {
            let store = store.clone();
            let used = tokio::task::spawn_blocking(move || kept_so_far(&store));
            let used = used.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            Ok::<_, io::Error>(AtomicU64::new(used))
        };
        let used = match self.used.get_or_try_init(count).await {
            Ok(used) => used,
            Err(error) => {
                tracing::error!(%error, "how much evidence there is can't be counted");
                return false;
            }
        };
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.total);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives room back that was taken for bytes that could not be kept.
    fn give_back(&self, bytes: u64) {
        if let Some(used) = self.used.get() {
            used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Keeper {
    /// The bytes themselves, or the beginning of more bytes than are kept of one lie.
    pub(super) async fn evidence_of(&self, hashed: Hashed) -> Option<Hashed> {
        match hashed.digests().size {
            0 => None,
            size if size <= self.evidence.largest => Some(hashed),
            size => {
                let length = EVIDENCE_OF_MORE.min(usize::try_from(size).unwrap_or(usize::MAX));
                let beginning = move |writer: &mut BlobWriter| {
                    let mut beginning = vec![0; length];
                    hashed.read_exact_at(&mut beginning, 0)?;
                    writer.write(&beginning)
                };
                self.write_evidence(beginning).await
            }
        }
    }

    /// What was refused, in words, where there are no bytes.
    pub(super) async fn evidence_in_words(&self, text: String) -> Option<Hashed> {
        self.write_evidence(move |writer| writer.write(text.as_bytes())).await
    }

    /// Keeps evidence and says its name; none where there is no room for it.
    pub(super) async fn keep_evidence(&self, evidence: Hashed) -> Option<Sha256> {
        let digests = *evidence.digests();
        if !self.evidence.take(&self.store, digests.size).await {
            tracing::error!(
                sha256 = %digests.sha256,
                size = digests.size,
                "evidence is not kept: all of it would take more than store.max_evidence_total"
            );
            return None;
        }
        match self.keep(evidence).await {
            Ok(()) => Some(digests.sha256),
            Err(error) => {
                tracing::error!(%error, "evidence can't be kept");
                self.evidence.give_back(digests.size);
                None
            }
        }
    }

    async fn write_evidence(
        &self,
        fill: impl FnOnce(&mut BlobWriter) -> io::Result<()> + Send + 'static,
    ) -> Option<Hashed> {
        let store = self.store.clone();
        let written = tokio::task::spawn_blocking(move || -> io::Result<Hashed> {
            let mut writer = store.blobs().writer()?;
            fill(&mut writer)?;
            Ok(writer.finish())
        });
        // A divergence without evidence is still a divergence.
        written.await.ok()?.ok()
    }
}

/// How many bytes of evidence there are that nothing pins.
fn kept_so_far(store: &Store) -> Result<u64, LogError> {
    let log = store.log();
    let mut names = HashSet::new();
    for entry in log.entries(0, log.size()?) {
        if let (_, Entry::Divergence(divergence)) = entry?
            && !divergence.what.is_of_metadata()
        {
            names.extend(divergence.evidence);
        }
    }
    let is_pinned = |name: &Sha256| {
        store.lookup(|catalog| catalog.kept(&Checksum::Sha256(*name))).is_ok_and(|it| it.is_some())
    };
    let size =
        |name: Sha256| std::fs::metadata(store.layout().blob(&name)).map_or(0, |it| it.len());
    Ok(names.into_iter().filter(|name| !is_pinned(name)).map(size).sum())
}

/// How much of larger bytes is kept as evidence.
const EVIDENCE_OF_MORE: usize = 1 << 20;
