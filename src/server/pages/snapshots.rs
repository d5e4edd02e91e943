//! Snapshots: the list, and one with what it changed.

use super::address::encoded;
use super::shown::{Moment, grouped};
use super::{Frame, Pager, written};
use crate::keeper::browse::{BrowseError, SnapshotChanges};
use crate::ledger::entry::Snapshot;
use crate::server::Server;
use crate::server::body::Body;
use askama::Template;
use http::Response;

#[derive(Template)]
#[template(path = "snapshots.html", config = "src/server/askama.toml")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
    pager: Pager,
}

struct Row {
    entry: u64,
    at: Moment,
    /// Since when upstream had it, where it was brought in from its history.
    past: Option<Moment>,
    versions: String,
    snapshot: Snapshot,
}

#[derive(Template)]
#[template(path = "snapshot.html", config = "src/server/askama.toml")]
struct One {
    frame: Frame,
    at: Moment,
    past: Option<(Moment, Moment)>,
    versions: String,
    url: String,
    changes: SnapshotChanges,
}

impl One {
    /// The path of a version's page, of those that have one.
    fn page_of(&self, package: &str, what: &str) -> Option<String> {
        let name = package.split_once('.').map(|(name, _)| name).filter(|_| what != "removed")?;
        let repository = &self.changes.snapshot.repository;
        Some(format!("/{repository}/packages/{}/{}", encoded(name), encoded(package)))
    }
}

pub(super) async fn list(
    server: &Server,
    frame: Frame,
    repository: Option<String>,
    page: usize,
) -> Result<Response<Body>, BrowseError> {
    let found = server.keeper.snapshots(repository.as_deref(), page).await?;
    let now = server.clock.now();
    let rows = found.snapshots.into_iter().map(|it| Row {
        entry: it.entry,
        at: Moment::new(it.snapshot.at, now),
        past: it.snapshot.past.map(|past| Moment::new(past.since, now)),
        versions: grouped(it.snapshot.versions),
        snapshot: it.snapshot,
    });
    let of =
        repository.as_ref().map_or(String::new(), |name| format!("repository={}&", encoded(name)));
    let pager = Pager::new(page, found.total, |number| format!("/snapshots?{of}page={number}"));
    written(&List { frame, rows: rows.collect(), pager })
}

pub(super) async fn page(
    server: &Server,
    frame: Frame,
    entry: u64,
) -> Result<Response<Body>, BrowseError> {
    let changes = server.keeper.snapshot(entry).await?;
    let (now, snapshot) = (server.clock.now(), &changes.snapshot);
    let moment = |at| Moment::new(at, now);
    let url = format!("{}/at/{}/{}", server.public_url, changes.point, snapshot.repository);
    written(&One {
        frame,
        at: moment(snapshot.at),
        past: snapshot.past.map(|past| (moment(past.since), moment(past.until))),
        versions: grouped(snapshot.versions),
        url,
        changes,
    })
}
