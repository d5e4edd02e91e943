//! What a client may ask, and what happens when it asks for something else.

use crate::start;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use world::{Keep, Kind, Mirror, Package, Repo, World, within};

#[test]
fn g6_a_path_that_is_no_cache_path_is_refused_and_nobody_is_asked() {
    let (world, mut keep, package) = kept();
    let client = keep.raw();
    let hex = Kind::Sha256.of(package.archive_bytes());
    let two = &hex[..2];
    let upper = hex.to_ascii_uppercase();
    for path in [
        "/cache/../../../../etc/passwd".to_owned(),
        "/cache/sha256/../../mirror.toml".to_owned(),
        "/cache/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/%2e%2e/keys/ledger.key".to_owned(),
        "/ledger/../keys/ledger.key".to_owned(),
        "/ledger/%2e%2e/keys/ledger.key".to_owned(),
        "/ledger/tile/..%2f..%2fkeys%2fledger.key".to_owned(),
        "/ledger/tile/0/../../../lock".to_owned(),
        "/default/../default/repo".to_owned(),
        // Encoded twice, overlong, with backslashes, and below every path that has names in it.
        "/cache/%252e%252e/%252e%252e/etc/passwd".to_owned(),
        "/cache/%c0%ae%c0%ae/%c0%af/etc/passwd".to_owned(),
        "/cache/..%5c..%5cetc%5cpasswd".to_owned(),
        "/at/..%2f..%2fkeys/index.tar.gz".to_owned(),
        "/at/1/../../keys/ledger.key".to_owned(),
        "/at/1/%2e%2e/keys/ledger.key".to_owned(),
        "/at/99999999999999999999/index.tar.gz".to_owned(),
        "/ledger/tile/entries/%2e%2e/%2e%2e/keys/ledger.key".to_owned(),
        "/ledger/tile/0/x000/../../../lock".to_owned(),
        "/ledger/tile/0/000.p/257".to_owned(),
        "/ledger/tile/0/-1".to_owned(),
        "/ledger/entries/..%2f..%2fkeys".to_owned(),
        "/archive/..%2f..%2fkeys%2fledger.key".to_owned(),
        "/archive/hello.1.0/extra-source/..%2f..%2fkeys".to_owned(),
        "/assets/..%2f..%2fkeys%2fledger.key".to_owned(),
        "/api/v1/%2e%2e/%2e%2e/keys/ledger.key".to_owned(),
        "//etc/passwd".to_owned(),
        format!("/cache/sha256/{two}/{hex}%00"),
        format!("/cache/sha256/{two}/{upper}"),
        format!("/cache/sha256/{}/{upper}", &upper[..2]),
        format!("/cache/SHA256/{two}/{hex}"),
        format!("/cache/sha256/{two}/{}", &hex[1..]),
        format!("/cache/sha256/{two}/{hex}0"),
        format!("/cache/sha256/{two}/"),
        format!("/cache/sha256/{two}"),
        format!("/cache/sha256/00/{hex}"),
        format!("/cache/md5/{two}/{hex}"),
        format!("/cache/sha1/{two}/{}", &hex[..40]),
        format!("/cache/blake3/{two}/{hex}"),
        format!("/nosuch/cache/sha256/{two}/{hex}"),
        format!("/cache/sha256/{two}/{}", "0".repeat(64)),
        format!("/cache/sha256/{two}/{}g", &hex[..63]),
        format!("/{}", "a".repeat(30_000)),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        refused(&mut keep, request.as_bytes(), &path);
    }
    assert_eq!(world.requests(), [], "nobody was asked for any of it");
    let answer = client.get(&package.cache_path(Kind::Sha256)).expect("it still answers");
    assert_eq!(answer.status, 200);
}

