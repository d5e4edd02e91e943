//! What the world remembers of a request.

/// One request that arrived, whether or not it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host, without port, path and query: `github.com/a/b.tbz`.
    pub url: String,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The `If-None-Match` that came with it.
    pub if_none_match: Option<String>,
    /// The `Range` that came with it.
    pub range: Option<String>,
    /// The `Authorization` that came with it.
    pub authorization: Option<String>,
}
