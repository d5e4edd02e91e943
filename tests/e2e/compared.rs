//! What was served once is what every later state is compared with: under a name that clients take
//! for the same, after it was gone, wherever it lay, after an import, and when the store is damaged.

use crate::{skip, start};
use serde_json::Value;
use std::fs;
use std::path::Path;
use world::{Keep, Kind, Mirror, Opam, Package, Repo, Version, World, tar_gz};

#[test]
fn what_clients_take_for_a_published_version_is_held_against_it() {
    let hello = Package::new("hello", "1.0");
    let world = World::start();
    world.publish(&Repo::new([hello.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.max_removed", "100%"));
    keep.index();
    let other = world::tar_gz([("hello-1.0/content", &b"something else\n"[..])]);
    let taken_for_it =
        ["1.00", "01.0", "1.000-", "1.0-0", "1.0."].map(|version| ("hello", version));
    let taken_for_it = taken_for_it.into_iter().chain([("Hello", "1.0")]);
    let evil = taken_for_it.map(|(name, version)| {
        Package::new(name, version).bytes(other.clone(), &[Kind::Sha256, Kind::Sha512])
    });
    let evil: Vec<Package> = evil.collect();
    let new = Package::new("hello", "1.0.1");
    world.publish(&Repo::new(evil.clone()).with(hello.clone()).with(new.clone()));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0.1", "hello.1.0"]);
    let open = keep.divergences();
    assert_eq!(open.len(), evil.len());
    for divergence in &open {
        let shown = keep.run(&["divergences", "show", &divergence["id"].to_string()]).ok();
        assert!(shown.contains("can take it for hello.1.0"), "{shown}");
        assert!(shown.contains("version-alike"), "{shown}");
    }
    let id = open[0]["id"].to_string();
    let accepted = open[0]["divergence"]["packages"][0].as_str().unwrap_or_default();
    keep.run(&["divergences", "accept", &id]).ok();
    assert!(
        keep.index().packages().contains(&accepted),
        "{accepted} is served once it is accepted"
    );

    // It is no other one while the first is gone, either.
    world.publish(&Repo::new([new.clone()]));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0.1"]);
    world.publish(&Repo::new([new, evil[1].clone()]));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0.1"]);
}

#[test]
fn another_spelling_of_a_version_is_held_however_it_comes_or_goes() {
    let text = Package::bare("hello", "1.0").opam();
    let stays = Package::bare("stays", "1").opam();
    let stays = ("packages/stays/stays.1/opam", &*stays);
    let [first, second] = ["1.0", "1.00"].map(|it| format!("packages/hello/hello.{it}/opam"));
    let (first, second) = ((&*first, &*text), (&*second, &*text));
    let world = World::start();
    publish(&world, &[stays, first]);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    publish(&world, &[stays, first, second]);
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["hello.1.0", "stays.1"]);
    let status = keep.run(&["status"]).ok();
    assert!(
        status.contains("held       1 version not served until accepted: hello.1.00"),
        "{status}"
    );
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    let both = ["hello.1.0", "hello.1.00", "stays.1"];
    assert_eq!(keep.index().packages(), both);
    // Clients would take the other one for what is gone.
    for one in [first, second] {
        publish(&world, &[stays, one]);
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), both);
    }

    let at_once = World::start();
    publish(&at_once, &[stays]);
    let mut keep = start(&Mirror::of(&at_once));
    keep.index();
    publish(&at_once, &[stays, first, second]);
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["stays.1"]);
    assert_eq!(keep.divergences().len(), 2);

    let allowed = World::start();
    publish(&allowed, &[stays, first]);
    let mut keep = start(&Mirror::of(&allowed).set("policy.version_alike", "allow"));
    keep.index();
    publish(&allowed, &[stays, first, second]);
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), both);
    assert_eq!(keep.divergences().len(), 0);
}

