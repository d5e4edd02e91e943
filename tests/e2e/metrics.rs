//! What supervisors, load balancers and Prometheus ask.

use crate::{BINARY, skip, start};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use world::{Ca, Curl, Identity, Keep, Kind, Lie, Mirror, Package, Repo, World, within};

#[test]
fn every_series_is_there_from_the_start_and_promtool_accepts_them() {
    let (_world, mut keep) = small();
    let text = scrape(&mut keep);
    let series = read(&text);
    for (name, count) in [
        ("opam_keep_http_requests_total", 10 * 18),
        ("opam_keep_http_response_bytes_total", 10),
        ("opam_keep_archive_requests_total", 4),
        ("opam_keep_archive_unfilled_total", 10),
        ("opam_keep_divergences", 9 * 3),
        ("opam_keep_rechecks_total", 5),
        ("opam_keep_recheck_urls", 5),
        ("opam_keep_refreshes_total", 3),
        ("opam_keep_upstream_requests_total", 12),
        ("opam_keep_upstream_bytes_total", 1),
        ("opam_keep_index_age_seconds", 1),
        ("opam_keep_index_served", 1),
        ("opam_keep_ready", 6),
        ("opam_keep_configuration_refused", 1),
        ("opam_keep_certificate_expiry_timestamp_seconds", 1),
        ("opam_keep_build_info", 1),
        ("opam_keep_verify_problems", 1),
        ("opam_keep_alerts_queued", 1),
        ("opam_keep_alerts_given_up_total", 1),
        ("opam_keep_recheck_lag_seconds", 1),
        ("opam_keep_store_free_bytes", 1),
        ("process_resident_memory_bytes", 1),
    ] {
        let found = series.keys().filter(|it| it.split('{').next() == Some(name)).count();
        assert_eq!(found, count, "{name}\n{text}");
    }
    if !promtool(&["check", "metrics"], None, Some(&text)) {
        skip!("no promtool in PATH");
    }
}

#[test]
fn counters_move_by_what_happened() {
    let (world, mut keep) = small();
    let package = hello();
    let path = package.cache_path(Kind::Sha256);
    let curl = keep.curl();
    let before = read(&scrape(&mut keep));
    let other = Kind::Sha256.cache_path(b"nobody declares this");
    let statuses = [&path, &path, &path, &other].map(|path| curl.get(path).status);
    assert_eq!(statuses, [200, 200, 200, 404]);
    world.lie(slow().url(), Lie::Status(404));
    assert_eq!(curl.get(&slow().cache_path(Kind::Sha256)).status, 404);
    assert_eq!(curl.get("/ledger/checkpoint").status, 200);
    assert_eq!(curl.get("/nothing").status, 404);
    world.put(package.url(), "something else");
    keep.run(&["recheck", "hello"]);
    keep.run(&["verify"]).ok();
    // A scrape stands for a second.
    std::thread::sleep(Duration::from_millis(1_100));
    let after = read(&scrape(&mut keep));
    let size = package.archive_bytes().len() as f64;
    for (series, moved) in [
        ("opam_keep_archive_requests_total{result=\"hit\"}", 2.0),
        ("opam_keep_archive_requests_total{result=\"miss\"}", 2.0),
        ("opam_keep_archive_requests_total{result=\"joined\"}", 0.0),
        ("opam_keep_archive_requests_total{result=\"unasked\"}", 1.0),
        ("opam_keep_archive_unfilled_total{reason=\"undeclared\"}", 1.0),
        ("opam_keep_archive_unfilled_total{reason=\"unavailable\"}", 1.0),
        ("opam_keep_http_requests_total{route=\"archive\",status=\"200\"}", 3.0),
        ("opam_keep_http_requests_total{route=\"archive\",status=\"404\"}", 2.0),
        ("opam_keep_http_requests_total{route=\"ledger\",status=\"200\"}", 1.0),
        ("opam_keep_http_requests_total{route=\"none\",status=\"404\"}", 1.0),
        ("opam_keep_http_request_duration_seconds_count{route=\"archive\"}", 5.0),
        ("opam_keep_upstream_requests_total{host=\"github.com\",outcome=\"ok\"}", 2.0),
        ("opam_keep_upstream_requests_total{host=\"github.com\",outcome=\"not-found\"}", 1.0),
        ("opam_keep_pins", 1.0),
        ("opam_keep_divergences{kind=\"changed\",state=\"open\"}", 1.0),
        ("opam_keep_rechecks_total{outcome=\"changed\"}", 1.0),
        ("opam_keep_recheck_urls{outcome=\"changed\"}", 1.0),
    ] {
        let value = |all: &BTreeMap<String, f64>| all.get(series).copied().unwrap_or_default();
        assert_eq!(value(&after) - value(&before), moved, "{series}\n{after:#?}");
    }
    let sent = "opam_keep_http_response_bytes_total{route=\"archive\"}";
    assert!(after[sent] - before[sent] >= 3.0 * size, "{}", after[sent]);
    assert!(after["opam_keep_verify_timestamp_seconds"] > 1.7e9);
    assert_eq!(after["opam_keep_verify_problems"], 0.0);
    let text = scrape(&mut keep);
    assert!(!text.contains("hello") && !text.contains("/world/"), "no package, no URL: {text}");
}

