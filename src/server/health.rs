//! What supervisors and load balancers ask: whether it lives, whether all is well, what it is.

use super::Server;
use super::answer;
use super::body::Body;
use crate::VERSION;
use crate::keeper::readiness::Part;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

/// What is asked about the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Whether it answers at all.
    Live,
    /// Whether every part is as it should be.
    Ready,
    /// Which version it is.
    Version,
}

pub(super) async fn answer(server: &Server, health: Health, headers: &HeaderMap) -> Response<Body> {
    match health {
        Health::Live => answer::plain("ok\n".into(), answer::TEXT, "no-store"),
        Health::Ready => ready(server, headers).await,
        Health::Version => {
            let version = json!({
                "name": "opam-keep", "version": VERSION.number, "commit": VERSION.commit,
            });
            answer::plain(version.to_string().into(), "application/json", "no-store")
        }
    }
}

impl Server {
    /// Every part, with what is wrong with it.
    pub(super) async fn readiness(&self) -> Vec<Part> {
        let mut parts = self.keeper.readiness().await;
        if self.keeper.is_stopping() {
            parts.push(Part::new("server", Some("stopping".to_owned())));
        }
        let refused = self.configuration.status().problem;
        let refused = refused.map(|why| format!("the change is refused: {why}"));
        parts.push(Part::new(CONFIGURATION, refused));
        if self.tls.is_some() {
            parts.push(Part::new("certificate", self.certificate_problem()));
        }
        parts.push(Part::new(TOKENS, self.gate.problem()));
        parts
    }
}

/// One line for each part, or JSON for who asks for that.
async fn ready(server: &Server, headers: &HeaderMap) -> Response<Body> {
    let mut parts = server.readiness().await;
    // Who may not read learns which part it is, and not what it says of disks and upstreams; and
    // what is in the operator's files is for nobody else.
    let is_hidden = |part: &Part| server.gate.is_closed() || HIDDEN.contains(&part.part.as_str());
    for part in parts.iter_mut().filter(|part| is_hidden(part)) {
        part.problem = part.problem.take().map(|_| TOLD_ELSEWHERE.to_owned());
    }
    let is_ready = parts.iter().all(|part| part.problem.is_none());
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = if accept.is_some_and(|accept| accept.contains("application/json")) {
        let told = json!({ "ready": is_ready, "parts": parts });
        answer::plain(told.to_string().into(), "application/json", "no-store")
    } else {
        let mut text = String::new();
        for part in &parts {
            let state = part.problem.as_deref().unwrap_or("ok");
            text.push_str(&format!("{}: {state}\n", part.part));
        }
        answer::plain(text.into(), answer::TEXT, "no-store")
    };
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    }
    response
}

const CONFIGURATION: &str = "configuration";
const TOKENS: &str = "tokens";
const HIDDEN: [&str; 2] = [CONFIGURATION, TOKENS];
const TOLD_ELSEWHERE: &str = "not as it should be; opam-keep health says why";
