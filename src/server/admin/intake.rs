//! What commands bring into the store: archives that are synced or offered, and bundles.

use super::{Body, LINES_AHEAD, json, read_up_to, tell};
use crate::keeper::Keeper;
use crate::keeper::selector::{SelectError, Selector};
use crate::keeper::sync::{Plan, Synced};
use crate::opam::Checksum;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Either};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use url::Url;

/// What is to be synced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Syncing {
    /// Which archives.
    pub selector: Selector,
    /// Whether only the plan is wanted.
    pub is_dry: bool,
    /// The one cache to ask, in place of every archive's own sources.
    pub cache: Option<Url>,
}

/// One line of the answer to [`Syncing`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncLine {
    /// The first one.
    Plan(Plan),
    /// What happens then.
    Event(Synced),
}

/// Fetches archives ahead of time, and tells line by line how it goes.
pub(super) async fn sync(request: Request<Incoming>, keeper: &Arc<Keeper>) -> Response<Body> {
    let Syncing { selector, is_dry, cache } = match read_up_to(MAX_SELECTOR, request).await {
        Ok(syncing) => syncing,
        Err(refusal) => return refusal,
    };
    let (plan, archives) = match keeper.plan_sync(selector).await {
        Ok(planned) => planned,
        Err(error @ SelectError::NoRepository(_)) => {
            return json(StatusCode::NOT_FOUND, &error.to_string());
        }
        Err(error) => return json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    if let (Some(cache), false) = (&cache, archives.is_empty())
        && let Err(error) = keeper.can_ask(cache).await
    {
        return json(StatusCode::BAD_GATEWAY, &error.to_string());
    }
    let (mut lines, body) = Channel::new(LINES_AHEAD);
    let keeper = Arc::clone(keeper);
    tokio::spawn(async move {
        let told = tell(&mut lines, &SyncLine::Plan(plan)).await;
        let mut listening = told.is_ok() && !is_dry;
        let mut events = keeper.sync(if listening { archives } else { Vec::new() }, cache);
        while listening && let Some(event) = events.next().await {
            // Whoever asked may have gone; then nothing more is begun.
            listening = tell(&mut lines, &SyncLine::Event(event)).await.is_ok();
        }
    });
    Response::new(Either::Right(body))
}

/// Says which of some checksums are wanted.
pub(super) async fn interest(request: Request<Incoming>, keeper: &Arc<Keeper>) -> Response<Body> {
    let offered = match read_up_to(MAX_SELECTOR, request).await {
        Ok(offered) => offered,
        Err(refusal) => return refusal,
    };
    match keeper.interest(offered).await {
        Ok(interest) => json(StatusCode::OK, &interest),
        Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Takes an archive whose bytes are the body, as found at the `Content-Location`.
pub(super) async fn offer(
    request: Request<Incoming>,
    checksum: Checksum,
    keeper: &Arc<Keeper>,
) -> Response<Body> {
    let origin = request.headers().get(header::CONTENT_LOCATION);
    let origin = origin.and_then(|url| url.to_str().ok()).and_then(|url| url.parse().ok());
    let Some(origin) = origin else {
        return json(StatusCode::BAD_REQUEST, &"an offer says where it was found");
    };
    match keeper.take_offered(checksum, origin, chunks(request.into_body())).await {
        Ok(taken) => json(StatusCode::OK, &taken),
        Err(error) => json(StatusCode::CONFLICT, &error.to_string()),
    }
}

/// Takes in a bundle, which is the body.
pub(super) async fn bundle(request: Request<Incoming>, keeper: &Arc<Keeper>) -> Response<Body> {
    let key = request.headers().get(KEY_HEADER).and_then(|key| key.to_str().ok());
    let Some(Ok(key)) = key.map(str::parse) else {
        return json(StatusCode::BAD_REQUEST, &"a bundle comes with the key that signed it");
    };
    let source = ChunkReader { chunks: chunks(request.into_body()), chunk: Bytes::new() };
    match keeper.import(source, key, |_| {}).await {
        Ok(imported) => json(StatusCode::OK, &imported),
        Err(error) => json(StatusCode::CONFLICT, &error.to_string()),
    }
}

/// A body's bytes as they come.
fn chunks(mut body: Incoming) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let chunk = frame.map(|frame| frame.into_data().unwrap_or_default());
            let is_over = chunk.is_err();
            if sender.send(chunk.map_err(io::Error::other)).await.is_err() || is_over {
                return;
            }
        }
    });
    chunks
}

/// A body that blocking code reads.
struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl io::Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        buffer[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}

/// Names the public key that signed a bundle.
pub const KEY_HEADER: &str = "x-opam-keep-key";
/// How many chunks wait to be written.
const CHUNKS_AHEAD: usize = 4;
/// Longest selector or list of checksums, in bytes: more names than there are versions.
const MAX_SELECTOR: usize = 8 << 20;
