//! Responses: conditional requests, ranges and errors, the same for whatever is served.

use super::body::{Body, FilePart};
use super::room::Place;
use crate::digest::Sha256;
use crate::store::blobs::CheckedBlob;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use std::fmt::Write as _;
use std::ops::Range;

/// Bytes that can be served whole or in part.
pub(super) enum Content {
    Memory(Bytes),
    /// A file, opened for that place.
    File(CheckedBlob, Place),
}

/// How long others may keep an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// The name says what the bytes are: they never change.
    Immutable,
    /// It has to be asked for again each time; the ETag saves sending it again.
    Revalidate,
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(blob, _) => blob.size,
        }
    }

    fn part(self, range: Range<u64>) -> Body {
        match self {
            // A part of bytes in memory fits memory.
            Self::Memory(bytes) => {
                Body::Full(bytes.slice(range.start as usize..range.end as usize))
            }
            Self::File(blob, place) => {
                let length = range.end - range.start;
                Body::File(FilePart::new(blob.file, range.start, length, place))
            }
        }
    }
}

/// Content named by its hash: 200, 206, 304, 412 or 416, as the request's headers ask.
///
/// RFC 9110 sections 13 (conditions) and 14 (ranges; one range, more are answered whole).
pub(super) fn content(
    request: &HeaderMap,
    name: &Sha256,
    content: Content,
    content_type: &'static str,
    freshness: Freshness,
) -> Response<Body> {
    let size = content.size();
    let etag = etag(name);
    if !meets_if_match(request, &etag) {
        return message(StatusCode::PRECONDITION_FAILED, "If-Match names something else");
    }
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.reserve(MOST_HEADERS);
    say_how_fresh(headers, &etag, freshness);
    if is_in_if_none_match(request, &etag) {
        // What else describes the bytes, whoever has them knows (RFC 9110 section 15.4.5).
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    say_what_it_is(headers, name);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let range = match requested_range(request, &etag, size) {
        Requested::Whole => 0..size,
        Requested::Part(range) => {
            let value = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            insert(headers, header::CONTENT_RANGE, &value);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            range
        }
        Requested::Unsatisfiable => return unsatisfiable(size),
    };
    *response.body_mut() = content.part(range);
    response
}

/// Says nothing of the bytes but how many there are: a cache finds its copy of an answer without
/// looking at `Range`, so it would answer everyone with this one.
fn unsatisfiable(size: u64) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_RANGE, &format!("bytes */{size}"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    response
}

fn say_how_fresh(headers: &mut HeaderMap, etag: &HeaderValue, freshness: Freshness) {
    headers.insert(header::ETAG, etag.clone());
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(match freshness {
            Freshness::Immutable => "public, max-age=31536000, immutable",
            Freshness::Revalidate => "no-cache",
        }),
    );
}

fn say_what_it_is(headers: &mut HeaderMap, name: &Sha256) {
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(REPR_DIGEST, repr_digest(name));
}

/// A short text for a person, with the status that machines read.
pub(super) fn message(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"opam-keep\", charset=\"UTF-8\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Bytes that need no conditions: small texts and tiles.
pub(super) fn plain(
    bytes: Bytes,
    content_type: &'static str,
    cache: &'static str,
) -> Response<Body> {
    let mut response = Response::new(Body::Full(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

/// Has caches that others share keep nothing: they would hand it to those who have no token.
pub(super) fn keep_from_shared_caches(headers: &mut HeaderMap) {
    let said = headers.get(header::CACHE_CONTROL).and_then(|cache| cache.to_str().ok());
    let private = match said {
        Some(said) if said == NO_STORE || said.starts_with(PRIVATE) => return,
        Some(said) => format!("{PRIVATE}, {}", said.strip_prefix("public, ").unwrap_or(said)),
        None => PRIVATE.to_owned(),
    };
    insert(headers, header::CACHE_CONTROL, &private);
}

/// The strong entity tag of bytes with this hash.
pub(super) fn etag(name: &Sha256) -> HeaderValue {
    header_of(format_args!("\"sha256-{name}\""))
}

/// How the log calls a request.
pub(super) fn request_id(id: u64) -> HeaderValue {
    header_of(format_args!("{id:016x}"))
}

fn repr_digest(name: &Sha256) -> HeaderValue {
    let mut digits = [0; 44];
    let encoded = STANDARD.encode_slice(name.as_bytes(), &mut digits);
    let digits = encoded.ok().and_then(|length| std::str::from_utf8(digits.get(..length)?).ok());
    header_of(format_args!("sha-256=:{}:", digits.unwrap_or_default()))
}

/// A value of a few letters and digits; every answer has some, so none is written twice.
fn header_of(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut value = BytesMut::with_capacity(LONGEST_VALUE);
    let written = value.write_fmt(text).ok();
    let value = written.and_then(|()| HeaderValue::from_maybe_shared(value.freeze()).ok());
    value.expect("letters and digits are a header")
}

/// Inserts a header unless its value has bytes that no header may have.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether what to answer depends on all of the bytes: a part is asked for, or only these.
pub(super) fn depends_on_all(request: &HeaderMap) -> bool {
    request.contains_key(header::RANGE) || request.contains_key(header::IF_MATCH)
}

fn meets_if_match(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let is_it = |tag: &str| etag == tag;
    !request.contains_key(header::IF_MATCH) || is_listed(request, header::IF_MATCH, is_it)
}

fn is_in_if_none_match(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let is_it = |tag: &str| etag == tag.strip_prefix("W/").unwrap_or(tag);
    is_listed(request, header::IF_NONE_MATCH, is_it)
}

/// Whether an entity tag in the header is it, or all of them are.
fn is_listed(request: &HeaderMap, name: HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    let values = request.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || is_it(tag))
}

enum Requested {
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
}

fn requested_range(request: &HeaderMap, etag: &HeaderValue, size: u64) -> Requested {
    let mut values = request.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Requested::Whole };
    if request.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
        return Requested::Whole;
    }
    let Some(spec) = value.to_str().ok().and_then(|value| value.strip_prefix("bytes=")) else {
        return Requested::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else { return Requested::Whole };
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last), first.is_empty(), last.is_empty()) {
        (Some(first), Some(last), _, _) if first > last => return Requested::Whole,
        (Some(first), Some(last), _, _) => first..last.saturating_add(1).min(size),
        (Some(first), None, _, true) => first..size,
        (None, Some(last), true, _) => size.saturating_sub(last)..size,
        _ => return Requested::Whole,
    };
    if range.start >= range.end { Requested::Unsatisfiable } else { Requested::Part(range) }
}

