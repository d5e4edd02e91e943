//! The ledger: others can check it, and damage is found.

use crate::{BINARY, copy, skip, start};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use world::{Keep, Kind, Mirror, Package, Repo, Run, World, installed, run};

#[test]
fn g7_someone_elses_program_verifies_that_the_ledger_only_grew() {
    if !installed("go") {
        skip!("no go in PATH");
    }
    if !has_tlog() {
        skip!("no golang-golang-x-mod-dev");
    }
    let (world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages[..PACKAGES / 2]);
    keep.stop();
    let old = keep.path("old-checkpoint");
    fs::copy(keep.store().join("ledger/checkpoint"), &old).expect("there is a checkpoint");
    let verifier = verifier(&keep);
    verify_elsewhere(&verifier, &keep, &[]).ok();

    keep.restart();
    fetch(&mut keep, &packages[PACKAGES / 2..]);
    keep.stop();
    let grown = fs::read(keep.store().join("ledger/checkpoint")).expect("there is a checkpoint");
    assert_ne!(grown, fs::read(&old).expect("it was copied"));
    verify_elsewhere(&verifier, &keep, &[&old]).ok();

    let other = start(&Mirror::of(&world));
    let refused = verify_elsewhere(&verifier, &other, &[&old]);
    assert_ne!(refused.code, 0, "another ledger was taken for a continuation of this one");
}

#[test]
fn g7_the_ledger_is_served_as_it_is_on_disk() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    let curl = keep.curl();
    let ledger = keep.store().join("ledger");
    let mut served = 0;
    for path in all_files(&ledger) {
        let below = path.strip_prefix(&ledger).expect("it is below").display().to_string();
        let answer = curl.get(&format!("/ledger/{below}"));
        assert!(answer.is_whole(), "{below}: {}", answer.status);
        assert!(answer.body == fs::read(&path).expect("it is a file"), "{below}");
        served += 1;
    }
    assert!(served >= 3, "a checkpoint, a tile and its entries, not just {served} files");
    assert_eq!(curl.get("/ledger/tile/0/999").status, 404);
}

#[test]
fn a_backup_that_was_made_while_the_ledger_grew_can_be_restored() {
    let (_world, mut keep, packages) = mirror();
    let (before, meanwhile) = packages.split_at(PACKAGES / 2);
    fetch(&mut keep, before);
    let backup = keep.path("backup");
    let store = keep.store();
    let copy = |arguments: &[&str]| {
        let mut cp = Command::new("cp");
        cp.args(arguments).arg(&backup).current_dir(&store);
        run(&mut cp, Duration::from_secs(60)).ok();
    };
    fs::create_dir_all(backup.join("ledger")).expect("a directory can be made");
    let checkpoint = backup.join("ledger/checkpoint");
    fs::copy(keep.store().join("ledger/checkpoint"), &checkpoint).expect("there is a checkpoint");
    let earlier = fs::read(&checkpoint).expect("it was copied");
    fetch(&mut keep, meanwhile);
    let copy_rest = [&["-a", "keys", "tls"][..], &["-an", "ledger", "blobs"]];
    copy_rest.into_iter().for_each(copy);
    assert_eq!(fs::read(&checkpoint).expect("it was copied"), earlier);
    keep.run(&["--store", &backup.display().to_string(), "verify"]).ok();

    keep.stop();
    fs::rename(keep.store(), keep.path("lost")).expect("it can be moved");
    fs::rename(&backup, keep.store()).expect("it can be moved");
    keep.restart();
    fetch(&mut keep, &packages);
    keep.run(&["verify"]).ok();
}

#[test]
fn a_ledger_that_lost_its_checkpoint_is_never_taken_for_an_empty_one() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    keep.stop();
    fs::remove_file(keep.store().join("ledger/checkpoint")).expect("there is a checkpoint");
    for command in ["status", "log", "refresh", "serve", "verify"] {
        let run = keep.run(&[command]);
        assert_ne!(run.code, 0, "{command}");
        assert!(run.said().contains("checkpoint"), "{command}: {}", run.said());
    }
}

