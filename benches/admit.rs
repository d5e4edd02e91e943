//! From upstream's index to ours: a mirror that has the repository of two months ago gets today's,
//! beside `opam admin index` on the same tree, which only packs it; and `audit` of one tree.
//! `cargo bench --bench admit`.

use flate2::read::GzDecoder;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use world::{Keep, Mirror, Recorded, World, installed, run};

fn main() -> ExitCode {
    let Some(recorded) = Recorded::find() else {
        println!("skipped: benches/admit: no recorded snapshots here");
        return ExitCode::SUCCESS;
    };
    let [old, new, ..] = recorded.snapshots() else {
        println!("skipped: benches/admit: no two recorded snapshots");
        return ExitCode::SUCCESS;
    };
    if !installed("opam") {
        println!("skipped: benches/admit: no opam here");
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let tree = directory.path().join("tree");
    tar::Archive::new(GzDecoder::new(new.index().as_slice()))
        .unpack(&tree)
        .expect("a snapshot unpacks");
    let theirs = best(|| {
        let mut opam = Command::new("opam");
        opam.args(["admin", "index"]).current_dir(&tree).env("OPAMROOTISOK", "1");
        run(opam.env("OPAMROOT", directory.path().join("root")), LONG).ok();
    });
    let ours = (0..ROUNDS).map(|_| {
        let world = World::start();
        recorded.publish(&world, old);
        let mut keep = Keep::start(env!("CARGO_BIN_EXE_opam-keep"), &Mirror::of(&world));
        keep.index();
        recorded.publish(&world, new);
        let begun = Instant::now();
        keep.refresh().ok();
        begun.elapsed()
    });
    let ours = ours.min().expect("there are rounds");
    println!(
        "two months of edits, from upstream's index to ours: {:.2} s; opam admin index: {:.2} s; {:.2} of it",
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
    let audit = best(|| {
        let mut keep = Command::new(env!("CARGO_BIN_EXE_opam-keep"));
        run(keep.arg("audit").arg(&tree), LONG)
    });
    println!("audit of that tree: {:.2} s", audit.as_secs_f64());
    ExitCode::SUCCESS
}

fn best<T>(work: impl Fn() -> T) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    times.min().expect("there are rounds")
}

const ROUNDS: usize = 3;
const LONG: Duration = Duration::from_secs(300);
