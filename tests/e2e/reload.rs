//! Another configuration or certificate, while the server runs.

use crate::{BINARY, start};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use world::{Ca, Curl, Identity, Keep, Kind, Mirror, Package, Repo, World, raw, within};

#[test]
fn certificate_and_configuration_are_swapped_under_100_requests_a_second() {
    let ca = Ca::new();
    let (_world, mut keep, mirror) = with_certificate(&ca);
    let (package, large) = (hello(), large());
    assert!(curl(&mut keep).get(&large.cache_path(Kind::Sha256)).is_whole());
    let download = {
        let (curl, path) = (curl(&mut keep), large.cache_path(Kind::Sha256));
        std::thread::spawn(move || curl.with(&["--http1.1", "--limit-rate", "1M"], &path))
    };
    let download_http2 = {
        let (curl, path) = (curl(&mut keep), large.cache_path(Kind::Sha256));
        std::thread::spawn(move || curl.with(&["--http2", "--limit-rate", "1M"], &path))
    };
    let client = raw::Client::new(keep.address("https"), &keep.path("ca.pem"));
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let path = package.cache_path(Kind::Sha256);
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (client, is_over, done, path) =
                (client.clone(), Arc::clone(&is_over), Arc::clone(&done), path.clone());
            std::thread::spawn(move || {
                let mut kept = None;
                let mut failures = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let next = Instant::now() + Duration::from_millis(1_000 / 13);
                    // Every other client has a connection for each request.
                    let connection = match kept.take().filter(|_| number % 2 == 0) {
                        Some(connection) => Ok(connection),
                        None => client.connect(),
                    };
                    match connection.and_then(|it| ask(it, &path)) {
                        Ok((200, connection)) => kept = Some(connection),
                        Ok((status, _)) => failures.push(format!("status {status}")),
                        Err(error) => failures.push(error.to_string()),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                failures
            })
        })
        .collect();
    let begun = Instant::now();
    for round in 0..6 {
        let name = format!("round-{round}.example");
        let identity = ca.server(&["localhost", &name]);
        write(&keep, &identity);
        // The same file with another value, and the certificate with it in one swap.
        let text = mirror.clone().set("upstream.patience", format!("{}s", 10 + round));
        keep.configure(&text.text(&keep.store()));
        within(Duration::from_secs(20), &name, || knows(&mut keep, &name).then_some(()));
    }
    let took = begun.elapsed();
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let failures = client.join().expect("a client does not panic");
        assert!(failures.is_empty(), "{} failed: {failures:?}", failures.len());
    }
    let rate = done.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    assert!(rate > 80.0, "only {rate} requests a second in {took:?}");
    for download in [download, download_http2] {
        let answer = download.join().expect("a download ends");
        assert!(answer.is_whole() && answer.took > Duration::from_secs(5), "{:?}", answer.took);
        assert!(answer.body == large.archive_bytes(), "a download of other bytes");
    }
    let refused = keep.logged().into_iter().any(|line| line.to_string().contains("refused"));
    assert!(!refused, "every swap was taken");
    keep.run(&["verify"]).ok();
}

#[test]
fn a_bad_change_is_refused_with_its_reason_and_the_old_one_goes_on() {
    let ca = Ca::new();
    let (_world, mut keep, mirror) = with_certificate(&ca);
    let good = mirror.text(&keep.store());
    let other = Ca::new().server(&["localhost"]);
    let old = std::fs::read_to_string(keep.path("cert.pem")).expect("it was written");
    for (name, file, text, words) in [
        ("a mistake", "mirror.toml", format!("listn = 1\n{good}"), "listn"),
        ("no TOML", "mirror.toml", "[server".to_owned(), "mirror.toml:1"),
        ("nothing", "mirror.toml", String::new(), "is empty"),
        ("a contradiction", "mirror.toml", good.replace("127.0.0.1:0", "x"), "x"),
        ("another's certificate", "cert.pem", other.cert, "belong together"),
        ("no certificate", "cert.pem", "nonsense".to_owned(), "PEM"),
    ] {
        std::fs::write(keep.path(file), &text).expect("a file can be written");
        let problem = within(SOON, name, || problem(&keep));
        assert!(problem.contains(words), "{name}: {problem}");
        let told = keep.run(&["--store", &store(&keep), "status"]).ok();
        assert!(told.contains("the change is refused:"), "{name}: {told}");
        let everyone = curl(&mut keep).get("/api/v1/status");
        let everyone = String::from_utf8(everyone.body).expect("JSON");
        assert!(everyone.contains("is refused") && !everyone.contains(&problem), "{everyone}");
        let log = format!("{:?}", keep.logged());
        assert!(log.contains("the new configuration is refused"), "{name}");
        assert!(curl(&mut keep).get(&hello().cache_path(Kind::Sha256)).is_whole(), "{name}");
        std::fs::write(keep.path("cert.pem"), &old).expect("a file can be written");
        keep.configure(&good);
        within(SOON, "the old one", || problem_is_gone(&keep));
    }
}

