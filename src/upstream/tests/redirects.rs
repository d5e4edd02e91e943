//! Redirects: followed and recorded, but not to where no one may go.

use super::server::{TestAuthority, TestServer, ok, redirect, status};
use super::{client, config, config_for, get, whole};
use crate::upstream::{Client, FetchErrorKind, MAX_REDIRECTS};

#[tokio::test]
async fn every_hop_is_recorded() {
    let server = TestServer::start(|head| match head.split(' ').nth(1) {
        Some("/a") => redirect("/b?x=1"),
        Some("/b?x=1") => redirect("c"),
        _ => ok("there"),
    })
    .await;
    let response = get(&client(&config()), &server.url("/a")).await.unwrap();
    let chain: Vec<String> = response.chain.iter().map(ToString::to_string).collect();
    assert_eq!(chain, [server.url("/a"), server.url("/b?x=1"), server.url("/c")]);
    assert_eq!(response.url.to_string(), server.url("/c"));
    assert_eq!(whole(response).await.unwrap(), b"there");
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let server = TestServer::start(|_| redirect("/again")).await;
    let error = get(&client(&config()), &server.url("/")).await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::TooManyRedirects { .. }), "{error}");
    assert_eq!(server.heads().len(), MAX_REDIRECTS + 1);
}

#[tokio::test]
async fn https_never_becomes_http() {
    let authority = TestAuthority::new();
    let server = TestServer::start_tls(&authority, &["a.example"], |_| {
        redirect("http://a.example/x?token=1")
    })
    .await;
    let client = client(&config_for(&authority, &[("a.example", server.address)]));
    let error = get(&client, "https://a.example/").await.unwrap_err();
    assert!(matches!(error.kind, FetchErrorKind::InsecureRedirect { .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_has_to_say_where_to_and_how() {
    for (answer, expected) in [
        (status("302 Found"), "without a usable Location"),
        (redirect("http://[::1"), "without a usable Location"),
        (redirect("file:///etc/passwd"), "only http and https can"),
        (redirect("gopher://a.example/"), "only http and https can"),
    ] {
        let server = TestServer::start(move |_| answer.clone()).await;
        let error = get(&client(&config()), &server.url("/")).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// A client for which only `public.example` stands for a public host.
async fn outside(target: &str) -> (TestServer, Client) {
    let target = target.to_owned();
    let server = TestServer::start(move |_| redirect(&target)).await;
    let authority = TestAuthority::new();
    let client = client(&config_for(&authority, &[("public.example", server.address)]));
    (server, client)
}

#[tokio::test]
async fn g6_a_redirect_to_an_inner_address_is_refused() {
    let inner = TestServer::start(|_| ok("secret")).await;
    let port = inner.address.port();
    for host in [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
    ] {
        let (_server, client) = outside(&format!("http://{host}:{port}/")).await;
        let error = get(&client, "http://public.example/").await.unwrap_err();
        assert!(matches!(error.kind, FetchErrorKind::ForbiddenAddress { .. }), "{host}: {error}");
        assert!(!error.is_transient());
    }
    assert!(inner.heads().is_empty());
}

#[tokio::test]
async fn credentials_stay_with_their_own_host() {
    let other = TestServer::start(|_| ok("public")).await;
    let target = other.url("/b");
    let own = TestServer::start(move |head| {
        if head.starts_with("get /a ") { redirect("/c") } else { redirect(&target) }
    })
    .await;
    let url = format!("http://user:secret@{}/a", own.address);
    let response = get(&client(&config()), &url).await.unwrap();
    let printed = format!("{:?}", response.chain);
    assert!(!printed.contains("secret"), "{printed}");
    // base64 of user:secret, in lower case
    assert!(own.heads().iter().all(|head| head.contains("authorization: basic dxnlcjpzzwnyzxq=")));
    assert_eq!(own.heads().len(), 2);
    assert!(!other.heads()[0].contains("authorization"));
}

#[tokio::test]
async fn credentials_that_a_redirect_brings_along_are_not_used() {
    let server = TestServer::start(|head| {
        let host = head.split("host: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let host = host.unwrap_or_default();
        if head.starts_with("get /a ") { redirect(&format!("http://x:y@{host}/b")) } else { ok("") }
    })
    .await;
    let response = get(&client(&config()), &server.url("/a")).await.unwrap();
    assert_eq!(response.url.to_string(), server.url("/b"));
    assert!(!server.heads()[1].contains("authorization"));
}
