//! A repository's metadata: `index.tar.gz` and `repo`.

use super::Server;
use super::answer::{self, Content, Freshness};
use super::body::Body;
use crate::keeper::{Repository, Served};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use std::sync::Arc;

/// `index.tar.gz` as opam fetches it.
pub(super) fn index(server: &Server, name: Option<&str>, request: &HeaderMap) -> Response<Body> {
    with_served(server, name, |served| {
        let content = Content::Memory(served.index.clone());
        let (name, kind) = (&served.index_name, "application/gzip");
        answer::content(request, name, content, kind, Freshness::Revalidate)
    })
}

/// The `repo` file on its own.
pub(super) fn repo(server: &Server, name: Option<&str>, request: &HeaderMap) -> Response<Body> {
    with_served(server, name, |served| {
        let content = Content::Memory(served.repo.clone());
        answer::content(request, &served.repo_name, content, answer::TEXT, Freshness::Revalidate)
    })
}

/// A repository that is not there.
pub(super) fn unknown() -> Response<Body> {
    answer::message(StatusCode::NOT_FOUND, "no repository of that name is mirrored")
}

/// The repository of a name; the first one without.
pub(super) fn named<'a>(server: &'a Server, name: Option<&str>) -> Option<&'a Arc<Repository>> {
    match name {
        Some(name) => server.keeper.repository(name),
        None => server.keeper.repositories().first(),
    }
}

fn with_served(
    server: &Server,
    name: Option<&str>,
    respond: impl FnOnce(&Served) -> Response<Body>,
) -> Response<Body> {
    let Some(repository) = named(server, name) else { return unknown() };
    match repository.served() {
        Some(served) => respond(&served),
        None => {
            // The one answer that opam should try again: the first snapshot is on its way.
            let text = "no snapshot was admitted yet, so there is nothing to serve; try again";
            let mut response = answer::message(StatusCode::SERVICE_UNAVAILABLE, text);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}
