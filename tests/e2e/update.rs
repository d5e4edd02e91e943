//! `opam update` through opam-keep shows what opam would show without it.

use crate::{skip, start};
use std::collections::BTreeSet;
use world::{Index, Kind, Mirror, Opam, Package, Recorded, Repo, Version, World};

#[test]
fn from_one_recorded_snapshot_to_the_next_as_opam_itself_would() {
    let Some(recorded) = Recorded::find() else { skip!("no ../shared/world") };
    let [first, second] = recorded.snapshots() else { skip!("not two snapshots in the world") };
    let world = World::start();
    recorded.publish(&world, first);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let Some(opam) = Opam::fresh(Version::System, keep.ca()) else { skip!("no opam in PATH") };
    opam.init(&keep.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    let before = versions(&opam);

    recorded.publish(&world, second);
    keep.refresh().ok();
    let said = opam.run(&["update"]);
    assert_eq!(said.code, 0, "{}", said.said());
    assert!(!said.said().contains("[ERROR]"), "{}", said.said());

    let direct = Opam::fresh(Version::System, world.ca()).expect("it was there before");
    let direct = direct.connect_to(world.address());
    direct.init(World::OPAM).ok();
    direct.run(&["switch", "create", "default", "--empty"]).ok();
    let after = versions(&opam);
    assert_eq!(after, versions(&direct));
    assert!(after.len() > before.len() + 100, "{} then {}", before.len(), after.len());

    let edited = edited(&Index::read(&first.index()), &Index::read(&second.index()));
    assert!(edited.len() > 100, "the snapshots differ in {} packages", edited.len());
    for package in edited.iter().step_by(edited.len() / 10) {
        let show = ["show", "--raw", package];
        assert_eq!(opam.run(&show).ok(), direct.run(&show).ok(), "{package}");
    }
}

#[test]
fn opam_2_1_sees_what_was_added_edited_and_removed() {
    if !sees_what_was_added_edited_and_removed(Version::System) {
        skip!("no opam in PATH");
    }
}

#[test]
fn opam_2_3_sees_what_was_added_edited_and_removed() {
    if !sees_what_was_added_edited_and_removed(Version::V2_3) {
        skip!("no opam-2.3 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn opam_2_6_sees_what_was_added_edited_and_removed() {
    if !sees_what_was_added_edited_and_removed(Version::V2_6) {
        skip!("no opam-2.6 in OPAM_KEEP_CLIENTS/bin");
    }
}

#[test]
fn an_index_that_did_not_change_is_asked_for_conditionally_and_stays_the_same() {
    let world = World::start();
    world.publish(&Repo::new([Package::new("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    let before = keep.index_at("/index.tar.gz");
    keep.refresh().ok();
    assert_eq!(keep.index_at("/index.tar.gz"), before);
    let asked = world.requests();
    let last = asked.last().expect("the index was asked for");
    assert!(
        last.url.ends_with("/index.tar.gz") && last.header("if-none-match").is_some(),
        "{last:?}"
    );
    let snapshots = keep.ledger().of_kind("snapshot").count();
    assert_eq!(snapshots, 1, "nothing changed, so nothing was admitted");
}

#[test]
fn a_repo_file_of_more_than_a_mebibyte_is_admitted_and_outlasts_a_restart() {
    let comments = "# A comment of no consequence whatever, and one of very many of its kind.\n";
    let upstream = format!("opam-version: \"2.0\"\n{}", comments.repeat(20_000));
    let package = Package::new("hello", "1.0");
    let world = World::start();
    world.publish(&Repo::new([package.clone()]).with_repo_file(&upstream));
    let mut keep = start(&Mirror::of(&world));
    let index = keep.index();
    assert_eq!(index.packages(), [package.full_name()]);
    assert!(index.repo().starts_with("opam-version: \"2.0\"\n"));
    let repo = keep.curl().get("/repo");
    assert!(repo.is_whole() && repo.body == index.repo().as_bytes());

    keep.stop();
    world.kill();
    keep.restart();
    assert!(keep.index() == index);
    let after = keep.curl().get("/repo");
    assert!(after.is_whole() && after.body == repo.body);
    assert_eq!(keep.run(&["verify"]).code, 0);
}

#[test]
fn the_index_is_a_pure_function_of_what_it_holds() {
    let packages = [Package::new("a", "1"), Package::new("b", "2"), Package::new("c", "3")];
    let mut served = Vec::new();
    for order in [[0, 1, 2], [2, 0, 1]] {
        let world = World::start();
        world.publish(&Repo::new(order.map(|position| packages[position].clone())));
        served.push(start(&Mirror::of(&world)).index_at("/index.tar.gz"));
    }
    assert!(served[0] == served[1], "two mirrors of the same packages serve different bytes");
}

/// Whether there is such a client at all; everything else is asserted.
fn sees_what_was_added_edited_and_removed(version: Version) -> bool {
    let stays = Package::new("stays", "1.0");
    let edited = Package::new("edited", "1.0");
    let world = World::start();
    world.publish(&Repo::new([stays.clone(), edited.clone(), Package::new("goes", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let Some(opam) = Opam::fresh(version, keep.ca()) else { return false };
    opam.init(&keep.url()).ok();
    opam.run(&["switch", "create", "default", "--empty"]).ok();
    let expected = ["edited.1.0", "goes.1.0", "stays.1.0"].map(str::to_owned);
    assert_eq!(versions(&opam), BTreeSet::from(expected));

    let url = edited.url().to_owned();
    let edited = edited.archive(&url, &[Kind::Sha256, Kind::Sha512]).depends("stays");
    world.publish(&Repo::new([stays, edited, Package::new("stays", "1.1")]));
    keep.refresh().ok();
    opam.run(&["update"]).ok();
    let expected = ["edited.1.0", "stays.1.0", "stays.1.1"].map(str::to_owned);
    assert_eq!(versions(&opam), BTreeSet::from(expected));
    let shown = opam.run(&["show", "--raw", "edited.1.0"]).ok();
    assert!(shown.contains("\"stays\""), "{shown}");
    true
}

/// Every `name.version` that a client knows of.
fn versions(opam: &Opam) -> BTreeSet<String> {
    let listed = opam.run(&["list", "-A", "-V", "--short", "--columns=package"]).ok();
    listed.lines().map(|line| line.trim().to_owned()).collect()
}

/// Packages that both have, with different opam files.
fn edited(first: &Index, second: &Index) -> Vec<String> {
    let differs = |package: &&str| {
        first.opam(package) != second.opam(package) && second.opam(package).is_some()
    };
    first.packages().into_iter().filter(differs).map(str::to_owned).collect()
}
