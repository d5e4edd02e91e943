//! `admin.sock`: how commands talk to the server that owns the store.
//!
//! HTTP/1.1 with JSON over a Unix socket in the data directory, mode 0600: whoever may connect
//! owns the files anyway.

use super::status;
use crate::clock::Clock;
use crate::keeper::divergences::DecideError;
use crate::keeper::{Keeper, Refreshed};
use crate::ledger::entry::Action;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// What became of one repository's refresh.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefreshReport {
    /// The repository.
    pub repository: String,
    /// What the refresh did, when it succeeded.
    pub refreshed: Option<Refreshed>,
    /// Why it did not succeed.
    pub problem: Option<String>,
}

/// An operator's decision about a divergence.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deciding {
    /// What is decided.
    pub action: Action,
    /// Who decides.
    pub by: String,
    /// Why, in their words.
    pub why: Option<String>,
}

/// What became of a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// Where it is in the ledger.
    pub entry: u64,
    /// Why what was accepted is not served yet, if so.
    pub problem: Option<String>,
}

/// Answers commands on `path` until `stop`.
///
/// # Errors
/// When the socket can't be made.
pub(super) fn listen(
    path: &Path,
    keeper: Arc<Keeper>,
    clock: Clock,
    stop: CancellationToken,
) -> io::Result<()> {
    // The store's lock is ours, so a socket that is there was left by a process that is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Made where nobody else may look, so that it is never there with another mode.
    let private = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(keeper.store().layout().work())?;
    let made = private.path().join("admin.sock");
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&made, path)?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (keeper, clock) = (Arc::clone(&keeper), clock.clone());
            let service = hyper::service::service_fn(move |request| {
                let (keeper, clock) = (Arc::clone(&keeper), clock.clone());
                async move { Ok::<_, Infallible>(respond(request, &keeper, &clock).await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_PATIENCE)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    Ok(())
}

async fn respond(
    request: Request<Incoming>,
    keeper: &Arc<Keeper>,
    clock: &Clock,
) -> Response<Full<Bytes>> {
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    match (request.method(), &path[..]) {
        (&Method::GET, ["status"]) => json(StatusCode::OK, &status::of(keeper, clock)),
        (&Method::POST, ["refresh"]) => {
            json(StatusCode::OK, &refresh(keeper, keeper.repositories()).await)
        }
        (&Method::POST, ["refresh", name]) => match keeper.repository(name) {
            Some(repository) => {
                json(StatusCode::OK, &refresh(keeper, std::slice::from_ref(repository)).await)
            }
            None => json(
                StatusCode::NOT_FOUND,
                &format!("no repository \"{name}\" is configured in the running server"),
            ),
        },
        (&Method::POST, ["divergences", id]) => match id.parse() {
            Ok(id) => decide(request, id, keeper).await,
            Err(_) => json(StatusCode::NOT_FOUND, &"a divergence is named by its ledger index"),
        },
        _ => json(StatusCode::NOT_FOUND, &"this server knows no such command; is it older?"),
    }
}

async fn decide(
    request: Request<Incoming>,
    id: u64,
    keeper: &Arc<Keeper>,
) -> Response<Full<Bytes>> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let Deciding { action, by, why } = match serde_json::from_slice(&body) {
        Ok(deciding) => deciding,
        Err(error) => return json(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match keeper.decide(id, action, by, why).await {
        Ok((entry, refreshed)) => {
            let problem = refreshed.and_then(Result::err).map(|error| error.to_string());
            json(StatusCode::OK, &Decided { entry, problem })
        }
        Err(error @ (DecideError::NoDivergence(_) | DecideError::NothingToAccept { .. })) => {
            json(StatusCode::NOT_FOUND, &error.to_string())
        }
        Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Asks the upstreams of `repositories`, one after the other.
pub async fn refresh(
    keeper: &Arc<Keeper>,
    repositories: &[Arc<crate::keeper::Repository>],
) -> Vec<RefreshReport> {
    let mut reports = Vec::new();
    for repository in repositories {
        let result = keeper.refresh(repository).await;
        let (refreshed, problem) = match result {
            Ok(refreshed) => (Some(refreshed), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let repository = repository.name().to_owned();
        reports.push(RefreshReport { repository, refreshed, problem });
    }
    reports
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest decision, in bytes; the reason has to fit into a ledger entry.
const MAX_BODY: usize = 16 << 10;
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
