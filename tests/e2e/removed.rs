//! Versions that upstream has no more: let go, held one by one, or held as a whole.

use crate::start;
use world::{Keep, Kind, Mirror, Package, Repo, World, tar_gz};

#[test]
fn a_gutted_repository_is_held_as_a_whole_until_it_is_accepted() {
    let packages: Vec<Package> =
        (0..10).map(|number| Package::new("many", &format!("{number}"))).collect();
    let new = Package::new("new", "1.0");
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    world.publish(&Repo::new(packages[..7].to_vec()).with(new.clone()));
    for _ in 0..2 {
        keep.refresh().ok();
        assert_eq!(keep.index().packages().len(), 10);
        keep.stop();
        keep.restart();
    }
    let id = keep.divergence();
    let shown = keep.run(&["divergences", "show", &id]).ok();
    assert!(shown.contains("3 of 10 versions are gone"), "{shown}");
    for gone in &packages[7..] {
        assert!(shown.contains(&format!("- {}\n", gone.full_name())), "{shown}");
    }
    let listed = keep.run(&["divergences"]).ok();
    assert!(listed.contains("held, gutted default\n"), "{listed}");
    let logged = keep.run(&["log", "--kind", "divergence"]).ok();
    assert!(logged.contains("divergence held, gutted default\n"), "{logged}");
    keep.run(&["divergences", "accept", &id]).ok();
    assert_eq!(keep.index().packages().len(), 8);

    // One that goes is what upstream meant.
    world.publish(&Repo::new(packages[..6].to_vec()).with(new));
    keep.refresh().ok();
    assert_eq!(keep.index().packages().len(), 7);
}

#[test]
fn a_version_that_goes_and_leaves_files_behind_is_held_and_can_be_accepted() {
    let world = World::start();
    let mut keep = held_removal(&world, &[(PATCH, "x")]);
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert_eq!(keep.index().packages(), ["stays.1.0"]);
}

#[test]
fn a_version_that_goes_is_told_once_in_either_mode_where_that_is_asked_for() {
    let (stays, goes) = (Package::new("stays", "1.0"), Package::new("goes", "1.0"));
    for mode in ["managed", "verbatim"] {
        let world = World::start();
        world.publish(&Repo::new([stays.clone(), goes.clone()]));
        let mirror = Mirror::of(&world).of_repository("mode", mode);
        let mut keep = start(&mirror.set("policy.version_removed", "warn"));
        keep.index();
        world.publish(&Repo::new([stays.clone()]));
        for _ in 0..2 {
            keep.refresh().ok();
            assert_eq!(keep.index().packages(), ["stays.1.0"], "{mode}");
            let told = keep.divergence();
            let shown = keep.run(&["divergences", "show", &told]).ok();
            assert!(shown.contains("goes.1.0") && shown.contains("version-removed"), "{shown}");
            keep.stop();
            keep.restart();
        }
    }
}

#[test]
fn removals_behind_an_accepted_gutted_state_are_accepted_one_after_another() {
    let packages: Vec<Package> =
        (0..6).map(|number| Package::new("many", &format!("{number}"))).collect();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let mut keep = start(&Mirror::of(&world).set("policy.version_removed", "hold"));
    keep.index();
    world.publish(&Repo::new(packages[..3].to_vec()));
    keep.refresh().ok();
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert_eq!(keep.index().packages().len(), 6, "each is held by itself now");
    assert_eq!(keep.divergences().len(), 3);

    let new = Package::new("new", "1.0");
    world.publish(&Repo::new(packages[..3].to_vec()).with(new.clone()));
    keep.refresh().ok();
    assert_eq!(keep.index().packages().len(), 7, "what is held vanishes with no later state");
    for left in [6, 5] {
        accept_first(&keep);
        assert_eq!(keep.index().packages().len(), left);
    }
    assert_eq!(keep.divergences().len(), 1);
    world.publish(&Repo::new([new]));
    keep.refresh().ok();
    let open = keep.divergences();
    let gutted = open.iter().find(|it| it["divergence"]["what"] == "gutted").expect("it is open");
    let detail = gutted["divergence"]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("3 of 5 versions are gone at once"), "{detail}");
    assert_eq!(keep.index().packages().len(), 5);
    keep.run(&["verify"]).ok();
}

#[test]
fn an_edit_of_a_state_that_is_held_as_a_whole_waits_for_it_and_says_so() {
    let packages: Vec<Package> =
        (0..4).map(|number| Package::new("many", &format!("{number}"))).collect();
    let edited = packages[0].clone().bytes(b"other".to_vec(), &[Kind::Sha256]);
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let mut next = packages.clone();
    next[0] = edited.clone();
    world.publish(&Repo::new(next.clone()));
    keep.refresh().ok();
    let edit = keep.divergence();
    world.publish(&Repo::new(next[..2].to_vec()));
    keep.refresh().ok();
    let said = keep.run(&["divergences", "accept", &edit]).ok();
    assert!(said.contains("not served yet: all that is held of the same state"), "{said}");
    assert!(!said.contains("pinned"), "{said}");
    assert_eq!(keep.index().packages().len(), 4);
    let said = keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert!(!said.contains("not served"), "{said}");
    let index = keep.index();
    assert_eq!(index.packages().len(), 2);
    let sha256 = Kind::Sha256.of(edited.archive_bytes());
    assert!(index.opam("many.0").expect("it is served").contains(&sha256));
}