#[test]
fn who_is_strict_about_a_version_is_so_about_what_clients_take_for_it() {
    let [first, second] = ["1.0", "1.00"].map(|it| format!("packages/hello/hello.{it}/opam"));
    let text = Package::bare("hello", "1.0").opam();
    let edited = Package::bare("hello", "1.0").synopsis("edited").opam();
    for (about, held) in [("hello.1.0", true), ("hello.2.0", false)] {
        let world = World::start();
        publish(&world, &[(&first, &text), (&second, &text)]);
        let mirror = Mirror::of(&world).rule_for(about, "description", "hold");
        let mut keep = start(&mirror);
        keep.index();
        publish(&world, &[(&first, &text), (&second, &edited)]);
        keep.refresh().ok();
        assert_eq!(keep.divergences().len(), usize::from(held), "{about}");
    }
}

#[test]
fn opam_installs_what_was_published_whatever_else_is_called_like_it() {
    let hello = Package::new("hello", "1.0");
    let world = World::start();
    world.publish(&Repo::new([hello.clone()]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let evil = Package::new("hello", "1.00").bytes(b"evil".to_vec(), &[Kind::Sha256]);
    world.publish(&Repo::new([hello.clone(), evil]));
    keep.refresh().ok();
    let Some(opam) = Opam::fresh(Version::System, keep.ca()) else { skip!("no opam in PATH") };
    opam.init(&keep.url()).ok();
    let shown = opam.run(&["show", "--raw", "hello.1.0"]).ok();
    assert!(shown.contains(&Kind::Sha256.of(hello.archive_bytes())), "{shown}");
}

#[test]
fn a_version_that_lay_where_another_one_came_is_compared_when_it_is_back() {
    let (first, second) = states();
    let world = World::start();
    let inner = "packages/z.1/hello.1.0/opam";
    let stays = Package::bare("stays", "1").opam();
    let stays = ("packages/stays/stays.1/opam", &*stays);
    publish(&world, &[(inner, &first.opam()), stays]);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let outer = Package::bare("z", "1").opam();
    publish(&world, &[(inner, &first.opam()), ("packages/z.1/opam", &outer), stays]);
    keep.refresh().ok();
    publish(&world, &[stays]);
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["stays.1"]);
    publish(&world, &[("packages/hello/hello.1.0/opam", &second.opam()), stays]);
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["stays.1"], "it is held");
    let shown = keep.run(&["divergences", "show", &keep.divergence()]).ok();
    assert!(shown.contains("source-rewritten"), "{shown}");
}

