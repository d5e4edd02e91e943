//! Alerts: every sink is told each thing once, whatever happens to the sink, to opam-keep or to
//! the machine meanwhile.

use crate::start;
use base64::Engine as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use world::{Keep, Kind, Lie, MailServer, Mirror, Package, Repo, Request, World, hex, within};

#[test]
fn g4_a_webhook_that_fails_five_times_takes_each_alert_once_and_kill_9_loses_none() {
    let told = Told::new(&["one", "two"]);
    let failures =
        [Lie::Status(500), Lie::HangUp, Lie::NoHead, Lie::Busy(1), Lie::Status(404)].into_iter();
    told.world.lie_in_turn(HOOK, failures.clone());
    let mut keep = start(&told.mirror());
    told.diverge(&mut keep);
    for attempts in [1, 3] {
        within(PATIENCE, "an attempt", || (told.world.count(HOOK) >= attempts).then_some(()));
        keep.kill();
        keep.restart();
    }
    let acknowledged = || {
        let taken = posts(&told.world).into_iter().filter(|request| request.lie.is_none());
        taken.map(|request| header(&request, "webhook-id")).collect::<Vec<_>>()
    };
    within(PATIENCE, "both alerts", || (acknowledged().len() >= 2).then_some(()));
    let attempts = posts(&told.world);
    let ids: BTreeSet<String> = attempts.iter().map(|it| header(it, "webhook-id")).collect();
    assert_eq!(ids.len(), 2, "an alert has the same id in every attempt: {ids:?}");
    let failed = attempts.iter().filter(|request| request.lie.is_some()).count();
    assert_eq!((failed, attempts.len()), (failures.count(), 7), "{attempts:#?}");
    for attempt in &attempts {
        assert_eq!(signature(attempt), expected_signature(attempt));
    }
    let bodies: BTreeMap<String, Value> =
        attempts.iter().map(|it| (header(it, "webhook-id"), body(it))).collect();
    for (id, alert) in &bodies {
        assert_eq!((alert["id"].as_str(), &alert["type"]), (Some(id.as_str()), &MISMATCH.into()));
        let index = alert["data"]["divergence"].as_u64().expect("the entry");
        let ledger = keep.ledger();
        let entry = ledger.at(usize::try_from(index).expect("an index fits"));
        assert_eq!((&entry["kind"], &entry["url"]), (&"divergence".into(), &alert["data"]["url"]));
        let text = alert["text"].as_str().expect("words");
        assert!(text.contains("opam-keep divergences show") && text.contains("sha256="), "{text}");
    }
    within(PATIENCE, "an empty queue", || {
        let listed = keep.run(&["alerts"]).ok();
        (listed.contains("nothing waits") && listed.contains("2 delivered")).then_some(())
    });
    assert!(keep.run(&["status"]).ok().contains("nothing waits, 2 delivered"));
    let logged = format!("{:?}", keep.logged());
    assert!(!logged.contains(KEY) && !logged.contains("quiet-path"), "a secret is in the log");
    keep.stop();
    keep.restart();
    told.settle(&mut keep, 3);
    assert_eq!(acknowledged().len(), 3, "what was told is not told again after a restart");
}

#[test]
fn g4_what_is_acknowledged_before_it_is_delivered_is_not_sent() {
    let told = Told::new(&["one", "two"]);
    told.world.lie(HOOK, Lie::Status(500));
    let mut keep = start(&told.mirror());
    told.diverge(&mut keep);
    within(PATIENCE, "an attempt", || (told.world.count(HOOK) >= 1).then_some(()));
    let ledger = keep.ledger();
    let id = ledger
        .index_of(|entry| entry["kind"] == "divergence" && entry["url"] == told.packages[0].url());
    keep.run(&["divergences", "ack", &id.to_string()]).ok();
    within(PATIENCE, "the other one, and why it waits", || {
        let listed = keep.run(&["alerts"]).ok();
        (listed.contains("1 waiting") && listed.contains("500")).then_some(())
    });
    told.world.be_honest(HOOK);
    let taken = taken(&told.world, 1);
    assert_eq!(taken[0]["data"]["url"], told.packages[1].url());
    told.settle(&mut keep, 2);
}

