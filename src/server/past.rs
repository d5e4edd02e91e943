//! A repository's metadata as of a point in the past: it never changes, so anyone may keep it.
//!
//! What can't be had is 404 with its reason, never 5xx: opam would ask three times more.

use super::Server;
use super::answer::{self, Content, Freshness};
use super::archive::{Asking, missing};
use super::body::Body;
use super::repository::{index_of, named, unknown};
use crate::keeper::{PastState, When};
use http::Response;

/// `index.tar.gz` as it was served then.
pub(super) async fn index(
    server: &Server,
    when: When,
    name: Option<&str>,
    asking: &Asking<'_>,
) -> Response<Body> {
    let respond = |state: &PastState| {
        // Where sources point is configured, so that may change.
        let freshness = match state.served.index_for_old_clients {
            Some(_) => Freshness::Revalidate,
            None => Freshness::Immutable,
        };
        index_of(&state.served, asking.headers, freshness)
    };
    with_state(server, when, name, asking, respond).await
}

/// The `repo` file as it was served then.
pub(super) async fn repo(
    server: &Server,
    when: When,
    name: Option<&str>,
    asking: &Asking<'_>,
) -> Response<Body> {
    with_state(server, when, name, asking, |state| {
        let content = Content::Memory(state.served.repo.clone());
        let name = &state.served.repo_name;
        answer::content(asking.headers, name, content, answer::TEXT, Freshness::Immutable)
    })
    .await
}

async fn with_state(
    server: &Server,
    when: When,
    name: Option<&str>,
    asking: &Asking<'_>,
    respond: impl FnOnce(&PastState) -> Response<Body>,
) -> Response<Body> {
    let Some(repository) = named(server, name) else { return unknown() };
    // An answer keeps what it is of, which may be at hand for nobody else any more.
    let place = asking.room.for_a_large_one().await;
    match server.keeper.past(repository, when).await {
        Ok(state) => place.hold(respond(&state)),
        Err(reason) => missing(&reason),
    }
}