#[test]
fn g6_a_request_that_is_no_request_for_us_is_refused() {
    let (world, mut keep, package) = kept();
    let path = package.cache_path(Kind::Sha256);
    let long = "x".repeat(100_000);
    let many = (0..2_000).map(|number| format!("X-{number}: {number}\r\n")).collect::<String>();
    for (what, request) in [
        ("a NUL in the path", format!("GET {path}\0 HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("a NUL in a header", format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nA: \0\r\n\r\n")),
        ("two hosts", format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.org\r\n\r\n")),
        ("no host", format!("GET {path} HTTP/1.1\r\nAccept: */*\r\n\r\n")),
        ("a long header", format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nA: {long}\r\n\r\n")),
        ("many headers", format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")),
        ("no protocol", format!("GET {path}\r\nHost: localhost\r\n\r\n")),
        ("HTTP/3 in words", format!("GET {path} HTTP/3.0\r\nHost: localhost\r\n\r\n")),
        ("a proxied URL", "GET https://github.com/x HTTP/1.1\r\nHost: github.com\r\n\r\n".into()),
        ("a tunnel", "CONNECT github.com:443 HTTP/1.1\r\nHost: github.com:443\r\n\r\n".into()),
        ("POST", format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")),
        ("PUT", format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")),
        ("DELETE", format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("a made-up method", format!("GRAB {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        (
            "two lengths",
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
            ),
        ),
    ] {
        refused(&mut keep, request.as_bytes(), what);
    }
    assert_eq!(world.requests(), [], "nobody was asked for any of it");
}

#[test]
fn a_repositorys_url_in_a_browser_is_a_page_and_no_answer_to_a_request_that_is_refused() {
    let (_world, mut keep, _) = kept();
    let client = keep.raw();
    let ask = |target: &str, headers: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nAccept: text/html\r\n{headers}\r\n");
        client.send(request.as_bytes()).expect("an answer").status
    };
    let (host, long) = ("Host: localhost\r\n", "x".repeat(2_000));
    assert_eq!(ask("/default/", host), 200);
    for (what, target, headers) in [
        ("two hosts", "/default/", "Host: localhost\r\nHost: evil.org\r\n"),
        ("no host", "/default/", ""),
        ("a host that is none", "/default/", "Host: a b\r\n"),
        ("a long query", &format!("/default/?{long}"), host),
        ("long headers", "/default/", &format!("{host}A: {}\r\n", "x".repeat(20_000))),
    ] {
        let status = ask(target, headers);
        assert!((400..500).contains(&status) && status != 404, "{what}: {status}");
    }
}

#[test]
fn a_checksum_that_no_package_declares_is_404_without_asking_anyone() {
    let (world, mut keep, _) = kept();
    for kind in Kind::ALL {
        let answer = keep.curl().get(&kind.cache_path(b"never seen"));
        assert_eq!((answer.exit, answer.status), (0, 404));
        assert!(answer.header("x-opam-keep-reason").is_some_and(|reason| !reason.is_empty()));
    }
    assert_eq!(world.requests(), []);
}

#[test]
fn an_archive_answers_under_every_declared_kind_and_doubled_slashes() {
    let (_world, mut keep, package) = kept();
    let curl = keep.curl();
    let mut tags = Vec::new();
    for kind in Kind::ALL {
        let path = package.cache_path(kind);
        for prefix in ["", "/default", "/"] {
            let answer = curl.get(&format!("{prefix}{path}"));
            assert!(answer.is_whole(), "{prefix}{path}: {answer:?}");
            assert_eq!(answer.body, package.archive_bytes());
            tags.push(answer.header("etag").expect("an archive has an ETag").to_owned());
        }
    }
    tags.dedup();
    assert_eq!(tags.len(), 1, "one blob, one ETag: {tags:?}");
    assert!(tags[0].starts_with('"'), "a strong ETag: {}", tags[0]);
}

#[test]
fn head_conditions_and_ranges_are_answered_as_rfc_9110_says() {
    let (_world, mut keep, package) = kept();
    let curl = keep.curl();
    let index = keep.index_at("/index.tar.gz");
    let archive = package.cache_path(Kind::Sha256);
    for (path, bytes) in [(archive.as_str(), package.archive_bytes()), ("/index.tar.gz", &index)] {
        let length = bytes.len().to_string();
        let head = curl.with(&["--head"], path);
        assert_eq!((head.exit, head.status), (0, 200), "{path}");
        assert_eq!(head.header("content-length"), Some(length.as_str()), "{path}");
        let tag = head.header("etag").expect("an ETag comes along").to_owned();

        let same = curl.with(&["-H", &format!("If-None-Match: {tag}")], path);
        assert_eq!((same.status, same.body.len()), (304, 0), "{path}");
        // Of what would describe the bytes, only what updates a cache's copy of it.
        let said = ["etag", "cache-control", "repr-digest", "accept-ranges", "content-type"];
        let said = said.map(|name| same.header(name).is_some());
        assert_eq!(said, [true, true, false, false, false], "{path}");
        for version in ["--http1.1", "--http2"] {
            let same = format!("If-None-Match: {tag}");
            let head = curl.with(&["--head", version, "-H", &same], path);
            assert_eq!((head.exit, head.status), (0, 304), "{path}");
            assert_eq!(head.header("content-length"), None, "a GET would be told none: {path}");
        }
        let listed = curl.with(&["-H", &format!("If-None-Match: \"x\", W/{tag}")], path);
        assert_eq!(listed.status, 304, "{path}");
        let other = curl.with(&["-H", "If-None-Match: \"other\""], path);
        assert!(other.is_whole() && other.body == bytes, "{path}");
    }
    let bytes = package.archive_bytes();
    let last = bytes.len() - 1;
    for (range, expected) in [
        ("0-9".to_owned(), &bytes[..10]),
        (format!("{last}-"), &bytes[last..]),
        ("-5".to_owned(), &bytes[bytes.len() - 5..]),
        (format!("10-{}", last + 100), &bytes[10..]),
    ] {
        let answer = curl.with(&["-r", &range], &archive);
        assert_eq!((answer.exit, answer.status), (0, 206), "{range}");
        assert_eq!(answer.body, expected, "{range}");
        assert!(answer.header("content-range").is_some(), "{range}");
    }
    let beyond = curl.with(&["-r", &format!("{}-", bytes.len())], &archive);
    assert_eq!(beyond.status, 416);
    let stale = curl.with(&["-r", "0-9", "-H", "If-Range: \"other\""], &archive);
    assert!(stale.is_whole() && stale.body == bytes, "a stale If-Range gets everything");
    let length = bytes.len().to_string();
    for range in ["0-9".to_owned(), format!("{}-", bytes.len())] {
        let head = curl.with(&["--head", "-r", &range], &archive);
        assert_eq!((head.exit, head.status), (0, 200), "only GET has parts: {range}");
        assert_eq!(head.header("content-length"), Some(length.as_str()), "{range}");
        assert_eq!(head.header("content-range"), None, "{range}");
    }
}

#[test]
fn no_cache_keeps_that_a_part_is_not_there_instead_of_the_bytes() {
    let (_world, mut keep, package) = kept();
    let then = format!("/at/{}/index.tar.gz", keep.ledger().len());
    for path in [package.cache_path(Kind::Sha256), "/index.tar.gz".to_owned(), then] {
        let beyond = keep.curl().with(&["-r", "99999999-"], &path);
        assert_eq!((beyond.status, beyond.body.len()), (416, 0), "{path}");
        assert_eq!(beyond.header("cache-control"), Some("no-store"), "{path}");
        assert!(beyond.header("content-range").is_some_and(|it| it.starts_with("bytes */")));
        for name in ["etag", "repr-digest"] {
            assert_eq!(beyond.header(name), None, "{path}");
        }
    }
}

#[test]
fn who_wants_only_certain_bytes_gets_no_others() {
    let (_world, mut keep, package) = kept();
    let then = format!("/at/{}", keep.ledger().len());
    let curl = keep.curl();
    for path in [
        package.cache_path(Kind::Sha256),
        "/archive/hello.1.0".to_owned(),
        "/index.tar.gz".to_owned(),
        "/repo".to_owned(),
        format!("{then}/index.tar.gz"),
        format!("{then}/repo"),
    ] {
        let usual = curl.get(&path);
        let tag = usual.header("etag").expect("an ETag comes along").to_owned();
        let status = |more: &[&str]| curl.with(more, &path).status;
        for good in [format!("If-Match: {tag}"), format!("If-Match: \"x\", {tag}")] {
            let answer = curl.with(&["-H", &good], &path);
            assert!(answer.is_whole() && answer.body == usual.body, "{path} {good}");
            assert_eq!(status(&["-H", &good, "-r", "0-9"]), 206, "{path} {good}");
        }
        assert_eq!(status(&["-H", "If-Match: *"]), 200, "{path}");
        let same = format!("If-None-Match: {tag}");
        for other in ["If-Match: \"x\"".to_owned(), format!("If-Match: W/{tag}")] {
            let answer = curl.with(&["-H", &other], &path);
            assert_eq!(answer.status, 412, "{path} {other}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            assert_eq!(answer.header("etag"), None, "{path}");
            assert_ne!(answer.body, usual.body, "{path}");
            // It comes before every other condition.
            for more in [&["-r", "0-9"][..], &["-r", "99999999-"], &["-H", &same], &["--head"]] {
                assert_eq!(status(&[&["-H", &other], more].concat()), 412, "{path} {more:?}");
            }
        }
    }
}

#[test]
fn a_host_that_names_nobody_is_refused() {
    let (_world, mut keep, _package) = kept();
    let client = keep.raw();
    let status = |protocol: &str, host: &str| {
        let request = format!("GET /livez {protocol}\r\nHost: {host}\r\n\r\n");
        client.send(request.as_bytes()).expect("an answer").status
    };
    for host in [
        "",
        "a b",
        "a/b@c",
        "user@localhost",
        "a,b",
        ",,<script>",
        "evil.example:1\"><script>",
        "x:99999999",
        "x:y",
        "[::1",
        "::1",
    ] {
        for protocol in ["HTTP/1.1", "HTTP/1.0"] {
            assert_eq!(status(protocol, host), 400, "{host} {protocol}");
        }
    }
    for host in ["localhost", "evil.example.:8443", "keep_1", "192.0.2.1", "[2001:db8::1]:443"] {
        assert_eq!(status("HTTP/1.1", host), 200, "{host}");
    }
}

#[test]
fn who_asks_by_another_method_reads_by_which_to_ask() {
    let (_world, mut keep, package) = kept();
    let curl = keep.curl();
    for (path, methods) in [
        (package.cache_path(Kind::Sha256).as_str(), "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/packages", "GET, HEAD"),
        ("/login", "GET, HEAD, POST"),
        ("/divergences/1", "GET, HEAD, POST"),
        ("/logout", "POST"),
        ("/api/v1/status", "GET, HEAD"),
        ("/api/v1/sync", "POST"),
        ("/api/v1/repositories/default/refresh", "POST"),
        ("/api/v1/divergences/1", "GET, HEAD, POST"),
    ] {
        for accept in ["accept: */*", "accept: text/html"] {
            for method in ["DELETE", "PUT", "OPTIONS"] {
                let answer = curl.with(&["-X", method, "-H", accept], path);
                assert_eq!(answer.status, 405, "{method} {path} {accept}");
                assert_eq!(answer.header("allow"), Some(methods), "{method} {path} {accept}");
            }
            if methods == "POST" {
                let read = curl.with(&["-H", accept], path);
                assert_eq!((read.status, read.header("allow")), (405, Some("POST")), "{path}");
            }
        }
    }
}

#[test]
fn a_path_that_is_too_long_is_told_so() {
    let (_world, mut keep, _package) = kept();
    let long = "a".repeat(1_100);
    for path in [format!("/{long}"), format!("/api/v1/{long}"), format!("/packages?q={long}")] {
        for accept in ["accept: */*", "accept: text/html"] {
            assert_eq!(keep.curl().with(&["-H", accept], &path).status, 414, "{path}");
        }
    }
}

#[test]
fn a_body_in_chunks_that_are_none_is_not_called_too_long() {
    let (_world, mut keep, _package) = kept();
    let origin = keep.url();
    let host = origin.trim_start_matches("https://");
    let long = format!("{:x}\r\n{}\r\n0\r\n\r\n", 20_000, "x".repeat(20_000));
    for (body, status) in [
        ("zz\r\ntoken=x\r\n0\r\n\r\n", 400),
        ("-7\r\ntoken=x\r\n0\r\n\r\n", 400),
        ("7\ntoken=x\n0\n\n", 400),
        ("7\r\ntoken=xyz\r\n0\r\n\r\n", 400),
        (&long, 413),
        ("7\r\ntoken=x\r\n0\r\n\r\n", 403),
    ] {
        let request = format!(
            "POST /login HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{body}"
        );
        let answer = keep.raw().send(request.as_bytes()).expect("an answer");
        assert_eq!(answer.status, status, "{body:.20}");
    }
}

#[test]
fn nothing_is_ever_content_encoded() {
    let (_world, mut keep, package) = kept();
    let curl = keep.curl();
    let index = keep.index_at("/index.tar.gz");
    let archive = package.cache_path(Kind::Md5);
    for (path, bytes) in [(archive.as_str(), package.archive_bytes()), ("/index.tar.gz", &index)] {
        for version in ["--http1.1", "--http2"] {
            let answer = curl.with(&[version, "-H", "Accept-Encoding: gzip, br, zstd"], path);
            assert!(answer.is_whole() && answer.body == bytes, "{path}");
            assert_eq!(answer.header("content-encoding"), None, "{path}");
        }
    }
    let answer = curl.get(&archive);
    assert!(answer.header("cache-control").is_some_and(|value| value.contains("immutable")));
    assert!(answer.header("repr-digest").is_some_and(|value| value.contains("sha-256=:")));
}

#[test]
fn http_1_1_and_2_and_tls_1_2_and_1_3_all_work() {
    let (_world, mut keep, package) = kept();
    let path = package.cache_path(Kind::Sha512);
    for arguments in [
        ["--http1.1", "--tls-max", "1.2"],
        ["--http1.1", "--tls-max", "1.3"],
        ["--http2", "--tls-max", "1.2"],
        ["--http2", "--tls-max", "1.3"],
    ] {
        let answer = keep.curl().with(&arguments, &path);
        assert!(answer.is_whole() && answer.body == package.archive_bytes(), "{arguments:?}");
    }
    let old = keep.curl().with(&["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"], &path);
    assert_eq!(old.status, 0, "TLS 1.1 is over");
}

/// A mirror that has one archive already, with upstream's log empty.
#[test]
fn who_speaks_plain_http_where_https_is_spoken_reads_what_to_do() {
    let (_world, mut keep, _package) = kept();
    let address = keep.address("https");
    let mut stream = TcpStream::connect(address).unwrap();
    let long = "x".repeat(30_000);
    write!(stream, "GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let begin = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n";
    assert!(answer.starts_with(begin) && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let (_, id) = answer.split_once("\r\nx-request-id: ").expect("the log can be asked for it");
    let id = id.lines().next().unwrap_or_default();
    let is_it = |line: &Value| line["request"] == id && line["status"] == 400;
    within(Duration::from_secs(20), "a line in the log", || {
        keep.logged().iter().any(is_it).then_some(())
    });
    let sentence = format!("\r\n\r\nThis port speaks HTTPS: ask for {}/ instead.\n", keep.url());
    assert!(answer.ends_with(&sentence), "{answer}");
    let stays = keep.curl().get("/repo");
    assert!(stays.is_whole(), "{stays:?}");
}

fn kept() -> (World, Keep, Package) {
    let url = "https://example.org/hello.tar.gz";
    let package = Package::bare("hello", "1.0").archive(url, &Kind::ALL);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let first = keep.curl().get(&package.cache_path(Kind::Sha256));
    assert!(first.is_whole() && first.body == package.archive_bytes(), "{first:?}");
    world.forget_requests();
    (world, keep, package)
}

/// A clear 4xx on a connection of its own, that says nothing of what is inside.
fn refused(keep: &mut Keep, request: &[u8], what: &str) {
    let answer = keep.raw().send(request).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!((400..500).contains(&answer.status), "{what}: status {}", answer.status);
    let body = answer.body().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(body.len() < 1_000, "{what}: {} bytes of body", body.len());
    let body = String::from_utf8(body).expect("a refusal is text");
    let store = keep.store().display().to_string();
    assert!(!body.contains(&store) && !body.contains("panicked"), "{what}: {body}");
}

#[test]
fn the_log_tells_what_was_sent_and_whether_that_was_all() {
    let package = Package::new("large", "1.0").bytes(vec![7; 20 << 20], &[Kind::Sha256]);
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let path = package.cache_path(Kind::Sha256);
    assert!(keep.curl().get(&path).is_whole());
    let mut begun = keep.raw().get(&path).expect("it answers");
    begun.read_exact(&mut [0; 100_000]).expect("it flows");
    drop(begun);
    let lines = within(Duration::from_secs(20), "both lines", || {
        let lines: Vec<_> =
            keep.logged().into_iter().filter(|line| line["path"] == *path).collect();
        (lines.len() == 2).then_some(lines)
    });
    assert_eq!((&lines[0]["bytes"], &lines[0]["cut"]), (&(20 << 20).into(), &Value::Null));
    let sent = lines[1]["bytes"].as_u64().expect("a number");
    assert!((100_000..20 << 20).contains(&sent) && lines[1]["cut"] == true, "{}", lines[1]);
}