#[test]
fn g4_a_sink_that_fails_keeps_no_other_from_being_told() {
    let told = Told::new(&["one"]);
    told.world.lie(HOOK, Lie::NoHead);
    let other = "https://chat.example/services/T0/quiet-path";
    told.world.put(other, "ok");
    let chat = format!("name = \"chat\"\nurl = \"{other}\"\nbody = \"slack\"");
    let mut keep = start(&told.mirror().sink("webhook", &chat));
    told.diverge(&mut keep);
    within(PATIENCE, "the other sink", || (told.world.count(other) >= 1).then_some(()));
    let sent: Vec<Request> =
        told.world.requests().into_iter().filter(|it| it.url == other[8..]).collect();
    let sent: Value = serde_json::from_slice(&sent[0].body).expect("JSON");
    let text = sent["text"].as_str().expect("a text");
    assert!(text.starts_with("*mismatch: one.1.0") && text.contains("divergences show"), "{text}");
    assert_eq!(sent.as_object().map(serde_json::Map::len), Some(1));
    let listed = keep.run(&["alerts"]).ok();
    assert!(listed.contains("chat  https://chat.example/…"), "{listed}");
    assert!(!listed.contains("quiet-path"), "{listed}");
}

#[test]
fn a_redirect_of_a_webhook_leads_nowhere() {
    let told = Told::new(&["one"]);
    told.world.put("https://elsewhere.example/", "ok");
    told.world.lie(HOOK, Lie::Redirect("https://elsewhere.example/".to_owned()));
    let mut keep = start(&told.mirror());
    told.diverge(&mut keep);
    let listed = within(PATIENCE, "the refusal", || {
        Some(keep.run(&["alerts"]).ok()).filter(|listed| listed.contains("no redirect"))
    });
    assert!(listed.contains("302"), "{listed}");
    assert_eq!(told.world.count("https://elsewhere.example/"), 0);
}

#[test]
fn a_command_gets_the_alert_on_its_standard_input_and_is_killed_when_it_hangs() {
    let told = Told::new(&["one"]);
    let file = told.world.directory().join("alerts");
    let orphan = told.world.directory().join("orphan");
    let takes = format!("name = \"takes\"\nrun = [\"dd\", \"of={}\"]", file.display());
    let hangs = format!(
        "name = \"hangs\"\nrun = [\"sh\", \"-c\", \"(sleep 4; touch {}) & wait\"]",
        orphan.display()
    );
    let fails = "name = \"fails\"\nrun = [\"sh\", \"-c\", \"echo no such pager >&2; exit 3\"]";
    let mirror = Mirror::of(&told.world).set("alert.timeout", "1s");
    let mirror = mirror.sink("command", &takes).sink("command", &hangs).sink("command", fails);
    let mut keep = start(&mirror);
    told.diverge(&mut keep);
    let alert: Value =
        within(PATIENCE, "the alert", || serde_json::from_slice(&std::fs::read(&file).ok()?).ok());
    assert_eq!(
        (&alert["type"], &alert["data"]["packages"][0]),
        (&MISMATCH.into(), &"one.1.0".into())
    );
    within(PATIENCE, "both failures", || {
        let listed = keep.run(&["alerts"]).ok();
        let failures = ["longer than 1s", "no such pager", "exit status: 3"];
        failures.iter().all(|failure| listed.contains(failure)).then_some(())
    });
    std::thread::sleep(Duration::from_secs(4));
    assert!(!orphan.exists(), "what a command started is killed with it");
}

