//! From upstream's index to ours: a mirror that has the repository of two months ago asks for
//! today's, beside `opam admin index` on the same tree, which only packs it; and `audit` of one tree.
//! `cargo bench --bench admit`.

use flate2::read::GzDecoder;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use world::{Keep, Mirror, Recorded, World, installed, raw, run};

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
        let upstream = format!("{}{INDEX}", World::OPAM);
        recorded.publish(&world, old);
        let mut keep = Keep::start(env!("CARGO_BIN_EXE_opam-keep"), &Mirror::of(&world));
        keep.index();
        // Until the first state is noted as well.
        keep.refresh().ok();
        recorded.publish(&world, new);
        let client = keep.raw();
        let old = client.get(INDEX).expect("it answers");
        let tag = old.header("etag").expect("an index has a tag").to_owned();
        let mut watching = client.connect().expect("it takes connections");
        world.forget_requests();
        let mut refresh = keep.command(&["refresh"]);
        let refresh = refresh.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut refresh = refresh.expect("the binary can be run");
        // From the moment that upstream is asked.
        let begun = Instant::now();
        while world.count(&upstream) == 0 {
            assert!(begun.elapsed() < LONG, "upstream is not asked");
            std::thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        while let Some(connection) = if_still(watching, &tag) {
            watching = connection;
            std::thread::sleep(Duration::from_millis(5));
        }
        let served = begun.elapsed();
        assert!(refresh.wait().expect("it ends").success());
        (served, begun.elapsed())
    });
    let (ours, all) = ours.min().expect("there are rounds");
    println!(
        "two months of edits, from upstream's index to ours: {:.2} s, {:.2} s until all is noted; opam admin index: {:.2} s; {:.2} of it",
        ours.as_secs_f64(),
        all.as_secs_f64(),
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

/// The connection again, if the index is the one with this tag.
fn if_still(connection: raw::Connection, tag: &str) -> Option<raw::Connection> {
    let request =
        format!("GET {INDEX} HTTP/1.1\r\nhost: localhost\r\nif-none-match: {tag}\r\n\r\n");
    let answer = connection.send(request.as_bytes()).expect("it answers");
    (answer.status == 304).then(|| answer.finish().expect("a whole answer").1)
}

fn best<T>(work: impl Fn() -> T) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    times.min().expect("there are rounds")
}

const INDEX: &str = "/index.tar.gz";
const ROUNDS: usize = 3;
const LONG: Duration = Duration::from_secs(300);
