//! What it takes to replay a history and to audit two states, beside what git and diff take for the
//! same bytes without understanding them. `cargo bench --bench history`.

use flate2::read::GzDecoder;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use world::{Checkout, Recorded, Snapshot, installed};

fn main() -> ExitCode {
    let Some(recorded) = Recorded::find() else {
        println!("skipped: benches/history: no recorded snapshots here");
        return ExitCode::SUCCESS;
    };
    let [old, new, ..] = recorded.snapshots() else {
        println!("skipped: benches/history: no two recorded snapshots");
        return ExitCode::SUCCESS;
    };
    if !installed("git") {
        println!("skipped: benches/history: no git here");
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    replay(directory.path(), new);
    audit(directory.path(), old, new);
    ExitCode::SUCCESS
}

/// Commits to the recorded repository, as many and as large as its own: two versions published
/// each, one edited every other time, and a checksum rewritten every twentieth.
fn replay(directory: &Path, snapshot: &Snapshot) {
    let clone = Checkout::new(directory.join("clone"));
    import(&clone, snapshot);
    println!(
        "{:<10}{:>10}{:>12}{:>12}{:>9}{:>10}",
        "commits", "rewrites", "git log, s", "history, s", "ratio", "peak MB"
    );
    for commits in [2_500, COMMITS] {
        let revision = format!("HEAD~{}", COMMITS - commits);
        let log = ["log", "--first-parent", "--raw", "--no-renames", &revision];
        let mut git = Command::new("git");
        let (theirs, _, _) = measure(git.arg("-C").arg(clone.directory()).args(log));
        let mut keep = Command::new(env!("CARGO_BIN_EXE_opam-keep"));
        let path = clone.path();
        keep.args(["history", "--quiet", "--json", "--git", &path, "--rev", &revision]);
        let (ours, peak, lines) = measure(&mut keep);
        println!(
            "{commits:<10}{lines:>10}{:>12.1}{:>12.1}{:>9.2}{:>10.1}",
            theirs.as_secs_f64(),
            ours.as_secs_f64(),
            ours.as_secs_f64() / theirs.as_secs_f64(),
            peak as f64 / 1e6
        );
    }
}

/// The two recorded states, against a comparison of the same files by their bytes alone.
fn audit(directory: &Path, old: &Snapshot, new: &Snapshot) {
    let states = [("old", old), ("new", new)].map(|(name, snapshot)| {
        let (index, folder) = (directory.join(format!("{name}.tar.gz")), directory.join(name));
        std::fs::write(&index, snapshot.index()).expect("a file can be written");
        unpacked(snapshot).unpack(&folder).expect("a snapshot unpacks");
        (index, folder)
    });
    let paths = |which: fn(&(PathBuf, PathBuf)) -> &PathBuf| states.each_ref().map(which);
    let (theirs, _, _) = measure(Command::new("diff").arg("-r").args(paths(|it| &it.1)));
    let mut keep = Command::new(env!("CARGO_BIN_EXE_opam-keep"));
    let (ours, peak, _) = measure(keep.arg("audit").args(paths(|it| &it.0)));
    println!(
        "\naudit of two snapshots: {:.2} s, {:.1} MB at its peak; diff -r of the same files: {:.2} s",
        ours.as_secs_f64(),
        peak as f64 / 1e6,
        theirs.as_secs_f64()
    );
}

/// How long a command takes, its peak of memory in bytes, and how many lines it prints.
fn measure(command: &mut Command) -> (Duration, usize, usize) {
    let output = tempfile::NamedTempFile::new().expect("a file can be made");
    let stdout = output.reopen().expect("a file can be opened");
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be run");
    let mut peak = 0;
    let status = loop {
        // Its peak so far; after its end there is nothing to read.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.iter().flat_map(|it| it.lines()).find_map(|it| it.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        peak = peak.max(kibibytes.unwrap_or_default() * 1024);
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let taken = start.elapsed();
    // diff and audit end with 1 when they found something.
    assert!(status.code().is_some_and(|code| code <= 1), "{command:?}: {status}");
    let printed = std::fs::read(output.path()).expect("a file can be read");
    (taken, peak, printed.iter().filter(|byte| **byte == b'\n').count())
}

fn unpacked(snapshot: &Snapshot) -> tar::Archive<GzDecoder<std::io::Cursor<Vec<u8>>>> {
    tar::Archive::new(GzDecoder::new(std::io::Cursor::new(snapshot.index())))
}

/// Feeds git the snapshot as the first commit, and then all others.
fn import(clone: &Checkout, snapshot: &Snapshot) {
    let mut git = Command::new("git")
        .arg("-C")
        .arg(clone.directory())
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git can be run");
    let mut import = Import(BufWriter::new(git.stdin.take().expect("the pipe was asked for")));
    import.commit(0);
    let mut opam_files = Vec::new();
    for entry in unpacked(snapshot).entries().expect("a snapshot is a tarball") {
        let mut entry = entry.expect("a snapshot is a tarball");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).expect("a snapshot is a tarball");
        if entry.header().entry_type().is_file() {
            import.file(&path, &bytes);
            if path.ends_with("/opam") && bytes.windows(7).any(|it| it == b"sha256=") {
                opam_files.push((path, bytes));
            }
        }
    }
    for number in 1..COMMITS {
        import.commit(number);
        let (path, bytes) = &opam_files[number * 7_919 % opam_files.len()];
        for fresh in 0..2 {
            let name = format!("fresh-{}", number % 4_000);
            let path = format!("packages/{name}/{name}.{number}.{fresh}/opam");
            import.file(&path, bytes);
        }
        if number % 20 == 0 {
            let rewritten = String::from_utf8_lossy(bytes).replacen("sha256=", "sha256=00", 1);
            // As long as it was: two digits go at the end of the checksum.
            let at = rewritten.find("sha256=").expect("it has one") + "sha256=".len();
            let rewritten = format!("{}{}", &rewritten[..at + 64], &rewritten[at + 66..]);
            import.file(path, rewritten.as_bytes());
        } else if number % 2 == 0 {
            let field = format!("\nx-number: \"{number}\"\n");
            import.file(path, &[&bytes[..], field.as_bytes()].concat());
        }
    }
    drop(import);
    assert!(git.wait().expect("git ends").success(), "git fast-import failed");
    clone.git(&["symbolic-ref", "HEAD", "refs/heads/history"]).ok();
}

/// The stream that `git fast-import` reads.
struct Import(BufWriter<std::process::ChildStdin>);

impl Import {
    fn commit(&mut self, number: usize) {
        let at = 1_400_000_000 + number * 3_600;
        self.write(format!("commit refs/heads/history\ncommitter w <w@example.org> {at} +0000\n"));
        self.write("data 0\n".to_owned());
    }

    fn file(&mut self, path: &str, bytes: &[u8]) {
        self.write(format!("M 100644 inline {path}\ndata {}\n", bytes.len()));
        self.0.write_all(bytes).and_then(|()| self.0.write_all(b"\n")).expect("git reads it");
    }

    fn write(&mut self, text: String) {
        self.0.write_all(text.as_bytes()).expect("git reads it");
    }
}

const COMMITS: usize = 10_000;