#[test]
fn a_refused_configuration_stays_refused_until_what_it_names_is_there() {
    let ca = Ca::new();
    let (_world, mut keep, mirror) = with_certificate(&ca);
    let good = mirror.text(&keep.store());
    keep.configure(&format!("listn = 1\n{good}"));
    within(SOON, "a mistake", || problem(&keep));
    // What goes on takes its certificates all the same.
    write(&keep, &ca.server(&["localhost", "second.example"]));
    within(SOON, "another certificate", || knows(&mut keep, "second.example").then_some(()));
    let said = problem(&keep).expect("a certificate mends no mistake");
    assert!(said.contains("listn"), "{said}");
    let ready = curl(&mut keep).get("/readyz");
    let told = String::from_utf8(ready.body).expect("text");
    assert_eq!(ready.status, 503, "{told}");
    assert!(told.contains("configuration: not as it should be"), "{told}");
    let metrics = String::from_utf8(curl(&mut keep).get("/metrics").body).expect("text");
    assert!(metrics.contains("opam_keep_configuration_refused 1\n"), "{metrics}");
    assert!(metrics.contains("opam_keep_ready{part=\"configuration\"} 0\n"), "{metrics}");

    keep.configure(&good.replace("cert.pem", "other.pem"));
    within(SOON, "no such file", || problem(&keep).filter(|it| it.contains("other.pem: No such")));
    let third = ca.server(&["localhost", "third.example"]);
    std::fs::write(keep.path("other.pem"), third.cert).expect("a file can be written");
    std::fs::write(keep.path("key.pem"), third.key).expect("a file can be written");
    within(SOON, "the file that was missing", || problem_is_gone(&keep));
    assert!(knows(&mut keep, "third.example"));
    assert_eq!(curl(&mut keep).get("/readyz").status, 200);
}

#[test]
fn a_change_while_the_server_starts_is_taken() {
    let ca = Ca::new();
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mut keep = Keep::stopped(BINARY);
    let identity = ca.server(&["localhost"]);
    std::fs::write(keep.path("ca.pem"), ca.pem()).expect("a file can be written");
    std::fs::write(keep.path("key.pem"), &identity.key).expect("a file can be written");
    // Whoever reads this certificate waits until somebody writes it.
    let pipe = keep.path("cert.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is installed").success());
    let tls: toml::Table = [("cert", "cert.pem"), ("key", "key.pem")]
        .map(|(key, name)| (key.to_owned(), toml::Value::from(name)))
        .into_iter()
        .collect();
    let mirror = Mirror::of(&world).set("server.tls", tls);
    keep.configure(&mirror.text(&keep.store()));
    let closed = mirror.set("access.read", "tokens").text(&keep.store());
    let (lock, config) = (keep.store().join("lock"), keep.config());
    std::thread::spawn(move || {
        let mut is_read = false;
        while !is_read {
            let mut writer =
                std::fs::OpenOptions::new().write(true).open(&pipe).expect("a pipe can be opened");
            for _ in 0..100 {
                // Once the store is open, mirror.toml was read; nobody watches it yet.
                if !is_read && lock.exists() {
                    is_read = true;
                    std::fs::write(&config, &closed).expect("a file can be written");
                    let file = pipe.with_extension("new");
                    std::fs::write(&file, &identity.cert).expect("a file can be written");
                    // From now on nobody waits; who waited already has the pipe.
                    std::fs::rename(&file, &pipe).expect("a file can be renamed");
                }
                // Who only looks whether it can be opened leaves nobody to write to.
                if writer.write_all(identity.cert.as_bytes()).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(writer);
            // Whoever reads comes to the end before there is more.
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    keep.restart();
    within(SOON, "tokens", || (curl(&mut keep).get("/repo").status == 401).then_some(()));
}

#[test]
fn another_public_url_reaches_the_repo_file_that_is_served() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world).set("server.public_url", "https://one.example");
    let mut keep = start(&mirror);
    keep.index();
    let repo = |keep: &mut Keep| String::from_utf8(keep.curl().get("/repo").body).expect("text");
    assert!(repo(&mut keep).contains("browse: \"https://one.example/default/packages/\""));
    let mirror = mirror.set("server.public_url", "https://two.example");
    keep.configure(&mirror.text(&keep.store()));
    within(SOON, "another URL", || {
        repo(&mut keep).contains("\"https://two.example/default/packages/\"").then_some(())
    });
    let entries = keep.ledger().len();
    keep.refresh().ok();
    assert_eq!(keep.ledger().len(), entries, "once is enough");
}

#[test]
fn what_can_not_change_says_so_and_the_rest_does() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    world.publish_at(OTHER, &Repo::new([large()]));
    let mirror = Mirror::of(&world);
    let mut keep = start(&mirror);
    keep.index();
    assert_eq!(keep.curl().get("/other/index.tar.gz").status, 404);
    let address = keep.address("https");
    let more =
        mirror.clone().repository("other", OTHER).set("server.plain_http", vec!["127.0.0.1:1"]);
    let more = more.set("access.read", "tokens").set("store.min_free", "1MiB");
    keep.configure(&more.text(&keep.store()));
    let told = within(SOON, "what has to wait", || {
        let told = keep.run(&["status"]).ok();
        told.contains("from the next start on").then_some(told)
    });
    assert!(told.contains("server.plain_http, store.min_free"), "{told}");
    assert_eq!(keep.curl().get("/repo").status, 401, "who may read changed");
    let secret = keep.run(&["token", "add", "ci"]).ok();
    let bearer = format!("authorization: Bearer {}", secret.trim());
    within(SOON, "another repository", || {
        let answer = keep.curl().with(&["-H", &bearer], "/other/index.tar.gz");
        (answer.status == 200).then_some(())
    });
    assert_eq!(keep.address("https"), address);
    // And back again, asked for by a signal.
    keep.configure(&mirror.text(&keep.store()));
    let pid = Pid::from_raw(keep.pid()).expect("a server has a pid");
    kill_process(pid, Signal::HUP).expect("a server can be told");
    within(SOON, "the old configuration", || {
        (keep.curl().get("/repo").status == 200).then_some(())
    });
    assert_eq!(keep.curl().get("/other/index.tar.gz").status, 404);
    let entries = keep.ledger().len();
    keep.refresh().ok();
    assert_eq!(keep.ledger().len(), entries, "a reload admits nothing twice");
}

