//! Answers that break off, stall, trickle or never end.

use super::server::{Script, TestServer, ok, status};
use super::{client, config, get, impatient, limits, whole};
use crate::upstream::client::Limits;
use crate::upstream::pace::PaceLimits;
use crate::upstream::{Client, FetchError, FetchErrorKind, Wait};
use std::time::{Duration, Instant};

/// What becomes of a body: the bytes that came, and the error that ended it, twice.
async fn broken(script: Script) -> (Vec<u8>, FetchError) {
    let server = TestServer::start(move |_| script.clone()).await;
    let mut response = get(&client(&impatient()), &server.url("/")).await.unwrap();
    let mut body = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => panic!("a broken body looked like a whole one"),
            Err(error) => break error,
        }
    };
    assert_eq!(response.received(), body.len() as u64);
    let again = response.chunk().await.unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    (body, error)
}

#[tokio::test]
async fn a_body_that_ends_early_is_truncated() {
    let (body, error) = broken("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".into()).await;
    assert_eq!(body, b"abc");
    let FetchErrorKind::Truncated { received: 3, expected: Some(10) } = error.kind else {
        panic!("{error}");
    };
    assert!(error.is_transient());

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (body, error) = broken(chunked.into()).await;
    assert_eq!(body, b"abc");
    let FetchErrorKind::Truncated { received: 3, expected: None } = error.kind else {
        panic!("{error}");
    };
}

#[tokio::test]
async fn a_body_that_stalls_times_out() {
    let script = Script::from("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").stall();
    let (body, error) = broken(script).await;
    assert_eq!(body, b"abc");
    let FetchErrorKind::Timeout(Wait::NextByte { received: 3 }) = error.kind else {
        panic!("{error}");
    };
}

#[tokio::test]
async fn a_body_without_end_hits_the_permitted_size() {
    let script = Script::from("HTTP/1.1 200 OK\r\n\r\n").repeat(&[0; 65536], Duration::ZERO);
    let (body, error) = broken(script).await;
    assert!(body.len() <= 1 << 20);
    assert!(matches!(error.kind, FetchErrorKind::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_body_announced_too_large_is_not_even_begun() {
    let server =
        TestServer::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nabc".into())
            .await;
    let error = get(&client(&config()), &server.url("/")).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_body_that_trickles_ends() {
    let server = TestServer::start(|_| {
        Script::from("HTTP/1.1 200 OK\r\n\r\n").repeat(b"x", Duration::from_millis(20))
    })
    .await;
    let pace = PaceLimits {
        floor: 1000,
        window: Duration::from_millis(100),
        longest: Duration::from_secs(60),
    };
    let client = Client::with_limits(&config(), Limits { pace, ..limits() }).unwrap();
    let error = whole(get(&client, &server.url("/")).await.unwrap()).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::TooSlow { .. }), "{error}");
}

#[tokio::test]
async fn a_head_that_stalls_or_trickles_times_out() {
    for script in [
        Script::default().stall(),
        Script::from("HTTP/1.1 200 OK\r\nX: ").repeat(b"x", Duration::from_millis(20)),
    ] {
        let server = TestServer::start(move |_| script.clone()).await;
        let begin = Instant::now();
        let error = get(&client(&impatient()), &server.url("/")).await.unwrap_err();
        assert!(matches!(error.kind, FetchErrorKind::Timeout(Wait::FirstByte)), "{error}");
        assert!(begin.elapsed() < config().timeout.get());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_head_is_interrupted() {
    for script in [Script::default(), "HTTP/1.1 200 OK\r\nX".into(), "what?\r\n\r\n".into()] {
        let server = TestServer::start(move |_| script.clone()).await;
        let error = get(&client(&config()), &server.url("/")).await.unwrap_err();
        assert!(matches!(error.kind, FetchErrorKind::Interrupted { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole_without_an_announced_length() {
    let server = TestServer::start(|_| "HTTP/1.0 200 OK\r\n\r\nall of it".into()).await;
    let response = get(&client(&config()), &server.url("/")).await.unwrap();
    assert_eq!(response.content_length, None);
    assert_eq!(whole(response).await.unwrap(), b"all of it");
    let empty = TestServer::start(|_| ok("")).await;
    let response = get(&client(&config()), &empty.url("/")).await.unwrap();
    assert!(whole(response).await.unwrap().is_empty());
}

#[tokio::test]
async fn other_statuses_are_errors() {
    for (line, transient) in [
        ("404 Not Found", false),
        ("206 Partial Content", false),
        ("403 Forbidden", false),
        ("429 Too Many Requests", true),
        ("500 Internal Server Error", true),
    ] {
        let server = TestServer::start(move |_| status(line)).await;
        let error = get(&client(&config()), &server.url("/")).await.unwrap_err();
        assert!(matches!(error.kind, FetchErrorKind::Status(_)), "{error}");
        assert_eq!(error.is_transient(), transient, "{line}");
    }
}
