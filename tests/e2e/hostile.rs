//! Clients and upstreams that mean harm, as the README's table of threats lists them; rows that
//! have a file of their own are tested there.

use crate::{BINARY, skip, start};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use world::{Keep, Kind, Lie, Memory, Mirror, Opam, Package, Repo, Version, World, run, within};

#[test]
fn g6_a_name_whose_address_changes_between_two_looks_leads_nowhere_else() {
    let keep = Keep::stopped(BINARY);
    let upstream = "[[repository]]\nname = \"default\"\nupstream = \"https://rebind.example\"\n";
    let store = keep.store().display().to_string();
    keep.configure(&format!(
        "{upstream}[store]\npath = \"{store}\"\n[upstream]\ntimeout = \"2s\"\n"
    ));
    let resolv = keep.path("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.1\n").expect("a file can be written");
    // The command that it repeats asks for the index without a server, on a store that is there.
    let sync = keep.command(&["sync", "--all", "--quiet"]);
    let words: Vec<String> = std::iter::once(sync.get_program())
        .chain(sync.get_args())
        .map(|word| word.to_str().expect("text").to_owned())
        .collect();
    let script = format!(
        "ip link set lo up && ip addr add {PUBLIC}/32 dev lo && mount --bind {} /etc/resolv.conf \
         && exec python3 {}/tests/rebinding.py {PUBLIC} \"$@\"",
        resolv.display(),
        env!("CARGO_MANIFEST_DIR")
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "sh", "-c", &script, "sh"]).args(&words);
    let outcome = run(&mut unshare, Duration::from_secs(120));
    if outcome.code != 0 {
        skip!("no network namespace can be made here: {}", outcome.stderr.trim());
    }
    let counts: Vec<u64> =
        outcome.stdout.split_whitespace().map(|count| count.parse().expect("a count")).collect();
    assert!(counts[0] >= 4 && counts[1] >= 1, "it asked and dialled: {counts:?}");
    assert_eq!(counts[2], 0, "it was led to itself: {counts:?}");
}