#[test]
fn a_configuration_that_is_swapped_as_kubernetes_does_it_is_seen() {
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mut keep = Keep::stopped(BINARY);
    let mirror = Mirror::of(&world);
    let volume = |name: &str, text: &str| {
        let directory = keep.path(name);
        std::fs::create_dir(&directory).expect("a directory can be made");
        std::fs::write(directory.join("mirror.toml"), text).expect("a file can be written");
        directory
    };
    let first = volume("..1", &mirror.text(&keep.store()));
    let second = volume("..2", &mirror.set("access.read", "tokens").text(&keep.store()));
    let link = |to: &Path, name: &str| {
        std::os::unix::fs::symlink(to, keep.path(name)).expect("a link can be made");
    };
    link(&first, "..data");
    link(Path::new("..data/mirror.toml"), "mirror.toml");
    keep.restart();
    assert_eq!(keep.curl().get("/livez").status, 200);
    std::os::unix::fs::symlink(&second, keep.path("..data_tmp")).expect("a link can be made");
    std::fs::rename(keep.path("..data_tmp"), keep.path("..data")).expect("a link can be swapped");
    within(SOON, "the other configuration", || {
        (keep.curl().get("/repo").status == 401).then_some(())
    });
}

#[test]
fn who_shows_a_certificate_of_client_ca_reads_and_nobody_else() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mut keep = Keep::stopped(BINARY);
    let path = |name: &str| keep.path(name).display().to_string();
    std::fs::write(path("clients.pem"), ca.pem()).expect("a file can be written");
    for (name, identity) in [("alice", ca.client("alice")), ("eve", stranger.client("eve"))] {
        std::fs::write(path(&format!("{name}.pem")), identity.cert).expect("it can be written");
        std::fs::write(path(&format!("{name}.key")), identity.key).expect("it can be written");
    }
    let (clients, alice, alice_key) = (path("clients.pem"), path("alice.pem"), path("alice.key"));
    let (eve, eve_key) = (path("eve.pem"), path("eve.key"));
    let mirror =
        Mirror::of(&world).set("access.read", "tokens").set("access.client_ca", clients.clone());
    keep.configure(&mirror.text(&keep.store()));
    keep.restart();
    let curl = keep.curl();
    let shown = ["--cert", &alice, "--key", &alice_key];
    within(SOON, "an index", || (curl.with(&shown, "/repo").status == 200).then_some(()));
    assert!(curl.with(&shown, &hello().cache_path(Kind::Sha256)).is_whole());
    assert_eq!(curl.get("/repo").status, 401);
    let refused = curl.with(&["--cert", &eve, "--key", &eve_key], "/repo");
    assert!(refused.status == 0 && refused.exit != 0, "not even a connection: {refused:?}");
    let why = within(SOON, "a line in the log", || {
        let mut logged = keep.logged().into_iter();
        let line = logged.find(|line| line.to_string().contains("certificate is refused"));
        line.map(|line| line["reason"].to_string())
    });
    // Both authorities have the same name, so it is the signature that tells them apart.
    assert!(why.contains("BadSignature"), "{why}");
    let decide = ["--cert", &alice, "--key", &alice_key, "-d", "{\"action\": \"accept\"}"];
    assert_eq!(curl.with(&decide, "/api/v1/divergences/1").status, 401, "it reads, and no more");
    let is_named = |line: &Value| line["certificate"] == "alice";
    assert!(keep.logged().iter().any(is_named), "the log says who it was");
    // Another authority: who was known by the first one is not any more.
    std::fs::write(&clients, stranger.pem()).expect("a file can be written");
    within(SOON, "another authority", || {
        let answer = curl.with(&["--cert", &eve, "--key", &eve_key], "/repo");
        (answer.status == 200).then_some(())
    });
    assert_ne!(curl.with(&shown, "/repo").status, 200);
}