#[test]
fn g7_prove_prints_a_proof_of_a_pinned_file() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    let package = &packages[3];
    let file = keep.path("archive");
    fs::write(&file, package.archive_bytes()).expect("a file can be written");
    let by_file = keep.run(&["prove", &file.display().to_string()]).ok();
    assert!(by_file.starts_with("c2sp.org/tlog-proof@v1\n"), "{by_file}");
    let checkpoint = fs::read_to_string(keep.store().join("ledger/checkpoint"));
    assert!(by_file.ends_with(&checkpoint.expect("there is a checkpoint")), "{by_file}");
    for kind in Kind::ALL {
        let digits = kind.of(package.archive_bytes());
        for checksum in [format!("{}={digits}", kind.name()), digits] {
            assert_eq!(keep.run(&["prove", &checksum]).ok(), by_file, "{checksum}");
        }
    }
    let never = format!("sha256={}", Kind::Sha256.of(b"never pinned"));
    let refused = keep.run(&["prove", &never]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
}

#[test]
fn g7_someone_elses_program_checks_a_proof() {
    if !installed("go") {
        skip!("no go in PATH");
    }
    if !has_tlog() {
        skip!("no golang-golang-x-mod-dev");
    }
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    let verifier = verifier(&keep);
    let key = fs::read_to_string(keep.store().join("keys/ledger.pub")).expect("there is a key");
    let proof = keep.path("it.tlog-proof");
    let sha256 = Kind::Sha256.of(packages[3].archive_bytes());
    let by_command = keep.run(&["prove", &sha256]);
    let aside = by_command.stderr.split_once("entry ").expect("it says which entry").1;
    let entry = aside.split_once(':').expect("and what that is").0.to_owned();
    let by_page = keep.curl().get(&format!("/ledger/entries/{entry}/proof"));
    for text in [by_command.ok().into_bytes(), by_page.body] {
        fs::write(&proof, &text).expect("a file can be written");
        let proved = proved_elsewhere(&verifier, key.trim(), &proof).ok();
        assert!(proved.contains(&sha256) && proved.contains(packages[3].url()), "{proved}");
        let changed = String::from_utf8_lossy(&text).replace("index ", "index 1");
        fs::write(&proof, changed).expect("a file can be written");
        assert_ne!(proved_elsewhere(&verifier, key.trim(), &proof).code, 0);
    }
}

#[test]
fn g7_a_proof_is_checked_where_there_is_no_mirror() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    let file = keep.path("archive");
    fs::write(&file, packages[3].archive_bytes()).expect("a file can be written");
    let file = file.display().to_string();
    let proof = keep.run(&["prove", &file]).ok();
    let key = keep.store().join("keys/ledger.pub");
    let key = fs::read_to_string(key).expect("there is a key").trim().to_owned();
    let (_, other) = (keep.stop(), tempfile::tempdir().expect("a directory can be made"));
    let elsewhere = other.path().join("nothing").display().to_string();
    let check = |proof: &str, subject: &str, key: &str| {
        let path = other.path().join("it.tlog-proof");
        fs::write(&path, proof).expect("a file can be written");
        let path = path.display().to_string();
        keep.run(&["prove", subject, "--check", &path, "--key", key, "--store", &elsewhere])
    };
    let proved = check(&proof, &file, &key).ok();
    assert!(proved.contains(packages[3].url()) && proved.contains("proved"), "{proved}");
    assert!(proved.contains(key.split('+').next().expect("it has a name")), "{proved}");

    let sha256 = |bytes: &[u8]| format!("sha256={}", Kind::Sha256.of(bytes));
    check(&proof, &sha256(packages[3].archive_bytes()), &key).ok();
    let of_another = check(&proof, &sha256(packages[4].archive_bytes()), &key);
    let refused = |run: &Run, code: i32, why: &str| {
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{}", run.stderr);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    };
    refused(&of_another, 1, "is no pin of");

    let elsewhere_key = "other.example/ledger+00000000+AAAA";
    refused(&check(&proof, &file, elsewhere_key), 2, "--key");
    let another_world = World::start();
    let another = start(&Mirror::of(&another_world));
    let another = fs::read_to_string(another.store().join("keys/ledger.pub"));
    let another = another.expect("there is a key");
    refused(&check(&proof, &file, another.trim()), 1, "not signed by the expected key");

    let (head, rest) = proof.split_once("index ").expect("it has an index");
    refused(&check(&format!("{head}index 1{rest}"), &file, &key), 1, "the proof was changed");
    let (header, _) = proof.split_once("extra ").expect("it has its entry");
    refused(&check(&format!("{header}index {rest}"), &file, &key), 1, "not a proof");
    refused(&check(&"x".repeat(1 << 20), &file, &key), 2, "KiB");

    let without_key = keep.run(&["prove", &file, "--check", &file, "--store", &elsewhere]);
    refused(&without_key, 2, "--key");
}

