//! What a caller asks for.

use super::proxy::basic_authorization;
use super::turns::Awaited;
use crate::safe_url::SafeUrl;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, USER_AGENT,
};

/// A `GET` for one URL, with the largest answer that is permitted.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) url: SafeUrl,
    pub(super) max_size: u64,
    pub(super) if_none_match: Option<String>,
    pub(super) if_modified_since: Option<String>,
    pub(super) awaited: Awaited,
}

impl Request {
    /// Asks for at most `max_size` bytes of `url`; credentials in the URL go to its own origin
    /// and nowhere else.
    pub fn new(url: SafeUrl, max_size: u64) -> Self {
        let awaited = Awaited::by_client();
        Self { url, max_size, if_none_match: None, if_modified_since: None, awaited }
    }

    /// Asks for a client, or for nobody who waits.
    pub fn awaited(mut self, awaited: Awaited) -> Self {
        self.awaited = awaited;
        self
    }

    /// Asks only for something else than what `etag`, as upstream once sent it, names.
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.if_none_match = Some(etag.into());
        self
    }

    /// Asks only for something newer than `date`, as upstream once sent it.
    pub fn if_modified_since(mut self, date: impl Into<String>) -> Self {
        self.if_modified_since = Some(date.into());
        self
    }

    /// Whether "not modified" is an answer.
    pub(super) fn is_conditional(&self) -> bool {
        self.if_none_match.is_some() || self.if_modified_since.is_some()
    }

    /// The headers for asking `url`, which is the request's own or one that it redirects to.
    pub(super) fn headers_for(&self, url: &SafeUrl) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut condition = |name: HeaderName, text: &Option<String>| {
            // What doesn't fit a header can't have come from one: then there is no condition.
            if let Some(Ok(value)) = text.as_ref().map(HeaderValue::try_from) {
                headers.insert(name, value);
            }
        };
        condition(IF_NONE_MATCH, &self.if_none_match);
        condition(IF_MODIFIED_SINCE, &self.if_modified_since);
        let own = self.url.expose();
        if own.origin() == url.expose().origin()
            && let Some(authorization) = basic_authorization(own)
        {
            headers.insert(AUTHORIZATION, authorization);
        }
        headers
    }
}

pub(super) const USER_AGENT_TEXT: &str = concat!("opam-keep/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_their_own_origin_only() {
        let request = Request::new("https://u:p@a.example/x".parse().unwrap(), 1);
        let has =
            |url: &str| request.headers_for(&url.parse().unwrap()).contains_key(AUTHORIZATION);
        assert!(has("https://a.example/y"));
        assert!(has("https://a.example:443/y"));
        for other in ["https://b.example/y", "https://a.example:444/y", "http://a.example/y"] {
            assert!(!has(other), "{other}");
        }
    }
}
