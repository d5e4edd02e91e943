//! One file that carries a mirror to where there is no network.

use crate::{BINARY, copy, skip, start};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use world::{
    Keep, Kind, Mirror, Opam, Package, Recorded, Repo, Trace, Version, World, installed, within,
};

#[test]
fn what_one_mirror_fetched_installs_from_another_that_opens_no_socket_outwards() {
    let Some(recorded) = Recorded::find() else { skip!("no recorded world") };
    for program in ["opam", "ocaml", "make", "gcc", "m4", "pkg-config", "strace"] {
        if !installed(program) {
            skip!("no {program} in PATH");
        }
    }
    let world = World::start();
    recorded.publish(&world, &recorded.snapshots()[0]);
    let near = stopped(&Mirror::of(&world));
    near.run(
        &[&["sync", "ocaml-system", "ocaml-config", "ocaml", "conf-gmp"], PACKAGES.as_slice()]
            .concat(),
    );
    let (bundle, key) = export(&near, "farm.bundle", &[]);
    world.kill();

    let trace = Trace::of(BINARY);
    let mut far = Keep::stopped(&trace.program().display().to_string());
    far.configure(&offline(&world).text(&far.store()));
    // Traced, it would take minutes; the trace of another import is looked at below.
    let importing = stopped(&offline(&world));
    let said = importing.run(&["import", &bundle, "--key", &key]).ok();
    assert!(said.contains("versions are served"), "{said}");
    std::fs::rename(importing.store(), far.store()).expect("a store can be moved");
    far.restart();
    let opam = Opam::fresh(Version::System, far.ca()).expect("opam is in PATH");
    opam.init(&far.url()).ok();
    opam.run(&["switch", "create", "default", "ocaml-system"]).ok();
    opam.run(&[&["install"], PACKAGES.as_slice()].concat()).ok();
    let installed = opam.run(&["list", "--installed", "--short", "--columns=package"]).ok();
    assert!(PACKAGES.iter().all(|package| installed.contains(package)), "{installed}");
    far.run(&["verify"]).ok();
    far.stop();
    assert_eq!(trace.outwards(), [""; 0]);
    assert_eq!(trace.sockets().len(), 1, "only the listener: {:#?}", trace.sockets());
}

#[test]
fn what_was_imported_is_served_as_the_other_mirror_serves_it() {
    let weak = Package::bare("weak", "1").archive("https://w.example/weak.tgz", &[Kind::Md5]);
    let bare = Package::bare("bare", "1").archive("https://b.example/bare.tgz", &[]);
    let (world, mut near) = filled([Package::new("strong", "1"), weak.clone(), bare.clone()]);
    near.restart();
    // It adds checksums to what is weak.
    near.refresh().ok();
    let whole = near.curl().get("/archive/bare.1");
    assert!(whole.is_whole() && whole.body == bare.archive_bytes());
    let (bundle, key) = export(&near, "all.bundle", &[]);
    for is_running in [false, true] {
        let mut far = stopped(&offline(&world));
        if is_running {
            // It has nothing to serve until then.
            far.restart();
            far.run(&["import", &bundle, "--key", &key]).ok();
        } else {
            far.run(&["import", &bundle, "--key", &key]).ok();
            far.restart();
        }
        let strong = Package::new("strong", "1");
        let mut paths = vec!["/index.tar.gz".to_owned(), "/repo".to_owned()];
        paths.push("/archive/bare.1".to_owned());
        for kind in [Kind::Md5, Kind::Sha256, Kind::Sha512] {
            paths.extend([strong.cache_path(kind), weak.cache_path(kind)]);
        }
        for path in paths {
            let (here, there) = (far.curl().get(&path), near.curl().get(&path));
            assert!(
                there.is_whole() && here.is_whole(),
                "{path}: {} {}",
                there.status,
                here.status
            );
            assert!(here.body == there.body, "{path}");
            assert_eq!(here.header("etag"), there.header("etag"), "{path}");
        }
        let ledger = far.ledger();
        let import = ledger.index_of(|entry| entry["kind"] == "import");
        assert!(ledger.of_kind("pin").all(|pin| pin["import"] == import), "{ledger:?}");
        far.run(&["verify"]).ok();
    }
}

