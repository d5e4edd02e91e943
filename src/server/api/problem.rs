//! Errors as problem details (RFC 9457).

use crate::server::answer;
use crate::server::body::Body;
use crate::server::refusal::Refusal;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

/// What went wrong, for a program and for who reads its log.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status says which kind of problem it is.
    r#type: &'static str,
    /// The name of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what to do about it.
    detail: String,
    /// The path that was asked for.
    instance: String,
}

/// A refusal, for a program.
pub(in crate::server) fn refused(refusal: Refusal, path: &str) -> Response<Body> {
    let mut response = problem(refusal.status, refusal.message, path);
    refusal.add_to(response.headers_mut());
    response
}

/// A problem as the answer.
pub(super) fn problem(status: StatusCode, detail: &str, path: &str) -> Response<Body> {
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: detail.to_owned(),
        instance: path.to_owned(),
    };
    // The same headers as a text has; only the body is another one.
    let mut response = answer::message(status, detail);
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    *response.body_mut() = Body::Full(serde_json::to_vec(&problem).unwrap_or_default().into());
    response
}