#[test]
fn mail_goes_out_encrypted_to_those_who_are_named_and_again_when_it_was_refused() {
    let told = Told::new(&["one"]);
    let (secure, local) = (told.world.mail_server(), told.world.mail_server());
    secure.refuse(1);
    let password = told.world.directory().join("password");
    std::fs::write(&password, "hush-hush\n").expect("a file can be written");
    let secured = format!(
        "server = \"smtp://keep%40corp.example@mail.example\"\npassword_file = \"{}\"\n\
         from = \"opam-keep <keep@corp.example>\"\n\
         to = [\"Ops <ops@corp.example>\", \"security@corp.example\"]",
        password.display()
    );
    let plain = format!(
        "server = \"smtp://{}\"\nfrom = \"keep@localhost\"\nto = [\"root@localhost\"]",
        local.address()
    );
    let mirror = Mirror::of(&told.world).resolve("mail.example", secure.address());
    let mut keep = start(&mirror.sink("email", &secured).sink("email", &plain));
    told.diverge(&mut keep);
    let mail = one_mail(&secure);
    assert_eq!(secure.refused(), 1);
    assert_eq!((mail.from.as_str(), mail.is_encrypted), ("keep@corp.example", true));
    assert_eq!(mail.to, ["ops@corp.example", "security@corp.example"]);
    let login = base64::engine::general_purpose::STANDARD.decode(mail.login.expect("a login"));
    assert_eq!(login.expect("base64"), b"\0keep@corp.example\0hush-hush");
    for text in [
        "From: opam-keep <keep@corp.example>",
        "Subject: [opam-keep] mismatch: one.1.0",
        "Message-ID: <alert_",
        "opam-keep divergences show",
    ] {
        assert!(mail.text.contains(text), "{text} is not in {}", mail.text);
    }
    let mail = one_mail(&local);
    assert_eq!((mail.to, mail.is_encrypted), (vec!["root@localhost".to_owned()], false));
    let logged = format!("{:?}{}", keep.logged(), keep.run(&["alerts", "--json"]).ok());
    assert!(!logged.contains("hush-hush"), "a secret is in the log");
}

#[test]
fn mail_is_never_sent_unencrypted_to_another_machine() {
    let told = Told::new(&["one"]);
    let server = told.world.mail_server();
    let password = told.world.directory().join("password");
    std::fs::write(&password, "hush-hush").expect("a file can be written");
    let sink = format!(
        "name = \"ops\"\nserver = \"smtp://me@mail.example\"\npassword_file = \"{}\"\n\
         from = \"a@b.example\"\nto = [\"c@d.example\"]",
        password.display()
    );
    let mirror = Mirror::of(&told.world).resolve("mail.example", server.address());
    let keep = Keep::stopped(crate::BINARY);
    keep.configure(&mirror.sink("email", &sink).text(&keep.store()));
    assert_eq!(keep.run(&["alerts", "test"]).ok(), "ops: taken by c@d.example\n");
    assert!(server.taken()[0].is_encrypted);
    assert!(server.taken()[0].text.contains("This is a test"));
    // As whoever is in between would have it.
    server.forget_tls();
    let run = keep.run(&["alerts", "test"]);
    assert_eq!(run.code, 1, "{}", run.said());
    assert_eq!(server.taken().len(), 1, "neither mail nor password go out unencrypted");
}

#[test]
fn an_upstream_that_gives_no_good_index_is_told_once_until_it_is_over() {
    let told = Told::new(&["one"]);
    let mirror = told.mirror().of_repository("refresh", "1s").set("alert.stale_after", "3s");
    let mut keep = start(&mirror);
    keep.index();
    told.world.lie(INDEX, Lie::Html);
    let first = &taken(&told.world, 1)[0];
    assert_eq!((&first["type"], &first["data"]["repository"]), (&STALE.into(), &"default".into()));
    keep.stop();
    keep.restart();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(taken(&told.world, 1).len(), 1, "a restart is no new beginning");
    told.world.be_honest(INDEX);
    let alerts = taken(&told.world, 2);
    assert_eq!(alerts[1]["type"], "index.fresh");
    assert_ne!(alerts[0]["id"], alerts[1]["id"]);
}