#[test]
fn g7_verify_tells_whether_the_ledger_only_grew_since_an_earlier_checkpoint() {
    let (world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages[..PACKAGES / 2]);
    let (old, whole) = (keep.path("old-checkpoint"), keep.path("backup"));
    let (checkpoint, old_name) =
        (keep.store().join("ledger/checkpoint"), old.display().to_string());
    let since = ["verify", "--since", &old_name];
    fs::copy(&checkpoint, &old).expect("there is a checkpoint");
    keep.stop();
    copy(&keep.store(), &whole);
    keep.restart();
    fetch(&mut keep, &packages[PACKAGES / 2..]);
    let grown = keep.run(&since).ok();
    assert!(grown.contains("sound") && grown.contains("grown since"), "{grown}");

    // Set back to a backup.
    fs::copy(&checkpoint, &old).expect("there is a checkpoint");
    let backup = whole.display().to_string();
    let set_back = keep.run(&[&since[..], &["--store", &backup]].concat());
    assert_eq!(set_back.code, 1, "{}", set_back.said());
    assert!(set_back.said().contains("it was set back"), "{}", set_back.said());

    // Written anew with the same keys, and with as many entries.
    let rewritten = |with_its_keys: bool| {
        let mut anew = Keep::stopped(BINARY);
        if with_its_keys {
            fs::create_dir_all(anew.store()).expect("a directory can be made");
            copy(&keep.store().join("keys"), &anew.store().join("keys"));
        }
        anew.configure(&Mirror::of(&world).text(&anew.store()));
        anew.restart();
        let reversed: Vec<_> = packages.iter().rev().cloned().collect();
        fetch(&mut anew, &reversed);
        anew.stop();
        anew.run(&["verify"]).ok();
        anew.run(&since)
    };
    for (with_its_keys, why) in [(true, "was rewritten"), (false, "not signed by the expected key")]
    {
        let told = rewritten(with_its_keys);
        assert_eq!(told.code, 1, "{}", told.said());
        assert!(told.said().contains(why), "{}", told.said());
    }

    let config = keep.config().display().to_string();
    for none in ["nowhere", &config] {
        let nothing = keep.run(&["verify", "--since", none]);
        assert_eq!(nothing.code, 2, "{}", nothing.said());
    }
}

#[test]
fn g2_a_pin_says_what_was_fetched_from_where_and_what_vouched_for_it() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    let ledger = keep.ledger();
    assert_eq!(ledger.of_kind("pin").count(), packages.len());
    assert_eq!(ledger.of_kind("snapshot").count(), 1);
    for package in &packages {
        let pin = ledger.pin(package.url());
        let bytes = package.archive_bytes();
        assert_eq!(pin["v"], 1);
        assert_eq!(pin["from"], package.url());
        assert_eq!(pin["sha256"], Kind::Sha256.of(bytes));
        assert_eq!(pin["size"], bytes.len());
        let said = pin.to_string();
        for kind in Kind::ALL {
            assert!(said.contains(&kind.of(bytes)), "no {}: {said}", kind.name());
        }
        assert!(pin["packages"].to_string().contains(&package.full_name()), "{pin}");
    }
    let filtered = keep.run(&["log", &packages[0].full_name()]).ok();
    assert!(filtered.contains(packages[0].url()), "{filtered}");
    assert!(!filtered.contains(packages[1].url()), "{filtered}");
}

#[test]
fn verify_finds_a_flipped_byte_in_a_blob() {
    damage_is_found(|keep, package| keep.blob(package.archive_bytes()));
}

#[test]
fn verify_finds_a_flipped_byte_in_a_tile() {
    damage_is_found(|keep, _| first_file(&keep.store().join("ledger/tile/0")));
}

#[test]
fn verify_finds_a_flipped_byte_in_the_entries() {
    damage_is_found(|keep, _| first_file(&keep.store().join("ledger/tile/entries")));
}

#[test]
fn verify_finds_a_flipped_byte_in_the_checkpoint() {
    damage_is_found(|keep, _| keep.store().join("ledger/checkpoint"));
}

#[test]
fn verify_finds_a_blob_that_is_gone() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    keep.stop();
    let blob = keep.blob(packages[0].archive_bytes());
    fs::remove_file(&blob).expect("a file can be removed");
    found(&keep.run(&["verify"]), &blob);
}

