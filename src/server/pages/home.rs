//! Home: how everything stands, what is open, and what to paste into a shell.

use super::chart::{Chart, HOURS};
use super::shown::{Moment, bytes, grouped};
use super::{Frame, written};
use crate::keeper::browse::BrowseError;
use crate::keeper::verified::Verified;
use crate::places::Places;
use crate::server::Server;
use crate::server::body::Body;
use crate::server::status::{RepositoryStatus, Status};
use askama::Template;
use http::Response;
use jiff::Timestamp;

#[derive(Template)]
#[template(path = "home.html", config = "src/server/askama.toml")]
struct Home {
    frame: Frame,
    /// Where clients reach the first repository.
    url: String,
    self_made: bool,
    closed: bool,
    status: Status,
    repositories: Vec<Row>,
    pins: String,
    entries: String,
    size: String,
    free: Option<String>,
    verified: Option<(Moment, u64)>,
    charts: [Chart; 2],
    vkey: String,
}

struct Row {
    status: RepositoryStatus,
    versions: Option<String>,
    fresh: Option<Moment>,
    admitted: Option<Moment>,
}

pub(super) async fn page(server: &Server, frame: Frame) -> Result<Response<Body>, BrowseError> {
    let keeper = &server.keeper;
    let status = server.status().await?.for_everyone();
    let now = status.at;
    let rows = status.repositories.iter().cloned().map(|status| row(status, now)).collect();
    let url = match keeper.repositories().first() {
        Some(first) => format!("{}/{}", server.public_url, first.name()),
        None => server.public_url.clone(),
    };
    let root = keeper.store().layout().root().to_owned();
    let layout = keeper.store().layout().clone();
    let look = move || (rustix::fs::statvfs(&root).ok(), Verified::last(&layout));
    let (free, verified) = LOOKING.work(look).await.unwrap_or_default();
    let hours = server.traffic.hours(now, HOURS);
    written(&Home {
        frame,
        url,
        self_made: server.ca.is_some(),
        closed: server.gate.is_closed(),
        repositories: rows,
        pins: grouped(status.pins),
        entries: grouped(status.entries),
        size: bytes(keeper.measured().1),
        verified: verified.map(|it| (Moment::new(it.at, now), it.problems)),
        charts: [Chart::of_archives(&hours), Chart::of_bytes(&hours)],
        free: free.map(|it| bytes(it.f_bavail.saturating_mul(it.f_frsize))),
        vkey: keeper.store().log().verifier().to_string(),
        status,
    })
}

fn row(status: RepositoryStatus, now: Timestamp) -> Row {
    Row {
        versions: status.versions.map(grouped),
        fresh: status.fresh_at.map(|at| Moment::new(at, now)),
        admitted: status.admitted_at.map(|at| Moment::new(at, now)),
        status,
    }
}

static LOOKING: Places = Places::new(1);
