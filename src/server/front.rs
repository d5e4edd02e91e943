//! The front page: what this is, how fresh it is, and what to paste into a shell.

use super::Server;
use super::answer;
use super::body::Body;
use crate::clock::Clock;
use askama::Template;
use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use jiff::Timestamp;

#[derive(Template)]
#[template(path = "front.html", config = "src/server/askama.toml")]
struct Front<'a> {
    /// Where clients reach the first repository.
    url: String,
    self_made: bool,
    repositories: Vec<Row<'a>>,
    pins: u64,
    entries: u64,
    vkey: String,
    version: &'static str,
}

struct Row<'a> {
    name: &'a str,
    upstream: String,
    versions: Option<u64>,
    fresh: String,
    failing: bool,
}

/// Writes the page for clients who reach this server as `url`.
pub(super) fn page(server: &Server, clock: &Clock) -> Response<Body> {
    let store = server.keeper.store();
    let now = clock.now();
    let rows = server.keeper.repositories().iter().map(|repository| {
        let (health, served) = (repository.health(), repository.served());
        Row {
            name: repository.name(),
            upstream: repository.settings().upstream.get_ref().to_string(),
            versions: served.map(|served| served.snapshot.versions),
            fresh: health.fresh_at.map_or("not since this start".to_owned(), |at| ago(at, now)),
            failing: health.problem.is_some(),
        }
    });
    let front = Front {
        url: match server.keeper.repositories().first() {
            Some(first) => format!("{}/{}", server.public_url, first.name()),
            None => server.public_url.clone(),
        },
        self_made: server.ca.is_some(),
        repositories: rows.collect(),
        pins: store.lookup(|catalog| catalog.pins()).unwrap_or_default(),
        entries: store.log().size().unwrap_or_default(),
        vkey: store.log().verifier().to_string(),
        version: env!("CARGO_PKG_VERSION"),
    };
    match front.render() {
        Ok(html) => {
            let html = Bytes::from(html);
            let mut response = answer::plain(html, "text/html; charset=utf-8", "no-cache");
            let policy = HeaderValue::from_static(POLICY);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            response
        }
        Err(error) => {
            tracing::error!(%error, "the front page can't be written");
            let status = http::StatusCode::INTERNAL_SERVER_ERROR;
            answer::message(status, "the page can't be written; see the server's log")
        }
    }
}

/// The page's style sheet.
pub(super) fn style() -> Response<Body> {
    let css = Bytes::from_static(include_bytes!("templates/style.css"));
    answer::plain(css, "text/css; charset=utf-8", "max-age=3600")
}

/// The certificate of the CA that opam-keep made for itself, if it did.
pub(super) fn ca(server: &Server) -> Response<Body> {
    match &server.ca {
        Some(ca) => answer::plain(ca.clone(), "application/x-pem-file", "no-cache"),
        None => answer::message(
            http::StatusCode::NOT_FOUND,
            "this server's certificate was not made by opam-keep",
        ),
    }
}

/// How long ago, in the largest whole unit.
fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// The page has no scripts and its one style sheet is its own.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_whole_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, expected) in
            [(0, "just now"), (60, "1 minute ago"), (7_300, "2 hours ago"), (200_000, "2 days ago")]
        {
            let then = Timestamp::from_second(1_000_000 - seconds).unwrap();
            assert_eq!(ago(then, now), expected);
        }
    }
}
