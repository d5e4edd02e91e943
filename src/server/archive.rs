//! Archives: from memory, from the store, or still arriving from upstream.

use super::Server;
use super::answer::{self, Content, Freshness};
use super::body::{Body, ByteStream, read_chunk};
use super::hot::Hot;
use super::room::Room;
use crate::digest::Sha256;
use crate::keeper::{Answer, Arrival, Missing, Progress, Scope, When};
use crate::opam::Checksum;
use crate::places::Places;
use crate::store::blobs::CheckedBlob;
use crate::store::catalog::Kept;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// What an answer depends on beside what is asked for.
pub(super) struct Asking<'a> {
    pub headers: &'a HeaderMap,
    pub version: Version,
    pub client: IpAddr,
    pub room: &'a Room,
}

/// Answers a request for an archive by checksum, as declared now or at a point in the past.
pub(super) async fn by_checksum(
    server: &Server,
    when: Option<When>,
    scope: Scope<'_>,
    checksum: Checksum,
    asking: &Asking<'_>,
) -> Response<Body> {
    if let Some(hot) = server.hot.find(&checksum) {
        server.keeper.tally().hits.inc();
        return found(asking.headers, &hot.kept, Content::Memory(hot.bytes.clone()));
    }
    // What follows takes far more room, which no connection needs all the time.
    Box::pin(not_in_memory(server, when, scope, checksum, asking)).await
}

async fn not_in_memory(
    server: &Server,
    when: Option<When>,
    scope: Scope<'_>,
    checksum: Checksum,
    asking: &Asking<'_>,
) -> Response<Body> {
    if let Ok(Some(kept)) = server.keeper.kept(&checksum) {
        server.keeper.tally().hits.inc();
        return from_store(server, Some(checksum), kept, asking).await;
    }
    if !server.misses.take(asking.client) {
        server.keeper.tally().unasked.inc();
        return missing(&Missing::Often);
    }
    let answer = match when {
        None => server.keeper.archive(scope, &checksum).await,
        Some(when) => server.keeper.past_archive(when, scope, &checksum).await,
    };
    match answer {
        Answer::Kept(kept) => from_store(server, Some(checksum), kept, asking).await,
        answer => arriving_or_missing(server, answer, asking).await,
    }
}

/// Answers a request for an archive by its name, as declared now or at a point in the past.
pub(super) async fn by_name(
    server: &Server,
    when: Option<When>,
    scope: Scope<'_>,
    name: &str,
    asking: &Asking<'_>,
) -> Response<Body> {
    if when.is_none()
        && let Some(kept) = server.keeper.kept_by_name(scope, name).await
    {
        server.keeper.tally().hits.inc();
        return from_store(server, None, kept, asking).await;
    }
    if !server.misses.take(asking.client) {
        server.keeper.tally().unasked.inc();
        return missing(&Missing::Often);
    }
    let answer = match when {
        None => server.keeper.named_archive(scope, name).await,
        Some(when) => server.keeper.past_named_archive(when, scope, name).await,
    };
    match answer {
        Answer::Kept(kept) => from_store(server, None, kept, asking).await,
        answer => arriving_or_missing(server, answer, asking).await,
    }
}

async fn arriving_or_missing(
    server: &Server,
    answer: Answer,
    asking: &Asking<'_>,
) -> Response<Body> {
    match answer {
        Answer::Kept(kept) => from_store(server, None, kept, asking).await,
        // That is only known once all of it is verified.
        Answer::Arriving(..) if answer::depends_on_all(asking.headers) => {
            missing(&Missing::StillFetching)
        }
        // Without a length HTTP/1.0 could not tell a cut from the end.
        Answer::Arriving(arrival, _)
            if arrival.length.is_none() && asking.version < Version::HTTP_11 =>
        {
            missing(&Missing::StillFetching)
        }
        Answer::Arriving(arrival, progress) => arriving(arrival, progress),
        Answer::Missing(reason) => missing(&reason),
    }
}