#[test]
fn g8_without_its_catalog_nothing_observable_differs() {
    let (world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    let index = keep.index_at("/index.tar.gz");
    let log = keep.run(&["log", "--json"]).ok();
    keep.stop();
    fs::remove_dir_all(keep.store().join("catalog")).expect("there is a catalog");
    world.kill();
    keep.restart();
    assert!(keep.index_at("/index.tar.gz") == index, "another index");
    fetch(&mut keep, &packages);
    assert_eq!(keep.run(&["log", "--json"]).ok(), log);
    keep.run(&["verify"]).ok();
}

#[test]
fn g8_a_broken_catalog_is_rebuilt() {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    keep.stop();
    for file in all_files(&keep.store().join("catalog")) {
        fs::write(file, "not what was here").expect("a file can be written");
    }
    keep.restart();
    fetch(&mut keep, &packages);
    keep.run(&["verify"]).ok();
}

/// A mirror of several packages, none of them fetched yet.
fn mirror() -> (World, Keep, Vec<Package>) {
    let package = |number| Package::new(&format!("package-{number}"), "1.0");
    let packages: Vec<_> = (0..PACKAGES).map(package).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep, packages)
}

fn fetch(keep: &mut Keep, packages: &[Package]) {
    keep.index();
    let client = keep.raw();
    for package in packages {
        let answer = client.get(&package.cache_path(Kind::Sha256)).expect("it answers");
        assert_eq!(answer.status, 200, "{}", package.url());
        assert!(answer.body().expect("a whole body") == package.archive_bytes());
    }
}

/// Flips one byte of `victim` and expects `verify` to name the file.
fn damage_is_found(victim: impl Fn(&Keep, &Package) -> PathBuf) {
    let (_world, mut keep, packages) = mirror();
    fetch(&mut keep, &packages);
    keep.stop();
    keep.run(&["verify"]).ok();
    let victim = victim(&keep, &packages[0]);
    flip_a_byte(&victim);
    found(&keep.run(&["verify"]), &victim);
    found(&keep.run(&["verify", "--json"]), &victim);
}

fn found(run: &Run, victim: &Path) {
    assert_eq!(run.code, 1, "{}: {}", victim.display(), run.said());
    let name = victim.file_name().expect("a file has a name").to_string_lossy();
    assert!(run.said().contains(name.as_ref()), "{} is not named: {}", name, run.said());
}

/// In the middle, where no length or newline is hit by chance.
fn flip_a_byte(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let mut file = fs::File::options().read(true).write(true).open(path).expect("it is there");
    let middle = SeekFrom::Start(file.metadata().expect("it is there").len() / 2);
    let mut byte = [0];
    file.seek(middle).and_then(|_| file.read_exact(&mut byte)).expect("it has bytes");
    byte[0] ^= 1;
    file.seek(middle).and_then(|_| file.write_all(&byte)).expect("it can be written");
}

fn first_file(directory: &Path) -> PathBuf {
    let files = all_files(directory);
    files.first().unwrap_or_else(|| panic!("{} is empty", directory.display())).clone()
}

fn all_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether Go's own transparency-log code is at hand.
pub(crate) fn has_tlog() -> bool {
    Path::new(GOCODE).join("src/golang.org/x/mod").is_dir()
}

/// Builds the verifier, which shares no line of code with opam-keep.
pub(crate) fn verifier(keep: &Keep) -> PathBuf {
    let program = keep.path("verifier");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verifier"))
        .env("GO111MODULE", "off")
        .env("GOPATH", GOCODE)
        .env("GOCACHE", keep.path("go-cache"));
    run(&mut build, Duration::from_secs(300)).ok();
    program
}

/// What it says of a proof.
fn proved_elsewhere(verifier: &Path, key: &str, proof: &Path) -> Run {
    run(Command::new(verifier).arg(key).arg(proof), Duration::from_secs(60))
}

/// What it says of the ledger, which only grew since those checkpoints.
pub(crate) fn verify_elsewhere(verifier: &Path, keep: &Keep, more: &[&Path]) -> Run {
    let key = fs::read_to_string(keep.store().join("keys/ledger.pub")).expect("there is a key");
    let mut command = Command::new(verifier);
    command.arg(key.trim()).arg(keep.store().join("ledger")).args(more);
    run(&mut command, Duration::from_secs(60))
}

const GOCODE: &str = "/usr/share/gocode";
const PACKAGES: usize = 6;
