//! A mirror as plain files, which any web server gives to opam.

use crate::{BINARY, skip};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use world::{
    Index, Keep, Kind, Mirror, Nginx, Opam, Package, Recorded, Repo, Version, World, installed,
};

#[test]
fn real_opam_installs_from_nginx_with_everything_else_dead() {
    let Some(recorded) = Recorded::find() else { skip!("no recorded world") };
    let Some(nginx) = Nginx::find() else { skip!("no nginx: install nginx-light") };
    for program in ["opam", "ocaml", "make", "gcc", "m4", "pkg-config"] {
        if !installed(program) {
            skip!("no {program} in PATH");
        }
    }
    let world = World::start();
    recorded.publish(&world, &recorded.snapshots()[0]);
    let keep = stopped(&Mirror::of(&world));
    // What only the world lacks is said, and is no reason to export nothing.
    keep.run(&[&["sync"], PACKAGES.as_slice()].concat());
    let root = keep.path("www");
    let said = keep.run(&["export", "--static", &text(&root)]).ok();
    assert!(said.contains("not kept yet"), "{said}");
    world.kill();

    let directory = keep.path("nginx");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let server = readme_server().replace("/srv/www/opam", &text(&root));
    let nginx = Nginx::start(&nginx, &directory, &server.replace("8080", "ADDRESS"));
    let opam = Opam::fresh(Version::System, keep.ca()).expect("opam is in PATH");
    opam.init(&format!("http://{}", nginx.address())).ok();
    opam.run(&["switch", "create", "default", "ocaml-system"]).ok();
    opam.run(&[&["install"], PACKAGES.as_slice()].concat()).ok();
    let installed = opam.run(&["list", "--installed", "--short", "--columns=package"]).ok();
    assert!(PACKAGES.iter().all(|package| installed.contains(package)), "{installed}");
}

#[test]
fn files_are_byte_for_byte_what_the_server_gives() {
    let weak = Package::bare("weak", "1").archive("https://w.example/weak.tgz", &[Kind::Md5]);
    let bare = Package::bare("bare", "1").archive("https://b.example/bare.tgz", &[]);
    let own = Package::new("own", "1");
    let world = World::start();
    world.publish(&Repo::new([Package::new("strong", "1"), weak.clone(), bare.clone()]));
    world.publish_at("https://own.example", &Repo::new([own.clone()]));
    let mirror = Mirror::of(&world).repository("own", "https://own.example");
    let mut keep = stopped(&mirror);
    keep.run(&["sync", "--all"]).ok();
    keep.restart();
    // It adds checksums to what is weak.
    keep.refresh().ok();
    for path in ["/archive/bare.1", "/own/index.tar.gz"] {
        assert!(keep.curl().get(path).is_whole());
    }

    let (with, without) = (keep.path("with"), keep.path("without"));
    keep.run(&["export", "--static", &text(&with)]).ok();
    let mut paths: Vec<String> = ["index.tar.gz", "repo"]
        .iter()
        .flat_map(|file| ["/", "/own/", "/default/"].map(|at| format!("{at}{file}")))
        .collect();
    for kind in [Kind::Md5, Kind::Sha256, Kind::Sha512] {
        paths.extend([&weak, &bare, &own].map(|package| package.cache_path(kind)));
    }
    paths.push(format!("/own{}", own.cache_path(Kind::Sha256)));
    for path in &paths {
        let answer = keep.curl().get(path);
        assert!(answer.is_whole(), "{path}: {}", answer.status);
        let file = std::fs::read(with.join(path.trim_start_matches('/')));
        assert!(file.is_ok_and(|file| file == answer.body), "{path}");
    }
    let blob = keep.blob(own.archive_bytes());
    let linked = with.join(own.cache_path(Kind::Md5).trim_start_matches('/'));
    assert_eq!(inode(&blob), inode(&linked), "a hard link");

    keep.stop();
    keep.run(&["export", "--static", &text(&without)]).ok();
    let difference = Command::new("diff").arg("-r").arg(&with).arg(&without).output();
    let difference = difference.expect("diff runs");
    assert!(difference.status.success() && difference.stdout.is_empty(), "{difference:?}");
    assert!(is_sound(&with));
}

