//! A repository's metadata as of a point in the past: it never changes, so anyone may keep it.
//!
//! What can't be had is 404 with its reason, never 5xx: opam would ask three times more.

use super::Server;
use super::answer::{self, Content, Freshness};
use super::archive::missing;
use super::body::Body;
use super::repository::{index_of, named, unknown};
use crate::keeper::{PastState, When};
use http::Response;
use http::header::HeaderMap;

/// `index.tar.gz` as it was served then.
pub(super) async fn index(
    server: &Server,
    when: When,
    name: Option<&str>,
    request: &HeaderMap,
) -> Response<Body> {
    let respond = |state: &PastState| {
        // Where sources point is configured, so that may change.
        let freshness = match state.served.index_for_old_clients {
            Some(_) => Freshness::Revalidate,
            None => Freshness::Immutable,
        };
        index_of(&state.served, request, freshness)
    };
    with_state(server, when, name, respond).await
}

/// The `repo` file as it was served then.
pub(super) async fn repo(
    server: &Server,
    when: When,
    name: Option<&str>,
    request: &HeaderMap,
) -> Response<Body> {
    with_state(server, when, name, |state| {
        let content = Content::Memory(state.served.repo.clone());
        let name = &state.served.repo_name;
        answer::content(request, name, content, answer::TEXT, Freshness::Immutable)
    })
    .await
}

async fn with_state(
    server: &Server,
    when: When,
    name: Option<&str>,
    respond: impl FnOnce(&PastState) -> Response<Body>,
) -> Response<Body> {
    let Some(repository) = named(server, name) else { return unknown() };
    match server.keeper.past(repository, when).await {
        Ok(state) => respond(&state),
        Err(reason) => missing(&reason),
    }
}
