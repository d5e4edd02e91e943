//! The web pages, opened by a real browser.

use crate::{skip, start};
use serde_json::{Value, json};
use std::path::PathBuf;
use world::{Browser, Keep, Kind, Lie, Mirror, Package, Recorded, Repo, World, tar_gz};

#[test]
fn every_page_is_good_to_look_at_in_light_and_dark_on_a_desk_and_on_a_phone() {
    let Some(browser) = Browser::find() else { skip!("no chromium, node or npm ci") };
    let (_world, mut keep) = filled();
    let screenshots = screenshots();
    std::fs::create_dir_all(&screenshots).expect("a folder can be made");
    let ledger = keep.ledger();
    let mut paths: Vec<(String, u16)> = Vec::new();
    let mut open = |path: &str, status| paths.push((path.to_owned(), status));
    for path in [
        "/",
        "/packages",
        "/packages?q=hello",
        "/packages?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/lab/packages",
        "/lab/packages/hello",
        "/lab/packages/hello/hello.1.0",
        "/lab/packages/markup/markup.1.0",
        "/divergences",
        "/divergences?state=all",
        "/divergences?state=accepted",
        "/snapshots",
        "/snapshots?repository=lab",
        "/ledger",
        "/ledger/entries/0",
        "/login",
    ] {
        open(path, 200);
    }
    for path in ["/nothing", "/divergences/0", "/ledger/entries/999999", "/lab/packages/none"] {
        open(path, 404);
    }
    open("/packages?page=x", 400);
    for kind in ["changed", "edited"] {
        let is_it = |entry: &Value| entry["kind"] == "divergence" && entry["what"] == kind;
        open(&format!("/divergences/{}", ledger.index_of(is_it)), 200);
    }
    for kind in ["pin", "snapshot", "divergence"] {
        let place = ledger.index_of(|entry| entry["kind"] == kind);
        open(&format!("/ledger/entries/{place}"), 200);
    }
    let is_second = |entry: &Value| entry["kind"] == "snapshot" && entry["repository"] == "lab";
    let snapshots: Vec<usize> =
        (0..ledger.len()).filter(|index| is_second(ledger.at(*index))).collect();
    open(&format!("/snapshots/{}", snapshots[0]), 200);
    open(&format!("/snapshots/{}", snapshots[1]), 200);
    if Recorded::find().is_some() {
        for path in [
            "/default/packages?page=3",
            "/default/packages/dune",
            "/default/packages/dune/dune.2.9.3",
            "/default/packages/conf-g%2B%2B",
            "/packages?q=json+parser",
        ] {
            open(path, 200);
        }
        let is_real =
            |entry: &Value| entry["kind"] == "divergence" && entry["repository"] == "default";
        open(&format!("/divergences/{}", ledger.index_of(is_real)), 200);
        open("/divergences?state=all&page=2", 200);
    }
    let paths: Vec<Value> =
        paths.iter().map(|(path, status)| json!({ "path": path, "status": status })).collect();
    let told = json!({ "url": keep.url(), "screenshots": screenshots, "paths": paths });
    let problems = browser.run("look.mjs", &told);
    assert_eq!(problems, json!([]), "{problems:#}");
}

