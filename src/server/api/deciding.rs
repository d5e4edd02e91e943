//! Calls that decide something or make this server ask others, as the admin token that they come
//! with.

use super::lines;
use super::problem::problem;
use super::{failed, json};
use crate::keeper::divergences::DecideError;
use crate::keeper::recheck::{Asker, CheckError, Checked, Selection, SelectionError};
use crate::keeper::selector::{Packages, SelectError, Selector};
use crate::keeper::sync::{Plan, Synced};
use crate::keeper::{Exceptions, Refreshed};
use crate::ledger::entry::Action;
use crate::package_pattern::PackagePattern;
use crate::server::Server;
use crate::server::body::{Body, read_small};
use crate::server::gate::Visitor;
use crate::store::tokens::TokenName;
use futures_util::{StreamExt as _, future, stream};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A decision about a divergence.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    /// What is decided.
    pub action: Action,
    /// Why, for those who read the ledger later.
    #[serde(default)]
    #[schemars(length(max = 4000))]
    pub why: Option<String>,
}

/// What to fetch again; without anything, what is due by the schedule.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecheckWhat {
    /// A package as `name` or `name.version`, or part of a URL.
    #[serde(default)]
    pub about: Option<String>,
    /// Everything that is pinned.
    #[serde(default)]
    pub all: bool,
}

/// One line of what comes of rechecks.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RecheckLine {
    /// The first line: so many URLs are fetched.
    Urls(usize),
    /// What came of one.
    Checked(Checked),
    /// Why nothing can be said of one.
    Failed(String),
}

/// What to fetch ahead of time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncWhat {
    /// The repository; all of them without one.
    #[serde(default)]
    pub repository: Option<String>,
    /// Packages as `name`, `name.version`, or with `*`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub packages: BTreeSet<PackagePattern>,
    /// Every package.
    #[serde(default)]
    pub all: bool,
    /// Only says what there is to do.
    #[serde(default)]
    pub dry_run: bool,
}

/// One line of what comes of a sync.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SyncLine {
    /// The first line: what there is to do.
    Plan(Plan),
    /// What happens then.
    Event(Synced),
}

/// What came of asking upstream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RefreshedHere {
    /// What it did.
    pub refreshed: Refreshed,
    /// What is not served as upstream has it.
    #[serde(flatten)]
    pub exceptions: Exceptions,
}

pub(super) async fn decide(
    server: &Server,
    id: u64,
    visitor: &Visitor,
    body: Incoming,
    path: &str,
) -> Response<Body> {
    let Some(by) = visitor.admin() else { return not_admitted(path) };
    let Decide { action, why } = match read(body, path).await {
        Ok(given) => given,
        Err(response) => return response,
    };
    if why.as_ref().is_some_and(|why| why.len() > MAX_WHY) {
        return problem(StatusCode::BAD_REQUEST, "a reason has up to 4000 bytes", path);
    }
    note(by, path);
    match server.keeper.decide(id, action, by.to_string(), why).await {
        Ok(decided) => json(&decided),
        Err(error @ DecideError::NoDivergence(_)) => {
            problem(StatusCode::NOT_FOUND, &error.to_string(), path)
        }
        Err(error @ (DecideError::NothingToAccept { .. } | DecideError::Outdated(_))) => {
            problem(StatusCode::CONFLICT, &error.to_string(), path)
        }
        Err(error) => failed(&error, path),
    }
}