#[test]
fn a_version_that_went_elsewhere_is_not_removed() {
    let world = World::start();
    let mut keep = held_removal(&world, &[]);
    let [opam, patch] = [GOES, PATCH].map(|path| path.replace("packages/goes/", "packages/moved/"));
    publish(&world, &[(&opam, &goes()), (&patch, "x")]);
    keep.refresh().ok();
    let said = keep.run(&["divergences", "accept", &keep.divergence()]);
    assert!(said.code == 2 && said.stderr.contains("outdated"), "{said:?}");
    assert_eq!(keep.index().packages(), ["goes.1.0", "stays.1.0"]);
    keep.run(&["verify"]).ok();
}

#[test]
fn nothing_of_upstream_gets_into_a_held_version_or_hides_it() {
    let world = World::start();
    let additions = [("packages/goes/opam", "hides"), ("packages/goes/goes.1.0/files/added", "x")];
    let mut keep = held_removal(&world, &additions);
    assert!(keep.index().paths().all(|path| additions.iter().all(|(added, _)| *added != path)));
    keep.run(&["divergences", "accept", &keep.divergence()]).ok();
    assert!(keep.index().opam("goes.1.0").is_none(), "it went");

    let world = World::start();
    let inside = Package::bare("inside", "1.0").opam();
    let inner = [("packages/goes/goes.1.0/inside.1.0/opam", &*inside)];
    let mut keep = held_removal(&world, &[]);
    publish(&world, &inner);
    keep.refresh().ok();
    let index = keep.index();
    assert_eq!(index.packages(), ["goes.1.0", "inside.1.0", "stays.1.0"]);
    assert!(index.paths().any(|path| path == "packages/inside/inside.1.0/opam"));
}

#[test]
fn what_was_served_and_can_not_be_as_upstream_has_it_stays_as_it_was() {
    let (first, second) = (Package::new("held", "1.0"), Package::new("many", "1.0"));
    let edited = first.clone().bytes(b"other".to_vec(), &[Kind::Sha256]);
    let [held, many, edited] = [&first, &second, &edited].map(Package::opam);
    let as_it_was =
        [("packages/held/held.1.0/opam", &*held), ("packages/many/many.1.0/opam", &many)];
    let long = too_long("many");
    let moved = ("packages/moved/held.1.0/opam", &*edited);
    for held in [as_it_was[0], moved] {
        let world = World::start();
        publish(&world, &as_it_was);
        let mut keep = start(&Mirror::of(&world).set("policy.files", "allow"));
        let index = keep.index();
        publish(&world, &[held, as_it_was[1], (&long, "x")]);
        keep.refresh().ok();
        let status = keep.run(&["status"]).said();
        assert!(status.contains("kept") && status.contains("many.1.0"), "{status}");
        for _ in 0..2 {
            keep.refresh().ok();
            assert!(keep.index() == index, "{held:?}");
            keep.stop();
            keep.restart();
        }
        keep.run(&["verify"]).ok();
    }
}

#[test]
fn why_versions_are_served_otherwise_is_said_after_a_restart_without_upstream() {
    let keeps = ("packages/keeps/keeps.1.0/opam", &*Package::bare("keeps", "1.0").opam());
    let world = World::start();
    publish(&world, &[keeps]);
    let mut keep = start(&Mirror::of(&world).set("policy.files", "allow"));
    keep.index();
    let evil = Package::new("stays", "1.00").opam();
    let long = too_long("keeps");
    publish(&world, &[keeps, (&long, "x"), ("packages/stays/stays.1.00/opam", &evil)]);
    keep.refresh().ok();
    let said = |keep: &mut Keep| {
        let status = keep.run(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let of = &status["repositories"][0];
        [of["kept"].clone(), of["waiting"].clone()]
    };
    let before = said(&mut keep);
    assert!(before[0].to_string().contains("too long"), "{before:?}");
    assert_eq!(before[1], serde_json::json!(["stays.1.00"]));
    world.kill();
    keep.stop();
    keep.restart();
    assert_eq!(said(&mut keep), before);
}

/// A file of a version's that no index can hold.
fn too_long(name: &str) -> String {
    format!("packages/{name}/{name}.1.0/files/{}", "x".repeat(120))
}

/// A mirror that holds the removal of goes.1.0, in whose place upstream has these files.
fn held_removal(world: &World, instead: &[(&str, &str)]) -> Keep {
    publish(world, &[(GOES, &goes()), (PATCH, "x")]);
    let mirror = Mirror::of(world).set("policy.version_removed", "hold");
    let mut keep = start(&mirror.set("policy.max_removed", "100%"));
    keep.index();
    publish(world, instead);
    for _ in 0..2 {
        keep.refresh().ok();
        assert_eq!(keep.index().packages(), ["goes.1.0", "stays.1.0"]);
        assert_eq!(keep.ledger().of_kind("divergence").count(), 1);
    }
    keep
}

/// Publishes stays.1.0 and these files.
fn publish(world: &World, files: &[(&str, &str)]) {
    let stays = Package::bare("stays", "1.0").opam();
    let mut all =
        vec![("repo", "opam-version: \"2.0\"\n"), ("packages/stays/stays.1.0/opam", &*stays)];
    all.extend(files);
    all.sort_unstable();
    let files = all.into_iter().map(|(path, text)| (path, text.as_bytes()));
    world.put(&format!("{}/index.tar.gz", World::OPAM), tar_gz(files));
}

fn goes() -> String {
    Package::bare("goes", "1.0").opam()
}

/// Accepts the oldest divergence that is open.
fn accept_first(keep: &Keep) {
    let id = keep.divergences()[0]["id"].to_string();
    keep.run(&["divergences", "accept", &id]).ok();
}

const GOES: &str = "packages/goes/goes.1.0/opam";
const PATCH: &str = "packages/goes/goes.1.0/files/x.patch";
