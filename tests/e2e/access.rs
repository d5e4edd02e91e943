//! Who may read, and how often.

use crate::{BINARY, skip};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use world::{Keep, Kind, Lie, Mirror, Opam, Package, Repo, Version, World, within};

#[test]
fn opam_2_1_installs_with_a_token() {
    if !installs_with_a_token(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_3_installs_with_a_token() {
    if !installs_with_a_token(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_6_installs_with_a_token() {
    if !installs_with_a_token(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn without_a_token_there_is_nothing_and_how_to_trust_the_server() {
    let (world, mut keep) = closed();
    let secret = token(&keep, &["ci"]);
    let package = hello();
    let paths = [
        "/".to_owned(),
        "/index.tar.gz".to_owned(),
        "/default/repo".to_owned(),
        "/at/2/index.tar.gz".to_owned(),
        "/ledger/checkpoint".to_owned(),
        "/archive/hello.1.0".to_owned(),
        package.cache_path(Kind::Sha256),
    ];
    let curl = keep.curl();
    for path in &paths {
        let refused = curl.get(path);
        assert_eq!(refused.status, 401, "{path}");
        let challenge = refused.header("www-authenticate");
        assert!(challenge.is_some_and(|it| it.starts_with("Basic realm=")), "{path}");
    }
    assert!(world.requests().iter().all(|request| request.url.ends_with("index.tar.gz")));
    for path in ["/assets/ca.pem", "/assets/style.css"] {
        assert!(curl.get(path).is_whole(), "{path}");
    }
    // A path that is none is no way to learn anything either.
    assert_eq!(curl.get("/nothing").status, 404);
    let basic = ["-u".to_owned(), format!("any:{secret}")];
    for arguments in [basic, bearer(&secret)] {
        let arguments = arguments.each_ref().map(String::as_str);
        let archive = curl.with(&arguments, &package.cache_path(Kind::Sha256));
        assert!(archive.is_whole() && archive.body == package.archive_bytes());
        // No cache that others share may hand it on.
        assert!(archive.header("cache-control").is_some_and(|it| it.starts_with("private")));
        assert!(curl.with(&arguments, "/index.tar.gz").is_whole());
    }
    assert_eq!(curl.with(&["-u", &format!("{secret}:")], "/repo").status, 401);
    assert_eq!(curl.with(&["-u", "ci:opamkeep_wrong"], "/repo").status, 401);
}

#[test]
fn a_cache_that_others_share_keeps_nothing_of_what_takes_a_token() {
    let (_world, mut keep) = closed();
    let secret = token(&keep, &["ci"]);
    let arguments = bearer(&secret);
    let curl = keep.curl();
    let get = |path: &str| curl.with(&arguments.each_ref().map(String::as_str), path);
    within(SOON, "a token that is good", || get("/repo").is_whole().then_some(()));
    for path in [
        "/",
        "/index.tar.gz",
        "/default/repo",
        "/at/2/index.tar.gz",
        "/ledger/checkpoint",
        "/ledger/key",
        "/ledger/tile/0/000.p/1",
        "/api/v1/status",
        "/api/v1/openapi.json",
        "/archive/hello.1.0",
        &hello().cache_path(Kind::Sha256),
    ] {
        let answer = get(path);
        assert!(answer.is_whole(), "{path}: {}", answer.status);
        let cache = answer.header("cache-control").unwrap_or_default();
        assert!(cache.starts_with("private") || cache == "no-store", "{path}: {cache}");
        assert!(!cache.contains("public"), "{path}: {cache}");
    }
}

#[test]
fn a_browser_without_a_session_is_challenged_without_a_window_of_its_own() {
    let (_world, mut keep) = closed();
    let origin = format!("origin: {}", keep.url());
    let curl = keep.curl();
    let challenge = |accept: &str| {
        let answer = curl.with(&["-d", "x=y", "-H", &origin, "-H", accept], "/divergences/1");
        assert_eq!(answer.status, 401, "{accept}");
        answer.header("www-authenticate").expect("a 401 says how").to_owned()
    };
    assert!(challenge("accept: */*").starts_with("Basic realm="));
    assert!(challenge("accept: text/html").starts_with("Bearer realm="));
}

#[test]
fn a_running_server_knows_of_new_and_revoked_tokens() {
    let (_world, mut keep) = closed();
    let curl = keep.curl();
    let reads = |secret: &str| {
        curl.with(&bearer(secret).each_ref().map(String::as_str), "/repo").status == 200
    };
    let (ci, short) = (token(&keep, &["ci"]), token(&keep, &["short", "--expires", "1s"]));
    within(SOON, "a token that is good", || reads(&ci).then_some(()));
    within(SOON, "a token that is over", || (!reads(&short)).then_some(()));
    assert_eq!(keep.run(&["token", "add", "another"]).stderr, "", "it is needed here");
    let listed = keep.run(&["token", "list"]).ok();
    assert!(listed.contains("ci  read, since") && listed.contains("short  read"), "{listed}");
    assert!(!listed.contains("opamkeep_"), "{listed}");
    let again = keep.run(&["token", "add", "ci"]);
    assert!(
        again.code == 2 && again.stderr.contains("there is a token \"ci\""),
        "{}",
        again.said()
    );
    keep.run(&["token", "revoke", "ci"]).ok();
    within(SOON, "a token that is revoked", || (!reads(&ci)).then_some(()));
    let unknown = keep.run(&["token", "revoke", "ci"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("no token \"ci\""), "{}", unknown.said());
    let file = keep.store().join("keys/tokens.json");
    let text = std::fs::read_to_string(&file).expect("the list is there");
    assert!(!text.contains(&short) && !text.contains("opamkeep_"), "{text}");
    let mode = file.metadata().expect("the list is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A list that can't be read lets nobody in.
    let admin = token(&keep, &["admin", "--admin"]);
    within(SOON, "an admin", || reads(&admin).then_some(()));
    std::fs::write(&file, "[{").expect("a file can be written");
    within(SOON, "nobody", || (!reads(&admin)).then_some(()));
}

#[test]
fn a_list_that_can_be_read_again_lets_in_again_though_nothing_of_the_file_shows_it() {
    let (_world, mut keep) = closed();
    let ci = token(&keep, &["ci"]);
    let curl = keep.curl();
    let reads = || curl.with(&bearer(&ci).each_ref().map(String::as_str), "/repo").status == 200;
    within(SOON, "a token that is good", || reads().then_some(()));
    let file = keep.store().join("keys/tokens.json");
    let good = std::fs::read(&file).expect("the list is there");
    std::fs::write(&file, vec![b'['; good.len()]).expect("a file can be written");
    let damaged = file.metadata().and_then(|it| it.modified()).expect("a file has a time");
    within(SOON, "nobody", || (!reads()).then_some(()));
    std::fs::write(&file, good).expect("a file can be written");
    let list = std::fs::File::options().write(true).open(&file).expect("it can be opened");
    list.set_modified(damaged).expect("a time can be set");
    within(SOON, "the same token", || reads().then_some(()));
}

#[test]
fn a_list_of_tokens_that_can_not_be_read_is_told_of() {
    let (_world, mut keep) = closed();
    token(&keep, &["ci"]);
    keep.run(&["health", "--ready"]).ok();
    std::fs::write(keep.store().join("keys/tokens.json"), "[{").expect("a file can be written");
    let health = within(SOON, "the list", || {
        Some(keep.run(&["health", "--ready"])).filter(|health| health.code == 1)
    });
    for told in [health.stdout, keep.run(&["status"]).ok(), keep.run(&["token", "list"]).stderr] {
        assert!(told.contains("tokens.json can't be read, so no token is good"), "{told}");
        assert!(told.contains("opam-keep token add"), "{told}");
    }
    let ready = String::from_utf8(keep.curl().get("/readyz").body).expect("text");
    assert!(ready.contains("tokens: not as it should be"), "{ready}");
}

#[test]
fn logins_that_fail_too_often_are_told_so_and_no_good_one_is_kept_out() {
    let (_world, mut keep) = listening("access.failed_logins_per_minute", 3);
    let secret = token(&keep, &["ci"]);
    let curl = keep.curl();
    let status =
        |secret: &str| curl.with(&bearer(secret).each_ref().map(String::as_str), "/repo").status;
    within(SOON, "a token that is good", || (status(&secret) == 200).then_some(()));
    let failed: Vec<u16> = (0..6).map(|_| status("opamkeep_wrong")).collect();
    assert_eq!(failed.last(), Some(&403), "{failed:?}");
    assert_eq!(status(&secret), 200);
}

#[test]
fn a_token_that_nobody_needs_for_reading_is_said_to_be_one() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let keep = crate::start(&Mirror::of(&world));
    let said = keep.run(&["token", "add", "ci"]);
    assert!(said.stderr.contains("everyone who can connect may read"), "{}", said.said());
    assert_eq!(said.ok().lines().count(), 1, "the token alone is on standard output");
    assert_eq!(keep.run(&["token", "add", "boss", "--admin"]).stderr, "");
}

#[test]
fn one_client_may_ask_so_often_for_what_is_not_kept() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world).set("access.misses_per_minute", 5);
    let mut keep = crate::start(&mirror);
    keep.index();
    let kept = hello().cache_path(Kind::Sha256);
    let curl = keep.curl();
    assert!(curl.get(&kept).is_whole());
    let reasons: Vec<String> = (0..8)
        .map(|number: u8| {
            let miss = curl.get(&Kind::Sha256.cache_path(&[number]));
            assert_eq!(miss.status, 404);
            miss.header("x-opam-keep-reason").expect("a reason").to_owned()
        })
        .collect();
    assert!(reasons[0].starts_with("undeclared"), "{reasons:?}");
    assert!(reasons[7].starts_with("busy; you ask too often"), "{reasons:?}");
    for path in [kept.as_str(), "/archive/hello.1.0"] {
        assert!(curl.get(path).is_whole(), "{path}: what is kept is no miss");
    }
}

/// Whether there is such a client at all; everything else is asserted.
fn installs_with_a_token(version: Version) -> bool {
    let (world, mut keep) = closed();
    let secret = token(&keep, &["ci"]);
    let (url, ca) = (keep.url(), keep.ca());
    let Some(opam) = Opam::fresh(version, ca.clone()) else { return false };
    assert_ne!(opam.init(&url).code, 0, "nothing without a token");
    let with_user = Opam::fresh(version, ca.clone()).expect("it was there before");
    let with_netrc = Opam::fresh(version, ca).expect("it was there before");
    let with_netrc = with_netrc
        .with_file(".curlrc", "netrc\n")
        .with_file(".netrc", &format!("machine localhost login ci password {secret}\n"));
    for (opam, url) in [
        (&with_user, url.replace("https://", &format!("https://ci:{secret}@"))),
        (&with_netrc, url.clone()),
    ] {
        world.lie_everywhere(None);
        opam.init(&url).ok();
        opam.run(&["switch", "create", "default", "--empty"]).ok();
        // The archive comes from the mirror or from nowhere.
        opam.run(&["install", "hello"]).ok();
        assert!(opam.share("default").join("hello/content").exists());
        world.lie_everywhere(Some(Lie::HangUp));
    }
    let upstream = world.requests();
    assert!(upstream.iter().all(|request| request.header("authorization").is_none()));
    let logged: Vec<String> = keep.logged().iter().map(ToString::to_string).collect();
    assert!(logged.iter().any(|line| line.contains("\"token\":\"ci\"")), "the log says whose");
    assert!(!logged.iter().any(|line| line.contains(&secret)), "and never the token itself");
    true
}

fn bearer(secret: &str) -> [String; 2] {
    ["-H".to_owned(), format!("Authorization: Bearer {secret}")]
}

fn token(keep: &Keep, arguments: &[&str]) -> String {
    keep.run(&[&["token", "add"], arguments].concat()).ok().trim().to_owned()
}

/// A mirror that is read with tokens alone.
fn closed() -> (World, Keep) {
    listening("access.failed_logins_per_minute", 1_000)
}

fn listening(key: &str, value: i64) -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world).set("access.read", "tokens").set(key, value);
    let mut keep = Keep::start(BINARY, &mirror);
    let ledger = |keep: &Keep| keep.ledger().of_kind("snapshot").count();
    within(SOON, "a snapshot", || (ledger(&keep) > 0).then_some(()));
    keep.address("https");
    (world, keep)
}

fn hello() -> Package {
    Package::new("hello", "1.0")
}

const SOON: Duration = Duration::from_secs(30);
