//! The JSON API: all that the pages show and decide, for programs, below `/api/v1`.
//!
//! One table says which calls there are; requests are understood by it, and the OpenAPI document is
//! written from it. Errors are problem details (RFC 9457).

mod call;
mod deciding;
mod document;
mod lines;
mod operations;
mod problem;

pub(super) use call::{Call, parse};
pub(super) use problem::refused;

use super::Server;
use super::answer;
use super::body::Body;
use super::gate::Visitor;
use super::ledger::READING;
use crate::keeper::browse::BrowseError;
use crate::keeper::proof::{ProveError, prove};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use problem::problem;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// The head of the ledger, and the key that signs it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct LedgerHead {
    /// How many entries it has.
    size: u64,
    /// The newest signed checkpoint (C2SP tlog-checkpoint); none before the first entry.
    checkpoint: Option<String>,
    /// The public key (C2SP signed-note verifier key).
    key: String,
}

/// One entry of the ledger.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct LedgerEntry {
    /// Its index.
    index: u64,
    /// What it is, as its `kind` says.
    entry: serde_json::Value,
}

/// One entry of the ledger, and the proof that the ledger has it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct EntryProof {
    /// Its index.
    index: u64,
    /// The entry's bytes as they are hashed, in base64.
    leaf: String,
    /// The proof, up to the newest checkpoint (C2SP tlog-proof).
    proof: String,
}

/// Whether a path belongs to the API, whatever is there.
pub(super) fn is_below(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Answers a call.
pub(super) async fn answer(
    server: &Server,
    call: Call,
    visitor: &Visitor,
    request: &Parts,
    body: Incoming,
) -> Response<Body> {
    let path = request.uri.path();
    let keeper = &server.keeper;
    let told = match call {
        Call::Document => return document::answer(),
        Call::Status => server
            .status()
            .await
            .map(|told| json(&if visitor.admin().is_some() { told } else { told.for_everyone() })),
        Call::Packages { repository, query, page } => {
            keeper.search(repository.as_deref(), &query, page).await.map(|it| json(&it))
        }
        Call::Package { repository, name } => {
            keeper.package(&repository, &name).await.map(|it| json(&it))
        }
        Call::Version { repository, package } => {
            keeper.version(&repository, &package).await.map(|it| json(&it))
        }
        Call::Divergences { filter, page } => {
            keeper.recorded_divergences(filter, page).await.map(|it| json(&it))
        }
        Call::Divergence(id) => keeper.explained_divergence(id).await.map(|it| json(&it)),
        Call::Snapshots { repository, page } => {
            keeper.snapshots(repository.as_deref(), page).await.map(|it| json(&it))
        }
        Call::Snapshot(entry) => keeper.snapshot(entry).await.map(|it| json(&it)),
        Call::Ledger => ledger(server).await,
        Call::Entry(index) => entry(server, index).await,
        Call::Proof(index) => proof(server, index).await,
        Call::Decide(id) => return deciding::decide(server, id, visitor, body, path).await,
        Call::Recheck => return deciding::recheck(server, visitor, body, path).await,
        Call::Sync => return deciding::sync(server, visitor, body, path).await,
        Call::Refresh(name) => return deciding::refresh(server, &name, visitor, path).await,
    };
    told.unwrap_or_else(|error| match error {
        BrowseError::NotFound(sentence) => problem(StatusCode::NOT_FOUND, &sentence, path),
        error => failed(&error, path),
    })
}

async fn ledger(server: &Server) -> Result<Response<Body>, BrowseError> {
    let log = server.keeper.store().log().clone();
    let key = log.verifier().to_string();
    let head = READING.work(move || log.checkpoint()).await;
    let head = head.map_err(|error| BrowseError::Store(error.to_string()))??;
    let (size, checkpoint) = match head {
        Some((checkpoint, note)) => {
            (checkpoint.size, Some(String::from_utf8_lossy(&note).into_owned()))
        }
        None => (0, None),
    };
    Ok(json(&LedgerHead { size, checkpoint, key }))
}

async fn entry(server: &Server, index: u64) -> Result<Response<Body>, BrowseError> {
    let keeper = Arc::clone(&server.keeper);
    let found = READING.work(move || keeper.entry(index)).await;
    let entry = found.unwrap_or_else(|error| Err(BrowseError::Store(error.to_string())))?;
    Ok(json(&LedgerEntry { index, entry: entry.to_json() }))
}

async fn proof(server: &Server, index: u64) -> Result<Response<Body>, BrowseError> {
    let log = server.keeper.store().log().clone();
    let proved = READING.work(move || prove(&log, index)).await;
    match proved.map_err(|error| BrowseError::Store(error.to_string()))? {
        Ok(proof) => Ok(json(&EntryProof {
            index,
            leaf: STANDARD.encode(&proof.leaf),
            proof: String::from_utf8_lossy(&proof.to_bytes()).into_owned(),
        })),
        Err(error @ ProveError::NotFound(_)) => Err(BrowseError::NotFound(error.to_string())),
        Err(error) => Err(BrowseError::Store(error.to_string())),
    }
}

/// What went wrong here is for the log.
fn failed(error: &impl std::fmt::Display, path: &str) -> Response<Body> {
    tracing::error!(%error, path, "a call can't be answered");
    let sentence = "this can't be answered now; the server's log says why";
    problem(StatusCode::INTERNAL_SERVER_ERROR, sentence, path)
}

fn json(value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    answer::plain(bytes.into(), "application/json", "private, no-cache")
}