#[test]
fn rewritten_sources_lead_to_files_that_are_there() {
    let bare = Package::bare("bare", "1").archive("https://b.example/bare.tgz", &[]);
    let patched = Package::new("patched", "1").extra_source(
        "dir/a b.txt",
        "https://p.example/more.txt",
        b"more",
        &[Kind::Sha256],
    );
    let world = World::start();
    world.publish(&Repo::new([bare, patched]));
    let mirror = Mirror::of(&world)
        .set("server.public_url", "https://keep.example")
        .of_repository("rewrite_sources", true);
    let mut keep = stopped(&mirror);
    keep.restart();
    keep.index();
    keep.run(&["sync", "--all"]).ok();
    let served = keep.index_at("/index.tar.gz");

    let root = keep.path("www");
    keep.run(&["export", "--unpacked", "--static", &text(&root)]).ok();
    let index = std::fs::read(root.join("index.tar.gz")).expect("it is there");
    assert!(index == served);
    let index = Index::read(&index);
    for package in ["bare.1", "patched.1"] {
        let opam = index.opam(package).expect("it is there");
        let name = package.split_once('.').expect("a version").0;
        let file = root.join(format!("packages/{name}/{package}/opam"));
        assert!(std::fs::read_to_string(file).is_ok_and(|file| file == opam), "{package}");
        let sources: Vec<&str> = opam.split("src: \"https://keep.example/").skip(1).collect();
        assert_eq!(sources.len(), if name == "bare" { 1 } else { 2 });
        for source in sources {
            let path = source.split('"').next().expect("a string ends");
            assert!(root.join(path).exists(), "{path}");
        }
    }
    let update = keep.run(&["export", "--update", "--static", &text(&root)]).ok();
    assert!(update.contains(" 0 removed") && root.join("packages").exists(), "{update}");
    let elsewhere = keep.path("elsewhere");
    let url = ["--url", "http://files.example/opam/", "--static", &text(&elsewhere)];
    keep.run(&[["export"].as_slice(), &url].concat()).ok();
    let index = Index::read(&std::fs::read(elsewhere.join("index.tar.gz")).expect("it is there"));
    let opam = index.opam("bare.1").expect("it is there");
    assert!(opam.contains("\"http://files.example/opam/archive/bare.1/bare.tgz\""), "{opam}");
}