#[test]
fn who_waits_for_the_same_fetch_joined_it() {
    let (world, mut keep) = small();
    let path = slow().cache_path(Kind::Sha256);
    world.lie_times(slow().url(), Lie::Slow(60), 1);
    let curl = keep.curl();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (curl, path) = (curl.clone(), path.clone());
            std::thread::spawn(move || curl.get(&path).status)
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("a client ends"), 200);
    }
    let series = read(&scrape(&mut keep));
    let of =
        |result: &str| series[&format!("opam_keep_archive_requests_total{{result=\"{result}\"}}")];
    assert_eq!((of("miss"), of("joined") + of("hit")), (1.0, 3.0), "{series:#?}");
}

#[test]
fn readyz_says_which_part_is_wrong() {
    let (world, mut keep) = small();
    let curl = keep.curl();
    let text = |path: &str| String::from_utf8(curl.get(path).body).expect("text");
    assert_eq!(text("/livez"), "ok\n");
    within(Duration::from_secs(20), "readiness", || {
        (curl.get("/readyz").status == 200).then_some(())
    });
    let parts = ["store", "index default", "clock", "configuration", "certificate", "tokens"];
    assert_eq!(text("/readyz"), parts.map(|part| format!("{part}: ok\n")).concat());
    let version: Value = serde_json::from_str(&text("/version")).expect("JSON");
    assert_eq!(version["name"], "opam-keep");
    let printed = keep.run(&["--version"]).ok();
    assert!(printed.contains(version["version"].as_str().expect("a version")), "{printed}");

    world.lie(&format!("{}/index.tar.gz", World::OPAM), Lie::Status(500));
    keep.refresh();
    let stale = within(Duration::from_secs(60), "a stale index", || {
        let answer = curl.get("/readyz");
        (answer.status == 503).then_some(answer)
    });
    let told = String::from_utf8(stale.body.clone()).expect("text");
    assert!(told.contains("store: ok\nindex default: stale"), "{told}");
    assert!(stale.header("retry-after").is_some());
    let json = curl.with(&["-H", "accept: application/json"], "/readyz");
    let json: Value = serde_json::from_slice(&json.body).expect("JSON");
    assert_eq!((&json["ready"], &json["parts"][0]["problem"]), (&Value::from(false), &Value::Null));
    assert_eq!(json["parts"][1]["part"], "index default");
    assert_eq!(curl.get("/livez").status, 200, "it lives on");
    assert!(curl.get(&hello().cache_path(Kind::Sha256)).is_whole(), "and serves");
    assert_eq!(read(&scrape(&mut keep))["opam_keep_ready{part=\"index default\"}"], 0.0);
}

#[test]
fn an_expired_certificate_is_spoken_of_everywhere() {
    let (ca, world) = (Ca::new(), World::start());
    world.publish(&Repo::new([hello()]));
    let mut keep = Keep::stopped(BINARY);
    let Identity { cert, key } = ca.expired(&["localhost"]);
    for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
        std::fs::write(keep.path(name), text).expect("a file can be written");
    }
    let tls: toml::Table = [("cert", "cert.pem"), ("key", "key.pem")]
        .map(|(key, name)| (key.to_owned(), toml::Value::from(name)))
        .into_iter()
        .collect();
    keep.configure(&Mirror::of(&world).set("server.tls", tls).text(&keep.store()));
    let checked = keep.run(&["check-config"]).ok();
    assert!(checked.contains("the certificate expired at 2021-01-01T00:00:00Z"), "{checked}");
    keep.restart();
    let curl = Curl::new(&keep.url(), keep.path("cert.pem"));
    let get = |path: &str| String::from_utf8(curl.with(&["-k"], path).body).expect("text");
    let told = get("/readyz");
    assert!(told.contains("certificate: expired at 2021-01-01T00:00:00Z"), "{told}");
    let expiry = read(&get("/metrics"))["opam_keep_certificate_expiry_timestamp_seconds"];
    assert_eq!(expiry, 1_609_459_200.0);
    let health = keep.run(&["health", "--ready"]);
    assert!(health.code == 1 && health.stdout.contains("certificate: expired"), "{health:?}");
    let is_told = |line: &Value| line["message"] == "clients refuse the certificate";
    assert!(keep.logged().iter().any(is_told), "the log says so");
}

