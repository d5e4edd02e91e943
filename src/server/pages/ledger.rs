//! The ledger: its head and key, one entry, and the proof of it.

use super::shown::{Moment, grouped};
use super::{Frame, written};
use crate::archive::printable;
use crate::keeper::browse::BrowseError;
use crate::keeper::proof::{ProveError, prove};
use crate::ledger::entry::Entry;
use crate::server::Server;
use crate::server::answer;
use crate::server::body::Body;
use crate::server::ledger::READING;
use askama::Template;
use http::header::CONTENT_DISPOSITION;
use http::{Response, StatusCode};

#[derive(Template)]
#[template(path = "ledger.html", config = "src/server/askama.toml")]
struct Ledger {
    frame: Frame,
    url: String,
    size: u64,
    entries: String,
    checkpoint: String,
    vkey: String,
    newest: Vec<Row>,
}

struct Row {
    index: u64,
    kind: String,
    about: String,
    at: Moment,
}

#[derive(Template)]
#[template(path = "entry.html", config = "src/server/askama.toml")]
struct One {
    frame: Frame,
    index: u64,
    kind: String,
    at: Moment,
    json: String,
}

pub(super) async fn page(server: &Server, frame: Frame) -> Result<Response<Body>, BrowseError> {
    let log = server.keeper.store().log().clone();
    let vkey = log.verifier().to_string();
    let now = server.clock.now();
    let read = move || -> Result<_, BrowseError> {
        let Some((checkpoint, note)) = log.checkpoint()? else {
            return Ok((0, String::new(), Vec::new()));
        };
        let from = checkpoint.size.saturating_sub(NEWEST);
        let mut newest = Vec::new();
        for entry in log.entries(from, checkpoint.size) {
            let (index, entry) = entry?;
            let at = Moment::new(entry.at(), now);
            let (kind, about) = (entry.kind().to_owned(), about(&entry));
            newest.push(Row { index, kind, about, at });
        }
        newest.reverse();
        Ok((checkpoint.size, String::from_utf8_lossy(&note).into_owned(), newest))
    };
    let (size, checkpoint, newest) = READING
        .work(read)
        .await
        .unwrap_or_else(|error| Err(BrowseError::Store(error.to_string())))?;
    let url = server.public_url.clone();
    written(&Ledger { frame, url, size, entries: grouped(size), checkpoint, vkey, newest })
}

pub(super) async fn entry(
    server: &Server,
    frame: Frame,
    index: u64,
) -> Result<Response<Body>, BrowseError> {
    let keeper = std::sync::Arc::clone(&server.keeper);
    let found = READING.work(move || keeper.entry(index)).await;
    let entry = found.unwrap_or_else(|error| Err(BrowseError::Store(error.to_string())))?;
    let json = serde_json::to_string_pretty(&entry.to_json()).unwrap_or_default();
    let at = Moment::new(entry.at(), server.clock.now());
    written(&One { frame, index, kind: entry.kind().to_owned(), at, json })
}

/// What an entry is about, in a few words.
fn about(entry: &Entry) -> String {
    let some = |packages: &[String], url: &str| match packages {
        [] => url.to_owned(),
        [first] => first.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    };
    match entry {
        Entry::Key(key) => key.vkey.split('+').next().unwrap_or_default().to_owned(),
        Entry::Pin(pin) => some(&pin.packages, &pin.url),
        Entry::Snapshot(it) if it.versions == 1 => format!("{}, 1 version", it.repository),
        Entry::Snapshot(it) => format!("{}, {} versions", it.repository, grouped(it.versions)),
        Entry::Divergence(it) if it.packages.is_empty() => {
            format!("{}, {}", it.what, it.repository)
        }
        Entry::Divergence(it) => format!("{}, {}", it.what, some(&it.packages, &it.url)),
        Entry::Decision(decision) => {
            let (state, divergence) = (decision.action.state(), decision.divergence);
            let by = printable(decision.by.as_bytes(), usize::MAX);
            format!("divergence {divergence} {state} by {by}")
        }
        Entry::Recheck(it) => format!("{}, {}", it.outcome, some(&it.packages, &it.url)),
        Entry::History(history) => history.repository.clone(),
        Entry::Import(import) => import.key.split('+').next().unwrap_or_default().to_owned(),
        Entry::Other(_) => String::new(),
    }
}

/// The proof as one text (C2SP tlog-proof), to be downloaded.
pub(super) async fn proof(server: &Server, index: u64) -> Response<Body> {
    let log = server.keeper.store().log().clone();
    let proved = READING.work(move || prove(&log, index)).await;
    match proved {
        Ok(Ok(proof)) => {
            let bytes = proof.to_bytes().into();
            // A later one leads to a later checkpoint.
            let mut response = answer::plain(bytes, answer::TEXT, "no-cache");
            let name = format!("attachment; filename=\"entry-{index}.tlog-proof\"");
            answer::insert(response.headers_mut(), CONTENT_DISPOSITION, &name);
            response
        }
        Ok(Err(error @ ProveError::NotFound(_))) => {
            answer::message(StatusCode::NOT_FOUND, &error.to_string())
        }
        failed => {
            let error = failed.map(|proved| proved.err().map(|it| it.to_string()));
            tracing::error!(?error, index, "an entry can't be proved");
            let text = "the proof can't be made; see the server's log";
            answer::message(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

const NEWEST: u64 = 20;