#[test]
fn what_a_client_sends_becomes_no_line_of_the_log_and_no_header_of_an_answer() {
    let (world, mut keep) = one(&hello());
    let forged = "%0d%0a{\"level\":\"ERROR\",\"message\":\"forged\"}%0d%0aX-Forged:%20yes";
    for request in [
        format!("GET /cache/{forged} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        format!(
            "GET /packages?q={forged} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \u{1b}[31m{forged}\u{9b}\r\n\
             X-Request-Id: {forged}\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "GET /login?to=//evil.example/{forged} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ),
    ] {
        let answer = keep.raw().send(request.as_bytes()).expect("an answer");
        assert_eq!(answer.header("x-forged"), None, "{request}");
        let location = answer.header("location").unwrap_or_default();
        assert!(!location.contains("evil"), "{location}");
    }
    // Where upstream leads, and what it is called, is told to clients in a header.
    world.lie(hello().url(), Lie::Redirect("https://evil.example/%0d%0aX-Forged: yes".to_owned()));
    let answer = keep.curl().get(&hello().cache_path(Kind::Sha256));
    assert_eq!((answer.status, answer.header("x-forged")), (404, None));
    for line in keep.logged() {
        let message = line["message"].as_str().unwrap_or_default();
        assert_ne!(message, "forged", "{line}");
        assert!(!line.to_string().contains('\u{1b}'), "{line}");
    }
}

#[test]
fn a_request_that_two_servers_could_read_differently_is_never_read_as_two() {
    let (_world, mut keep) = one(&hello());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = smuggled.len();
    for (what, head) in [
        ("length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned()),
        ("chunks and more", "Transfer-Encoding: chunked, identity\r\n".to_owned()),
        ("chunks in disguise", "Transfer-Encoding: xchunked\r\n".to_owned()),
        ("chunks behind a blank", "Transfer-Encoding : chunked\r\n".to_owned()),
        ("a folded header", "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned()),
        ("a signed length", format!("Content-Length: +{length}\r\n")),
        ("two lengths in one", format!("Content-Length: {length}, 0\r\n")),
        ("a length of words", "Content-Length: 0x10\r\n".to_owned()),
        ("a lonely line feed", "X: y\nContent-Length: 0\r\n".to_owned()),
    ] {
        let request =
            format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{head}\r\n0\r\n\r\n{smuggled}");
        let mut answers = Vec::new();
        let mut connection = keep.raw().connect().expect("it listens");
        connection.write(request.as_bytes()).expect("it can be sent");
        // As many answers as there are, until the connection ends or nothing comes.
        let mut next = connection.send(b"");
        while let Ok(answer) = next {
            answers.push(answer.status);
            let Ok((_, connection)) = answer.finish() else { break };
            if answers.len() > 2 {
                break;
            }
            next = connection.send(b"");
        }
        let seen = keep
            .logged()
            .iter()
            .filter(|line| line["path"].as_str().is_some_and(|path| path.contains("smuggled")))
            .count();
        assert_eq!(seen, 0, "{what}: the second request was read: {answers:?}");
        assert_ne!(answers.first(), Some(&500), "{what}");
    }
}

#[test]
fn g5_a_hostile_index_leaves_the_last_good_one_in_service() {
    let world = World::start();
    let good = Repo::new([hello()]);
    world.publish(&good);
    let mut keep = start(&Mirror::of(&world));
    assert_eq!(keep.index().packages(), ["hello.1.0"]);
    let memory = Memory::of(keep.pid());
    for (what, index) in [
        ("a gigabyte of zeros", bomb(1 << 30)),
        ("no end", truncated(&good.index())),
        ("no tar", gzip(b"this is no tar, whatever it says")),
        ("no gzip", b"<html>a portal</html>".to_vec()),
        ("nothing", Vec::new()),
        ("a million files", many(1_000_000)),
        ("a way out", entry(b'0', "../../etc/cron.d/x", "", b"* * * * * root x")),
        ("an absolute path", entry(b'0', "/etc/cron.d/x", "", b"x")),
        ("a link out", entry(b'2', "packages/hello/hello.1.0/opam", "/etc/passwd", b"")),
        ("a hard link out", entry(b'1', "packages/hello/hello.1.0/opam", "/etc/passwd", b"")),
        ("a device", entry(b'3', "packages/hello/hello.1.0/opam", "", b"")),
        ("a size that lies", lying_size()),
    ] {
        world.put(&format!("{}/index.tar.gz", World::OPAM), index);
        let said = keep.refresh().said();
        assert!(!said.contains("panicked"), "{what}: {said}");
        assert_eq!(keep.index().packages(), ["hello.1.0"], "{what}: {said}");
        assert!(keep.is_running());
    }
    // An index may have so much unpacked; more of it is never looked at.
    assert!(memory.grown() < 640 << 20, "{} MB", memory.grown() >> 20);
    assert!(!std::path::Path::new("/etc/cron.d/x").exists());
    world.publish(&good.with(Package::new("hello", "2.0")));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0", "hello.2.0"]);
    keep.run(&["verify"]).ok();
}

#[test]
fn g5_nothing_that_lies_in_no_version_takes_one_from_a_client_or_gives_another() {
    let (world, mut keep) = one(&hello());
    publish(&world, &[]);
    keep.refresh().ok();
    let before = keep.index();
    let evil = hello().synopsis("Another one").opam();
    publish(
        &world,
        &[
            ("packages/hello/opam/README", "x"),
            ("packages/hello/opam/below.1.0/opam", &evil),
            ("packages/opam/README", "x"),
            ("packages/other/other.1.0/files/hello.1.0/opam", &evil),
            ("packages/gone/gone.1.0/opam/x", "x"),
        ],
    );
    keep.refresh().ok();
    assert_eq!(keep.index(), before);
    keep.run(&["verify"]).ok();
    for version in [Version::System, Version::V2_3, Version::V2_6] {
        let Some(opam) = Opam::fresh(version, keep.ca()) else { continue };
        opam.init(&keep.url()).ok();
        let listed = opam.run(&["list", "--all", "--short", "--columns=package"]).ok();
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["hello.1.0", "other.1.0"]);
        let synopsis = opam.run(&["show", "--field=synopsis", "hello.1.0"]).ok();
        assert_eq!(synopsis.trim(), "A package of the world", "{version:?}");
    }
}

#[test]
fn g5_an_index_in_which_not_every_client_finds_the_same_is_not_passed_on() {
    let world = World::start();
    let good = publish(&world, &[]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    assert!(keep.index_at("/index.tar.gz") == good);
    for (path, content) in [
        ("packages/opam/", ""),
        ("packages/hello/opam/README", "x"),
        ("packages/hello/opam", ""),
        ("packages/other/other.1.0/files/hello.1.0/opam", "x"),
    ] {
        publish(&world, &[(path, content)]);
        let said = keep.refresh().said();
        assert!(said.contains("not every opam finds"), "{path}: {said}");
        assert!(keep.index_at("/index.tar.gz") == good, "{path}");
    }
    // A directory without files is nothing to opam.
    let next = publish(&world, &[("packages/hello/hello.1.0/files/none/", "")]);
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == next);
}

#[test]
fn g5_an_index_in_which_some_file_systems_find_one_file_twice_is_not_passed_on() {
    let world = World::start();
    let good = publish(&world, &[]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    assert!(keep.index_at("/index.tar.gz") == good);
    for path in [
        "packages/hello/Hello.1.0/OPAM",
        "packages/Hello/hello.1.0/files/x",
        "packages/hello/hello.1.0./opam/x",
        "packages/hel\u{200c}lo/hello.1.0/x",
        "packages/Hello",
        "packages/hello/HELLO.1.0/files/new.1/opam",
        "Packages./x",
    ] {
        publish(&world, &[(path, "x")]);
        let said = keep.refresh();
        assert!(said.code != 0, "{path}: {}", said.said());
        assert!(keep.index_at("/index.tar.gz") == good, "{path}");
    }
    // What no version has, or two versions of two packages, is nobody's loss.
    let new = Package::bare("new", "1").opam();
    let next = publish(
        &world,
        &[("packages/README", "x"), ("packages/readme", "x"), ("packages/Hello/new.1/opam", &new)],
    );
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == next);
}

#[test]
fn g5_versions_are_served_where_opam_puts_them_wherever_upstream_has_them() {
    let opam = |name: &str| Package::bare(name, "1").opam();
    let [base, new, other, tools] = ["base", "new", "z", "opam"].map(opam);
    let world = World::start();
    let patch = ("packages/base/base.1/files/x", "x");
    publish(
        &world,
        &[("packages/base/base.1/opam", &base), patch, ("packages/z/z.1/opam", &other)],
    );
    let mut keep = start(&Mirror::of(&world));
    let before = keep.index();
    let clients: Vec<Opam> = [Version::System, Version::V2_3, Version::V2_6]
        .into_iter()
        .filter_map(|version| Opam::fresh(version, keep.ca()))
        .collect();
    clients.iter().for_each(|opam| drop(opam.init(&keep.url()).ok()));
    // opam before 2.6 does not follow where a file becomes a directory.
    let elsewhere = [
        ("packages/elsewhere/base.1/opam", &*base),
        ("packages/elsewhere/base.1/files/x", "x"),
        ("packages/base/base.1/files/x/z.1/opam", &other),
    ];
    publish(&world, &elsewhere);
    keep.refresh().ok();
    assert!(keep.index() == before);
    let more = [
        ("packages/Hello/HELLO.1.0/files/new.1/opam", &*new),
        ("packages/other/tools/opam.1/opam", &tools),
    ];
    publish(&world, &[&elsewhere[..], &more].concat());
    keep.refresh().ok();
    let index = keep.index();
    let paths: Vec<&str> = index.paths().collect();
    let of_packages = |name: &str, version: &str| format!("packages/{name}/{name}.{version}/opam");
    for path in [of_packages("new", "1"), of_packages("z", "1"), "packages/opam.1/opam".into()] {
        assert!(paths.contains(&&*path), "{path} is not in {paths:?}");
    }
    for opam in clients {
        opam.run(&["update"]).ok();
        let listed = opam.run(&["list", "--all", "--short", "--columns=package"]).ok();
        let all = ["base.1", "hello.1.0", "new.1", "opam.1", "other.1.0", "z.1"];
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), all);
    }
    assert!(keep.run(&["divergences"]).ok().contains("no divergence is open"));
}