#[test]
fn an_import_forgets_no_version_that_was_served_here() {
    let (first, second) = states();
    let [stays, goes] = ["stays", "goes"].map(|name| Package::new(name, "1.0"));
    let rewritten = goes.clone().bytes(b"other".to_vec(), &[Kind::Sha256]);
    let far = World::start();
    far.publish(&Repo::new([stays.clone()]));
    let mut near = start(&Mirror::of(&far));
    near.index();
    let file = near.path("near.bundle").display().to_string();
    let said = near.run(&["export", "--json", "--out", &file]).ok();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let key = said["key"].as_str().expect("the key");

    let world = World::start();
    world.publish(&Repo::new([stays.clone(), goes.clone(), first]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    world.publish(&Repo::new([stays.clone(), goes]));
    keep.refresh().ok();
    keep.run(&["import", &file, "--key", key]).ok();
    assert_eq!(keep.index().packages(), ["stays.1.0"]);
    world.publish(&Repo::new([stays, rewritten, second]));
    keep.refresh().ok();
    assert_eq!(keep.index().packages(), ["stays.1.0"], "both are held");
    assert_eq!(keep.divergences().len(), 2);
}

#[test]
fn what_cannot_be_read_back_is_compared_with_all_the_same() {
    let (_world, mut keep, stays) = held();
    let opam = keep.blob(stays.opam().as_bytes());
    rot(&opam);
    fs::remove_dir_all(keep.store().join("catalog")).expect("there is a catalog");
    keep.restart();
    keep.refresh();
    let index = keep.index();
    assert_eq!(index.packages(), ["hello.1.0", "stays.1.0"]);
    assert!(index.opam("hello.1.0").expect("it is served").contains(&first_sha256()));
    assert_eq!(keep.divergences().len(), 1);
}

#[test]
fn a_version_that_cannot_be_read_back_is_held_and_the_rest_moves_on() {
    let (world, mut keep, stays) = held();
    let before = stays.opam();
    rot(&keep.blob(before.as_bytes()));
    keep.restart();
    let checkout = world.directory().join("checkout");
    let new = Package::new("new", "1.0");
    let edited = stays.clone().bytes(b"other".to_vec(), &[Kind::Sha256]);
    Repo::new([states().0, edited.clone(), new.clone()]).write(&checkout);
    keep.refresh().ok();
    assert!(keep.index().packages().contains(&"new.1.0"), "{:?}", keep.index().packages());
    let open = keep.divergences();
    let damaged = open.iter().find(|it| it["divergence"]["packages"][0] == "stays.1.0");
    let damaged = damaged.expect("it is told");
    assert_eq!(damaged["divergence"]["edits"][0], "unreadable", "{damaged}");
    assert_eq!(keep.index().opam("stays.1.0"), None, "it can't be");
    // It comes back as it was once that can be read.
    fs::write(keep.blob(before.as_bytes()), &before).expect("it can be written");
    let newer = Package::new("newer", "1.0");
    Repo::new([states().0, edited.clone(), new.clone(), newer.clone()]).write(&checkout);
    keep.refresh().ok();
    let index = keep.index();
    assert!(index.packages().contains(&"newer.1.0"), "{:?}", index.packages());
    assert_eq!(index.opam("stays.1.0"), Some(&*before));
    keep.stop();
    rot(&keep.blob(before.as_bytes()));
    keep.restart();
    Repo::new([states().0, edited.clone(), new]).write(&checkout);
    keep.refresh().ok();
    let told: Vec<u64> = keep
        .divergences()
        .iter()
        .filter(|it| it["divergence"]["packages"][0] == "stays.1.0")
        .filter_map(|it| it["id"].as_u64())
        .collect();
    assert_eq!(told.len(), 3, "whether it can be read is told each time that this changes");
    let said = keep.run(&["divergences", "accept", &told[2].to_string()]).ok();
    assert!(said.contains(&format!("Divergence {} told of the same", told[0])), "{said}");
    assert!(!keep.run(&["divergences"]).ok().contains("stays.1.0"));
    let index = keep.index();
    assert_eq!(index.opam("stays.1.0"), Some(&*edited.opam()));
}

#[test]
fn a_version_that_cannot_be_read_back_is_let_go_like_any_other() {
    for (rule, is_held) in [("hold", true), ("allow", false)] {
        let (world, stays) = (World::start(), Package::new("stays", "1.0"));
        let (new, newer) = (Package::new("new", "1.0"), Package::new("newer", "1.0"));
        world.publish(&Repo::new([stays.clone(), new.clone()]));
        let mirror = Mirror::of(&world).set("policy.version_removed", rule);
        let mut keep = start(&mirror.set("policy.max_removed", "100%"));
        keep.index();
        keep.stop();
        let before = stays.opam();
        rot(&keep.blob(before.as_bytes()));
        keep.restart();
        let edited = stays.clone().bytes(b"other".to_vec(), &[Kind::Sha256]);
        world.publish(&Repo::new([edited.clone(), new.clone(), newer.clone()]));
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["new.1.0", "newer.1.0"]);
        let told = keep.divergences().len();
        world.publish(&Repo::new([new.clone()]));
        keep.refresh().ok();
        assert_eq!(keep.divergences().len() > told, is_held, "{rule}");
        fs::write(keep.blob(before.as_bytes()), &before).expect("it can be written");
        world.publish(&Repo::new([edited.clone(), newer.clone()]));
        keep.refresh().ok();
        assert_eq!(keep.index().opam("stays.1.0"), is_held.then_some(&*before), "{rule}");
        keep.run(&["verify"]).ok();
    }
}

#[test]
fn where_there_is_nothing_to_compare_with_nothing_new_is_served() {
    let (_world, mut keep, _) = held();
    let ledger = keep.ledger();
    let snapshot = ledger.of_kind("snapshot").last().expect("there is one");
    rot(&keep.blob_named(snapshot["admitted"].as_str().expect("a name")));
    keep.restart();
    for _ in 0..2 {
        let said = keep.run(&["refresh"]);
        assert!(said.code == 1 && said.stdout.contains("can't be read back"), "{said:?}");
        assert_eq!(keep.curl().get("/index.tar.gz").status, 503);
        keep.stop();
        keep.restart();
    }
    assert_eq!(keep.ledger().of_kind("snapshot").count(), ledger.of_kind("snapshot").count());
}

#[test]
fn what_lies_in_a_held_version_or_in_its_way_is_served_beside_it() {
    let (first, second) = states();
    let new = Package::bare("new", "1.0").opam();
    let new = ("packages/new/new.1.0/opam", &*new);
    let inside = Package::bare("y", "1").opam();
    for (in_the_way, served) in [
        (("packages/hello", "a file"), &["hello.1.0", "new.1.0"][..]),
        (("packages/hello/hello.1.0/y.1/opam", &*inside), &["hello.1.0", "new.1.0", "y.1"]),
    ] {
        let world = World::start();
        publish(&world, &[("packages/hello/hello.1.0/opam", &first.opam())]);
        let mut keep = start(&Mirror::of(&world));
        keep.index();
        let moved = ("packages/moved/hello.1.0/opam", &*second.opam());
        publish(&world, &[moved, in_the_way, new]);
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), served);
        assert!(keep.run(&["status"]).said().contains("hello.1.0"));
        keep.run(&["divergences", "accept", &keep.divergence()]).ok();
        let index = keep.index();
        assert_eq!(index.packages(), served);
        let opam = index.opam("hello.1.0").expect("it is served");
        assert!(opam == second.opam() && index.paths().all(|path| !path.contains("moved")));
    }
}