async fn from_store(
    server: &Server,
    checksum: Option<Checksum>,
    kept: Kept,
    asking: &Asking<'_>,
) -> Response<Body> {
    let request = asking.headers;
    let file_place = asking.room.for_a_file().await;
    let checked = match server.keeper.store().blobs().open_if_checked(&kept.sha256) {
        Some(blob) => Ok(blob),
        None => {
            let keeper = Arc::clone(&server.keeper);
            let open = move || {
                let opened = keeper.store().blobs().open(&kept.sha256);
                keeper.note_blob(&kept.sha256, &opened);
                opened
            };
            match OPENING.work(open).await {
                Ok(opened) => opened.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
    };
    let blob = match checked {
        Ok(blob) => blob,
        Err(problem) => {
            tracing::error!(problem, "a pinned archive can't be served");
            return missing(&Missing::Store(problem));
        }
    };
    match checksum.filter(|_| Hot::takes(kept.size)) {
        Some(checksum) => {
            let place = asking.room.for_one().await;
            match read_whole(&kept.sha256, &blob).await {
                Ok(bytes) => {
                    server.hot.keep(checksum, kept, bytes.clone());
                    place.hold(found(request, &kept, Content::Memory(bytes)))
                }
                Err(error) => {
                    tracing::error!(%error, "a pinned archive can't be read");
                    missing(&Missing::Store(error.to_string()))
                }
            }
        }
        None => found(request, &kept, Content::File(blob, file_place)),
    }
}

async fn read_whole(name: &Sha256, blob: &CheckedBlob) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < blob.size {
        let position = bytes.len() as u64;
        let chunk = read_chunk(&blob.file, position, blob.size - position).await?;
        if chunk.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        bytes.extend_from_slice(&chunk);
    }
    // They may stay for long, so it is these very bytes that are checked.
    if Sha256::of(&bytes) != *name {
        return Err(io::Error::other("the bytes changed while they were read"));
    }
    Ok(bytes.into())
}

fn found(request: &HeaderMap, kept: &Kept, content: Content) -> Response<Body> {
    answer::content(request, &kept.sha256, content, ARCHIVE, Freshness::Immutable)
}

/// opam asks elsewhere at once after a 404; any 5xx would cost its user six seconds first.
pub(super) fn missing(reason: &Missing) -> Response<Body> {
    let text = match reason {
        // It may name paths of this machine, which are for the log and for who runs commands here.
        Missing::Store(_) => STORE_FAILED.to_owned(),
        reason => reason.to_string(),
    };
    let mut response = answer::message(StatusCode::NOT_FOUND, &text);
    let printable: String = text
        .chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .take(MAX_REASON)
        .collect();
    answer::insert(response.headers_mut(), REASON, &printable);
    response
}

/// Sends what arrives, all but its end; the end follows once the whole is verified and pinned.
fn arriving(arrival: Arrival, progress: watch::Receiver<Progress>) -> Response<Body> {
    let length = arrival.length;
    let stream = follow(arrival, progress);
    let mut response = Response::new(Body::Stream { stream, length });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ARCHIVE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One client's way through an arriving archive.
struct Follower {
    arrival: Arrival,
    progress: watch::Receiver<Progress>,
    sent: u64,
}

fn follow(arrival: Arrival, progress: watch::Receiver<Progress>) -> ByteStream {
    let follower = Follower { arrival, progress, sent: 0 };
    Box::pin(futures_util::stream::try_unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Ok(chunk.map(|chunk| (chunk, follower)))
    }))
}

impl Follower {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let (available, verified) = self.available()?;
            if self.sent < available {
                let file = &self.arrival.file;
                let chunk = read_chunk(file, self.sent, available - self.sent).await?;
                if chunk.is_empty() {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                self.sent += chunk.len() as u64;
                return Ok(Some(chunk));
            }
            if verified {
                return Ok(None);
            }
            self.progress.changed().await.map_err(|_| given_up())?;
        }
    }

    /// How many bytes may be sent by now, and whether that is all of them.
    fn available(&mut self) -> io::Result<(u64, bool)> {
        match &*self.progress.borrow_and_update() {
            // Only the file whose bytes were verified: a slow reader may have missed that the
            // source it reads from failed and another one gave the archive.
            Progress::Kept(kept, Some(file)) if Arc::ptr_eq(file, &self.arrival.file) => {
                Ok((kept.size, true))
            }
            Progress::Arriving(now) if Arc::ptr_eq(&now.file, &self.arrival.file) => {
                Ok((now.received.saturating_sub(WITHHELD), false))
            }
            // The source that these bytes came from has failed; another one begins at zero.
            _ => Err(given_up()),
        }
    }
}

fn given_up() -> io::Error {
    io::Error::other("the source of this archive failed, so its end is not sent")
}

/// Each may hash a large archive.
static OPENING: Places = Places::new(4);

const ARCHIVE: &str = "application/octet-stream";
/// Says why an archive can't be had.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-opam-keep-reason");
const MAX_REASON: usize = 400;
const STORE_FAILED: &str = "store; our store could not keep or give it; see the server's log";
/// How many bytes of an unverified archive are held back.
const WITHHELD: u64 = 64 * 1024;