#[test]
fn a_kept_file_that_is_damaged_is_told_once_and_when_it_is_healed() {
    let told = Told::new(&["one"]);
    let package = &told.packages[0];
    told.world.be_honest(package.url());
    let mut keep = start(&told.mirror());
    keep.index();
    let path = package.cache_path(Kind::Sha256);
    assert!(keep.curl().get(&path).is_whole());
    keep.stop();
    let file = keep.blob(package.archive_bytes());
    std::fs::remove_file(&file).expect("the file was there");
    std::fs::write(&file, "other bytes").expect("a file can be written");
    keep.restart();
    keep.index();
    // The webhook fails for as long as the beginning waits; that it is over does not overtake it.
    told.world.lie(HOOK, Lie::Status(500));
    for _ in 0..3 {
        assert_eq!(keep.curl().get(&path).status, 404);
    }
    assert_eq!(keep.run(&["verify"]).code, 1);
    within(PATIENCE, "an attempt", || (told.world.count(HOOK) >= 1).then_some(()));
    std::fs::write(&file, package.archive_bytes()).expect("a file can be written");
    keep.run(&["verify"]).ok();
    let waits = || keep.run(&["alerts"]).ok().contains("2 waiting").then_some(());
    within(PATIENCE, "both", waits);
    told.world.be_honest(HOOK);
    let first = &taken(&told.world, 1)[0];
    let sha256 = Kind::Sha256.of(package.archive_bytes());
    assert_eq!(
        (&first["type"], &first["data"]["sha256"]),
        (&"blob.damaged".into(), &sha256.into())
    );
    assert_eq!(taken(&told.world, 2)[1]["type"], "blob.healed");
    assert!(keep.curl().get(&path).is_whole());
}

#[test]
fn rechecks_that_can_not_keep_up_are_told_once() {
    let told = Told::new(&["one", "two", "three"]);
    for package in &told.packages {
        told.world.be_honest(package.url());
    }
    let mirror = told.mirror().set("alert.stale_after", "1s").of_repository("refresh", "1s");
    // An archive takes far longer than a whole round.
    let mirror = mirror.set("recheck.every", "2s").set("recheck.bandwidth", "1B/s");
    let mut keep = start(&mirror);
    keep.index();
    for package in &told.packages {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    let behind = within(Duration::from_secs(120), "the alert", || {
        let alerts = taken(&told.world, 0);
        alerts.into_iter().find(|alert| alert["type"] == "recheck.behind")
    });
    assert!(behind["text"].as_str().is_some_and(|text| text.contains("recheck.every")));
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("behind"), "{status}");
}