#[test]
fn g5_an_index_in_which_a_file_becomes_a_directory_is_not_passed_on() {
    let other = Package::bare("z", "1").opam();
    let [one, below] = ["packages/readme", "packages/readme/z.1/opam"];
    let world = World::start();
    let good = publish(&world, &[(one, "x"), ("packages/z/z.1/opam", &other)]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    assert!(keep.index_at("/index.tar.gz") == good);
    publish(&world, &[(below, &other)]);
    let said = keep.refresh().said();
    assert!(said.contains("was a file and is a directory now"), "{said}");
    assert!(keep.index_at("/index.tar.gz") == good);
    let next = publish(&world, &[("packages/z/z.1/opam", &other)]);
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == next);
}

#[test]
fn g5_what_stops_a_client_as_a_whole_is_held_from_the_first_state_on() {
    let new = |format: &str| format!("opam-version: \"{format}\"\nsynopsis: \"x\"\n");
    let number = format!("{}{NUMBER}", new("2.0"));
    let (old, next, far) = (new("2.0"), new("2.1"), new("3.0"));
    let source = format!("{old}url {{ src: \"https://src.example/x\" }}\n");
    let beside = [("packages/e/e.1/opam", &*source), ("packages/e/e.1/url", NUMBER)];
    let world = World::start();
    let stopping = [
        ("packages/a/a.1/opam", &*far),
        ("packages/b/b.1/opam", &number),
        ("packages/f/f.1/opam", "# nothing\n"),
        ("packages/g/g.1/opam", "synopsis: \"x\"\n"),
    ];
    publish(&world, &[&stopping[..], &beside].concat());
    let mut keep = start(&Mirror::of(&world));
    assert_eq!(keep.index().packages(), ["hello.1.0", "other.1.0"]);
    assert_eq!(keep.divergences().len(), 5);
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("a.1") && status.contains("b.1"), "{status}");
    let beside = [("packages/h/h.1/opam", &*source), ("packages/h/h.1/url", NUMBER)];
    let new = [("packages/c/c.1/opam", &*next), ("packages/d/d.1/opam", &old)];
    publish(&world, &[&new[..], &beside].concat());
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["d.1", "hello.1.0", "other.1.0"]);
    for version in [Version::System, Version::V2_3, Version::V2_6] {
        let Some(opam) = Opam::fresh(version, keep.ca()) else { continue };
        opam.init(&keep.url()).ok();
    }
    let open = keep.divergences();
    let id = open.iter().find(|it| it["divergence"]["packages"][0] == "c.1").expect("it is held");
    keep.run(&["divergences", "accept", &id["id"].to_string()]).ok();
    assert!(keep.index().packages().contains(&"c.1"), "who accepts it has it");
}

