//! One source asked for one archive: its bytes hashed as they arrive and held against every
//! declared checksum.

use super::Keeper;
use super::progress::Arrival;
use super::recheck::Bandwidth;
use crate::ledger::entry::{DivergenceKind, Observed};
use crate::opam::Checksum;
use crate::safe_url::SafeUrl;
use crate::store::blobs::{BlobWriter, Hashed};
use crate::upstream::{Awaited, FetchError, FetchErrorKind, Request, Response};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use url::Url;

/// What one source gave.
pub(super) enum Attempt {
    /// Bytes that match every declared checksum.
    Sound {
        /// The bytes, not kept yet.
        hashed: Hashed,
        /// The URL that they came from, after redirects.
        from: String,
    },
    /// Something that is not the archive.
    Diverged(Observation),
    /// Nothing, for a reason that says nothing of the archive.
    Unavailable(FetchErrorKind),
    /// Our own store failed.
    Failed(String),
}

/// What a source gave instead of the archive.
pub(super) struct Observation {
    pub what: DivergenceKind,
    pub from: String,
    pub observed: Option<Observed>,
    pub evidence: Option<Hashed>,
    pub detail: String,
}

/// What is asked for, and on what terms.
pub(super) struct Question<'a> {
    /// Who is asked.
    pub source: &'a Url,
    /// The checksums that the bytes must have.
    pub declared: &'a [Checksum],
    /// The most bytes that are taken.
    pub max_size: u64,
    /// Who waits for them.
    pub awaited: &'a Awaited,
    /// What bounds how fast they are taken; nothing where somebody waits for them.
    pub bandwidth: Option<&'a Bandwidth>,
}

/// Fetches from a source and tells `follow` how far the bytes have come.
pub(super) async fn fetch(
    keeper: &Keeper,
    question: &Question<'_>,
    follow: impl Fn(Arrival),
) -> Attempt {
    let first = fetch_once(keeper, question, &follow).await;
    match first {
        // A cut connection is worth one more try before it counts as what upstream says.
        Attempt::Diverged(Observation { what: DivergenceKind::Truncated, .. }) => {
            match fetch_once(keeper, question, &follow).await {
                Attempt::Unavailable(_) => first,
                second => second,
            }
        }
        first => first,
    }
}

async fn fetch_once(
    keeper: &Keeper,
    question: &Question<'_>,
    follow: &impl Fn(Arrival),
) -> Attempt {
    let Question { declared, max_size, bandwidth, .. } = *question;
    let source = SafeUrl::from(question.source.clone());
    let request = Request::new(source.clone(), max_size).awaited(question.awaited.clone());
    let mut response = match keeper.client.get(request).await {
        Ok(response) => response,
        Err(error) => return judge_error(&error, &source, None, keeper).await,
    };
    let from = response.url.to_string();
    let (hashed, error) = match receive(keeper, &mut response, bandwidth, follow).await {
        Ok(received) => received,
        Err(error) => return Attempt::Failed(error.to_string()),
    };
    match error {
        None => judge(keeper, hashed, from, declared).await,
        Some(error) => judge_error(&error, &source, Some((hashed, from)), keeper).await,
    }
}

/// Writes and hashes the body off the reactor; the error is what cut it short.
async fn receive(
    keeper: &Keeper,
    response: &mut Response,
    bandwidth: Option<&Bandwidth>,
    follow: &impl Fn(Arrival),
) -> io::Result<(Hashed, Option<FetchError>)> {
    let store = keeper.store.clone();
    let writer = tokio::task::spawn_blocking(move || store.blobs().writer())
        .await
        .map_err(io::Error::other)??;
    let file = writer.file();
    let (chunks, inbox) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (written, mut progress) = tokio::sync::watch::channel(0);
    let hashing = tokio::task::spawn_blocking(move || hash_all(writer, inbox, &written));
    let length = response.content_length;
    let mut told = 0;
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if let Some(bandwidth) = bandwidth {
                    bandwidth.take(chunk.len()).await;
                }
                if chunks.send(chunk).await.is_err() {
                    // The writer ended early; its own error is told below.
                    break None;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        let received = *progress.borrow_and_update();
        if received >= told + FOLLOW_EVERY {
            told = received;
            follow(arrival(&file, received, length));
        }
    };
    drop(chunks);
    let hashed = hashing.await.map_err(io::Error::other)??;
    Ok((hashed, error))
}

/// Writes chunks until no more come; blocks.
pub(super) fn hash_all(
    mut writer: BlobWriter,
    mut inbox: mpsc::Receiver<Bytes>,
    written: &tokio::sync::watch::Sender<u64>,
) -> io::Result<Hashed> {
    while let Some(chunk) = inbox.blocking_recv() {
        writer.write(&chunk)?;
        written.send_replace(writer.size());
    }
    Ok(writer.finish())
}

fn arrival(file: &Arc<File>, received: u64, length: Option<u64>) -> Arrival {
    Arrival { file: Arc::clone(file), received, length, source: 0 }
}

/// Every declared checksum must hold, not just one.
async fn judge(keeper: &Keeper, hashed: Hashed, from: String, declared: &[Checksum]) -> Attempt {
    let digests = *hashed.digests();
    let wrong: Vec<String> = declared
        .iter()
        .filter(|checksum| !checksum.matches(&digests))
        .map(|checksum| checksum.kind().to_string())
        .collect();
    if wrong.is_empty() {
        return Attempt::Sound { hashed, from };
    }
    Attempt::Diverged(Observation {
        what: DivergenceKind::Mismatch,
        from,
        observed: Some(Observed { sha256: digests.sha256, size: digests.size }),
        evidence: keeper.evidence_of(hashed).await,
        detail: match &wrong[..] {
            [one] => format!("{one} differs"),
            [before @ .., last] => format!("{} and {last} differ", before.join(", ")),
            [] => String::new(),
        },
    })
}

async fn judge_error(
    error: &FetchError,
    source: &SafeUrl,
    partial: Option<(Hashed, String)>,
    keeper: &Keeper,
) -> Attempt {
    let what = match &error.kind {
        FetchErrorKind::Truncated { .. } => DivergenceKind::Truncated,
        // Announced, it is our limit that refuses it; sent, it is more than an archive may be.
        FetchErrorKind::TooLarge { .. } if partial.is_some() => DivergenceKind::TooLarge,
        FetchErrorKind::InsecureRedirect { .. } => DivergenceKind::ForbiddenRedirect,
        // Of its own host this says nothing about the archive; after a redirect it does.
        FetchErrorKind::ForbiddenAddress { .. } if *error.url != *source => {
            DivergenceKind::ForbiddenRedirect
        }
        kind => return Attempt::Unavailable(kind.clone()),
    };
    let (evidence, from) = match partial {
        Some((hashed, from)) => (keeper.evidence_of(hashed).await, from),
        // A refused redirect has no bytes; what was refused is the evidence.
        None => (keeper.evidence_in_words(format!("{error}\n")).await, source.to_string()),
    };
    // Where the bytes were cut is chance, so they are evidence but do not tell two cuts apart.
    Attempt::Diverged(Observation {
        what,
        from,
        observed: None,
        evidence,
        detail: error.to_string(),
    })
}

const CHUNKS_IN_FLIGHT: usize = 16;
/// Followers hear of every so many bytes.
const FOLLOW_EVERY: u64 = 256 * 1024;
