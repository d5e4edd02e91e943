//! The client against servers on real sockets that lie, stall and redirect.

mod bodies;
mod hosts;
mod proxies;
mod redirects;
pub(super) mod server;

use super::backoff::Backoff;
use super::circuit::CircuitLimits;
use super::client::Limits;
use super::pace::PaceLimits;
use super::retry::RetryLimits;
use super::{Client, FetchError, Request, Response};
use crate::config;
use server::{TestAuthority, TestServer, ok};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A configuration that may dial loopback.
pub(in crate::upstream) fn config() -> config::Upstream {
    config::Upstream {
        timeout: Duration::from_secs(10).into(),
        allow_addresses: vec!["127.0.0.0/8".parse().unwrap()],
        ..config::Upstream::default()
    }
}

/// The same, losing patience quickly.
fn impatient() -> config::Upstream {
    config::Upstream { timeout: Duration::from_millis(400).into(), ..config() }
}

/// A configuration that may dial only these names, and believes the test's own authority.
pub(in crate::upstream) fn config_for(
    authority: &TestAuthority,
    names: &[(&str, SocketAddr)],
) -> config::Upstream {
    config::Upstream {
        allow_addresses: Vec::new(),
        extra_ca: Some(toml::Spanned::new(0..0, authority.pem_file())),
        resolve: names.iter().map(|(name, to)| ((*name).to_owned(), *to)).collect(),
        ..config()
    }
}

fn limits() -> Limits {
    let short = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    Limits {
        retry: RetryLimits { attempts: 1, pause: short },
        circuit: CircuitLimits { failures: 100, open: short },
        pace: PaceLimits::default(),
    }
}

pub(in crate::upstream) fn client(config: &config::Upstream) -> Client {
    Client::with_limits(config, limits()).unwrap()
}

async fn get(client: &Client, url: &str) -> Result<Response, FetchError> {
    client.get(Request::new(url.parse().unwrap(), 1 << 20)).await
}

async fn whole(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[tokio::test]
async fn bytes_and_validators_come_as_upstream_sent_them() {
    let server = TestServer::start(|_| {
        b"HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nLast-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
          Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x00\xff"
            .as_slice()
            .into()
    })
    .await;
    let response = get(&client(&config()), &server.url("/a#fragment")).await.unwrap();
    assert_eq!(response.etag.as_deref(), Some("\"v1\""));
    assert_eq!(response.last_modified.as_deref(), Some("Sat, 21 Nov 2026 00:00:00 GMT"));
    assert_eq!(response.content_length, Some(4));
    assert_eq!(response.url.to_string(), server.url("/a"));
    assert_eq!(whole(response).await.unwrap(), b"\x1f\x8b\x00\xff");

    let head = server.heads().remove(0);
    assert!(head.starts_with("get /a http/1.1\r\n"), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    assert!(head.contains(concat!("user-agent: opam-keep/", env!("CARGO_PKG_VERSION"))), "{head}");
}

#[tokio::test]
async fn unchanged_is_an_answer_to_a_conditional_request_only() {
    let server = TestServer::start(|_| "HTTP/1.1 304 Not Modified\r\n\r\n".into()).await;
    let client = client(&config());
    let url = server.url("/index.tar.gz");
    let conditional = Request::new(url.parse().unwrap(), 9)
        .if_none_match("\"v1\"")
        .if_modified_since("Sat, 21 Nov 2026 00:00:00 GMT");
    let response = client.get(conditional).await.unwrap();
    assert!(response.is_not_modified());
    assert!(whole(response).await.unwrap().is_empty());
    assert!(get(&client, &url).await.unwrap_err().to_string().contains("304"));
    let head = server.heads().remove(0);
    assert!(head.contains("if-none-match: \"v1\"\r\n"), "{head}");
    assert!(head.contains("if-modified-since: sat, 21 nov 2026 00:00:00 gmt\r\n"), "{head}");
}

#[tokio::test]
async fn tls_trusts_the_extra_authority_and_no_stranger() {
    let (ours, strangers) = (TestAuthority::new(), TestAuthority::new());
    let good = TestServer::start_tls(&ours, &["good.example"], |_| ok("hello")).await;
    let bad = TestServer::start_tls(&strangers, &["bad.example"], |_| ok("hello")).await;
    let wrong = TestServer::start_tls(&ours, &["other.example"], |_| ok("hello")).await;
    let config = config_for(
        &ours,
        &[
            ("good.example", good.address),
            ("bad.example", bad.address),
            ("wrong.example", wrong.address),
        ],
    );
    let client = client(&config);
    let body = whole(get(&client, "https://good.example/").await.unwrap()).await.unwrap();
    assert_eq!(body, b"hello");
    for url in ["https://bad.example/", "https://wrong.example/"] {
        let error = get(&client, url).await.unwrap_err();
        assert!(matches!(error.kind, super::FetchErrorKind::Tls(_)), "{error}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn http2_is_spoken_where_upstream_offers_it() {
    let authority = TestAuthority::new();
    let address = server::start_h2(&authority, "two.example", "over h2").await;
    let client = client(&config_for(&authority, &[("two.example", address)]));
    for _ in 0..2 {
        let response = get(&client, "https://two.example/").await.unwrap();
        assert_eq!(response.content_length, Some(7));
        assert_eq!(whole(response).await.unwrap(), b"over h2");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_start() {
    let proxy = Some("https://user:secret@proxy.example".parse().unwrap());
    let error = Client::new(&config::Upstream { proxy, ..config() }).unwrap_err().to_string();
    assert!(error.starts_with("upstream.proxy: https://proxy.example/"), "{error}");
    let extra_ca = Some(toml::Spanned::new(0..0, "/nowhere/ca.pem".into()));
    let error = Client::new(&config::Upstream { extra_ca, ..config() }).unwrap_err().to_string();
    assert!(error.starts_with("upstream.extra_ca: /nowhere/ca.pem"), "{error}");
    assert!(Client::new(&config::Upstream { resolve: BTreeMap::new(), ..config() }).is_ok());
}
