//! Plain HTTP where HTTPS is spoken: answered with a sentence instead of an alert that no one can
//! read.

use super::answer;
use super::body::Body;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use std::io;
use tokio::net::TcpStream;

/// Whether what a client sends first is the beginning of an HTTP request; takes nothing of it.
pub(super) async fn begins(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    // A method begins with a letter, and a TLS record with what kind of record it is.
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// Says where to ask instead, whatever was asked for.
pub(super) fn answer(public_url: &str) -> Response<Body> {
    let text = format!("This port speaks HTTPS: ask for {public_url}/ instead.");
    let mut response = answer::message(StatusCode::BAD_REQUEST, &text);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