#[test]
fn g4_what_stops_a_client_in_a_first_state_is_told_where_that_is_served_byte_for_byte() {
    let world = World::start();
    let next = "opam-version: \"2.1\"\nsynopsis: \"x\"\n";
    let whole = publish(&world, &[("packages/a/a.1/opam", next)]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    keep.index();
    assert!(keep.index_at("/index.tar.gz") == whole);
    let told = &keep.divergences()[0]["divergence"];
    assert!(told["packages"][0] == "a.1" && told["held"] != true, "{told}");
    keep.refresh().ok();
    assert_eq!(keep.divergences().len(), 1, "once");
}

#[test]
fn a_first_state_of_which_nothing_can_be_served_is_not_served_as_an_empty_one() {
    let world = World::start();
    world.publish(&Repo::new([]));
    let checkout = world.directory().join("checkout");
    Repo::new([Package::new("held", "1.0"), Package::new("long", "1.0")]).write(&checkout);
    let held = checkout.join("packages/held/held.1.0/opam");
    std::fs::write(held, "synopsis: \"x\"\n").expect("a file can be written");
    let files = checkout.join("packages/long/long.1.0/files");
    std::fs::create_dir(&files).expect("a directory can be made");
    std::fs::write(files.join("x".repeat(120)), "patch").expect("a file can be written");
    let upstream = format!("file://{}", checkout.display());
    let mut keep = start(&Mirror::of(&world).repository("local", &upstream));
    let is_refused = || keep.run(&["refresh", "local"]).said().contains("is held").then_some(());
    within(Duration::from_secs(10), "a refusal", is_refused);
    assert_eq!(keep.curl().get("/local/index.tar.gz").status, 503);
}

#[test]
fn a_first_state_of_nothing_but_what_is_held_can_be_accepted() {
    let world = World::start();
    world.put(INDEX, index(&[("packages/a/a.1/opam", "synopsis: \"x\"\n")]));
    let mut keep = start(&Mirror::of(&world));
    let said = || keep.refresh().said();
    within(Duration::from_secs(10), "a refusal", || said().contains("is held").then_some(()));
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert_eq!(keep.index().packages(), ["a.1"]);
}

#[test]
fn g4_what_comes_again_before_anything_is_served_is_told_again_whoever_acknowledged_it() {
    let world = World::start();
    let publish = |synopsis: &str| {
        let opam = format!("synopsis: \"{synopsis}\"\n");
        world.put(INDEX, index(&[("packages/a/a.1/opam", &opam)]));
    };
    publish("x");
    let keep = start(&Mirror::of(&world));
    let said = || keep.refresh().said();
    within(Duration::from_secs(10), "a refusal", || said().contains("is held").then_some(()));
    keep.run(&["divergences", "ack", &keep.divergence()]).ok();
    for _ in 0..2 {
        said();
        assert!(keep.divergences().is_empty(), "it goes on, and somebody knows");
    }
    publish("y");
    said();
    keep.run(&["divergences", "ack", &keep.divergence()]).ok();
    publish("x");
    for _ in 0..2 {
        said();
        assert_eq!(keep.divergences().len(), 1, "it came again");
    }
}

#[test]
fn g5_a_file_of_a_version_that_becomes_a_directory_stays_what_it_was() {
    let patch = "packages/hello/hello.1.0/files/x";
    let below = format!("{patch}/y");
    for (before, after) in [(patch, &*below), (&*below, patch)] {
        let world = World::start();
        publish(&world, &[(before, "x")]);
        let mut keep = start(&Mirror::of(&world).set("policy.max_removed", "100%"));
        let served = keep.index();
        let new = Package::bare("new", "1").opam();
        publish(&world, &[(after, "x"), ("packages/new/new.1/opam", &new)]);
        keep.refresh().ok();
        let said = keep.run(&["divergences", "accept", &keep.divergence()]).said();
        assert!(said.contains("which opam before 2.6 does not follow"), "{said}");
        let index = keep.index();
        assert_eq!(index.packages(), ["hello.1.0", "new.1", "other.1.0"]);
        assert!(served.paths().all(|path| index.paths().any(|it| it == path)));
        let status = keep.run(&["status"]).ok();
        assert!(status.contains("kept       1 version as admitted before"), "{status}");
        // Nor does it come back so once it went.
        let other = Package::bare("other", "1.0").opam();
        world.put(INDEX, self::index(&[("packages/other/other.1.0/opam", &other)]));
        keep.refresh().ok();
        publish(&world, &[(after, "x")]);
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["other.1.0"]);
        publish(&world, &[(before, "x")]);
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["hello.1.0", "other.1.0"]);
    }
}