#[test]
fn an_edit_that_moves_to_another_directory_is_the_same_edit() {
    let (first, second) = states();
    let world = World::start();
    let text = second.opam();
    publish(&world, &[("packages/hello/hello.1.0/opam", &first.opam())]);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    for directory in ["hello", "elsewhere", "hello"] {
        publish(&world, &[(&format!("packages/{directory}/hello.1.0/opam"), &text)]);
        keep.refresh().ok();
    }
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert!(keep.index().opam("hello.1.0").is_some_and(|opam| opam == text));
    assert!(keep.divergences().is_empty());
}

#[test]
fn a_repository_of_nothing_but_what_is_held_waits_as_a_whole() {
    let world = World::start();
    let version = |version: &str| Repo::new([Package::new("hello", version)]);
    world.publish(&version("1.0"));
    let mut keep = start(&Mirror::of(&world).set("policy.version_added", "hold"));
    keep.index();
    world.publish(&version("2.0"));
    for _ in 0..2 {
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["hello.1.0"]);
    }
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert_eq!(keep.index().packages(), ["hello.2.0"]);
}

/// A stopped mirror that holds a rewrite of hello.1.0 and serves another version beside it.
fn held() -> (World, Keep, Package) {
    let (first, second) = states();
    let stays = Package::new("stays", "1.0");
    let world = World::start();
    let checkout = world.directory().join("checkout");
    Repo::new([first, stays.clone()]).write(&checkout);
    let upstream = format!("file://{}", checkout.display());
    let mut keep = start(&Mirror::of(&world).of_repository("upstream", &*upstream));
    keep.index();
    Repo::new([second, stays.clone()]).write(&checkout);
    keep.refresh().ok();
    assert_eq!(keep.divergences().len(), 1);
    keep.stop();
    (world, keep, stays)
}

fn states() -> (Package, Package) {
    let first = Package::new("hello", "1.0");
    let second = first.clone().bytes(b"something else".to_vec(), &[Kind::Sha256]);
    (first, second)
}

fn first_sha256() -> String {
    Kind::Sha256.of(states().0.archive_bytes())
}

fn rot(blob: &Path) {
    fs::remove_file(blob).expect("it is there");
    fs::write(blob, "rot").expect("it can be written");
}

/// Publishes these files.
fn publish(world: &World, files: &[(&str, &str)]) {
    let mut all = vec![("repo", "opam-version: \"2.0\"\n")];
    all.extend(files);
    all.sort_unstable();
    let files = all.into_iter().map(|(path, text)| (path, text.as_bytes()));
    world.put(&format!("{}/index.tar.gz", World::OPAM), tar_gz(files));
}