/// With those that every response gets.
const MOST_HEADERS: usize = 12;
/// Longest value that says what bytes are, an entity tag.
const LONGEST_VALUE: usize = 73;
/// RFC 9530.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const NO_STORE: &str = "no-store";
const PRIVATE: &str = "private";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(headers: &[(HeaderName, &str)]) -> (u16, String, u64) {
        let mut request = HeaderMap::new();
        for (name, value) in headers {
            request.append(name, value.parse().unwrap());
        }
        let bytes = Bytes::from_static(b"0123456789");
        let name = Sha256::of(&bytes);
        let response = content(&request, &name, Content::Memory(bytes), TEXT, Freshness::Immutable);
        let range = response.headers().get(header::CONTENT_RANGE);
        let range = range.map_or("", |range| range.to_str().unwrap()).to_owned();
        let size = http_body::Body::size_hint(response.body()).exact().unwrap();
        (response.status().as_u16(), range, size)
    }

    #[test]
    fn one_range_is_answered_in_part_and_anything_odd_whole() {
        for (value, expected) in [
            ("bytes=0-0", (206, "bytes 0-0/10", 1)),
            ("bytes=3-", (206, "bytes 3-9/10", 7)),
            ("bytes=-4", (206, "bytes 6-9/10", 4)),
            ("bytes=8-99999999999999999999999", (206, "bytes 8-9/10", 2)),
            ("bytes=10-", (416, "bytes */10", 0)),
            ("bytes=-0", (416, "bytes */10", 0)),
            ("bytes=5-3", (200, "", 10)),
            ("bytes=0-1,3-4", (200, "", 10)),
            ("bytes=-", (200, "", 10)),
            ("lines=0-1", (200, "", 10)),
            ("bytes=+1-2", (200, "", 10)),
        ] {
            let expected = (expected.0, expected.1.to_owned(), expected.2);
            assert_eq!(ask(&[(header::RANGE, value)]), expected, "{value}");
        }
    }

    #[test]
    fn conditions_are_held_against_the_hash() {
        let etag = etag(&Sha256::of(b"0123456789"));
        let etag = etag.to_str().unwrap();
        let weak = format!("\"x\", W/{etag}");
        for value in [etag, &weak, "*"] {
            assert_eq!(ask(&[(header::IF_NONE_MATCH, value)]).0, 304, "{value}");
        }
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"x\"")]).0, 200);
        let part = (header::RANGE, "bytes=1-2");
        assert_eq!(ask(&[part.clone(), (header::IF_RANGE, etag)]).0, 206);
        assert_eq!(ask(&[part.clone(), (header::IF_RANGE, "\"x\"")]).0, 200);
        for (value, status) in [
            (etag, 206),
            (&format!("\"x\", {etag}"), 206),
            ("*", 206),
            (&weak, 412),
            ("\"x\"", 412),
            ("", 412),
        ] {
            assert_eq!(ask(&[part.clone(), (header::IF_MATCH, value)]).0, status, "{value}");
        }
        let other = (header::IF_MATCH, "\"x\"");
        assert_eq!(ask(&[(header::IF_NONE_MATCH, etag), other]).0, 412, "it comes first");
    }

    #[test]
    fn shared_caches_are_told_to_keep_nothing() {
        for (said, expected) in [
            (Some("public, max-age=31536000, immutable"), "private, max-age=31536000, immutable"),
            (Some("no-cache"), "private, no-cache"),
            (Some("max-age=3600"), "private, max-age=3600"),
            (Some("private, no-cache"), "private, no-cache"),
            (Some("no-store"), "no-store"),
            (None, "private"),
        ] {
            let mut headers = HeaderMap::new();
            said.map(|said| headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(said)));
            keep_from_shared_caches(&mut headers);
            assert_eq!(headers[header::CACHE_CONTROL], expected, "{said:?}");
        }
    }
}
