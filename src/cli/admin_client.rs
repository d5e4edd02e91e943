//! Talks to the server that owns the store, over its admin socket.

use super::offers::Offer;
use super::{Failure, file_chunks};
use crate::keeper::offered::Taken;
use crate::server::admin::KEY_HEADER;
use crate::store::layout::Layout;
use crate::store::owner;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::header::{CONTENT_LOCATION, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Collected, Either, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// All at once, or as it is read.
type Body = Either<Full<Bytes>, ReadBody>;
type ReadBody = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// Asks the running server, or returns `None` when none runs on the store.
pub(super) fn ask<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
) -> Result<Option<T>, Failure> {
    send(layout, method, path, Bytes::new())
}

/// Asks how the running server stands, which it tells within `patience` or not at all.
pub(super) fn ask_within<T: DeserializeOwned>(
    patience: Duration,
    layout: &Layout,
    path: &str,
) -> Result<Option<T>, Failure> {
    block_on(async {
        let asked = exchange_json(layout, Method::GET, path, Bytes::new());
        let late = |_| {
            let waited = patience.as_secs();
            did_not_answer(layout, format_args!("nothing came within {waited} s; it may hang"))
        };
        tokio::time::timeout(patience, asked).await.map_err(late)?
    })
}

/// The same, with something to say as JSON.
pub(super) fn tell<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
    what: &impl Serialize,
) -> Result<Option<T>, Failure> {
    let body = serde_json::to_vec(what).map_err(Failure::failed)?;
    send(layout, method, path, body.into())
}

/// The same, with bytes as they are.
pub(super) fn send_bytes<T: DeserializeOwned>(
    layout: &Layout,
    path: &str,
    bytes: Bytes,
) -> Result<Option<T>, Failure> {
    send(layout, Method::POST, path, bytes)
}

/// Offers a file by its checksum; a server runs on the store.
pub(super) fn send_file(layout: &Layout, offer: &Offer) -> Result<Taken, Failure> {
    block_on(async {
        let (origin, chunks) = offer.open().map_err(Failure::failed)?;
        let request = Request::put(format!("/offers/{}", offer.checksum))
            .header(CONTENT_LOCATION, origin.as_str())
            .body(Either::Right(body_of(chunks)))
            .map_err(Failure::failed)?;
        let nobody = || did_not_answer(layout, "it has stopped");
        let answer = exchange(layout, request).await?.ok_or_else(nobody)?;
        let body = whole(layout, answer).await?;
        serde_json::from_slice(&body).map_err(|error| did_not_answer(layout, error))
    })
}

/// Hands over a bundle as it is read; `None` when no server runs on the store.
pub(super) fn send_bundle<T: DeserializeOwned>(
    layout: &Layout,
    file: File,
    key: &str,
    advance: impl Fn(u64) + Send + 'static,
) -> Result<Option<T>, Failure> {
    block_on(async {
        let chunks = file_chunks::chunks(file, advance);
        let request = Request::put("/bundle")
            .header(KEY_HEADER, key)
            .body(Either::Right(body_of(chunks)))
            .map_err(Failure::failed)?;
        let Some(answer) = exchange(layout, request).await? else { return Ok(None) };
        let body = whole(layout, answer).await?;
        serde_json::from_slice(&body).map(Some).map_err(|error| did_not_answer(layout, error))
    })
}

/// Says something as JSON and hands on each line of the answer, read as JSON, as it comes; says
/// whether a server runs on the store.
pub(super) fn follow<T: DeserializeOwned>(
    layout: &Layout,
    path: &str,
    what: &impl Serialize,
    mut each: impl FnMut(T),
) -> Result<bool, Failure> {
    let body = serde_json::to_vec(what).map_err(Failure::failed)?;
    block_on(async {
        let Some(mut answer) = request(layout, Method::POST, path, body.into()).await? else {
            return Ok(false);
        };
        let mut lines = BytesMut::new();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| did_not_answer(layout, error))?;
            lines.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line = lines.split_to(end + 1);
                let line = serde_json::from_slice(&line);
                each(line.map_err(|error| did_not_answer(layout, error))?);
            }
            if lines.len() > MAX_ANSWER {
                return Err(did_not_answer(layout, "a line without end"));
            }
        }
        Ok(true)
    })
}

fn send<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Option<T>, Failure> {
    block_on(exchange_json(layout, method, path, body))
}

async fn exchange_json<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Option<T>, Failure> {
    let Some(answer) = request(layout, method, path, body).await? else { return Ok(None) };
    let body = whole(layout, answer).await?;
    serde_json::from_slice(&body).map(Some).map_err(|error| did_not_answer(layout, error))
}

fn body_of(chunks: mpsc::Receiver<io::Result<Bytes>>) -> ReadBody {
    let frames = futures_util::stream::unfold(chunks, |mut chunks| async {
        let chunk = chunks.recv().await?;
        Some((chunk.map(Frame::data), chunks))
    });
    StreamBody::new(frames.boxed())
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(work)
}

async fn request(
    layout: &Layout,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Option<Incoming>, Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Either::Left(Full::new(body)))
        .map_err(Failure::failed)?;
    exchange(layout, request).await
}

/// The body of a good answer; `None` when no server runs on the store.
async fn exchange(
    layout: &Layout,
    mut request: Request<Body>,
) -> Result<Option<Incoming>, Failure> {
    let socket = layout.admin_socket();
    let stream = match UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => {
            let advice = owner::advice(&error, layout);
            return Err(Failure::Usage(format!("{}: {error}{advice}", socket.display())));
        }
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| did_not_answer(layout, error))?;
    tokio::spawn(connection);
    request.headers_mut().insert(HOST, HeaderValue::from_static("admin.sock"));
    let response =
        sender.send_request(request).await.map_err(|error| did_not_answer(layout, error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(Some(response.into_body()));
    }
    let body = whole(layout, response.into_body()).await?;
    let sentence = serde_json::from_slice(&body).unwrap_or_else(|_| status.to_string());
    Err(match status {
        StatusCode::NOT_FOUND => Failure::Usage(sentence),
        _ => Failure::Failed(sentence),
    })
}

async fn whole(layout: &Layout, body: Incoming) -> Result<Bytes, Failure> {
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    body.map(Collected::to_bytes).map_err(|error| did_not_answer(layout, error))
}

fn did_not_answer(layout: &Layout, error: impl std::fmt::Display) -> Failure {
    let socket = layout.admin_socket();
    Failure::Failed(format!("the server at {} did not answer: {error}", socket.display()))
}

/// No socket, or one that a process left behind.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
}

const MAX_ANSWER: usize = 64 << 20;
