//! Logging in: a browser shows a token once, and is known by a cookie from then on.

use super::address::is_own_path;
use super::{Frame, refused, see_other, written};
use crate::keeper::browse::BrowseError;
use crate::server::Server;
use crate::server::body::Body;
use crate::server::gate::Visitor;
use crate::server::given::parameter;
use crate::server::refusal::Refusal;
use askama::Template;
use http::Response;
use http::StatusCode;
use http::header::SET_COOKIE;
use http::request::Parts;
use std::net::IpAddr;

#[derive(Template)]
#[template(path = "login.html", config = "src/server/askama.toml")]
struct LogIn {
    frame: Frame,
    to: String,
    problem: Option<&'static str>,
}

pub(super) fn page(
    frame: Frame,
    to: String,
    problem: Option<&'static str>,
) -> Result<Response<Body>, BrowseError> {
    written(&LogIn { frame, to, problem })
}

pub(super) fn log_in(
    server: &Server,
    sent: &str,
    visitor: &Visitor,
    request: &Parts,
    client: IpAddr,
) -> Response<Body> {
    let to = parameter(sent, "to").filter(|to| is_own_path(to)).unwrap_or_else(|| "/".to_owned());
    let token = parameter(sent, "token").unwrap_or_default();
    match server.gate.log_in(&token, client) {
        Ok(cookie) => {
            let mut response = see_other(&to);
            response.headers_mut().insert(SET_COOKIE, cookie);
            response
        }
        Err(Refusal { status: StatusCode::UNAUTHORIZED, message, .. }) => {
            match page(Frame::new(visitor, request), to, Some(message)) {
                Ok(mut response) => {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                    response
                }
                Err(error) => super::failed(&error, visitor, request),
            }
        }
        Err(refusal) => refused(refusal, visitor, request),
    }
}

pub(super) fn log_out(
    server: &Server,
    sent: &str,
    visitor: &Visitor,
    request: &Parts,
) -> Response<Body> {
    let mut response = see_other("/");
    if server.gate.is_own_form(visitor, parameter(sent, "form_key").as_deref()) {
        let cookie = server.gate.log_out(&request.headers);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