/// One request on a connection that stays.
fn ask(connection: raw::Connection, path: &str) -> std::io::Result<(u16, raw::Connection)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = connection.send(request.as_bytes())?;
    let status = answer.status;
    let (_, connection) = answer.finish()?;
    Ok((status, connection))
}

/// A mirror under a certificate that the operator brings.
fn with_certificate(ca: &Ca) -> (World, Keep, Mirror) {
    let world = World::start();
    world.publish(&Repo::new([hello(), large()]));
    let mut keep = Keep::stopped(BINARY);
    std::fs::write(keep.path("ca.pem"), ca.pem()).expect("a file can be written");
    write(&keep, &ca.server(&["localhost"]));
    let file = |name: &str| toml::Value::from(keep.path(name).display().to_string());
    let files = [("cert", "cert.pem"), ("key", "key.pem")];
    let tls: toml::Table =
        files.map(|(key, name)| (key.to_owned(), file(name))).into_iter().collect();
    let mirror = Mirror::of(&world).set("server.tls", tls);
    keep.configure(&mirror.text(&keep.store()));
    keep.restart();
    let curl = curl(&mut keep);
    let path = hello().cache_path(Kind::Sha256);
    within(SOON, "an archive", || curl.get(&path).is_whole().then_some(()));
    (world, keep, mirror)
}

/// Key and certificate, each in one step, in this order: a pair that does not fit is refused.
fn write(keep: &Keep, identity: &Identity) {
    for (name, text) in [("key.pem", &identity.key), ("cert.pem", &identity.cert)] {
        let new = keep.path("new");
        std::fs::write(&new, text).expect("a file can be written");
        std::fs::rename(new, keep.path(name)).expect("a file can be renamed");
    }
}

fn curl(keep: &mut Keep) -> Curl {
    Curl::new(&keep.url(), keep.path("ca.pem"))
}

/// Whether the server's certificate has this name.
fn knows(keep: &mut Keep, name: &str) -> bool {
    let port = keep.address("https").port();
    let (base, resolve) = (format!("https://{name}:{port}"), format!("{name}:{port}:127.0.0.1"));
    Curl::new(&base, keep.path("ca.pem")).with(&["--resolve", &resolve], "/livez").status == 200
}

fn problem(keep: &Keep) -> Option<String> {
    let status: Value =
        serde_json::from_str(&keep.run(&["--json", "--store", &store(keep), "status"]).stdout)
            .ok()?;
    status["configuration"]["problem"].as_str().map(str::to_owned)
}

fn problem_is_gone(keep: &Keep) -> Option<()> {
    problem(keep).is_none().then_some(())
}

fn store(keep: &Keep) -> String {
    keep.store().display().to_string()
}

fn hello() -> Package {
    Package::new("hello", "1.0")
}

/// Eight seconds of download.
fn large() -> Package {
    let mut bytes = Vec::with_capacity(LARGE);
    let mut state = 1_u32;
    while bytes.len() < LARGE {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    Package::new("large", "1.0").bytes(bytes, &[Kind::Sha256])
}

const LARGE: usize = 8 << 20;
const OTHER: &str = "https://other.example";
const SOON: Duration = Duration::from_secs(20);
