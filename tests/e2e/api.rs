//! The JSON API: what it answers is what its own OpenAPI document says.

use crate::{skip, start};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use world::{Keep, Kind, Mirror, Package, Repo, World};

#[test]
fn every_answer_is_as_the_openapi_document_says() {
    if !can_validate() {
        skip!("no Python with openapi_spec_validator and jsonschema");
    }
    let (_world, mut keep) = filled();
    let curl = keep.curl();
    let document = curl.get("/api/v1/openapi.json");
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document: Value = serde_json::from_slice(&document.body).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let ledger = keep.ledger();
    let of = |kind: &str| ledger.index_of(|entry| entry["kind"] == kind);
    let (pin, snapshot, divergence) = (of("pin"), of("snapshot"), of("divergence"));
    let mut answers = Vec::new();
    for (template, path) in [
        ("/openapi.json", "/openapi.json".to_owned()),
        ("/status", "/status".to_owned()),
        ("/packages", "/packages?q=hello&repository=default".to_owned()),
        (PACKAGE, "/repositories/default/packages/hello".to_owned()),
        (VERSION, "/repositories/default/packages/hello/hello.1.0".to_owned()),
        ("/divergences", "/divergences?state=all".to_owned()),
        ("/divergences/{id}", format!("/divergences/{divergence}")),
        ("/snapshots", "/snapshots".to_owned()),
        ("/snapshots/{entry}", format!("/snapshots/{snapshot}")),
        ("/ledger", "/ledger".to_owned()),
        ("/ledger/entries/{index}", format!("/ledger/entries/{pin}")),
        ("/ledger/entries/{index}/proof", format!("/ledger/entries/{pin}/proof")),
    ] {
        let answer = curl.get(&format!("/api/v1{path}"));
        assert!(answer.is_whole(), "{path}");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        answers.push(json!({ "template": template, "status": "200", "body": body }));
    }
    let templates = document["paths"].as_object().expect("an object");
    let reads = templates.values().filter(|path| path.get("get").is_some()).count();
    assert_eq!(answers.len(), reads, "every call that reads is asked");
    for (template, path, status) in [
        ("/divergences/{id}", "/divergences/0".to_owned(), 404),
        ("/divergences", "/divergences?state=gone".to_owned(), 400),
        ("/packages", "/packages?repository=none".to_owned(), 404),
        (VERSION, "/repositories/default/packages/hello/hello.9".to_owned(), 404),
    ] {
        let answer = curl.get(&format!("/api/v1{path}"));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        answers.push(json!({ "template": template, "status": "default", "body": body }));
    }
    validate(&json!({ "document": document, "answers": answers }));
    let status = curl.get("/api/v1/status");
    let text = String::from_utf8_lossy(&status.body).into_owned();
    assert!(!text.contains(&keep.store().display().to_string()), "a path of the server: {text}");
}

#[test]
fn what_the_pages_show_is_there_for_programs() {
    let (_world, mut keep) = filled();
    let curl = keep.curl();
    let get = |path: &str| -> Value {
        let answer = curl.get(&format!("/api/v1{path}"));
        assert!(answer.is_whole(), "{path}");
        serde_json::from_slice(&answer.body).expect("JSON")
    };
    let found = get("/packages?q=HEL");
    assert_eq!(found["packages"][0]["name"], "hello", "{found:#}");
    assert_eq!(found["packages"][0]["newest"], "1.0", "in opam's order of versions: {found:#}");
    let package = get("/repositories/default/packages/hello");
    let versions: Vec<&Value> =
        package["versions"].as_array().expect("a list").iter().map(|it| &it["version"]).collect();
    assert_eq!(versions, ["1.0", "1.0~rc1", "0.9"], "{package:#}");
    let version = get("/repositories/default/packages/hello/hello.1.0");
    let archive = &version["archives"][0];
    assert_eq!(archive["strength"], "strong");
    assert_eq!(archive["pin"]["pin"]["sha256"], Kind::Sha256.of(hello("1.0").archive_bytes()));
    assert_eq!(version["needed_by"][0]["name"], "needs-hello");
    let edit = version["edits"][0]["diff"].as_str().expect("an edit");
    assert!(edit.contains("+synopsis: \"Another one\""), "{edit}");
    let needs = get("/repositories/default/packages/needs-hello/needs-hello.1.0");
    assert_eq!(needs["depends"][0]["name"], "hello");
    let path = archive["pin"]["path"].as_str().expect("a path");
    assert!(curl.get(path).is_whole(), "{path}");
    let entry = archive["pin"]["entry"].to_string();
    let proof = get(&format!("/ledger/entries/{entry}/proof"));
    let page = curl.get(&format!("/ledger/entries/{entry}/proof"));
    assert_eq!(proof["proof"].as_str().expect("a proof").as_bytes(), page.body);
    assert!(page.header("content-disposition").is_some_and(|it| it.starts_with("attachment")));
    let head = curl.with(&["-I"], "/api/v1/status");
    assert!(head.status == 200 && head.body.is_empty() || !head.body.is_empty());
}

/// Two snapshots, a pin and a divergence.
fn filled() -> (World, Keep) {
    let world = World::start();
    let needs = Package::bare("needs-hello", "1.0").depends("hello");
    let repo = Repo::new([hello("0.9"), hello("1.0~rc1"), needs]);
    world.publish(&repo.clone().with(hello("1.0")));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&hello("1.0").cache_path(Kind::Sha256)).is_whole());
    world.publish(&repo.with(hello("1.0").synopsis("Another one")));
    keep.refresh().ok();
    world.put(hello("1.0").url(), "something else");
    keep.run(&["recheck", "hello"]);
    (world, keep)
}

fn hello(version: &str) -> Package {
    Package::new("hello", version)
}

/// A Python that `tests/run` gave what validates, or else the one that is here.
fn python() -> Command {
    Command::new(std::env::var_os("OPAM_KEEP_PYTHON").unwrap_or_else(|| "python3".into()))
}

fn can_validate() -> bool {
    let imports = ["-c", "import jsonschema, openapi_spec_validator"];
    python().args(imports).output().is_ok_and(|output| output.status.success())
}

fn validate(told: &Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi.py");
    let mut child = python()
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 can be run");
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    stdin.write_all(told.to_string().as_bytes()).expect("a script reads what it is told");
    drop(stdin);
    let output = child.wait_with_output().expect("a script ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

const PACKAGE: &str = "/repositories/{repository}/packages/{name}";
const VERSION: &str = "/repositories/{repository}/packages/{name}/{package}";
