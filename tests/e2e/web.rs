//! The web pages and the API in a hostile browser: framed, led astray, given cookies and headers
//! by someone else.

use crate::start;
use std::time::Duration;
use world::{Answer, Curl, Keep, Kind, Mirror, Package, Repo, World, within};

#[test]
fn no_answer_can_be_framed_guessed_at_or_read_by_another_site() {
    let (_world, mut keep, page) = mirror();
    let curl = keep.curl();
    let origin = ["-H", "accept: text/html", "-H", "origin: https://evil.example"];
    for path in ["/", "/packages", "/login", "/divergences", "/ledger", "/snapshots", "/nothing"] {
        let answer = curl.with(&origin, path);
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for directive in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.split("; ").any(|it| it == directive), "{path}: {policy}");
        }
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{path}");
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"), "{path}");
    }
    for path in [
        "/",
        "/login",
        "/assets/style.css",
        "/assets/ca.pem",
        "/index.tar.gz",
        "/repo",
        "/ledger/checkpoint",
        "/ledger/tile/0/000.p/3",
        "/api/v1/openapi.json",
        "/metrics",
        "/livez",
        "/nothing",
        &page.cache_path(Kind::Sha256),
    ] {
        let answer = curl.with(&origin, path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        // A browser on an inner network reads nothing here for a page of elsewhere.
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    let preflight = curl.with(
        &[
            "-X",
            "OPTIONS",
            "-H",
            "origin: https://e.example",
            "-H",
            "access-control-request-method: POST",
        ],
        "/api/v1/sync",
    );
    assert_eq!(preflight.status, 405);
    assert_eq!(preflight.header("access-control-allow-origin"), None);
}

#[test]
fn an_archive_that_is_a_web_page_is_no_page_of_this_server() {
    let (_world, mut keep, page) = mirror();
    for path in [page.cache_path(Kind::Sha256), "/archive/page.1.0/index.html".to_owned()] {
        let answer = keep.curl().with(&["-H", "accept: text/html"], &path);
        assert!(answer.is_whole() && answer.body == page.archive_bytes(), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn a_login_begins_a_session_of_its_own_whatever_cookie_came_along() {
    let (_world, mut keep, _) = mirror();
    let admin = keep.run(&["token", "add", "louis", "--admin"]).ok().trim().to_owned();
    let (url, curl) = (keep.url(), keep.curl());
    let log_in = |cookie: &str, origin: &str| {
        let (cookie, origin) = (format!("cookie: {cookie}"), format!("origin: {origin}"));
        let form = format!("token={admin}&to=/divergences");
        curl.with(&["-d", &form, "-H", &cookie, "-H", &origin], "/login")
    };
    let value = |answer: &Answer| {
        let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
        for part in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(cookie.split("; ").any(|it| it == part), "{cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
        cookie.split(';').next().expect("a pair").to_owned()
    };
    let is_in = |cookie: &str| {
        let cookie = format!("cookie: {cookie}");
        let page = curl.with(&["-H", &cookie], "/divergences");
        String::from_utf8_lossy(&page.body).contains("louis")
    };
    let planted = format!("{NAME}=planted-by-someone-else");
    assert!(!is_in(&planted));
    within(SOON, "a token that is known", || (log_in("", &url).status == 303).then_some(()));
    let first = value(&log_in(&planted, &url));
    let second = value(&log_in(&first, &url));
    assert!(first != planted && first != second, "{first} {second}");
    assert!(!is_in(&planted), "the planted cookie stands for a session");
    assert!(is_in(&first) && is_in(&second));
    // A site that logs its visitor in as someone else has no form here either.
    let elsewhere = log_in("", "https://evil.example");
    assert_eq!((elsewhere.status, elsewhere.header("set-cookie")), (403, None));
}

#[test]
fn a_page_of_another_scheme_is_another_site() {
    let world = World::start();
    let mut keep = start(&Mirror::of(&world).set("server.plain_http", vec!["127.0.0.1:0"]));
    let (tls, plain) = (keep.curl(), keep.address("http"));
    let plain = Curl::new(&format!("http://{plain}"), keep.ca());
    let status = |curl: &Curl, origin: &str| {
        let origin = format!("origin: {origin}");
        let answer = curl.with(&["-d", "x=y", "-H", "host: keep", "-H", &origin], "/logout");
        answer.status
    };
    for (origin, over_tls, in_the_clear) in [
        ("https://keep", 303, 303),
        ("http://keep", 403, 303),
        ("x://keep", 403, 403),
        ("https://kept", 403, 403),
    ] {
        assert_eq!(status(&tls, origin), over_tls, "{origin}");
        // A proxy may have spoken TLS for it.
        assert_eq!(status(&plain, origin), in_the_clear, "{origin}");
    }
}

#[test]
fn after_a_login_a_browser_stays_with_this_server() {
    let (_world, mut keep, _) = mirror();
    let admin = keep.run(&["token", "add", "louis", "--admin"]).ok().trim().to_owned();
    let (url, curl) = (keep.url(), keep.curl());
    let origin = format!("origin: {url}");
    let to = |to: &str| {
        let form = format!("token={admin}&to={to}");
        let answer = curl.with(&["-d", &form, "-H", &origin], "/login");
        answer.header("location").map(str::to_owned)
    };
    within(SOON, "a token that is known", || to("/").map(drop));
    assert_eq!(to("/divergences").as_deref(), Some("/divergences"));
    for elsewhere in [
        "https://evil.example/",
        "//evil.example/",
        "%2F%2Fevil.example",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "/%09/evil.example",
        "/%0A/evil.example",
        "%09//evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        "/x%0D%0ASet-Cookie:%20a=b",
    ] {
        assert_eq!(to(elsewhere).as_deref(), Some("/"), "{elsewhere}");
    }
    // The form says where it leads to; what does not stay here is not even written there.
    let page = curl.get("/login?to=//evil.example/%22%3E");
    assert!(!String::from_utf8_lossy(&page.body).contains("evil.example"));
}

#[test]
fn no_header_of_a_client_changes_what_others_get() {
    let (_world, mut keep, page) = mirror();
    let curl = keep.curl();
    let archive = page.cache_path(Kind::Sha256);
    for path in ["/index.tar.gz", "/repo", "/ledger/checkpoint", "/packages", "/login", &archive] {
        let usual = curl.get(path);
        assert_eq!(usual.status, 200, "{path}");
        for header in [
            "Host: evil.example",
            "Host: evil.example:1",
            "X-Forwarded-Host: evil.example",
            "Forwarded: host=evil.example;proto=http",
            "X-Original-URL: /metrics",
            "X-Rewrite-URL: /metrics",
            "X-HTTP-Method-Override: DELETE",
            "Origin: https://evil.example",
            "Accept-Encoding: evil",
            "Referer: https://evil.example/",
        ] {
            let led = curl.with(&["--http1.1", "-H", header], path);
            assert_eq!((led.status, &led.body), (200, &usual.body), "{path} {header}");
            for name in ["location", "etag", "content-type", "cache-control", "vary"] {
                assert_eq!(led.header(name), usual.header(name), "{path} {header}");
            }
        }
    }
}

#[test]
fn a_client_can_not_pass_for_another_by_saying_so() {
    let world = World::start();
    world.publish(&Repo::new([Package::bare("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world).set("access.misses_per_minute", 3));
    keep.index();
    let curl = keep.curl();
    let reason = |number: u8, header: &str| {
        let header = format!("{header}: 192.0.2.{number}");
        let miss = curl.with(&["-H", &header], &Kind::Sha256.cache_path(&[number]));
        miss.header("x-opam-keep-reason").expect("a reason").to_owned()
    };
    let headers = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "Client-IP"];
    let reasons: Vec<String> =
        (0..10).map(|number| reason(number, headers[usize::from(number) % 5])).collect();
    assert!(reasons[0].starts_with("undeclared"), "{reasons:?}");
    assert!(reasons[3..].iter().all(|reason| reason.starts_with("busy")), "{reasons:?}");
    assert!(keep.logged().iter().all(|line| !line.to_string().contains("192.0.2.")));
}

#[test]
fn nothing_is_echoed_to_who_traces() {
    let (_world, mut keep, _) = mirror();
    let curl: Curl = keep.curl();
    for method in ["TRACE", "TRACK", "DEBUG", "OPTIONS", "PROPFIND"] {
        let answer = curl.with(&["-X", method, "-H", "cookie: secret=echo"], "/");
        assert_eq!(answer.status, 405, "{method}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("echo"), "{method}");
    }
}

/// A mirror whose only archive is a web page with a script, kept already, and whose index names
/// this server.
fn mirror() -> (World, Keep, Package) {
    let html = b"<!DOCTYPE html><script>fetch('/divergences')</script>".as_slice();
    let page = Package::bare("page", "1.0")
        .archive("https://example.org/index.html", &[])
        .bytes(html, &[Kind::Sha256]);
    let world = World::start();
    world.publish(&Repo::new([page.clone()]));
    let mirror = Mirror::of(&world)
        .of_repository("rewrite_sources", true)
        .set("server.public_url", "https://keep.example");
    let mut keep = start(&mirror);
    keep.index();
    assert!(keep.curl().get(&page.cache_path(Kind::Sha256)).is_whole());
    (world, keep, page)
}

const NAME: &str = "__Host-opam-keep";
const SOON: Duration = Duration::from_secs(10);