pub(super) async fn recheck(
    server: &Server,
    visitor: &Visitor,
    body: Incoming,
    path: &str,
) -> Response<Body> {
    let Some(by) = visitor.admin() else { return not_admitted(path) };
    let selection = match read(body, path).await {
        Ok(RecheckWhat { about: None, all: false }) => Selection::Due,
        Ok(RecheckWhat { about: None, all: true }) => Selection::All,
        Ok(RecheckWhat { about: Some(about), all: false }) => Selection::About(about),
        Ok(_) => return problem(StatusCode::BAD_REQUEST, "about and all exclude each other", path),
        Err(response) => return response,
    };
    note(by, path);
    let subjects = match server.keeper.select(selection).await {
        Ok(subjects) => subjects,
        Err(error @ SelectionError::Nothing(_)) => {
            return problem(StatusCode::NOT_FOUND, &error.to_string(), path);
        }
        Err(error @ SelectionError::Offline) => {
            return problem(StatusCode::CONFLICT, &error.to_string(), path);
        }
        Err(error) => return failed(&error, path),
    };
    let first = RecheckLine::Urls(subjects.len());
    let line = |checked: Result<Checked, CheckError>| match checked {
        Ok(checked) => RecheckLine::Checked(checked),
        Err(error) => RecheckLine::Failed(error.to_string()),
    };
    let checks = server.keeper.recheck(subjects, Asker::Person).map(line);
    lines::answer(stream::once(future::ready(first)).chain(checks))
}

pub(super) async fn sync(
    server: &Server,
    visitor: &Visitor,
    body: Incoming,
    path: &str,
) -> Response<Body> {
    let Some(by) = visitor.admin() else { return not_admitted(path) };
    let SyncWhat { repository, packages, all, dry_run } = match read(body, path).await {
        Ok(given) => given,
        Err(response) => return response,
    };
    let packages = match (packages.is_empty(), all) {
        (true, true) => Packages::All,
        (false, false) => Packages::Named(packages),
        _ => {
            let sentence = "name packages, or set all to true for every one of them";
            return problem(StatusCode::BAD_REQUEST, sentence, path);
        }
    };
    note(by, path);
    let planned = server.keeper.plan_sync(Selector { repository, packages }).await;
    let (plan, archives) = match planned {
        Ok(planned) => planned,
        Err(error @ SelectError::NoRepository(_)) => {
            return problem(StatusCode::NOT_FOUND, &error.to_string(), path);
        }
        Err(error @ SelectError::NoSnapshot { .. }) => {
            return problem(StatusCode::CONFLICT, &error.to_string(), path);
        }
        Err(error) => return failed(&error, path),
    };
    let archives = if dry_run { Vec::new() } else { archives };
    let events = server.keeper.sync(archives, None).map(SyncLine::Event);
    // What is empty from the start ends with the plan.
    let events = if dry_run { stream::empty().boxed() } else { events.boxed() };
    lines::answer(stream::once(future::ready(SyncLine::Plan(plan))).chain(events))
}

pub(super) async fn refresh(
    server: &Server,
    name: &str,
    visitor: &Visitor,
    path: &str,
) -> Response<Body> {
    let Some(by) = visitor.admin() else { return not_admitted(path) };
    let Some(repository) = server.keeper.repository(name) else {
        return problem(StatusCode::NOT_FOUND, &server.keeper.no_repository(name), path);
    };
    note(by, path);
    match server.keeper.refresh(repository).await {
        Ok(refreshed) => {
            json(&RefreshedHere { refreshed, exceptions: repository.health().exceptions })
        }
        Err(error) => problem(StatusCode::BAD_GATEWAY, &error.to_string(), path),
    }
}

/// Who decides what is in the log as well, whatever comes of it.
fn note(by: &TokenName, path: &str) {
    tracing::info!(token = %by, path, "asked by an admin token");
}

/// The gate lets nobody else come here.
fn not_admitted(path: &str) -> Response<Body> {
    problem(StatusCode::FORBIDDEN, "deciding needs an admin token", path)
}

/// The body as JSON; an empty one is an object without anything.
async fn read<T: DeserializeOwned>(body: Incoming, path: &str) -> Result<T, Response<Body>> {
    let bytes = read_small(body, MAX_BODY).await;
    let bytes = bytes.map_err(|refusal| problem(refusal.status, refusal.message, path))?;
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let sentence = format!("the body is not the JSON that this call takes: {error}");
        problem(StatusCode::BAD_REQUEST, &sentence, path)
    })
}

const MAX_WHY: usize = 4_000;
/// Longest body, in bytes: some ten thousand package names.
const MAX_BODY: usize = 1 << 20;
