//! Talks to the server that owns the store, over its admin socket.

use super::Failure;
use crate::store::layout::Layout;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::net::UnixStream;

/// Asks the running server, or returns `None` when none runs on the store.
pub(super) fn ask<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
) -> Result<Option<T>, Failure> {
    send(layout, method, path, Bytes::new())
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

fn send<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Option<T>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        let socket = layout.admin_socket();
        let stream = match UnixStream::connect(&socket).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", socket.display()))),
        };
        let failed = |error: String| {
            Failure::Failed(format!("the server at {} did not answer: {error}", socket.display()))
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "admin.sock")
            .body(Full::new(body))
            .map_err(Failure::failed)?;
        let response =
            sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        if !status.is_success() {
            let sentence = serde_json::from_slice(&body).unwrap_or_else(|_| status.to_string());
            return Err(match status {
                StatusCode::NOT_FOUND => Failure::Usage(sentence),
                _ => Failure::Failed(sentence),
            });
        }
        let answer = serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
        Ok(Some(answer))
    })
}

/// No socket, or one that a process left behind.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
}

const MAX_ANSWER: usize = 64 << 20;
