//! Archives that people have already: directories of opam's, and other mirrors.

use crate::{BINARY, skip, start};
use serde_json::Value;
use std::path::{Path, PathBuf};
use world::{Keep, Kind, Lie, Mirror, Opam, Package, Repo, Version, World};

#[test]
fn a_clients_download_cache_brings_all_that_it_installed() {
    let extra = b"one more file".as_slice();
    let hello = Package::new("hello", "1.0");
    let goodbye = Package::bare("goodbye", "2.0")
        .archive("https://example.org/goodbye.tar.gz", &[Kind::Md5, Kind::Sha256])
        .extra_source("more/extra.txt", "https://example.org/extra.txt", extra, &[Kind::Sha512])
        .depends("hello");
    let world = World::start();
    world.publish(&Repo::new([hello.clone(), goodbye.clone()]));
    for version in [Version::System, Version::V2_6] {
        world.lie_everywhere(None);
        let mut first = start(&Mirror::of(&world));
        first.index();
        let Some(opam) = Opam::fresh(version, first.ca()) else {
            match version {
                Version::System => skip!("no opam in PATH"),
                _ => continue,
            }
        };
        opam.init(&first.url()).ok();
        opam.run(&["switch", "create", "default", "--empty"]).ok();
        opam.run(&["install", "goodbye"]).ok();
        let cache = opam.root().join("download-cache");

        let mut second = start(&Mirror::of(&world));
        second.index();
        world.lie_everywhere(Some(Lie::HangUp));
        let said = second.run(&["import", "--cache", &cache.display().to_string()]).ok();
        assert!(said.contains("3 archives imported"), "{said}");
        let bytes = [hello.archive_bytes(), goodbye.archive_bytes(), extra];
        for (kind, bytes) in [Kind::Md5, Kind::Sha256, Kind::Sha512]
            .into_iter()
            .flat_map(|kind| bytes.map(|bytes| (kind, bytes)))
        {
            let answer = second.curl().get(&kind.cache_path(bytes));
            assert!(answer.is_whole() && answer.body == bytes, "{kind:?} {}", answer.status);
        }
        second.run(&["verify"]).ok();
        let again = second.run(&["import", "--cache", &cache.display().to_string()]).ok();
        assert!(again.contains("0 archives imported"), "{again}");
    }
}

#[test]
fn what_a_cache_has_under_its_md5_alone_is_kept_under_all_of_its_hashes() {
    let (_world, keep, packages) = filled();
    let cache = keep.path("cache");
    let files = packages
        .each_ref()
        .map(|package| put(&cache, Kind::Md5, package.archive_bytes(), package.archive_bytes()));
    put(&cache, Kind::Sha256, b"nobody's", b"nobody's");
    let said = keep.run(&["import", "--cache", &cache.display().to_string()]).ok();
    assert!(said.starts_with("2 archives imported"), "{said}");
    assert!(said.contains("1 name that no package declares"), "{said}");
    let ledger = keep.ledger();
    for (package, file) in packages.iter().zip(files) {
        let pin = ledger.pin(&format!("file://{}", file.canonicalize().expect("it is").display()));
        assert_eq!(pin["sha256"], Kind::Sha256.of(package.archive_bytes()));
        assert_eq!(
            (&pin["src"], &pin["packages"][0]),
            (&package.url().into(), &package.full_name().into())
        );
    }
    let mut keep = keep;
    keep.restart();
    for package in &packages {
        assert!(keep.curl().get(&package.cache_path(Kind::Sha512)).is_whole());
    }
}

#[test]
fn g1_what_is_not_what_it_should_be_is_never_taken() {
    let (_world, keep, packages) = filled();
    let cache = keep.path("cache");
    let [one, two] = &packages;
    // Not what its name says, and not what the metadata says beside its name.
    put(&cache, Kind::Md5, one.archive_bytes(), b"something else");
    put(&cache, Kind::Sha256, one.archive_bytes(), b"something else");
    put(&cache, Kind::Md5, two.archive_bytes(), two.archive_bytes());
    let directory = cache.display().to_string();
    for is_running in [false, true] {
        let mut keep = stopped_like(&keep);
        if is_running {
            keep.restart();
        }
        let run = keep.run(&["import", "--cache", &directory]);
        assert_eq!(run.code, 1, "{}", run.said());
        assert_eq!(run.stdout.matches("not taken").count(), 2, "{}", run.stdout);
        assert!(run.stdout.contains("do not have the md5="), "{}", run.stdout);
        assert!(run.stdout.contains("1 archive imported"), "{}", run.stdout);
        assert_eq!(keep.ledger().of_kind("pin").count(), 1);
        assert_eq!(keep.ledger().of_kind("divergence").count(), 0, "it is no upstream");
        let again = keep.run(&["import", "--cache", &directory, "--json"]);
        let last: Value =
            serde_json::from_str(again.stdout.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&last["imported"], &last["refused"]), (&0.into(), &2.into()));
        keep.run(&["verify"]).ok();
    }
    let nothing = keep.run(&["import", "--cache", &keep.store().display().to_string()]);
    assert!(
        nothing.code == 2 && nothing.stderr.contains("is no cache of archives"),
        "{}",
        nothing.said()
    );
    let outside = keep.path("links");
    std::fs::create_dir_all(outside.join("md5/00")).expect("a directory can be made");
    std::os::unix::fs::symlink(
        "/etc/passwd",
        outside.join("md5/00/00000000000000000000000000000000"),
    )
    .expect("a link can be made");
    let outside = keep.run(&["import", "--cache", &outside.display().to_string()]).ok();
    assert!(outside.contains("0 names"), "a link that leads out is no archive: {outside}");
}