#[test]
fn an_update_changes_only_what_changed() {
    let world = World::start();
    let one = Package::new("one", "1");
    world.publish(&Repo::new([one.clone()]));
    world.publish_at("https://own.example", &Repo::new([Package::new("own", "1")]));
    let keep = stopped(&Mirror::of(&world).repository("own", "https://own.example"));
    keep.run(&["sync", "--all"]).ok();
    let root = keep.path("www");
    let export = |update: bool| {
        let arguments = ["export", "--json", "--static", &text(&root)];
        let update = update.then_some("--update");
        keep.run(&arguments.into_iter().chain(update).collect::<Vec<_>>())
    };
    // What a run leaves behind that is killed early is in no run's way, and gone with the next one.
    let left = root.join(".opam-keep-work-killed");
    std::fs::create_dir_all(&left).expect("a directory can be made");
    std::fs::write(left.join("linked"), "half").expect("a file can be written");
    export(false).ok();
    assert!(left.join("linked").exists());
    let again = export(false);
    assert!(again.code == 2 && again.stderr.contains("--update"), "{}", again.said());
    let files = ["index.tar.gz", "repo", one.cache_path(Kind::Sha256).trim_start_matches('/')]
        .map(|path| root.join(path));
    let before = files.each_ref().map(|file| (inode(file), changed(file)));
    let same: serde_json::Value = serde_json::from_str(&export(true).ok()).expect("JSON");
    assert!(!left.exists());
    assert_eq!(
        (&same["linked"], &same["copied"], &same["removed"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(before, files.each_ref().map(|file| (inode(file), changed(file))));

    // Another version comes, and a repository goes.
    let two = Package::new("two", "1");
    world.publish(&Repo::new([one.clone(), two.clone()]));
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    keep.run(&["refresh"]).ok();
    keep.run(&["sync", "--all"]).ok();
    let said: serde_json::Value = serde_json::from_str(&export(true).ok()).expect("JSON");
    assert_eq!((&said["linked"], &said["copied"]), (&3.into(), &1.into()), "{said}");
    assert!(!root.join("own").exists() && !root.join("default").exists());
    assert_eq!(before[1..], files.each_ref().map(|file| (inode(file), changed(file)))[1..]);
    let whole = keep.path("whole");
    keep.run(&["export", "--static", &text(&whole)]).ok();
    let difference = Command::new("diff").arg("-r").arg(&root).arg(&whole).output();
    assert!(difference.expect("diff runs").stdout.is_empty());
}

#[test]
fn g1_a_damaged_blob_is_left_out_named_and_back_when_it_is_healed() {
    let world = World::start();
    let (one, two) = (Package::new("one", "1"), Package::new("two", "1"));
    world.publish(&Repo::new([one.clone(), two.clone()]));
    let keep = stopped(&Mirror::of(&world));
    keep.run(&["sync", "--all"]).ok();
    let root = keep.path("www");
    let export = || keep.run(&["export", "--update", "--static", &text(&root)]);
    let blob = keep.blob(one.archive_bytes());
    let file = |package: &Package| {
        std::fs::read(root.join(package.cache_path(Kind::Sha512).trim_start_matches('/')))
    };
    std::fs::remove_file(&blob).expect("a blob can be removed");
    std::fs::write(&blob, b"something else").expect("a file can be written");
    let run = export();
    assert_eq!(run.code, 1, "{}", run.said());
    assert!(run.stdout.contains("left out") && run.stdout.contains("damaged"), "{}", run.stdout);
    assert!(file(&one).is_err());
    assert!(file(&two).is_ok_and(|bytes| bytes == two.archive_bytes()));

    std::fs::remove_file(&blob).expect("a blob can be removed");
    std::fs::write(&blob, one.archive_bytes()).expect("a file can be written");
    export().ok();
    assert!(file(&one).is_ok_and(|bytes| bytes == one.archive_bytes()));
    // A link to what was damaged later is not kept once the blob is healed.
    std::fs::remove_file(&blob).expect("a blob can be removed");
    std::fs::write(&blob, one.archive_bytes()).expect("a file can be written");
    export().ok();
    let path = root.join(one.cache_path(Kind::Md5).trim_start_matches('/'));
    assert_eq!(inode(&blob), inode(&path));
}

#[test]
fn an_update_after_a_repair_leaves_no_link_to_what_was_damaged() {
    let world = World::start();
    let one = Package::new("one", "1");
    world.publish(&Repo::new([one.clone()]));
    let keep = stopped(&Mirror::of(&world));
    keep.run(&["sync", "--all"]).ok();
    let root = keep.path("www");
    let export = || keep.run(&["export", "--update", "--static", &text(&root)]).ok();
    export();
    let blob = keep.blob(one.archive_bytes());
    // The file that was damaged may look like a copy afterwards, which anybody may write to.
    for left in [0o444, 0o644] {
        // One byte, in place: every link to the file has it.
        let mode = |mode| std::fs::set_permissions(&blob, Permissions::from_mode(mode));
        let mut bytes = one.archive_bytes().to_vec();
        bytes[0] ^= 1;
        mode(0o644).and_then(|()| std::fs::write(&blob, bytes)).expect("a file can be written");
        mode(left).expect("a file has a mode");
        assert!(!is_sound(&root));
        keep.run(&["repair"]).ok();
        let said = export();
        assert!(said.contains(" 3 linked, "), "{said}");
        assert!(is_sound(&root));
    }
}

#[test]
fn g1_what_an_interrupted_update_left_is_not_taken_for_new() {
    let world = World::start();
    let one = Package::new("one", "1");
    world.publish(&Repo::new([one.clone()]));
    let keep = stopped(&Mirror::of(&world));
    keep.run(&["sync", "--all"]).ok();
    let root = keep.path("www");
    keep.run(&["export", "--static", &text(&root)]).ok();
    // As if an update had been killed that was to write this file, of which there is a copy of the
    // same length with other bytes.
    let path = one.cache_path(Kind::Md5).trim_start_matches('/').to_owned();
    let stale = vec![b'x'; one.archive_bytes().len()];
    std::fs::remove_file(root.join(&path)).expect("a file can be removed");
    std::fs::write(root.join(&path), stale).expect("a file can be written");
    let sums = root.join("SHA256SUMS");
    let list = std::fs::read_to_string(&sums).expect("it is there");
    let line = |hash: &str| format!("{hash}  {path}\n");
    let unknown =
        list.replace(&line(&Kind::Sha256.of(one.archive_bytes())), &line(&"0".repeat(64)));
    assert!(unknown != list);
    std::fs::write(&sums, unknown).expect("a file can be written");
    keep.run(&["export", "--update", "--static", &text(&root)]).ok();
    let file = std::fs::read(root.join(&path));
    assert!(file.is_ok_and(|bytes| bytes == one.archive_bytes()));
    assert_eq!(std::fs::read_to_string(&sums).expect("it is there"), list);
}

#[test]
fn nothing_that_is_someone_elses_is_touched() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("one", "1")]));
    let keep = stopped(&Mirror::of(&world));
    let refused = |root: &Path, reason: &str| {
        let run = keep.run(&["export", "--update", "--static", &text(root)]);
        assert!(run.code == 2 && run.stderr.contains(reason), "{reason}: {}", run.said());
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    };
    let root = keep.path("www");
    refused(&root, "holds no opam-keep store");
    keep.run(&["sync", "--all"]).ok();
    // The name of what a killed run leaves behind may be anyone's too.
    for directory in ["photos", ".opam-keep-work-mine"] {
        std::fs::create_dir_all(root.join(directory)).expect("a directory can be made");
    }
    std::fs::write(root.join(".opam-keep-work-mine/notes"), "precious").expect("it can be written");
    refused(&root, "name another directory");
    assert_eq!(std::fs::read_dir(&root).expect("it is there").count(), 2);
    assert!(root.join(".opam-keep-work-mine/notes").exists());
    for arguments in [
        ["--static", "www2", "--url", "mailto:x"],
        ["--static", "www2", "--url", "http://h/?x=1"],
        ["--out", "x.bundle", "--url", "http://h/"],
    ] {
        let run = keep.run(&[&["export"], arguments.as_slice()].concat());
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.said());
    }
    // A list of sums may be anyone's.
    let iso = keep.path("iso");
    std::fs::create_dir(&iso).expect("a directory can be made");
    std::fs::write(iso.join("debian.iso"), "precious").expect("a file can be written");
    let line = format!("{}  debian.iso\n", Kind::Sha256.of(b"precious"));
    std::fs::write(iso.join("SHA256SUMS"), line).expect("a file can be written");
    refused(&iso, "name another directory");
    assert!(iso.join("debian.iso").exists());
    refused(&root.join("nope/../../store/www"), "without ..");
    refused(&keep.store().join("www"), "one inside the other");
    refused(keep.store().parent().expect("it has a parent"), "one inside the other");
    let link = keep.path("link");
    std::os::unix::fs::symlink(keep.store(), &link).expect("a link can be made");
    refused(&link.join("www"), "one inside the other");

    // A list that was tampered with removes nothing outside, and no link leads there.
    let (tampered, outside) = (keep.path("tampered"), keep.path("outside"));
    std::fs::create_dir(&outside).expect("a directory can be made");
    std::fs::write(outside.join("file"), "precious").expect("a file can be written");
    keep.run(&["export", "--static", &text(&tampered)]).ok();
    let sums = tampered.join("SHA256SUMS");
    let list = std::fs::read_to_string(&sums).expect("it is there");
    let line = format!("{}  ../outside/file\n", "0".repeat(64));
    std::fs::write(&sums, format!("{line}{list}")).expect("a file can be written");
    let run = keep.run(&["export", "--update", "--static", &text(&tampered)]);
    assert!(run.code == 1 && run.stderr.contains("SHA256SUMS"), "{}", run.said());
    std::fs::write(&sums, list).expect("a file can be written");
    std::fs::remove_dir_all(tampered.join("cache")).expect("a directory can be removed");
    std::os::unix::fs::symlink(&outside, tampered.join("cache")).expect("a link can be made");
    let run = keep.run(&["export", "--update", "--static", &text(&tampered)]);
    assert!(run.code == 1 && run.stderr.contains("is no directory"), "{}", run.said());
    assert_eq!(std::fs::read_dir(&outside).expect("it is there").count(), 1);
}

/// The web server's part of the README, as printed.
fn readme_server() -> String {
    let readme = include_str!("../../README.md");
    let (_, block) = readme.split_once("```nginx\n").expect("the README has it");
    block.split("```").next().expect("it ends").to_owned()
}

fn stopped(mirror: &Mirror) -> Keep {
    let keep = Keep::stopped(BINARY);
    keep.configure(&mirror.text(&keep.store()));
    keep
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Whether every file has the sum that the export's list says.
fn is_sound(root: &Path) -> bool {
    let sums = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "SHA256SUMS"])
        .current_dir(root)
        .status();
    sums.expect("sha256sum runs").success()
}

fn inode(path: &Path) -> u64 {
    path.metadata().map(|it| it.ino()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn changed(path: &Path) -> i64 {
    path.metadata().map(|it| it.mtime_nsec()).expect("it is there")
}

const PACKAGES: [&str; 7] = [
    "ocaml-system",
    "ocaml-config",
    "ocaml",
    "conf-gmp",
    "dune.2.9.3",
    "ocamlfind.1.9.6",
    "zarith.1.12",
];