#[test]
fn a_test_reaches_every_sink_without_a_server_and_says_which_it_does_not_reach() {
    let told = Told::new(&[]);
    let keep = Keep::stopped(crate::BINARY);
    let file = told.world.directory().join("taken");
    let command = format!("name = \"file\"\nrun = [\"dd\", \"of={}\"]", file.display());
    let mirror = told.mirror().sink("command", &command);
    keep.configure(&mirror.text(&keep.store()));
    let said = keep.run(&["alerts", "test"]).ok();
    assert_eq!(said, "hook: taken by https://hooks.example/…\nfile: taken by dd\n");
    let posted = &posts(&told.world)[0];
    assert_eq!(body(posted)["type"], "test");
    assert_eq!(signature(posted), expected_signature(posted));
    let taken: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON");
    assert_eq!(taken, body(posted));

    told.world.lie(HOOK, Lie::Status(401));
    let run = keep.run(&["alerts", "test"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("hook: not taken: it answered 401"), "{}", run.said());
    assert_eq!(keep.run(&["alerts", "test", "--sink", "file"]).code, 0);
    let unknown = keep.run(&["alerts", "test", "--sink", "nobody"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("no sink \"nobody\""), "{}", unknown.stderr);
    keep.configure(&Mirror::of(&told.world).text(&keep.store()));
    let nobody = keep.run(&["alerts", "test"]);
    assert_eq!(nobody.code, 2);
    assert!(nobody.stderr.contains("[[alert.webhook]]"), "{}", nobody.stderr);
}

/// A world with packages whose sources lie, and a webhook that takes alerts.
struct Told {
    world: World,
    packages: Vec<Package>,
}

impl Told {
    fn new(names: &[&str]) -> Self {
        let world = World::start();
        let packages: Vec<Package> = names.iter().map(|name| Package::new(name, "1.0")).collect();
        world.publish(&Repo::new(packages.clone()));
        for package in &packages {
            world.lie(package.url(), Lie::FlippedByte);
        }
        world.put(HOOK, "ok");
        std::fs::write(world.directory().join("secret"), format!("whsec_{KEY}\n"))
            .expect("a file can be written");
        Self { world, packages }
    }

    /// A mirror of it that tells the webhook.
    fn mirror(&self) -> Mirror {
        let secret = self.world.directory().join("secret");
        let hook =
            format!("name = \"hook\"\nurl = \"{HOOK}\"\nsecret_file = \"{}\"", secret.display());
        Mirror::of(&self.world)
            .set("alert.timeout", "2s")
            .set("upstream.timeout", "1s")
            .sink("webhook", &hook)
    }

    /// Asks for every archive, of which each is a divergence.
    fn diverge(&self, keep: &mut Keep) {
        keep.index();
        for package in &self.packages {
            assert_eq!(keep.curl().get(&package.cache_path(Kind::Sha256)).status, 404);
        }
    }

    /// Waits until something newer was told, so that whatever was to come before has come, and
    /// checks that so many alerts were taken in all.
    fn settle(&self, keep: &mut Keep, count: usize) {
        let last = Package::new("last", "1.0");
        let packages = self.packages.iter().cloned().chain([last.clone()]);
        self.world.publish(&Repo::new(packages));
        self.world.lie(last.url(), Lie::FlippedByte);
        keep.refresh().ok();
        assert_eq!(keep.curl().get(&last.cache_path(Kind::Sha256)).status, 404);
        let alerts = within(PATIENCE, "the last alert", || {
            let alerts = taken(&self.world, 0);
            alerts.iter().any(|alert| alert["data"]["url"] == last.url()).then_some(alerts)
        });
        assert_eq!(alerts.len(), count, "{alerts:#?}");
    }
}

/// Every request that the webhook got.
fn posts(world: &World) -> Vec<Request> {
    let requests = world.requests().into_iter();
    requests.filter(|it| it.method == "POST" && HOOK.ends_with(&it.url)).collect()
}

/// The alerts that the webhook took, once there are so many.
fn taken(world: &World, least: usize) -> Vec<Value> {
    within(PATIENCE, "alerts", || {
        let posts = posts(world).into_iter().filter(|request| request.lie.is_none());
        let alerts: Vec<Value> = posts.map(|request| body(&request)).collect();
        (alerts.len() >= least).then_some(alerts)
    })
}

fn one_mail(server: &MailServer) -> world::Mail {
    let mut taken =
        within(PATIENCE, "mail", || Some(server.taken()).filter(|taken| !taken.is_empty()));
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

fn header(request: &Request, name: &str) -> String {
    request.header(name).unwrap_or_else(|| panic!("no {name}")).to_owned()
}

/// The signature that came, in hexadecimal digits.
fn signature(request: &Request) -> String {
    let header = header(request, "webhook-signature");
    let signature = header.strip_prefix("v1,").expect("version 1");
    hex(&base64::engine::general_purpose::STANDARD.decode(signature).expect("base64"))
}

/// The signature as openssl makes it.
fn expected_signature(request: &Request) -> String {
    let key = base64::engine::general_purpose::STANDARD.decode(KEY).expect("base64");
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt"])
        .arg(format!("hexkey:{}", hex(&key)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let (id, at) = (header(request, "webhook-id"), header(request, "webhook-timestamp"));
    let mut stdin = openssl.stdin.take().expect("the pipe was asked for");
    stdin.write_all(format!("{id}.{at}.").as_bytes()).expect("openssl reads");
    stdin.write_all(&request.body).expect("openssl reads");
    drop(stdin);
    let output = openssl.wait_with_output().expect("openssl ends").stdout;
    let output = String::from_utf8(output).expect("text");
    output.trim().rsplit(' ').next().expect("a signature").to_owned()
}

const HOOK: &str = "https://hooks.example/quiet-path";
const INDEX: &str = "https://opam.ocaml.org/index.tar.gz";
const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const MISMATCH: &str = "divergence.mismatch";
const PATIENCE: Duration = Duration::from_secs(90);
const STALE: &str = "index.stale";
