//! What the world remembers of a request.

use crate::lie::Lie;
use bytes::Bytes;
use http::HeaderMap;

/// One request that arrived, whether or not it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host, without port, path and query: `github.com/a/b.tbz`.
    pub url: String,
    /// `GET`, `HEAD`, `POST`, …
    pub method: String,
    /// The headers that came with it.
    pub headers: HeaderMap,
    /// The body that came with it.
    pub body: Bytes,
    /// What was done instead of answering well.
    pub lie: Option<Lie>,
}

impl Request {
    /// A header that came with it, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
