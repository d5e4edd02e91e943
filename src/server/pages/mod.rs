//! The web pages: written here, without scripts, for any browser.
//!
//! Everything that comes from upstream is escaped by the templates, and the policy that goes with
//! each page lets a browser run no script at all, load nothing from elsewhere and send no form to
//! anyone else.

mod address;
mod chart;
mod divergences;
mod home;
mod ledger;
mod login;
mod packages;
mod shown;
mod snapshots;
mod version;

pub(super) use address::{Form, Page, encoded, form, page};

use super::Server;
use super::answer;
use super::body::{Body, read_small};
use super::gate::Visitor;
use super::refusal::Refusal;
use crate::VERSION;
use crate::keeper::browse::{BrowseError, PAGE};
use askama::Template;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use std::net::IpAddr;

/// What all pages have around them.
pub(super) struct Frame {
    /// Whose token the browser showed.
    user: Option<String>,
    /// What this session's forms carry.
    form_key: String,
    version: &'static str,
    /// Where the browser is, to come back to after logging in.
    here: String,
}

/// Links to the pages before and after one of a list.
pub(super) struct Pager {
    total: usize,
    first: usize,
    last: usize,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "problem.html", config = "src/server/askama.toml")]
struct Problem<'a> {
    frame: Frame,
    title: &'a str,
    message: &'a str,
}

/// Answers with a page.
pub(super) async fn show(
    server: &Server,
    page: Page,
    visitor: &Visitor,
    request: &Parts,
) -> Response<Body> {
    let frame = Frame::new(visitor, request);
    let shown = match page {
        Page::Home => home::page(server, frame).await,
        Page::Packages { repository, query, page } => {
            packages::search(server, frame, repository, query, page).await
        }
        Page::Package { repository, name } => {
            packages::package(server, frame, &repository, &name).await
        }
        Page::Version { repository, package } => {
            version::page(server, frame, &repository, &package).await
        }
        Page::Divergences { filter, page } => divergences::list(server, frame, filter, page).await,
        Page::Divergence { id, done } => {
            divergences::page(server, frame, visitor, id, done, None).await
        }
        Page::Snapshots { repository, page } => {
            snapshots::list(server, frame, repository, page).await
        }
        Page::Snapshot(entry) => snapshots::page(server, frame, entry).await,
        Page::Ledger => ledger::page(server, frame).await,
        Page::Entry(index) => ledger::entry(server, frame, index).await,
        Page::Proof(index) => return ledger::proof(server, index).await,
        Page::LogIn { to } => login::page(frame, to, None),
    };
    shown.unwrap_or_else(|error| failed(&error, visitor, request))
}

/// Does what a form asks for.
pub(super) async fn submit(
    server: &Server,
    form: Form,
    visitor: &Visitor,
    request: &Parts,
    body: Incoming,
    client: IpAddr,
) -> Response<Body> {
    let sent = match read_small(body, MAX_FORM).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(refusal) => return refused(refusal, visitor, request),
    };
    match form {
        Form::LogIn => login::log_in(server, &sent, visitor, request, client),
        Form::LogOut => login::log_out(server, &sent, visitor, request),
        Form::Decide(id) => divergences::decide(server, id, &sent, visitor, request).await,
    }
}

/// A refusal, as a page where a browser asks.
pub(super) fn refused(refusal: Refusal, visitor: &Visitor, request: &Parts) -> Response<Body> {
    let is_read = request.method == http::Method::GET || request.method == http::Method::HEAD;
    let mut response = if !wants_html(&request.headers) {
        answer::message(refusal.status, refusal.message)
    } else if refusal.status == StatusCode::UNAUTHORIZED && is_read {
        let to = request.uri.path_and_query().map_or("/", |path| path.as_str());
        see_other(&format!("/login?to={}", encoded(to)))
    } else {
        problem(refusal.status, refusal.message, visitor, request)
    };
    refusal.add_to(response.headers_mut());
    response
}

/// Whether a browser asks, for a person to read.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn failed(error: &BrowseError, visitor: &Visitor, request: &Parts) -> Response<Body> {
    match error {
        BrowseError::NotFound(sentence) => {
            problem(StatusCode::NOT_FOUND, sentence, visitor, request)
        }
        error => {
            tracing::error!(%error, path = request.uri.path(), "a page can't be written");
            let sentence = "this can't be shown now; the server's log says why";
            problem(StatusCode::INTERNAL_SERVER_ERROR, sentence, visitor, request)
        }
    }
}

fn problem(
    status: StatusCode,
    message: &str,
    visitor: &Visitor,
    request: &Parts,
) -> Response<Body> {
    let frame = Frame::new(visitor, request);
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::UNAUTHORIZED => "Log in first",
        status if status.is_server_error() => "Something failed here",
        _ => "Not understood",
    };
    let mut response = match written(&Problem { frame, title, message }) {
        Ok(response) => response,
        Err(_) => return answer::message(status, message),
    };
    *response.status_mut() = status;
    if status == StatusCode::UNAUTHORIZED {
        // Basic, which opam understands, would have a browser ask in a window of its own.
        let challenge = HeaderValue::from_static("Bearer realm=\"opam-keep\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn written(page: &impl Template) -> Result<Response<Body>, BrowseError> {
    let html = page.render().map_err(|error| BrowseError::Store(error.to_string()))?;
    // What a page shows depends on who asks, and on the moment.
    let html = shown::harmless(html);
    let mut response = answer::plain(html.into(), "text/html; charset=utf-8", "private, no-cache");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    Ok(response)
}

fn see_other(path: &str) -> Response<Body> {
    let mut response = answer::plain(Bytes::new(), answer::TEXT, "no-store");
    *response.status_mut() = StatusCode::SEE_OTHER;
    answer::insert(response.headers_mut(), header::LOCATION, path);
    response
}

/// The pages' style sheet.
pub(super) fn style() -> Response<Body> {
    let css = Bytes::from_static(include_bytes!("../templates/style.css"));
    answer::plain(css, "text/css; charset=utf-8", "max-age=3600")
}

impl Frame {
    fn new(visitor: &Visitor, request: &Parts) -> Self {
        let here = request.uri.path_and_query().map_or("/", |path| path.as_str());
        let here = if here.starts_with("/login") { "/" } else { here };
        Self {
            user: visitor.token.as_ref().map(|(name, _)| name.to_string()),
            form_key: visitor.form_key.clone().unwrap_or_default(),
            version: VERSION.text,
            here: encoded(here),
        }
    }
}

impl Pager {
    /// For one page of a list; `link` writes the address of another, given from 1 on.
    fn new(page: usize, total: usize, link: impl Fn(usize) -> String) -> Self {
        let first = page.saturating_mul(PAGE).min(total);
        let last = first.saturating_add(PAGE).min(total);
        Self {
            total,
            first: (first + 1).min(total),
            last,
            previous: (page > 0).then(|| link(page)),
            next: (last < total).then(|| link(page + 2)),
        }
    }
}

/// No scripts, nothing from elsewhere, no frame around it, no form to elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// Longest form, in bytes.
const MAX_FORM: usize = 16 << 10;
