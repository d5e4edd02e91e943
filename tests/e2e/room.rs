//! A file system with too little room: what is kept is served, and nothing new is begun.

use crate::start;
use world::{Kind, Lie, Mirror, Package, Repo, World};

#[test]
fn g5_without_room_what_is_kept_is_served_and_nothing_new_is_kept() {
    let (kept, cold) = (Package::new("kept", "1.0"), Package::new("cold", "1.0"));
    let world = World::start();
    let repo = Repo::new([kept.clone(), cold.clone()]);
    world.publish(&repo);
    let mirror = Mirror::of(&world);
    let mut keep = start(&mirror);
    keep.index();
    assert!(keep.curl().get(&kept.cache_path(Kind::Sha256)).is_whole());
    keep.stop();
    // No file system has that much room.
    keep.configure(&mirror.set("store.min_free", "1000000TiB").text(&keep.store()));
    keep.restart();
    assert_eq!(keep.index().packages(), ["cold.1.0", "kept.1.0"]);
    assert!(keep.curl().get(&kept.cache_path(Kind::Sha256)).is_whole());
    let answer = keep.curl().get(&cold.cache_path(Kind::Sha256));
    assert_eq!((answer.exit, answer.status), (0, 404));
    let reason = answer.header("x-opam-keep-reason").unwrap_or_default().to_owned();
    assert!(reason.starts_with("store; "), "{reason}");
    let store = keep.store().display().to_string();
    let ready = String::from_utf8(keep.curl().get("/readyz").body).expect("text");
    let body = String::from_utf8(answer.body).expect("text");
    for said in [&reason, &body, &ready] {
        assert!(!said.contains(&store), "where the store lies is for nobody else: {said}");
    }
    let health = keep.run(&["health"]).ok();
    assert!(
        health.contains("of free space left and must keep") && health.contains("iB"),
        "{health}"
    );
    assert!(!keep.blob(cold.archive_bytes()).exists());

    world.publish(&repo.with(Package::new("new", "1.0")));
    let said = keep.refresh().said();
    assert!(said.contains("store.min_free"), "{said}");
    assert_eq!(keep.index().packages(), ["cold.1.0", "kept.1.0"]);
    keep.run(&["verify"]).ok();
}

#[test]
fn g4_lies_are_recorded_though_there_is_no_more_room_for_their_bytes() {
    let packages: Vec<Package> = ["a", "b", "c"].map(|name| Package::new(name, "1.0")).into();
    let world = World::start();
    world.publish(&Repo::new(packages.clone()));
    for (number, package) in packages.iter().enumerate() {
        world.lie(package.url(), Lie::Bytes(vec![number as u8; 40_000]));
    }
    let mirror = Mirror::of(&world)
        .set("store.max_evidence", "50KiB")
        .set("store.max_evidence_total", "100KiB");
    let mut keep = start(&mirror);
    keep.index();
    for (number, package) in packages.iter().enumerate() {
        if number == 2 {
            // What is there is counted, not remembered.
            keep.stop();
            keep.restart();
        }
        assert_eq!(keep.curl().get(&package.cache_path(Kind::Sha256)).status, 404);
    }
    let ledger = keep.ledger();
    let told: Vec<bool> =
        ledger.of_kind("divergence").map(|entry| entry["evidence"].is_string()).collect();
    assert_eq!(told, [true, true, false]);
    keep.run(&["verify"]).ok();
}