#[test]
fn the_next_bundle_has_what_is_new_and_none_is_left_out_or_taken_back() {
    if !installed("strace") {
        skip!("no strace in PATH");
    }
    let first = [Package::new("one", "1")];
    let (world, near) = filled(first.clone());
    let (one, key) = export(&near, "one.bundle", &[]);
    let size = near.ledger().len();
    let second = [first[0].clone(), Package::new("two", "1")];
    world.publish(&Repo::new(second.clone()));
    near.run(&["refresh"]).ok();
    near.run(&["sync", "--all"]).ok();
    let (two, _) = export(&near, "two.bundle", &["--since", &size.to_string()]);
    let middle = near.ledger().len();
    let third = [second[1].clone().bytes(b"other".to_vec(), &[Kind::Sha256])];
    world.publish(&Repo::new(third.into_iter().chain([Package::new("three", "1")])));
    near.run(&["refresh"]).ok();
    let (three, _) = export(&near, "three.bundle", &["--since", &middle.to_string()]);
    let (whole, _) = export(&near, "whole.bundle", &[]);

    let trace = Trace::of(BINARY);
    let mut far = Keep::stopped(&trace.program().display().to_string());
    far.configure(&offline(&world).text(&far.store()));
    let import = |far: &Keep, bundle: &str| far.run(&["import", bundle, "--key", &key]);
    refused(&far, &two, &key, "are missing: export --since 0");
    import(&far, &one).ok();
    refused(&far, &three, &key, &format!("entries {size} to {middle} of its ledger are missing"));
    let said = import(&far, &two).ok();
    assert!(said.contains(&format!("export --out FILE --since {middle}")), "{said}");
    refused(&far, &one, &key, "it is older than the last one");
    let again = import(&far, &two).ok();
    assert!(again.contains("0 URLs pinned, 1 pinned before"), "{again}");
    assert_eq!(far.ledger().of_kind("import").count(), 2, "the same is not noted twice");
    assert_eq!(far.ledger().of_kind("snapshot").count(), 2);
    // A whole one goes on from anywhere.
    import(&far, &whole).ok();
    far.restart();
    let mut near = near;
    near.restart();
    assert!(far.index_at("/index.tar.gz") == near.index_at("/index.tar.gz"));
    for package in &second {
        assert!(far.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
    far.run(&["verify"]).ok();
    far.stop();
    assert_eq!(trace.outwards(), [""; 0]);
}

#[test]
fn a_store_without_a_snapshot_has_nothing_to_export() {
    let world = World::start();
    world.kill();
    let keep = stopped(&Mirror::of(&world));
    assert_eq!(keep.run(&["sync", "--all"]).code, 1);
    let bundle = keep.path("empty.bundle");
    let run = keep.run(&["export", "--out", &bundle.display().to_string()]);
    assert!(run.code == 1 && run.stderr.contains("no repository has a snapshot yet"), "{run:?}");
    assert!(!bundle.exists());
}

#[test]
fn a_ledger_that_was_rewritten_is_refused() {
    let one = Package::new("one", "1");
    let (world, near) = filled([one.clone()]);
    let fork = stopped(&Mirror::of(&world));
    copy(&near.store(), &fork.store());
    for (keep, name) in [(&near, "two"), (&fork, "three")] {
        world.publish(&Repo::new([one.clone(), Package::new(name, "1")]));
        keep.run(&["refresh"]).ok();
        keep.run(&["sync", "--all"]).ok();
    }
    let (bundle, key) = export(&near, "near.bundle", &[]);
    let far = stopped(&offline(&world));
    far.run(&["import", &bundle, "--key", &key]).ok();
    fork.run(&["sync", "--all"]).ok();
    let (bundle, _) = export(&fork, "fork.bundle", &[]);
    refused(&far, &bundle, &key, "its ledger was rewritten");
}

#[test]
fn one_flipped_bit_a_missing_member_or_another_key_leaves_the_store_as_it_was() {
    let (world, near) = filled([Package::new("one", "1"), Package::new("two", "1")]);
    let (bundle, key) = export(&near, "all.bundle", &[]);
    let mut far = stopped(&offline(&world));
    far.run(&["import", &bundle, "--key", &key]).ok();
    world.publish(&Repo::new(["one", "three"].map(|name| Package::new(name, "1"))));
    near.run(&["refresh"]).ok();
    near.run(&["sync", "--all"]).ok();
    let (next, _) = export(&near, "next.bundle", &[]);
    let bytes = std::fs::read(&next).expect("it was written");
    let file = near.path("damaged.bundle");
    let damaged = file.display().to_string();
    let step = bytes.len() / 40;
    for is_running in [false, true] {
        if is_running {
            far.restart();
        }
        for place in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            std::fs::write(&file, flipped).expect("a file can be written");
            refused(&far, &damaged, &key, "damaged.bundle: ");
        }
        // Cut out a member: a header and one block of content.
        let header = |name: &[u8]| {
            bytes.chunks(512).position(|block| block.starts_with(name)).expect("it is there") * 512
        };
        let start = header(b"blobs/");
        let missing = [&bytes[..start], &bytes[start + 1024..]].concat();
        std::fs::write(&file, missing).expect("a file can be written");
        refused(&far, &damaged, &key, "is missing, or not where it belongs");
        std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("a file can be written");
        refused(&far, &damaged, &key, "ends early");
        let other = stopped(&offline(&world));
        let (_, other) = {
            let world = World::start();
            world.publish(&Repo::new([Package::new("one", "1")]));
            other.configure(&Mirror::of(&world).text(&other.store()));
            other.run(&["sync", "--all"]).ok();
            export(&other, "other.bundle", &[])
        };
        refused(&far, &next, &other, "is not signed with this key");
    }
    far.run(&["import", &next, "--key", &key]).ok();
    assert_eq!(far.index().packages(), ["one.1", "three.1"]);
}

#[test]
fn g3_an_import_that_was_killed_goes_on() {
    let packages: Vec<Package> = (0_u8..6)
        .map(|number| {
            let bytes: Vec<u8> = (0..3 << 20).map(|at: usize| (at % 251) as u8 ^ number).collect();
            Package::new("large", &number.to_string()).bytes(bytes, &[Kind::Sha256])
        })
        .collect();
    let (world, near) = filled(packages.clone());
    let (bundle, key) = export(&near, "large.bundle", &[]);
    for is_running in [false, true] {
        let mut far = stopped(&offline(&world));
        if is_running {
            far.restart();
        }
        let mut child = far
            .command(&["import", &bundle, "--key", &key])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        within(PATIENCE, "a blob", || far.store().join("blobs").exists().then_some(()));
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child ends");
        if is_running {
            far.kill();
            far.restart();
        }
        far.run(&["import", &bundle, "--key", &key]).ok();
        far.run(&["verify"]).ok();
        assert_eq!(far.ledger().of_kind("pin").count(), packages.len());
    }
}

#[test]
fn g4_an_import_that_is_killed_again_and_again_leaves_no_other_bytes_untold() {
    let here: Vec<Package> = (0..1_600)
        .map(|number| {
            let bytes = format!("here {number}").into_bytes();
            Package::new("many", &number.to_string()).bytes(bytes, &[Kind::Sha256])
        })
        .collect();
    let there: Vec<Package> = (here.iter())
        .map(|it| {
            let bytes = [it.archive_bytes(), b", and there"].concat();
            it.clone().bytes(bytes, &[Kind::Sha256])
        })
        .collect();
    let (_world, near) = filled(there.clone());
    let (bundle, key) = export(&near, "there.bundle", &[]);
    let (_other, mut far) = filled(here.clone());
    let pins = |far: &Keep| far.ledger().of_kind("pin").count();
    let mut killed_within = 0;
    while pins(&far) < here.len() + there.len() {
        far.restart();
        let before = size(&far);
        let mut import = far.command(&["import", &bundle, "--key", &key]);
        let child = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the binary runs");
        // The import itself is an entry, and then pins come.
        within(PATIENCE, "an append", || {
            let has_ended = child.try_wait().expect("a child").is_some();
            (size(&far) > before + 1 || has_ended).then_some(())
        });
        far.kill();
        child.wait().expect("it ends with its server");
        let (pinned, untold) = (pins(&far), far.ledger().untold());
        assert_eq!(untold, [0; 0], "killed after {pinned} pins");
        killed_within += usize::from(pinned > here.len() && pinned < here.len() + there.len());
    }
    assert!(killed_within > 0, "it was never killed within");
    far.run(&["verify"]).ok();
    assert_eq!(far.ledger().of_kind("divergence").count(), here.len());
}

#[test]
fn a_bundle_of_some_packages_has_their_archives_alone() {
    let [one, two] = ["one", "two"].map(|name| Package::new(name, "1"));
    let (world, near) = filled([one.clone(), two.clone()]);
    let (bundle, key) = export(&near, "one.bundle", &["one"]);
    let mut far = stopped(&offline(&world));
    let said = far.run(&["import", &bundle, "--key", &key]).ok();
    assert!(said.contains("1 URL pinned") && said.contains("1 pin not in the bundle"), "{said}");
    far.restart();
    assert_eq!(far.index().packages(), ["one.1", "two.1"]);
    assert!(far.curl().get(&one.cache_path(Kind::Sha256)).is_whole());
    let miss = far.curl().get(&two.cache_path(Kind::Sha256));
    assert!(miss.header("x-opam-keep-reason").is_some_and(|why| why.starts_with("offline")));
    let out = near.path("unknown.bundle");
    let some = |packages: &[&str]| {
        let out = out.display().to_string();
        near.run(&[&["export", "--out", &out], packages].concat())
    };
    let unknown = some(&["nothing"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("nothing"), "{}", unknown.said());
    assert!(!out.exists(), "there is no empty bundle");
    let one = some(&["nothing", "one"]);
    assert!(
        one.code == 1 && one.stdout.contains("not in the repository: nothing"),
        "{}",
        one.said()
    );
    assert!(out.exists());
}

#[test]
fn what_was_pinned_here_to_other_bytes_is_told_and_both_stay() {
    let here = Package::new("one", "1");
    let there = here.clone().bytes(b"what they have there".to_vec(), &[Kind::Sha256]);
    let (_world, near) = filled([there.clone()]);
    let (bundle, key) = export(&near, "there.bundle", &[]);
    let (_other, mut far) = filled([here.clone()]);
    let run = far.run(&["import", &bundle, "--key", &key]);
    assert_eq!(run.code, 1, "{}", run.said());
    assert!(run.stdout.contains("1 URL was pinned to other bytes here"), "{}", run.stdout);
    assert_eq!(far.ledger().divergences(here.url()).len(), 1);
    far.restart();
    for package in [&here, &there] {
        assert!(far.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    }
}

#[test]
fn a_url_that_was_pinned_twice_is_told_of_where_a_bundle_is_taken_in_unless_someone_accepted_that()
{
    let first = Package::new("one", "1");
    let kinds = [Kind::Sha256, Kind::Sha512];
    let second = first.clone().bytes(b"other bytes".to_vec(), &kinds);
    for rule in ["allow", "hold"] {
        let world = World::start();
        world.publish(&Repo::new([first.clone(), Package::new("two", "1")]));
        let mut near = start(&Mirror::of(&world).set("policy.source_rewritten", rule));
        near.index();
        assert!(near.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
        let (begin, key) = export(&near, "begin.bundle", &[]);
        let size = near.ledger().len().to_string();
        world.publish(&Repo::new([second.clone(), Package::new("two", "1")]));
        near.refresh().ok();
        if rule == "hold" {
            near.run(&["divergences", "accept", &near.divergence()]).ok();
        }
        let answer = near.curl().get(&second.cache_path(Kind::Sha256));
        assert!(answer.is_whole(), "{rule}: {answer:?}");
        assert_eq!(near.ledger().pins(first.url()).len(), 2, "{rule}");
        let (all, _) = export(&near, "all.bundle", &[]);
        let (rest, _) = export(&near, "rest.bundle", &["--since", &size]);
        let (some, _) = export(&near, "some.bundle", &["one"]);
        let expected = i32::from(rule == "allow");
        let far = stopped(&offline(&world));
        let run = far.run(&["import", &all, "--key", &key]);
        assert_eq!(run.code, expected, "{rule}: {}", run.said());
        assert_eq!(far.ledger().divergences(first.url()).len() as i32, expected, "{rule}");
        let again = far.run(&["import", &all, "--key", &key]);
        assert_eq!(again.code, expected, "{rule}, nobody decided yet: {}", again.said());
        // One after the other.
        let far = stopped(&offline(&world));
        far.run(&["import", &begin, "--key", &key]).ok();
        let run = far.run(&["import", &rest, "--key", &key]);
        assert_eq!(run.code, expected, "{rule}: {}", run.said());
        // Whoever has other bytes of someone else is told all the same.
        let other = first.clone().bytes(b"from elsewhere".to_vec(), &kinds);
        let (_world, elsewhere) = filled_by_clients(other);
        let (foreign, foreign_key) = export(&elsewhere, "foreign.bundle", &[]);
        let far = stopped(&offline(&world));
        far.run(&["import", &foreign, "--key", &foreign_key]).ok();
        let run = far.run(&["import", &all, "--key", &key]);
        assert_eq!(run.code, 1, "{rule}: {}", run.said());
        // The second bytes come first here.
        let far = stopped(&offline(&world));
        far.run(&["import", &some, "--key", &key]).ok();
        let run = far.run(&["import", &all, "--key", &key]);
        assert_eq!(run.code, expected, "{rule}: {}", run.said());
    }
}

#[test]
fn a_bundle_that_comes_during_a_reload_is_served_by_the_configuration_that_came() {
    let (world, near) = filled([Package::new("one", "1"), Package::new("two", "1")]);
    let (bundle, key) = export(&near, "all.bundle", &[]);
    let bytes = std::fs::read(bundle).expect("it was written");
    let mut far = stopped(&offline(&world));
    far.restart();
    let mut socket = UnixStream::connect(far.store().join("admin.sock")).expect("it listens");
    let head = format!(
        "PUT /bundle HTTP/1.1\r\nhost: keep\r\nconnection: close\r\nx-opam-keep-key: {key}\r\n\
         content-length: {}\r\n\r\n",
        bytes.len()
    );
    let (begin, end) = bytes.split_at(bytes.len() / 2);
    socket.write_all(&[head.as_bytes(), begin].concat()).expect("it is taken");
    let since = |far: &Keep| {
        let status: Value =
            serde_json::from_str(&far.run(&["status", "--json"]).ok()).expect("JSON");
        status["configuration"]["since"].clone()
    };
    let before = since(&far);
    // Times are told to the second.
    std::thread::sleep(Duration::from_millis(1_100));
    far.configure(&offline(&world).set("upstream.patience", "7s").text(&far.store()));
    within(Duration::from_secs(30), "a reload", || (since(&far) != before).then_some(()));
    socket.write_all(end).expect("it is taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(far.index().packages(), ["one.1", "two.1"]);
}

#[test]
fn bundles_that_come_at_once_are_taken_in_one_after_the_other() {
    let (world, near) = filled([Package::new("one", "1")]);
    let (bundle, key) = export(&near, "all.bundle", &[]);
    let mut far = stopped(&offline(&world));
    far.restart();
    let importing = [0, 1, 2]
        .map(|_| far.command(&["import", &bundle, "--key", &key]).stdout(Stdio::null()).spawn());
    for import in importing {
        let status = import.and_then(|mut import| import.wait()).expect("it runs");
        assert!(status.success(), "{status}");
    }
    assert_eq!(far.ledger().of_kind("import").count(), 1);
    assert_eq!(far.ledger().of_kind("snapshot").count(), 1);
}

#[test]
fn a_repository_that_is_not_configured_where_a_bundle_is_taken_in_keeps_no_other_from_being_served()
{
    let (world, near) = filled([Package::new("one", "1")]);
    let renamed = Mirror::of(&world).of_repository("name", "renamed");
    near.configure(&renamed.text(&near.store()));
    near.run(&["refresh"]).ok();
    near.configure(&Mirror::of(&world).text(&near.store()));
    let (bundle, key) = export(&near, "two.bundle", &[]);
    let mut far = stopped(&offline(&world));
    let said = far.run(&["import", &bundle, "--key", &key]).ok();
    assert!(said.contains("renamed: not served, as mirror.toml"), "{said}");
    far.restart();
    assert_eq!(far.index().packages(), ["one.1"]);
    let third = stopped(&offline(&world).of_repository("name", "third"));
    refused(&third, &bundle, &key, "add [[repository]] with name");
}

/// Imports what must be refused for `reason`, and checks that nothing changed.
fn refused(keep: &Keep, bundle: &str, key: &str, reason: &str) {
    let before = state(&keep.store());
    let run = keep.run(&["import", bundle, "--key", key]);
    assert_eq!(run.code, 1, "{}", run.said());
    assert!(
        run.stderr.contains(reason) && run.stderr.lines().count() == 1,
        "{reason}: {}",
        run.said()
    );
    assert_eq!(state(&keep.store()), before, "{reason}");
    if keep.store().exists() {
        keep.run(&["verify"]).ok();
    }
}

/// The names and sizes of all files that are the truth.
fn state(store: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = ["blobs", "ledger", "keys"].map(|name| store.join(name)).to_vec();
    while let Some(path) = left.pop() {
        let Ok(metadata) = path.metadata() else { continue };
        match std::fs::read_dir(&path) {
            Ok(entries) => left.extend(entries.map(|entry| entry.expect("an entry").path())),
            Err(_) => found.push((path, metadata.len())),
        }
    }
    found.sort();
    found
}

/// How many entries the checkpoint vouches for.
fn size(keep: &Keep) -> u64 {
    let checkpoint = std::fs::read_to_string(keep.store().join("ledger/checkpoint"));
    let checkpoint = checkpoint.expect("there is a checkpoint");
    checkpoint.lines().nth(1).and_then(|line| line.parse().ok()).expect("a size")
}

/// A stopped mirror that holds these packages, and their world.
fn filled(packages: impl IntoIterator<Item = Package>) -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new(packages));
    let keep = stopped(&Mirror::of(&world));
    keep.run(&["sync", "--all"]).ok();
    (world, keep)
}

/// A mirror that pinned an archive under the URL that declares it.
fn filled_by_clients(package: Package) -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([package.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    assert!(keep.curl().get(&package.cache_path(Kind::Sha256)).is_whole());
    (world, keep)
}

/// A bundle's path, and the key that signed it.
fn export(keep: &Keep, name: &str, arguments: &[&str]) -> (String, String) {
    let file = keep.path(name).display().to_string();
    let command = ["export", "--json", "--out", &file];
    let said = keep.run(&[&command, arguments].concat()).ok();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    (file, said["key"].as_str().expect("the key").to_owned())
}

fn stopped(mirror: &Mirror) -> Keep {
    let keep = Keep::stopped(BINARY);
    keep.configure(&mirror.text(&keep.store()));
    keep
}

fn offline(world: &World) -> Mirror {
    Mirror::of(world).set("upstream.offline", true)
}

const PACKAGES: [&str; 3] = ["dune.2.9.3", "ocamlfind.1.9.6", "zarith.1.12"];
const PATIENCE: Duration = Duration::from_secs(30);
