//! Divergences: the list, and one with what decides about it.

use super::shown::{DiffLine, Moment, bytes, diff_lines};
use super::{Frame, Pager, refused, see_other, written};
use crate::keeper::browse::{BrowseError, Explained, StateFilter};
use crate::keeper::divergences::{DecideError, Recorded};
use crate::ledger::entry::{Action, Decision, Divergence, DivergenceState};
use crate::server::Server;
use crate::server::body::Body;
use crate::server::gate::Visitor;
use crate::server::given::parameter;
use crate::server::refusal::Refusal;
use askama::Template;
use http::request::Parts;
use http::{Response, StatusCode};

#[derive(Template)]
#[template(path = "divergences.html", config = "src/server/askama.toml")]
struct List {
    frame: Frame,
    filter: StateFilter,
    filters: [StateFilter; 4],
    rows: Vec<Row>,
    pager: Pager,
}

struct Row {
    id: u64,
    state: DivergenceState,
    at: Moment,
    divergence: Divergence,
    outdated: bool,
}

#[derive(Template)]
#[template(path = "divergence.html", config = "src/server/askama.toml")]
struct One {
    frame: Frame,
    id: u64,
    state: DivergenceState,
    at: Moment,
    divergence: Divergence,
    decisions: Vec<(Moment, Decision)>,
    observed_size: Option<String>,
    explanation: Option<String>,
    explanation_problem: Option<String>,
    diffs: Vec<Diff>,
    /// What the policy made of it, where it is the metadata that diverged.
    policy: Option<&'static str>,
    /// Whether upstream says something else by now.
    outdated: bool,
    /// Whether this browser may decide.
    decides: bool,
    can_accept: bool,
    done: Option<u64>,
    problem: Option<String>,
}

struct Diff {
    title: &'static str,
    lines: Vec<DiffLine>,
    more: usize,
}

pub(super) async fn list(
    server: &Server,
    frame: Frame,
    filter: StateFilter,
    page: usize,
) -> Result<Response<Body>, BrowseError> {
    let found = server.keeper.recorded_divergences(filter, page).await?;
    let now = server.clock.now();
    let row = |Recorded { id, state, divergence, outdated, .. }: Recorded| Row {
        id,
        state,
        at: Moment::new(divergence.at, now),
        divergence,
        outdated,
    };
    let link = |number| format!("/divergences?state={filter}&page={number}");
    let pager = Pager::new(page, found.total, link);
    let rows = found.divergences.into_iter().map(row).collect();
    written(&List { frame, filter, filters: StateFilter::ALL, rows, pager })
}

pub(super) async fn page(
    server: &Server,
    frame: Frame,
    visitor: &Visitor,
    id: u64,
    done: Option<u64>,
    problem: Option<String>,
) -> Result<Response<Body>, BrowseError> {
    let Explained { recorded, explanation, files_diff, archives_diff, problem: unexplained } =
        server.keeper.explained_divergence(id).await?;
    let Recorded { state, divergence, decisions, outdated, .. } = recorded;
    let now = server.clock.now();
    // Only a decision that is there was made.
    let done = done.filter(|entry| *entry > id && !decisions.is_empty());
    let decisions = decisions.into_iter().map(|it| (Moment::new(it.at, now), it)).collect();
    let diff = |title, text: Option<String>| {
        let (lines, more) = diff_lines(&text?);
        Some(Diff { title, lines, more })
    };
    let diffs = [
        diff("The files of the version", files_diff),
        diff("The files in the archive", archives_diff),
    ];
    let can_accept = divergence.held && state != DivergenceState::Accepted;
    let policy = divergence.what.is_of_metadata().then_some(match (divergence.held, state) {
        (_, DivergenceState::Accepted) if outdated => "It was held, then accepted.",
        (_, DivergenceState::Accepted) => "It was held, and is served since it was accepted.",
        (true, _) if outdated => "It was held.",
        (true, _) => "Held: not served as upstream has it until someone accepts it.",
        (false, _) if outdated => "It only warns of this.",
        (false, _) => "It only warns of this: nobody has to accept it.",
    });
    written(&One {
        frame,
        id,
        state,
        at: Moment::new(divergence.at, now),
        observed_size: divergence.observed.map(|it| bytes(it.size)),
        divergence,
        decisions,
        explanation,
        explanation_problem: unexplained,
        diffs: diffs.into_iter().flatten().collect(),
        policy,
        outdated,
        decides: visitor.admin().is_some(),
        can_accept,
        done,
        problem,
    })
}

/// Decides as the token by which the browser logged in.
pub(super) async fn decide(
    server: &Server,
    id: u64,
    sent: &str,
    visitor: &Visitor,
    request: &Parts,
) -> Response<Body> {
    let refuse = |status, message| refused(Refusal::new(status, message), visitor, request);
    if visitor.token.is_none() {
        return see_other(&format!("/login?to=/divergences/{id}"));
    }
    if !server.gate.is_own_form(visitor, parameter(sent, "form_key").as_deref()) {
        let message = "this form is not of your session: open the page again and try there";
        return refuse(StatusCode::FORBIDDEN, message);
    }
    let Some(name) = visitor.admin() else {
        let message = "your token may read and not decide: log in with an admin token";
        return refuse(StatusCode::FORBIDDEN, message);
    };
    let action = match parameter(sent, "action").as_deref() {
        Some("acknowledge") => Action::Acknowledge,
        Some("accept") => Action::Accept,
        _ => return refuse(StatusCode::BAD_REQUEST, "an action is acknowledge or accept"),
    };
    let why = parameter(sent, "why").map(|why| why.trim().to_owned());
    let why = why.filter(|why| !why.is_empty());
    if why.as_ref().is_some_and(|why| why.len() > MAX_WHY) {
        return refuse(StatusCode::BAD_REQUEST, "a reason has up to 4000 bytes");
    }
    tracing::info!(token = %name, divergence = id, action = %action.state(), "a decision on the web page");
    let problem = match server.keeper.decide(id, action, name.to_string(), why).await {
        Ok(decided) => match decided.problem.or(decided.waiting) {
            None => return see_other(&format!("/divergences/{id}?done={}", decided.entry)),
            Some(problem) => format!("Noted in ledger entry {}, but {problem}", decided.entry),
        },
        Err(
            error @ (DecideError::NoDivergence(_)
            | DecideError::NothingToAccept { .. }
            | DecideError::Outdated(_)),
        ) => error.to_string(),
        Err(error) => {
            tracing::error!(%error, divergence = id, "a decision can't be written");
            return refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the decision can't be written; see the server's log",
            );
        }
    };
    let frame = Frame::new(visitor, request);
    let shown = page(server, frame, visitor, id, None, Some(problem)).await;
    shown.unwrap_or_else(|error| super::failed(&error, visitor, request))
}

const MAX_WHY: usize = 4_000;