#[test]
fn a_signed_repository_whose_index_is_lost_here_goes_on_with_the_next_one() {
    let world = World::start();
    publish(&world, &[]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    keep.index();
    let snapshot = keep.ledger().of_kind("snapshot").last().cloned().expect("there is one");
    keep.stop();
    let index = keep.blob_named(snapshot["index"].as_str().expect("a name"));
    std::fs::remove_file(index).expect("a file can be removed");
    keep.restart();
    let new = Package::bare("new", "1").opam();
    let next = publish(&world, &[("packages/new/new.1/opam", &new)]);
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == next);
}

#[test]
fn g4_an_empty_file_that_goes_is_one_as_well() {
    let world = World::start();
    let before = publish(&world, &[("packages/hello/hello.1.0/files/Makefile", "")]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    assert!(keep.index_at("/index.tar.gz") == before);
    publish(&world, &[]);
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == before, "it is held");
    assert_eq!(keep.divergences().len(), 1);
}

#[test]
fn g4_an_empty_file_is_an_edit_where_upstreams_bytes_are_passed_on() {
    let world = World::start();
    let before = publish(&world, &[]);
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    keep.index_at("/index.tar.gz");
    let after = publish(&world, &[("packages/hello/hello.1.0/files/Makefile", "")]);
    for _ in 0..2 {
        keep.refresh().ok();
        assert!(keep.index_at("/index.tar.gz") == before, "it is held");
        let size = keep.ledger().len();
        keep.stop();
        keep.restart();
        keep.refresh().ok();
        assert_eq!(keep.ledger().len(), size, "it is told once");
    }
    let shown = keep.run(&["divergences", "show", &keep.divergence()]).ok();
    assert!(shown.contains("hello.1.0") && shown.contains("files/Makefile"), "{shown}");
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert!(keep.index_at("/index.tar.gz") == after);

    // What is served with an empty file is what the next edit is compared with.
    let size = keep.ledger().len();
    let opam = hello().bytes(b"other".to_vec(), &[Kind::Sha256]).opam();
    let files = [("hello/hello.1.0/opam", opam.as_str()), ("hello/hello.1.0/files/Makefile", "")];
    let files = files.map(|(path, content)| (format!("packages/{path}"), content));
    let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    world.put(INDEX, index(&files));
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == after);
    let ledger = keep.ledger();
    assert!(ledger.len() > size, "it is told");
    let admitted: Vec<_> = ledger.of_kind("snapshot").map(|it| &it["admitted"]).collect();
    let [.., before, held] = admitted[..] else { panic!("{admitted:?}") };
    assert_eq!(before, held, "the empty file is still among what is served");
    keep.run(&["verify"]).ok();
    keep.stop();
    std::fs::remove_dir_all(keep.store().join("catalog")).expect("it can be removed");
    keep.restart();
    assert!(keep.index_at("/index.tar.gz") == after);

    // An index that is made here has none, which is no edit.
    let told = keep.ledger().of_kind("divergence").count();
    publish(&world, &[("packages/hello/hello.1.0/files/Makefile", "")]);
    keep.stop();
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    keep.restart();
    keep.refresh().ok();
    assert!(!keep.index().paths().any(|path| path.ends_with("Makefile")));
    assert_eq!(keep.ledger().of_kind("divergence").count(), told);
}

