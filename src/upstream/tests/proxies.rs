//! Everything goes through the proxy when there is one, and what can be checked still is.

use super::server::{Script, TestAuthority, TestServer, ok, redirect, status};
use super::{client, config, config_for, get, whole};
use crate::upstream::FetchErrorKind;

fn through(proxy: &TestServer, config: config::Upstream) -> config::Upstream {
    let url = format!("http://user:secret@{}", proxy.address);
    // The proxy's own address is permitted because it is configured.
    let allow_addresses = Vec::new();
    config::Upstream { proxy: Some(url.parse().unwrap()), allow_addresses, ..config }
}

/// base64 of user:secret, in lower case
const CREDENTIALS: &str = "proxy-authorization: basic dxnlcjpzzwnyzxq=\r\n";

#[tokio::test]
async fn https_goes_through_a_tunnel_that_checks_the_name_at_its_far_end() {
    let authority = TestAuthority::new();
    let server = TestServer::start_tls(&authority, &["a.example"], |_| ok("tunnelled")).await;
    let to = server.address;
    let proxy = TestServer::start(move |_| {
        Script::from("HTTP/1.1 200 Connection established\r\n\r\n").tunnel(to)
    })
    .await;
    let client = client(&through(&proxy, config_for(&authority, &[])));
    let response = get(&client, "https://a.example/x").await.unwrap();
    assert_eq!(whole(response).await.unwrap(), b"tunnelled");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("connect a.example:443 http/1.1\r\n"), "{head}");
    assert!(head.contains(CREDENTIALS), "{head}");
    assert!(!server.heads()[0].contains("proxy-authorization"));
    // The far end holds no certificate for this name.
    let error = get(&client, "https://b.example/").await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::Tls(_)), "{error}");
}

#[tokio::test]
async fn http_is_forwarded() {
    let proxy = TestServer::start(|_| ok("forwarded")).await;
    let client = client(&through(&proxy, config()));
    let response = get(&client, "http://a.example/x").await.unwrap();
    assert_eq!(whole(response).await.unwrap(), b"forwarded");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("get http://a.example/x http/1.1\r\n"), "{head}");
    assert!(head.contains(CREDENTIALS), "{head}");
}

#[tokio::test]
async fn g6_an_inner_address_is_refused_before_the_proxy_hears_of_it() {
    let proxy = TestServer::start(|_| redirect("http://127.0.0.1/secret")).await;
    let client = client(&through(&proxy, config()));
    for url in ["https://127.0.0.1/", "https://[::1]/", "http://10.0.0.1/", "http://localhost/"] {
        let error = get(&client, url).await.unwrap_err();
        assert!(matches!(error.kind, FetchErrorKind::ForbiddenAddress { .. }), "{url}: {error}");
    }
    assert!(proxy.heads().is_empty());
    let error = get(&client, "http://a.example/").await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::ForbiddenAddress { .. }), "{error}");
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn a_refused_tunnel_is_an_error_without_credentials() {
    let proxy = TestServer::start(|_| status("407 Proxy Authentication Required")).await;
    let client = client(&through(&proxy, config()));
    let error = get(&client, "https://a.example/").await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::Connect(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("authorization required") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_host_with_a_configured_address_is_dialled_past_the_proxy() {
    let authority = TestAuthority::new();
    let server = TestServer::start(|_| ok("direct")).await;
    let proxy = TestServer::start(|_| ok("forwarded")).await;
    let config = config_for(&authority, &[("inner.example", server.address)]);
    let client = client(&through(&proxy, config));
    let response = get(&client, "http://inner.example/").await.unwrap();
    assert_eq!(whole(response).await.unwrap(), b"direct");
    assert!(proxy.heads().is_empty());
}
