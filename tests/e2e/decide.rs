//! Deciding over HTTP: on the web page and by the API, for those who have an admin token.

use crate::{skip, start};
use serde_json::{Value, json};
use std::time::Duration;
use world::{Answer, Browser, Curl, Keep, Kind, Mirror, Package, Repo, World, tar_gz, within};

#[test]
fn a_person_with_an_admin_token_accepts_on_the_page_and_nobody_else_does() {
    let Some(browser) = Browser::find() else { skip!("no chromium, node or npm ci") };
    let (_world, mut keep, id) = held();
    let (reader, admin) = (token(&keep, &["reader"]), token(&keep, &["louis", "--admin"]));
    let entries = keep.ledger().len();
    let path = format!("/divergences/{id}");
    let told = json!({
        "url": keep.url(), "path": path, "reader": reader, "admin": admin, "why": WHY,
    });
    let seen = browser.run("decide.mjs", &told);
    let expected = json!({
        "strangerHasForm": false,
        "firstFocus": "Skip to the content",
        "readerHasForm": false,
        "loggedOutHasForm": false,
        "user": "louis",
        "cookies": [{ "secure": true, "httpOnly": true, "sameSite": "Lax" }],
        "elsewhere": [403, 403],
        "state": "accepted",
        "complaints": [],
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(seen[name], *value, "{name}: {seen:#}");
    }
    let text = |name: &str| seen[name].as_str().unwrap_or_default().to_owned();
    assert!(text("wrongToken").contains("not good here"), "{seen:#}");
    assert!(text("notice").contains("ledger entry"), "{seen:#}");
    assert!(seen["decisions"].to_string().contains("louis"), "{seen:#}");
    let ledger = keep.ledger();
    let decisions: Vec<&Value> = ledger.of_kind("decision").collect();
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    assert_eq!(ledger.index_of(|entry| entry["kind"] == "decision"), entries);
    assert_eq!(decisions[0]["by"], "louis");
    assert_eq!((&decisions[0]["action"], &decisions[0]["why"]), (&json!("accept"), &json!(WHY)));
    assert!(keep.run(&["divergences"]).ok().contains("no divergence is open"));
    let log = format!("{:?}", keep.logged());
    assert!(!log.contains(&admin) && !log.contains(&reader), "a token is in no log line");
}

#[test]
fn a_form_is_refused_from_elsewhere_and_without_a_session() {
    let (_world, mut keep, id) = held();
    let admin = token(&keep, &["louis", "--admin"]);
    let url = keep.url();
    let (curl, path) = (keep.curl(), format!("/divergences/{id}"));
    let entries = keep.ledger().len();
    let here = ["-H".to_owned(), format!("origin: {url}")];
    let post = |more: &[String], form: &str, path: &str| {
        let data = ["-d".to_owned(), form.to_owned()];
        let all: Vec<&str> = data.iter().chain(more).map(String::as_str).collect();
        curl.with(&all, path)
    };
    let accept = "action=accept&form_key=x";
    assert_eq!(post(&[], accept, &path).status, 403, "no browser says where that is from");
    let elsewhere = ["-H".to_owned(), "origin: https://elsewhere.example".to_owned()];
    assert_eq!(post(&elsewhere, accept, &path).status, 403);
    let no_session = post(&here, accept, &path);
    assert_eq!(no_session.status, 303);
    assert!(no_session.header("location").is_some_and(|to| to.starts_with("/login")));
    // Where a browser might add credentials by itself, they decide nothing.
    let basic = ["-u".to_owned(), format!("x:{admin}")];
    let with_basic = post(&[&here[..], &basic].concat(), accept, &path);
    assert_eq!(with_basic.status, 303);

    let logged_in = post(&here, &format!("token={admin}&to=//elsewhere.example"), "/login");
    assert_eq!((logged_in.status, logged_in.header("location")), (303, Some("/")));
    let cookie = logged_in.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.starts_with("__Host-opam-keep=") && !cookie.contains("Domain"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair");
    let cookie = ["-H".to_owned(), format!("cookie: {pair}")];
    assert_eq!(post(&[&here[..], &cookie].concat(), accept, &path).status, 403, "another key");
    let page = curl.with(&[&cookie[0], &cookie[1]], &path);
    let page = String::from_utf8(page.body).expect("a page is UTF-8");
    let (_, key) = page.split_once("name=\"form_key\" value=\"").expect("a form");
    let key = key.split('"').next().expect("a key");
    for origin in [&elsewhere[..], &[]] {
        let sent =
            post(&[origin, &cookie].concat(), &format!("action=accept&form_key={key}"), &path);
        assert_eq!(sent.status, 403);
    }
    let get = curl.with(&[&cookie[0], &cookie[1]], &format!("{path}?action=accept&form_key={key}"));
    assert_eq!((get.status, keep.ledger().len()), (200, entries), "reading decides nothing");
    let nonsense = post(&[&here[..], &cookie].concat(), &format!("action=x&form_key={key}"), &path);
    assert_eq!(nonsense.status, 400);
    // What is revoked ends its sessions.
    keep.run(&["token", "revoke", "louis"]).ok();
    within(Duration::from_secs(5), "the end of a session", || {
        let page = curl.with(&[&cookie[0], &cookie[1]], &path);
        (!String::from_utf8_lossy(&page.body).contains("form_key")).then_some(())
    });
    let form = format!("action=accept&form_key={key}");
    assert_eq!(post(&[&here[..], &cookie].concat(), &form, &path).status, 303);
    assert_eq!(keep.ledger().len(), entries, "nothing was decided");
    assert_eq!(post(&here, &"x".repeat(20_000), "/login").status, 413);
}

#[test]
fn a_page_says_what_is_served_and_offers_to_accept_what_is_held_alone() {
    for (policy, sentence) in [
        ("hold", "Held: not served as upstream has it until someone accepts it."),
        ("warn", "It only warns of this: nobody has to accept it."),
    ] {
        let (_world, mut keep, id) = rewritten(policy);
        let admin = token(&keep, &["louis", "--admin"]);
        let (origin, curl) = (format!("origin: {}", keep.url()), keep.curl());
        let logged_in = curl.with(&["-d", &format!("token={admin}"), "-H", &origin], "/login");
        let cookie = logged_in.header("set-cookie").and_then(|it| it.split(';').next());
        let cookie = format!("cookie: {}", cookie.expect("a cookie"));
        let page = curl.with(&["-H", &cookie], &format!("/divergences/{id}"));
        let page = String::from_utf8(page.body).expect("a page is UTF-8");
        assert!(page.contains(sentence), "{page}");
        assert!(page.contains("value=\"acknowledge\""), "{page}");
        assert_eq!(page.contains("value=\"accept\""), policy == "hold", "{page}");
    }
}

#[test]
fn the_api_decides_for_admin_tokens_alone_and_says_who_it_was() {
    let (_world, mut keep, id) = held();
    let (reader, admin) = (token(&keep, &["reader"]), token(&keep, &["bot", "--admin"]));
    let curl = keep.curl();
    let path = format!("/api/v1/divergences/{id}");
    let body = json!({ "action": "acknowledge", "why": WHY }).to_string();
    let nobody = post(&curl, &path, None, &body);
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").is_some());
    is_problem(&nobody, 401, &path);
    is_problem(&post(&curl, &path, Some("opamkeep_wrong"), &body), 401, &path);
    is_problem(&post(&curl, &path, Some(&reader), &body), 403, &path);
    let bearer = format!("authorization: Bearer {admin}");
    for origin in ["https://elsewhere.example", "null"] {
        let origin = format!("origin: {origin}");
        let sent = curl.with(&["-d", &body, "-H", &bearer, "-H", &origin], &path);
        is_problem(&sent, 403, &path);
    }
    for (body, status) in [
        ("{}", 400),
        ("[", 400),
        ("{\"action\": \"forget\"}", 400),
        ("{\"action\": \"accept\", \"by\": \"someone else\"}", 400),
    ] {
        is_problem(&post(&curl, &path, Some(&admin), body), status, &path);
    }
    is_problem(
        &post(&curl, "/api/v1/divergences/0", Some(&admin), &body),
        404,
        "/api/v1/divergences/0",
    );
    assert_eq!(keep.ledger().of_kind("decision").count(), 0);

    let decided = read(&post(&curl, &path, Some(&admin), &body));
    let ledger = keep.ledger();
    let entry = decided["entry"].as_u64().and_then(|entry| usize::try_from(entry).ok());
    let decision = ledger.at(entry.expect("an entry"));
    assert_eq!((&decision["by"], &decision["why"]), (&json!("bot"), &json!(WHY)));
    let accept = json!({ "action": "accept" }).to_string();
    let accepted = read(&post(&curl, &path, Some(&admin), &accept));
    assert_eq!(accepted["problem"], Value::Null, "{accepted:#}");
    assert_eq!(accepted["pinned"].as_array().map(Vec::len), Some(1), "{accepted:#}");
    let shown = read(&curl.get(&path));
    assert_eq!(shown["recorded"]["state"], "accepted");
    assert_eq!(shown["recorded"]["decisions"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_api_rechecks_syncs_and_refreshes_for_admin_tokens() {
    let (world, mut keep, _) = held();
    let admin = token(&keep, &["bot", "--admin"]);
    let curl = keep.curl();
    for path in ["recheck", "sync", "repositories/default/refresh"] {
        let path = format!("/api/v1/{path}");
        is_problem(&post(&curl, &path, None, "{}"), 401, &path);
    }
    let lines = |path: &str, body: &Value| -> Vec<Value> {
        let answer = post(&curl, path, Some(&admin), &body.to_string());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), Some("application/jsonl"));
        let text = String::from_utf8(answer.body).expect("JSON is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    };
    let fresh = Package::new("fresh", "1.0");
    world.publish(&Repo::new([fresh.clone()]));
    let path = "/api/v1/repositories/default/refresh";
    let refreshed = read(&post(&curl, path, Some(&admin), ""));
    assert_eq!(refreshed["refreshed"]["outcome"], "admitted", "{refreshed:#}");
    is_problem(
        &post(&curl, "/api/v1/repositories/none/refresh", Some(&admin), ""),
        404,
        "/api/v1/repositories/none/refresh",
    );

    let wanted = json!({ "packages": ["fresh"], "dry_run": true });
    let planned = lines("/api/v1/sync", &wanted);
    assert_eq!((planned.len(), &planned[0]["plan"]["archives"]), (1, &json!(1)), "{planned:#?}");
    assert_eq!(world.count(fresh.url()), 0, "only a plan was made");
    let synced = lines("/api/v1/sync", &json!({ "packages": ["fresh"] }));
    let archive = synced.iter().find_map(|line| line["event"].get("archive"));
    assert!(archive.is_some_and(|it| it["entry"].is_u64()), "{synced:#?}");
    is_problem(&post(&curl, "/api/v1/sync", Some(&admin), "{}"), 400, "/api/v1/sync");

    world.put(fresh.url(), "something else");
    let checked = lines("/api/v1/recheck", &json!({ "about": "fresh" }));
    assert_eq!(checked[0]["urls"], 1, "{checked:#?}");
    assert_eq!(checked[1]["checked"]["outcome"], "changed", "{checked:#?}");
    let nothing = post(&curl, "/api/v1/recheck", Some(&admin), "{\"about\": \"nothing\"}");
    is_problem(&nothing, 404, "/api/v1/recheck");
}

#[test]
fn a_decision_across_a_reload_is_carried_out_by_who_has_taken_over() {
    let (world, mut keep, id) = held();
    let admin = token(&keep, &["bot", "--admin"]);
    let body = json!({ "action": "accept" }).to_string();
    let head = format!(
        "POST /api/v1/divergences/{id} HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {admin}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = keep.raw().connect().expect("a connection");
    connection.write(head.as_bytes()).expect("it can be asked");
    let mirror = Mirror::of(&world).set("policy.source_rewritten", "hold");
    keep.configure(&mirror.set("policy.build", "hold").text(&keep.store()));
    within(Duration::from_secs(20), "another configuration", || {
        keep.logged().iter().any(|line| line["message"] == "reloaded").then_some(())
    });
    // Who has taken over has seen that the edit is held.
    keep.refresh().ok();
    let answer = connection.send(body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
    let decided: Value = serde_json::from_slice(&answer.body().expect("all of it")).expect("JSON");
    assert_eq!((&decided["problem"], &decided["waiting"]), (&Value::Null, &Value::Null));
    assert_eq!(decided["pinned"].as_array().map(Vec::len), Some(1), "{decided:#}");
    let status = keep.run(&["status"]).ok();
    assert!(!status.contains("held"), "{status}");
    assert!(keep.refresh().ok().contains("nothing new"));
}

/// A mirror that serves hello.1.0 as it was first, because its source was rewritten; and the id of
/// that divergence.
fn held() -> (World, Keep, String) {
    rewritten("hold")
}

/// The same by another policy.
fn rewritten(policy: &str) -> (World, Keep, String) {
    let package = |text: &str| {
        let archive = tar_gz([("hello/README", text.as_bytes())]);
        Package::bare("hello", "1.0").archive(URL, &[]).bytes(archive, &[Kind::Sha256])
    };
    let (first, second) = (package("one\n"), package("two\n"));
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.source_rewritten", policy));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    world.publish(&Repo::new([second]));
    keep.refresh().ok();
    let id = keep.divergence();
    (world, keep, id)
}

fn token(keep: &Keep, arguments: &[&str]) -> String {
    keep.run(&[&["token", "add"], arguments].concat()).ok().trim().to_owned()
}

fn post(curl: &Curl, path: &str, token: Option<&str>, body: &str) -> Answer {
    let bearer = format!("authorization: Bearer {}", token.unwrap_or_default());
    let mut arguments = vec!["--data-binary", body, "-H", "content-type: application/json"];
    if token.is_some() {
        arguments.extend(["-H", &bearer]);
    }
    curl.with(&arguments, path)
}

fn read(answer: &Answer) -> Value {
    let text = String::from_utf8_lossy(&answer.body);
    assert!(answer.is_whole(), "{}: {text}", answer.status);
    serde_json::from_str(&text).expect("the API answers JSON")
}

fn is_problem(answer: &Answer, status: u16, path: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{path}: {text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    let problem: Value = serde_json::from_str(&text).expect("a problem is JSON");
    assert_eq!((&problem["status"], &problem["instance"]), (&json!(status), &json!(path)));
    assert_eq!(problem["type"], "about:blank");
    assert!(problem["detail"].as_str().is_some_and(|it| it.len() > 10), "{problem}");
}

const URL: &str = "https://github.com/world/hello.tar.gz";
const WHY: &str = "the author said so: <b>see the list</b>";