#[test]
fn a_stampede_of_distinct_misses_keeps_no_hit_waiting() {
    let world = World::start();
    let slow: Vec<Package> =
        (0..MISSES).map(|number| Package::new(&format!("slow-{number}"), "1.0")).collect();
    world.publish(&Repo::new(slow.iter().cloned().chain([hello()])));
    let mirror = Mirror::of(&world)
        .set("access.misses_per_minute", 1_000_000)
        .set("server.max_connections_per_address", 4_096)
        .set("upstream.patience", "3s");
    let mut keep = start(&mirror);
    keep.index();
    let path = hello().cache_path(Kind::Sha256);
    assert!(keep.curl().get(&path).is_whole());
    for package in &slow {
        world.lie(package.url(), Lie::NoHead);
    }
    let memory = Memory::of(keep.pid());
    let client = keep.raw();
    let begun = Instant::now();
    thread::scope(|scope| {
        for package in &slow {
            let client = &client;
            scope.spawn(move || {
                let answer = client.get(&package.cache_path(Kind::Sha256));
                assert_eq!(answer.expect("an answer").status, 404);
            });
        }
        // In the middle of it all.
        let asked = || slow.iter().any(|package| world.count(package.url()) > 0);
        within(Duration::from_secs(20), "the misses", || asked().then_some(()));
        for _ in 0..20 {
            let asked = Instant::now();
            let answer = client.get(&path).expect("an answer");
            assert_eq!(answer.status, 200);
            answer.body().expect("a whole body");
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(memory.grown() < 200 << 20, "{} MB", memory.grown() >> 20);
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_more() {
    if open_files() < IDLE as u64 + 1_000 {
        skip!("a process may have only {} open files", open_files());
    }
    let world = World::start();
    world.publish(&Repo::new([hello()]));
    let mirror = Mirror::of(&world).set("server.max_connections_per_address", 16_384);
    let mut keep = start(&mirror);
    keep.index();
    let path = hello().cache_path(Kind::Sha256);
    assert!(keep.curl().get(&path).is_whole());
    let memory = Memory::of(keep.pid());
    let client = keep.raw();
    let connections: Vec<_> =
        (0..IDLE).map(|_| client.connect().expect("one more connection")).collect();
    for mut connection in connections.into_iter().step_by(97) {
        connection.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).ok();
        let answer = connection.send(b"").expect("an answer");
        assert_eq!(answer.status, 200);
    }
    assert!(memory.grown() < 1 << 30, "{} MB", memory.grown() >> 20);
    assert!(keep.curl().get(&path).is_whole());
}

fn one(package: &Package) -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep)
}

fn hello() -> Package {
    Package::new("hello", "1.0")
}

/// Publishes two packages, and more entries below them.
fn publish(world: &World, more: &[(&str, &str)]) -> Vec<u8> {
    let [hello, other] = [hello(), Package::bare("other", "1.0")].map(|package| package.opam());
    let packages = [
        ("packages/hello/hello.1.0/opam", hello.as_str()),
        ("packages/other/other.1.0/opam", other.as_str()),
    ];
    let index = index(&[&packages, more].concat());
    world.put(INDEX, index.clone());
    index
}

/// An index of a `repo` file and these; what ends with a slash is a directory.
fn index(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, content) in [&[("repo", "opam-version: \"2.0\"\n")], entries].concat() {
        let kind = if path.ends_with('/') { b'5' } else { b'0' };
        bytes.extend(header(kind, path, "", content.len() as u64));
        bytes.extend(content.bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    gzip(&bytes)
}

/// How many files a process may have open.
fn open_files() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux tells limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    soft.unwrap_or(u64::MAX)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip can be run");
    let mut stdin = gzip.stdin.take().expect("the pipe was asked for");
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).expect("gzip reads"));
        gzip.wait_with_output().expect("gzip ends").stdout
    })
}