#[test]
fn what_upstream_writes_stays_text() {
    let (_world, mut keep) = filled();
    let curl = keep.curl();
    for path in [
        "/lab/packages/markup",
        "/lab/packages/markup/markup.1.0",
        "/packages?q=markup",
        "/packages?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/packages?q=%22%3E%3Cscript%3E",
        "/login?to=/%22%3E%3Cscript%3E",
        "/divergences?state=all",
        "/snapshots",
        "/lab/packages/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/%3Cscript%3Ealert(1)%3C%2Fscript%3E/packages",
        "/",
    ] {
        let answer = curl.with(&["-H", "accept: text/html"], path);
        let text = String::from_utf8(answer.body.clone()).expect("a page is UTF-8");
        assert!(!text.contains("<script") && !text.contains("<img"), "{path}: {text}");
        assert!(!text.contains("\"javascript:"), "{path}: {text}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    let page = curl.get("/lab/packages/markup/markup.1.0");
    let text = String::from_utf8(page.body).expect("a page is UTF-8");
    assert!(text.contains("&#60;img src=x onerror=alert(1)&#62;"), "{text}");
}

#[test]
fn a_version_page_says_why_an_archive_is_not_pinned() {
    let world = World::start();
    let kinds = [Kind::Md5, Kind::Sha256, Kind::Sha512];
    let [gone, other, unasked] = ["gone", "other", "unasked"].map(|name| {
        let url = format!("https://github.com/world/{name}.tar.gz");
        Package::bare(name, "1.0").archive(&url, &kinds)
    });
    world.publish(&Repo::new([gone.clone(), other.clone(), unasked]));
    world.lie(gone.url(), Lie::Status(404));
    world.lie(other.url(), Lie::FlippedByte);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    for path in [gone.cache_path(Kind::Sha256), "/archive/other.1.0".to_owned()] {
        assert_eq!(keep.curl().get(&path).status, 404, "{path}");
    }
    let page = shown(&mut keep, "/default/packages/unasked/unasked.1.0");
    assert!(page.contains("fetched when somebody asks"), "{page}");
    let page = shown(&mut keep, "/default/packages/gone/gone.1.0");
    assert!(page.contains("It was asked for, and could not be had"), "{page}");
    assert!(page.contains("github.com: upstream answered 404"), "{page}");
    let id = keep.ledger().index_of(|entry| entry["kind"] == "divergence");
    let page = shown(&mut keep, "/default/packages/other/other.1.0");
    let (_, pinned) = page.split_once("<dt>Pinned</dt>").expect("it says whether it is pinned");
    let (pinned, _) = pinned.split_once("</dd>").expect("it ends");
    assert!(pinned.contains("gave something else"), "{pinned}");
    assert!(pinned.contains(&format!("href=\"/divergences/{id}\"")), "{pinned}");
    // What came then is known after a restart, too.
    keep.stop();
    keep.restart();
    keep.index();
    let page = shown(&mut keep, "/default/packages/other/other.1.0");
    assert!(page.contains("It was asked for, and something else came."), "{page}");
    let page = shown(&mut keep, &format!("/divergences/{id}"));
    assert!(page.contains("md5, sha256 and sha512 differ"), "{page}");
}

#[test]
fn the_url_of_a_repository_leads_a_browser_to_its_packages() {
    let (_world, mut keep) = filled();
    for path in ["/lab", "/lab/"] {
        let page = shown(&mut keep, path);
        assert!(
            page.contains("/lab/packages/hello") && !page.contains("/default/packages/"),
            "{page}"
        );
        assert_eq!(keep.curl().get(path).status, 404, "for who is no browser nothing is there");
    }
    let other = keep.curl().with(&["-H", "accept: text/html"], "/other/");
    assert_eq!(other.status, 404);
}

#[test]
fn lists_say_what_each_of_their_lines_is_about() {
    let (_world, mut keep) = filled();
    let id = keep.divergences().last().expect("one")["id"].to_string();
    keep.run(&["divergences", "ack", &id, "--by", "ops"]).ok();
    let page = shown(&mut keep, "/ledger");
    for about in ["stays.1.0", "lab, 5 versions", "changed, stays.1.0"] {
        assert!(page.contains(about), "{about} is not in {page}");
    }
    assert!(page.contains(&format!("divergence {id} acknowledged by ops")), "{page}");
    let page = shown(&mut keep, "/lab/packages/hello/hello.1.0");
    let (title, rest) = page.split_once("</h1>").expect("a page has a title");
    assert!(title.contains("held"), "{title}");
    let place = |text: &str| rest.find(text).unwrap_or_else(|| panic!("{text} is not in {rest}"));
    assert!(place("opam file") < place("Needed by"));
    let page = shown(&mut keep, "/lab/packages/needs-hello/needs-hello.2.0");
    let (before, _) = page.split_once("<h2>opam file").expect("the page shows the opam file");
    assert!(before.contains(">hello</a>") && !before.contains("&#34;hello&#34;"), "{page}");
    assert!(!before.contains("></code>"), "what has no condition has no empty one: {page}");
    let page = shown(&mut keep, "/divergences?state=accepted");
    assert!(page.contains("There is none") && !page.contains("None"), "{page}");
}

/// A page, as text.
fn shown(keep: &mut Keep, path: &str) -> String {
    let page = keep.curl().with(&["-H", "accept: text/html"], path);
    assert_eq!(page.status, 200, "{path}");
    String::from_utf8(page.body).expect("a page is UTF-8")
}

/// A mirror of real packages, where they are at hand, and of a small repository in which
/// everything goes wrong that can.
fn filled() -> (World, Keep) {
    let world = World::start();
    let recorded = Recorded::find();
    let repo = Repo::new([Package::new("alone", "1.0")]);
    match &recorded {
        Some(recorded) => recorded.publish(&world, &recorded.snapshots()[0]),
        None => world.publish(&repo),
    }
    let nested = Package::new("<script>alert(1)</script>", "1.0");
    let others = [
        Package::new("<img src=x onerror=alert(1)>", "1.0"),
        nested,
        Package::new("markup", "1.0").synopsis("<img src=x onerror=alert(1)> & <script>x</script>"),
        Package::new("needs-hello", "2.0").depends("hello"),
        Package::new("hello", "0.9~rc1"),
    ];
    let at = |url: &str, text: &str| {
        let archive = tar_gz([("hello/README", text.as_bytes())]);
        Package::bare("hello", "1.0").archive(url, &[]).bytes(archive, &[Kind::Sha256])
    };
    let moved = |text: &str| at("https://github.com/world/moved.tar.gz", text);
    let (first, second) = (at(URL, "line one\nend\n"), at(URL, "<b>line two</b>\nend\n"));
    world.publish_at(
        LAB,
        &Repo::new(others.clone()).with(first.clone()).with(Package::new("stays", "1.0")),
    );
    let mut keep = start(&Mirror::of(&world).repository("lab", LAB));
    keep.index();
    keep.index_at("/lab/index.tar.gz");
    keep.refresh().ok();
    let curl = keep.curl();
    let fetch = |package: &Package| {
        let path = format!("/lab{}", package.cache_path(Kind::Sha256));
        assert!(curl.get(&path).is_whole(), "{path}");
    };
    let stays = Package::new("stays", "1.0");
    [&first, &stays].into_iter().for_each(fetch);
    if let Some(recorded) = &recorded {
        assert!(curl.get("/default/archive/dune.2.9.3").is_whole());
        let snapshots = recorded.snapshots();
        recorded.publish(&world, &snapshots[snapshots.len() - 1]);
    }
    let changed = moved("something else\n");
    world.publish_at(LAB, &Repo::new(others).with(second).with(stays.clone()));
    keep.refresh().ok();
    world.put(stays.url(), changed.archive_bytes().to_vec());
    assert_eq!(keep.run(&["recheck", "stays"]).code, 1, "other bytes are a divergence");
    (world, keep)
}

/// Where a person can look at them afterwards.
fn screenshots() -> PathBuf {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/target/screenshots").into();
    std::env::var_os("OPAM_KEEP_SCREENSHOTS").map_or_else(beside, PathBuf::from)
}

const LAB: &str = "https://lab.example";
const URL: &str = "https://github.com/world/hello.tar.gz";