#[test]
fn another_mirrors_cache_is_asked_and_nobody_else() {
    let (_, keep, packages) = filled();
    let world = World::start();
    let [one, two] = &packages;
    world.publish(&Repo::new(packages.clone()));
    let cache = "https://mirror.example";
    world.put(
        &format!("{cache}{}", Kind::Sha512.cache_path(one.archive_bytes())),
        one.archive_bytes().to_vec(),
    );
    world.put(
        &format!("{cache}{}", Kind::Sha512.cache_path(two.archive_bytes())),
        b"a lie".to_vec(),
    );
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    let said = keep.run(&["import", "--from", &format!("{cache}/cache")]);
    assert_eq!(said.code, 1, "{}", said.said());
    assert!(
        said.stdout.contains("1 fetched") && said.stdout.contains("diverged;"),
        "{}",
        said.stdout
    );
    let asked = world.requests();
    assert!(asked.iter().all(|request| request.url.starts_with("mirror.example/")), "{asked:?}");
    assert_eq!(keep.ledger().of_kind("pin").count(), 1);
}

#[test]
fn a_cache_whose_certificate_nobody_vouches_for_is_one_sentence() {
    let (_, mut keep, packages) = filled();
    let (world, stranger) = (World::start(), World::start());
    world.publish(&Repo::new(packages));
    world.put("https://mirror.example/here", "something");
    let mirror = Mirror::of(&world).set("upstream.extra_ca", stranger.ca().display().to_string());
    keep.configure(&mirror.text(&keep.store()));
    for is_running in [false, true] {
        if is_running {
            keep.restart();
        }
        let said = keep.run(&["import", "--from", "https://mirror.example/cache"]);
        assert_eq!(said.code, 1, "{}", said.said());
        assert_eq!(said.stdout, "", "no archive is asked for");
        let sentence = said.stderr.lines().last().unwrap_or_default();
        assert!(sentence.contains("mirror.example"), "{}", said.stderr);
        assert!(sentence.contains("upstream.extra_ca"), "{}", said.stderr);
    }
}

#[test]
fn a_directory_begins_a_store_as_another_mirror_does() {
    let (world, package) = (World::start(), Package::new("one", "1.0"));
    world.publish(&Repo::new([package.clone()]));
    let keep = Keep::stopped(BINARY);
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    let cache = keep.path("cache");
    put(&cache, Kind::Sha256, package.archive_bytes(), package.archive_bytes());
    let said = keep.run(&["import", "--cache", &cache.display().to_string()]).ok();
    assert!(said.contains("1 archive imported"), "{said}");
}

/// A mirror of two packages, stopped, and none of their archives kept.
fn filled() -> (World, Keep, [Package; 2]) {
    let packages = ["one", "two"].map(|name| {
        Package::bare(name, "1.0").archive(
            &format!("https://example.org/{name}.tar.gz"),
            &[Kind::Md5, Kind::Sha256, Kind::Sha512],
        )
    });
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let keep = Keep::stopped(BINARY);
    keep.configure(&Mirror::of(&world).text(&keep.store()));
    // A package of no name begins the store.
    assert_eq!(keep.run(&["sync", "nothing"]).code, 1);
    world.kill();
    (world, keep, packages)
}

/// A copy of a stopped mirror.
fn stopped_like(keep: &Keep) -> Keep {
    let copy = Keep::stopped(BINARY);
    let text = std::fs::read_to_string(keep.config()).expect("it was written");
    let (from, to) = (keep.store().display().to_string(), copy.store().display().to_string());
    copy.configure(&text.replace(&from, &to));
    crate::copy(&keep.store(), &copy.store());
    copy
}

/// Puts bytes where a cache has the archive `of`.
fn put(cache: &Path, kind: Kind, of: &[u8], bytes: &[u8]) -> PathBuf {
    let path = kind.cache_path(of);
    let file = cache.join(path.strip_prefix("/cache/").expect("a path below /cache"));
    std::fs::create_dir_all(file.parent().expect("a file has a directory"))
        .and_then(|()| std::fs::write(&file, bytes))
        .expect("a file can be written");
    file
}
