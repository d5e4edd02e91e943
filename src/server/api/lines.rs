//! Answers that come line by line, one JSON value each, while the work goes on.

use crate::server::answer;
use crate::server::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::Response;
use serde::Serialize;
use std::io;

/// What a stream of lines is called; RFC 9110 knows no better name for it.
pub(super) const CONTENT_TYPE: &str = "application/jsonl";

/// The lines as the answer. Nothing more is begun once the client has gone.
pub(super) fn answer<T: Serialize>(
    lines: impl Stream<Item = T> + Send + 'static,
) -> Response<Body> {
    let mut response = answer::plain(Bytes::new(), CONTENT_TYPE, "no-store");
    let stream = lines.map(|line| written(&line)).boxed();
    *response.body_mut() = Body::Stream { stream, length: None };
    response
}

fn written(line: &impl Serialize) -> io::Result<Bytes> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}
