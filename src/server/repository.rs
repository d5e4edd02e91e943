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
    with_served(server, name, |served| index_of(served, request, Freshness::Revalidate))
}

/// An index, as a client of its kind gets it.
pub(super) fn index_of(
    served: &Served,
    request: &HeaderMap,
    freshness: Freshness,
) -> Response<Body> {
    let old = served.index_for_old_clients.as_ref();
    let index = old.filter(|_| is_old_opam(request)).unwrap_or(&served.index);
    let content = Content::Memory(index.bytes.clone());
    let mut response =
        answer::content(request, &index.name, content, "application/gzip", freshness);
    if old.is_some() {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("user-agent"));
    }
    response
}

/// Whether opam 2.1 or older asks; it says so as `opam/2.1.2`.
fn is_old_opam(request: &HeaderMap) -> bool {
    let agent = request.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let version = agent.and_then(|agent| agent.strip_prefix("opam/"));
    let mut numbers = version.into_iter().flat_map(|version| version.split('.'));
    let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) < (2, 2))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_opam_is_known_by_its_user_agent() {
        for (agent, expected) in [
            ("opam/2.1.2", true),
            ("opam/2.0.10", true),
            ("opam/1.2.2", true),
            ("opam/2.2.0~beta1", false),
            ("opam/2.6.0~beta1", false),
            ("opam/2.10.0", false),
            ("opam/3.0", false),
            ("opam/x", false),
            ("curl/7.88.1", false),
            ("", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::USER_AGENT, agent.parse().unwrap());
            assert_eq!(is_old_opam(&request), expected, "{agent}");
        }
    }
}
