//! Turns, retries and the circuit breaker, seen from outside.

use super::server::{Script, TestServer, ok, status};
use super::{client, config, get, impatient, limits, whole};
use crate::upstream::backoff::Backoff;
use crate::upstream::circuit::CircuitLimits;
use crate::upstream::client::Limits;
use crate::upstream::{Client, FetchErrorKind, Wait};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test]
async fn a_transient_failure_is_tried_again() {
    let count = AtomicU32::new(0);
    let server = TestServer::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => status("503 Service Unavailable"),
        1 => Script::default(),
        _ => ok("at last"),
    })
    .await;
    let mut limits = limits();
    limits.retry.attempts = 3;
    let client = Client::with_limits(&config(), limits).unwrap();
    let response = get(&client, &server.url("/")).await.unwrap();
    assert_eq!(whole(response).await.unwrap(), b"at last");
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn g5_a_host_whose_bodies_keep_breaking_is_left_alone_until_one_is_whole() {
    let healthy = Arc::new(AtomicU32::new(0));
    let switch = healthy.clone();
    let server = TestServer::start(move |_| {
        if switch.load(Ordering::SeqCst) == 1 {
            ok("whole")
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".into()
        }
    })
    .await;
    let time = Duration::from_millis(600);
    let open = Backoff { first: time, longest: time };
    let circuit = CircuitLimits { failures: 3, open };
    let client = Client::with_limits(&config(), Limits { circuit, ..limits() }).unwrap();
    for _ in 0..3 {
        let response = get(&client, &server.url("/")).await.unwrap();
        assert!(whole(response).await.is_err());
    }
    let error = get(&client, &server.url("/")).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::CircuitOpen { .. }), "{error}");
    assert_eq!(server.heads().len(), 3);

    healthy.store(1, Ordering::SeqCst);
    tokio::time::sleep(time).await;
    for _ in 0..2 {
        let response = get(&client, &server.url("/")).await.unwrap();
        assert_eq!(whole(response).await.unwrap(), b"whole");
    }
}

#[tokio::test]
async fn a_body_occupies_its_hosts_turn_until_it_is_dropped() {
    let server = TestServer::start(|_| ok("body")).await;
    let timeout = Duration::from_millis(250).into();
    let config = config::Upstream { per_host: NonZeroUsize::MIN, timeout, ..config() };
    let client = client(&config);
    let held = get(&client, &server.url("/")).await.unwrap();
    let error = get(&client, &server.url("/")).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::Busy { .. }), "{error}");
    drop(held);
    let finished = get(&client, &server.url("/")).await.unwrap();
    whole(finished).await.unwrap();
    get(&client, &server.url("/")).await.unwrap();
}

#[tokio::test]
async fn no_host_sees_more_requests_at_one_time_than_configured() {
    let now = Arc::new(AtomicUsize::new(0));
    let server = TestServer::start(|_| ok("body")).await;
    let config = config::Upstream {
        per_host: 2.try_into().unwrap(),
        concurrency: 8.try_into().unwrap(),
        ..config()
    };
    let client = client(&config);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, now, url) = (client.clone(), now.clone(), server.url("/"));
        tasks.spawn(async move {
            let response = get(&client, &url).await.unwrap();
            let running = now.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            drop(response);
            running
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|running| running <= 2));
}

#[tokio::test]
async fn a_host_that_takes_no_connection_or_never_finishes_tls_is_an_error_in_time() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let client = client(&impatient());
    let error = get(&client, &format!("http://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::Connect(_)), "{error}");
    assert!(error.is_transient());

    let broken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", broken.local_addr().unwrap());
    std::thread::spawn(move || drop(broken.accept()));
    let error = get(&client, &url).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::Connect(_)), "{error}");

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let error = get(&client, &url).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::Timeout(Wait::Connection)), "{error}");
}
