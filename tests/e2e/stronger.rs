//! Packages that upstream declares by md5 alone gain the checksums of their pins.

use crate::{BINARY, skip, start};
use world::{Index, Keep, Kind, Mirror, Opam, Package, Repo, Version, World};

#[test]
fn opam_2_1_rebuilds_nothing_when_checksums_are_added() {
    if !rebuilds_nothing(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_3_rebuilds_nothing_when_checksums_are_added() {
    if !rebuilds_nothing(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_6_rebuilds_nothing_when_checksums_are_added() {
    if !rebuilds_nothing(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn only_what_a_pin_confirms_gains_checksums_and_the_first_stays_first() {
    let (world, mut keep) = weak_world();
    let upstream = Index::read(&weak_repo().index());
    keep.refresh().ok();
    let before = keep.index_at("/index.tar.gz");
    assert_eq!(Index::read(&before).opam("weak.1"), upstream.opam("weak.1"), "not pinned yet");
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    assert!(keep.curl().get(&patched().cache_path(Kind::Md5)).is_whole());
    let when = keep.ledger().len();
    keep.refresh().ok();

    let served = keep.index();
    assert_eq!(checksums(&served, "weak.1"), strong_checksums(&weak()));
    for package in ["unpinned.1", "strong.1", "bare.1"] {
        assert_eq!(served.opam(package), upstream.opam(package), "{package}");
    }
    // The package's own archive gains checksums; its extra source is what it was.
    let patched_opam = served.opam("patched.1").expect("it is served");
    let (main, extra) = patched_opam.split_once("extra-source").expect("it has one");
    assert!(main.contains("sha256=") && !extra.contains("sha256="), "{patched_opam}");

    let ledger = keep.ledger();
    let snapshots: Vec<_> = ledger.of_kind("snapshot").collect();
    let [first, second] = snapshots[..] else { panic!("two snapshots: {snapshots:?}") };
    assert_eq!(first["admitted"], second["admitted"], "what was admitted is the same");
    assert!(first.get("strengthened").is_none() && second["strengthened"].is_string());
    assert_eq!(ledger.of_kind("divergence").count(), 0, "no edit of upstream's");
    let audit = keep.run(&["audit"]);
    let [md5, sha256, sha512] = strong_checksums(&weak());
    let strengthened = format!("weak.1: strengthened: {md5} and {sha256} {sha512}");
    assert!(audit.stdout.contains(&strengthened), "{}", audit.said());
    assert!(audit.stdout.contains("unpinned.1: weak-checksum"), "{}", audit.stdout);
    assert!(audit.stdout.ends_with("; 2 versions were strengthened\n"), "{}", audit.stdout);
    assert_eq!(audit.code, 1, "some are weak");
    keep.refresh().ok();
    assert_eq!(keep.ledger().of_kind("snapshot").count(), 2, "once");
    // What was served before is served for that point.
    assert!(keep.index_at(&format!("/at/{when}/index.tar.gz")) == before);

    // The archive answers under each of them, whoever asks; and upstream is not asked again.
    for kind in [Kind::Md5, Kind::Sha256, Kind::Sha512] {
        assert!(keep.curl().get(&weak().cache_path(kind)).is_whole());
    }
    assert_eq!(world.count(weak().url()), 1);
    world.kill();
    // It is a function of ledger and blobs.
    let bytes = keep.index_at("/index.tar.gz");
    keep.stop();
    std::fs::remove_dir_all(keep.store().join("catalog")).expect("the catalog can be removed");
    keep.restart();
    assert!(keep.index_at("/index.tar.gz") == bytes);
    keep.run(&["verify"]).ok();
}

#[test]
fn who_contradicts_what_was_added_rewrites_a_source() {
    let (world, mut keep) = weak_world();
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    keep.refresh().ok();
    let [md5, sha256, _] = strong_checksums(&weak());
    let others = [unpinned(), patched(), bare(), Package::new("strong", "1")];
    let with = |package: Package| Repo::new(others.clone().into_iter().chain([package]));
    // Upstream comes to say what is served: an added checksum, as anyone may add.
    world.publish(&with(weak().declaring(&[md5.clone(), sha256])));
    keep.refresh().ok();
    assert_eq!(keep.ledger().of_kind("divergence").count(), 0);
    assert_eq!(checksums(&keep.index(), "weak.1").len(), 2);
    let (world, mut keep) = weak_world();
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    keep.refresh().ok();
    world.publish(&with(weak().declaring(&[md5, format!("sha256={}", "0".repeat(64))])));
    keep.refresh().ok();
    assert_eq!(checksums(&keep.index(), "weak.1"), strong_checksums(&weak()), "it is held");
    let ledger = keep.ledger();
    let edit = ledger.of_kind("divergence").next().expect("it is told");
    let kinds = edit["edits"].to_string();
    assert!(kinds.contains("source-rewritten"), "{edit}");
}

#[test]
fn who_contradicts_what_was_added_rewrites_a_source_also_after_the_version_was_gone() {
    let (world, mut keep) = weak_world();
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    keep.refresh().ok();
    let others = Repo::new([unpinned(), patched(), bare(), Package::new("strong", "1")]);
    world.publish(&others);
    keep.refresh().ok();
    let [md5, ..] = strong_checksums(&weak());
    let other = format!("sha256={}", "0".repeat(64));
    world.publish(&others.with(weak().declaring(&[md5, other])));
    keep.refresh().ok();
    assert!(!keep.index().packages().contains(&"weak.1"), "it is held");
    let ledger = keep.ledger();
    let edit = ledger.of_kind("divergence").last().expect("it is told");
    assert!(edit["edits"].to_string().contains("source-rewritten"), "{edit}");
}

#[test]
fn a_refresh_that_fails_delays_nothing_for_long() {
    let (world, mut keep) = weak_world();
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    world.lie_everywhere(Some(world::Lie::Status(404)));
    assert_eq!(keep.refresh().code, 1);
    world.lie_everywhere(None);
    keep.refresh().ok();
    assert_eq!(checksums(&keep.index(), "weak.1"), strong_checksums(&weak()));
}

#[test]
fn bundles_and_plain_files_carry_what_was_added() {
    let (world, mut keep) = weak_world();
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    keep.refresh().ok();
    let served = keep.index_at("/index.tar.gz");
    assert_eq!(checksums(&Index::read(&served), "weak.1").len(), 3);

    let root = keep.path("www").display().to_string();
    keep.run(&["export", "--static", &root]).ok();
    assert!(std::fs::read(format!("{root}/index.tar.gz")).is_ok_and(|bytes| bytes == served));
    let bundle = keep.path("all.bundle").display().to_string();
    let said = keep.run(&["export", "--json", "--out", &bundle]).ok();
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let mut far = Keep::stopped(BINARY);
    far.configure(&Mirror::of(&world).set("upstream.offline", true).text(&far.store()));
    far.run(&["import", &bundle, "--key", said["key"].as_str().expect("the key")]).ok();
    far.restart();
    assert!(far.index_at("/index.tar.gz") == served);
    far.run(&["verify"]).ok();
}

#[test]
fn g4_checksums_that_a_source_gains_are_those_of_its_pin_or_it_is_held() {
    let url = "https://b.example/bare.tgz";
    let patched = |kinds: &[Kind]| {
        let patch = ("fix.txt", "https://b.example/fix.txt");
        Package::bare("patched", "1").extra_source(patch.0, patch.1, b"fix", kinds)
    };
    let bare = Package::bare("bare", "1").archive(url, &[]);
    for mode in ["managed", "verbatim"] {
        let world = World::start();
        world.publish(&Repo::new([bare.clone(), patched(&[])]));
        let mut keep = start(&Mirror::of(&world).of_repository("mode", mode));
        let served = keep.index_at("/index.tar.gz");
        keep.run(&["sync", "--all"]).ok();
        let evil = bare.clone().bytes(b"evil".to_vec(), &[Kind::Sha256]);
        let declared = format!("sha256={}", Kind::Sha256.of(b"evil"));
        let fixed = patched(&[Kind::Md5])
            .opam()
            .replace(&format!("md5={}", Kind::Md5.of(b"fix")), &declared);
        assert!(fixed.contains(&declared), "{fixed}");
        let files = [
            ("repo", "opam-version: \"2.0\"\n"),
            ("packages/bare/bare.1/opam", &*evil.opam()),
            ("packages/patched/patched.1/opam", &*fixed),
        ];
        let files = files.map(|(path, text)| (path, text.as_bytes()));
        world.put(&format!("{}/index.tar.gz", World::OPAM), world::tar_gz(files));
        keep.refresh().ok();
        assert!(keep.index_at("/index.tar.gz") == served, "{mode}");
        let told = keep.divergences();
        let kinds: Vec<_> = told.iter().map(|it| it["divergence"]["edits"].to_string()).collect();
        assert!(kinds.iter().any(|kinds| kinds.contains("source-rewritten")), "{kinds:?}");
        assert!(kinds.iter().any(|kinds| kinds.contains("extra-source")), "{kinds:?}");

        let confirmed = bare.clone().archive(url, &[Kind::Sha512]);
        let confirmed = Repo::new([confirmed, patched(&[Kind::Sha256])]);
        world.publish(&confirmed);
        keep.refresh().ok();
        let now = keep.index();
        assert_eq!(now.opam("bare.1"), Index::read(&confirmed.index()).opam("bare.1"));
        assert_eq!(now.opam("patched.1"), Index::read(&confirmed.index()).opam("patched.1"));
        assert_eq!(keep.divergences().len(), told.len(), "no more are told");
    }
}

#[test]
fn verbatim_is_left_alone() {
    let world = World::start();
    world.publish(&weak_repo());
    let mut keep = start(&Mirror::of(&world).of_repository("mode", "verbatim"));
    let before = keep.index_at("/index.tar.gz");
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    keep.refresh().ok();
    assert!(keep.index_at("/index.tar.gz") == before);
    assert_eq!(keep.ledger().of_kind("snapshot").count(), 1);
}

#[test]
fn where_weak_checksums_are_refused_only_what_is_strong_by_now_is_served() {
    let (world, mut keep) = weak_world();
    assert!(keep.curl().get(&weak().cache_path(Kind::Md5)).is_whole());
    keep.stop();
    let refusing = Mirror::of(&world).set("policy.weak_checksum", "refuse");
    keep.configure(&refusing.text(&keep.store()));
    keep.restart();
    keep.refresh().ok();
    let served = keep.index();
    assert_eq!(served.packages(), ["bare.1", "strong.1", "weak.1"]);
    assert_eq!(checksums(&served, "weak.1"), strong_checksums(&weak()));
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("unpinned.1") && status.contains("weak_checksum"), "{status}");
    let miss = keep.curl().get(&unpinned().cache_path(Kind::Md5));
    assert_eq!(miss.status, 404);
    assert_eq!(world.count(unpinned().url()), 0);
}

/// Whether there is such a client at all; everything else is asserted.
fn rebuilds_nothing(version: Version) -> bool {
    let (_world, mut keep) = weak_world();
    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    opam.init(&keep.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    opam.run(&["install", "weak", "patched"]).ok();
    let content = opam.share("default").join("weak/content");
    let built = || content.metadata().and_then(|it| it.modified()).expect("it is installed");
    let before = built();
    keep.refresh().ok();
    assert_eq!(checksums(&keep.index(), "weak.1"), strong_checksums(&weak()));

    opam.run(&["update"]).ok();
    let shown = opam.run(&["show", "--raw", "weak"]).ok();
    assert!(shown.contains(&strong_checksums(&weak())[2]), "opam knows of it: {shown}");
    let upgraded = opam.run(&["upgrade"]).ok();
    assert!(!upgraded.contains("recompile") && !upgraded.contains("reinstall"), "{upgraded}");
    assert_eq!(built(), before);
    // Others install it by all of its checksums.
    let other = Opam::fresh(version, keep.ca()).expect("it was there before");
    other.init(&keep.url()).ok();
    other.run(&["switch", "create", "default", "--empty"]).ok();
    other.run(&["install", "weak", "patched"]).ok();
    true
}

/// The checksums of a served package's own archive.
fn checksums(index: &Index, package: &str) -> Vec<String> {
    let opam = index.opam(package).expect("it is served");
    let (_, field) = opam.split_once("checksum: [").expect("it declares some");
    let field = field.split(']').next().expect("the field ends");
    field.split_whitespace().map(|text| text.trim_matches('"').to_owned()).collect()
}

fn strong_checksums(package: &Package) -> [String; 3] {
    [Kind::Md5, Kind::Sha256, Kind::Sha512]
        .map(|kind| format!("{}={}", kind.name(), kind.of(package.archive_bytes())))
}

fn weak_world() -> (World, Keep) {
    let world = World::start();
    world.publish(&weak_repo());
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep)
}

fn weak_repo() -> Repo {
    Repo::new([weak(), unpinned(), patched(), bare(), Package::new("strong", "1")])
}

fn bare() -> Package {
    Package::bare("bare", "1").archive("https://b.example/bare.tgz", &[])
}

fn weak() -> Package {
    Package::bare("weak", "1").archive("https://w.example/weak.tgz", &[Kind::Md5])
}

fn unpinned() -> Package {
    Package::bare("unpinned", "1").archive("https://w.example/unpinned.tgz", &[Kind::Md5])
}

fn patched() -> Package {
    Package::bare("patched", "1")
        .archive("https://w.example/patched.tgz", &[Kind::Md5])
        .extra_source("more.txt", "https://w.example/more.txt", b"more", &[Kind::Md5])
}
