//! `admin.sock`: how commands talk to the server that owns the store.
//!
//! HTTP/1.1 with JSON over a Unix socket in the data directory, mode 0600: whoever may connect
//! owns the files anyway.

mod intake;

pub use intake::{KEY_HEADER, SyncLine, Syncing};

use super::{Current, Server};
use crate::clock::Clock;
use crate::digest::Sha256;
use crate::keeper::divergences::DecideError;
use crate::keeper::first_said::{self, FirstSaid, SeedError};
use crate::keeper::recheck::{Asker, CheckError, Checked, Selection, SelectionError};
use crate::keeper::{Exceptions, Keeper, Refreshed};
use crate::ledger::entry::Action;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::channel::{self, Channel, Sender};
use http_body_util::{BodyExt as _, Collected, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
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
    /// What is not served as upstream has it.
    #[serde(flatten)]
    pub exceptions: Exceptions,
    /// Why it did not succeed.
    pub problem: Option<String>,
}

/// An operator's decision about divergences.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deciding {
    /// Their ledger indices.
    pub ids: Vec<u64>,
    /// What is decided.
    pub action: Action,
    /// Who decides.
    pub by: String,
    /// Why, in their words.
    pub why: Option<String>,
}

/// What is told of rechecks while they go on, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rechecked {
    /// So many URLs will be fetched.
    Urls(usize),
    /// What came of one.
    Checked(Checked),
    /// Why nothing can be said of one.
    Failed(CheckError),
}

/// Where in the ledger is what a history first said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seeded {
    /// The entry's index.
    pub entry: u64,
}

/// The whole answer at once, or lines as they come.
type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// Answers commands on `path` until `stop`.
///
/// # Errors
/// When the socket can't be made.
pub(super) fn listen(
    path: &Path,
    current: Arc<Current>,
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
        .tempdir_in(current.load().keeper.store().layout().work())?;
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
            let current = Arc::clone(&current);
            let service = hyper::service::service_fn(move |request| {
                let server = current.load_full();
                async move { Ok::<_, Infallible>(respond(request, &server).await) }
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

async fn respond(request: Request<Incoming>, server: &Server) -> Response<Body> {
    let (keeper, clock) = (&server.keeper, &server.clock);
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    match (request.method(), &path[..]) {
        (&Method::GET, ["status"]) => match server.status().await {
            Ok(status) => json(StatusCode::OK, &status),
            Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        (&Method::GET, ["readiness"]) => json(StatusCode::OK, &server.readiness().await),
        (&Method::POST, ["refresh"]) => {
            json(StatusCode::OK, &refresh(keeper, keeper.repositories()).await)
        }
        (&Method::POST, ["refresh", name]) => match keeper.repository(name) {
            Some(repository) => {
                json(StatusCode::OK, &refresh(keeper, std::slice::from_ref(repository)).await)
            }
            None => json(StatusCode::NOT_FOUND, &keeper.no_repository(name)),
        },
        (&Method::POST, ["divergences"]) => decide(request, keeper).await,
        (&Method::POST, ["history", repository, commit]) => {
            let (repository, commit) = (repository.to_string(), commit.to_string());
            seed(request, repository, commit, keeper, clock).await
        }
        (&Method::POST, ["blobs"]) => match read::<Vec<Sha256>>(request).await {
            Ok(names) => json(StatusCode::OK, &keeper.look_at_blobs(names).await),
            Err(refusal) => refusal,
        },
        (&Method::POST, ["recheck"]) => recheck(request, keeper).await,
        (&Method::POST, ["sync"]) => intake::sync(request, keeper).await,
        (&Method::POST, ["offers"]) => intake::interest(request, keeper).await,
        (&Method::PUT, ["offers", checksum]) => match checksum.parse() {
            Ok(checksum) => intake::offer(request, checksum, keeper).await,
            Err(_) => json(StatusCode::NOT_FOUND, &"an offer is named by its checksum"),
        },
        (&Method::PUT, ["bundle"]) => intake::bundle(request, keeper).await,
        _ => json(StatusCode::NOT_FOUND, &"this server knows no such command; is it older?"),
    }
}

async fn decide(request: Request<Incoming>, keeper: &Arc<Keeper>) -> Response<Body> {
    let Deciding { ids, action, by, why } = match read(request).await {
        Ok(deciding) => deciding,
        Err(refusal) => return refusal,
    };
    match keeper.decide_all(ids, action, by, why).await {
        Ok(decided) => json(StatusCode::OK, &decided),
        Err(
            error @ (DecideError::NoDivergence(_)
            | DecideError::NothingToAccept { .. }
            | DecideError::Outdated(_)),
        ) => json(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn recheck(request: Request<Incoming>, keeper: &Arc<Keeper>) -> Response<Body> {
    let selection: Selection = match read(request).await {
        Ok(selection) => selection,
        Err(refusal) => return refusal,
    };
    let subjects = match keeper.select(selection).await {
        Ok(subjects) => subjects,
        Err(error @ (SelectionError::Nothing(_) | SelectionError::Offline)) => {
            return json(StatusCode::NOT_FOUND, &error.to_string());
        }
        Err(error) => return json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let (mut lines, body) = Channel::new(LINES_AHEAD);
    let keeper = Arc::clone(keeper);
    tokio::spawn(async move {
        let told = tell(&mut lines, &Rechecked::Urls(subjects.len())).await;
        let mut checks = keeper.recheck(subjects, Asker::Person);
        let mut listening = told.is_ok();
        while listening && let Some(checked) = checks.next().await {
            let line = checked.map_or_else(Rechecked::Failed, Rechecked::Checked);
            // Whoever asked may have gone; then nobody wants to know the rest.
            listening = tell(&mut lines, &line).await.is_ok();
        }
    });
    Response::new(Either::Right(body))
}

async fn seed(
    request: Request<Incoming>,
    repository: String,
    commit: String,
    keeper: &Keeper,
    clock: &Clock,
) -> Response<Body> {
    if keeper.repository(&repository).is_none() {
        return json(StatusCode::NOT_FOUND, &keeper.no_repository(&repository));
    }
    let limit = usize::try_from(FirstSaid::MAX_SIZE).unwrap_or(usize::MAX);
    let text = match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(error) => return json(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
    };
    match first_said::seed(keeper.store(), clock, repository, commit, text).await {
        Ok(entry) => json(StatusCode::OK, &Seeded { entry }),
        Err(error @ SeedError::Malformed(_)) => json(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn tell(lines: &mut Sender<Bytes>, line: &impl Serialize) -> Result<(), channel::SendError> {
    let mut line = serde_json::to_vec(line).unwrap_or_default();
    line.push(b'\n');
    lines.send_data(line.into()).await
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Response<Body>> {
    read_up_to(MAX_BODY, request).await
}

async fn read_up_to<T: DeserializeOwned>(
    limit: usize,
    request: Request<Incoming>,
) -> Result<T, Response<Body>> {
    let body = Limited::new(request.into_body(), limit).collect().await;
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    serde_json::from_slice(&body).map_err(|error| json(StatusCode::BAD_REQUEST, &error.to_string()))
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
        let exceptions = repository.health().exceptions;
        let repository = repository.name().to_owned();
        reports.push(RefreshReport { repository, refreshed, exceptions, problem });
    }
    reports
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response
}

/// How many lines wait for a reader.
const LINES_AHEAD: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest decision, in bytes; the reason has to fit into a ledger entry.
const MAX_BODY: usize = 16 << 10;
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