/// One file of so many zeros.
fn bomb(size: usize) -> Vec<u8> {
    let mut bytes = header(b'0', "packages/hello/hello.1.0/opam", "", size as u64);
    bytes.resize(512 + size + 1024, 0);
    gzip(&bytes)
}

fn truncated(index: &[u8]) -> Vec<u8> {
    index[..index.len() / 2].to_vec()
}

/// As many packages with nothing in them.
fn many(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * 512 + 1024);
    for number in 0..count {
        bytes.extend(header(b'0', &format!("packages/p{number}/p{number}.1/opam"), "", 0));
    }
    bytes.resize(bytes.len() + 1024, 0);
    gzip(&bytes)
}

fn entry(kind: u8, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(b'0', "repo", "", 0);
    bytes.extend(header(kind, path, link, content.len() as u64));
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    gzip(&bytes)
}

/// A file that says it has 8 GB and has none.
fn lying_size() -> Vec<u8> {
    let mut bytes = header(b'0', "packages/hello/hello.1.0/opam", "", 8_589_934_591);
    bytes.resize(2048, b'x');
    gzip(&bytes)
}

/// A ustar header, without anyone looking at what is in it.
fn header(kind: u8, path: &str, link: &str, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| bytes[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

/// A number of more than 63 bits.
const NUMBER: &str = "x-a: 4611686018427387904\n";
const INDEX: &str = "https://opam.ocaml.org/index.tar.gz";
const IDLE: usize = 10_000;
const MISSES: usize = 600;
/// An address that is nobody's business here, on a device of the test's own.
const PUBLIC: &str = "1.2.3.4";