#[test]
fn a_restart_knows_when_upstream_last_answered() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let fresh = |keep: &Keep| {
        let status: Value = serde_json::from_str(&keep.run(&["status", "--json"]).ok()).ok()?;
        status["repositories"][0]["fresh_at"].as_str().map(str::to_owned)
    };
    let first = within(SOON, "an answer", || fresh(&keep));
    let last = within(SOON, "another answer", || {
        keep.refresh().ok();
        fresh(&keep).filter(|last| *last > first)
    });
    world.lie_everywhere(Some(Lie::HangUp));
    keep.kill();
    keep.restart();
    assert_eq!(fresh(&keep), Some(last));
    let told = keep.run(&["status"]).ok();
    assert!(told.contains("upstream last answered well at"), "{told}");
}

#[test]
fn a_store_without_room_is_not_ready() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mut keep = start(&Mirror::of(&world).set("store.min_free", "1000000TiB"));
    let answer = keep.curl().get("/readyz");
    let told = String::from_utf8(answer.body).expect("text");
    assert_eq!(answer.status, 503, "{told}");
    assert!(told.contains("store: ") && told.contains("store.min_free"), "{told}");
    assert!(told.contains("index default: nothing was admitted yet"), "{told}");
}

#[test]
fn those_without_a_token_learn_whether_it_lives_and_nothing_else() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world).set("access.read", "tokens");
    let mut keep = start(&mirror.set("store.min_free", "1000000TiB"));
    let secret = keep.run(&["token", "add", "prometheus"]).ok();
    let bearer = format!("authorization: Bearer {}", secret.trim());
    let curl = keep.curl();
    assert_eq!(curl.get("/livez").status, 200);
    assert!(curl.get("/version").is_whole());
    let told = String::from_utf8(curl.get("/readyz").body).expect("text");
    assert!(told.starts_with("store: not as it should be; opam-keep health says why\n"), "{told}");
    assert!(keep.run(&["health"]).stdout.contains("store.min_free"));
    assert_eq!(curl.get("/metrics").status, 401);
    assert!(curl.with(&["-H", &bearer], "/metrics").is_whole());
}

#[test]
fn rules_and_dashboard_name_only_what_there_is() {
    let (_world, mut keep) = small();
    let series = read(&scrape(&mut keep));
    let names: BTreeSet<&str> =
        series.keys().filter_map(|series| series.split('{').next()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring");
    for file in ["grafana.json", "alerts.yml"] {
        let text = std::fs::read_to_string(root.join(file)).expect("the file is there");
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_part(c));
        let mut count = 0;
        for word in words.filter(|it| it.starts_with("opam_keep_") || it.starts_with("process_")) {
            assert!(names.contains(word), "{file} names {word}");
            count += 1;
        }
        assert!(count > 8, "{file} names {count} metrics");
    }
    let dashboard = std::fs::read_to_string(root.join("grafana.json")).expect("it is there");
    serde_json::from_str::<Value>(&dashboard).expect("a dashboard is JSON");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        if !promtool(&arguments, Some(&root), None) {
            skip!("no promtool in PATH");
        }
    }
}

/// A mirror of two packages, of which nothing was asked for yet.
fn small() -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([hello(), slow()]));
    let mirror = Mirror::of(&world).set("alert.stale_after", "5s");
    let hook = "url = \"https://hooks.example/x\"\nbody = \"slack\"";
    let mut keep = start(&mirror.of_repository("refresh", "2s").sink("webhook", hook));
    keep.index();
    (world, keep)
}

fn hello() -> Package {
    Package::new("hello", "1.0")
}

fn slow() -> Package {
    Package::new("slow", "1.0")
}

fn scrape(keep: &mut Keep) -> String {
    let answer = keep.curl().get("/metrics");
    assert!(answer.is_whole(), "{}", answer.status);
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    String::from_utf8(answer.body).expect("metrics are UTF-8")
}

/// Each series with its value.
fn read(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let read = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a line has a value");
        (series.to_owned(), value.parse().expect("a value is a number"))
    });
    read.collect()
}

/// Runs promtool and panics unless it is content; `false` where there is none.
fn promtool(arguments: &[&str], directory: Option<&Path>, input: Option<&str>) -> bool {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let Ok(mut child) = command.spawn() else { return false };
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    stdin.write_all(input.unwrap_or_default().as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("error"), "{arguments:?}: {said}");
    true
}

const SOON: Duration = Duration::from_secs(20);
