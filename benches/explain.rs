//! How long it takes to say why two archives differ, against what people do today: unpack both and
//! compare the folders. Then what hostile archives cost. `cargo bench --bench explain`.

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use opam_keep::archive::{self, Explanation, Limits};
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use world::{Memory, Recorded, tar_gz};

fn main() -> ExitCode {
    match Recorded::find() {
        Some(recorded) => real(&recorded),
        None => println!("skipped: benches/explain: no recorded archives here"),
    }
    hostile();
    ExitCode::SUCCESS
}

/// The largest recorded gzipped tarballs, each against itself compressed anew.
fn real(recorded: &Recorded) {
    let gzipped = recorded.archives().filter(|bytes| bytes.starts_with(&[0x1f, 0x8b]));
    let mut archives: Vec<&[u8]> = gzipped.map(|bytes| &bytes[..]).collect();
    archives.sort_by_key(|bytes| std::cmp::Reverse(bytes.len()));
    println!("{:<24}{:>14}{:>14}{:>9}", "seconds", "tar and diff", "opam-keep", "ratio");
    for bytes in archives.into_iter().take(ARCHIVES) {
        let anew = compressed_anew(bytes);
        let theirs = best(|| unpack_and_compare(bytes, &anew));
        let ours = best(|| {
            let start = Instant::now();
            let said = explain(bytes, &anew);
            assert!(matches!(said, None | Some(Explanation::Recompressed(_))), "{said:?}");
            start.elapsed()
        });
        let what = format!("{:.1} MB, recompressed", bytes.len() as f64 / 1e6);
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        println!(
            "{what:<24}{:>14.3}{:>14.3}{ratio:>9.2}",
            theirs.as_secs_f64(),
            ours.as_secs_f64()
        );
    }
}

/// Archives that are made to cost much, each observed in place of a small honest one.
fn hostile() {
    let honest = tar_gz([("p/file", &b"content"[..])]);
    println!("\n{:<40}{:>9}{:>10}  said", "hostile archive", "seconds", "MB more");
    for (what, bytes) in [
        ("10 GB of zeros in 10 MB", zeros(1_000)),
        ("a million entries", entries(1_000_000)),
        ("60,000 entries with ../ and /", escaping(60_000)),
        ("gzip in gzip, 100 deep", nested(100)),
    ] {
        let memory = Memory::of(i32::try_from(std::process::id()).expect("a pid fits"));
        let start = Instant::now();
        let said = explain(&honest, &bytes).map_or_else(|| "same".to_owned(), |it| it.to_string());
        let seconds = start.elapsed().as_secs_f64();
        let said: String = said.chars().take(60).collect();
        println!("{what:<40}{seconds:>9.2}{:>10.1}  {said}", memory.grown() as f64 / 1e6);
    }
}

fn explain(expected: &[u8], observed: &[u8]) -> Option<Explanation> {
    archive::explain(&mut Cursor::new(expected), &mut Cursor::new(observed), &Limits::default())
        .expect("memory can be read")
}

fn unpack_and_compare(expected: &[u8], observed: &[u8]) -> Duration {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let write = |name: &str, bytes: &[u8]| {
        let (file, folder) =
            (directory.path().join(name), directory.path().join(format!("{name}.d")));
        fs::write(&file, bytes).and_then(|()| fs::create_dir(&folder)).expect("it can be written");
        (file, folder)
    };
    let (expected, observed) = (write("expected", expected), write("observed", observed));
    let start = Instant::now();
    for (file, folder) in [&expected, &observed] {
        succeed(Command::new("tar").arg("xzf").arg(file).arg("-C").arg(folder));
    }
    succeed(Command::new("diff").arg("-r").args([&expected.1, &observed.1] as [&Path; 2]));
    start.elapsed()
}

fn succeed(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    // Archives with links to nowhere make diff complain, and it has read all else by then.
    assert!(status.is_ok_and(|status| status.code().is_some_and(|code| code <= 2)), "{command:?}");
}

fn best(run: impl Fn() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| run()).min().unwrap_or_default()
}

fn compressed_anew(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut tar).expect("a real archive inflates");
    gzip(&tar)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(5));
    gzip.write_all(bytes).expect("memory takes everything");
    gzip.finish().expect("a gzip stream can be ended")
}

/// One file of zeros, in so many gzip members of 10 MiB each.
fn zeros(members: usize) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("p/zeros").expect("a short path");
    header.set_size(1 << 33);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = gzip(header.as_bytes());
    bytes.extend(gzip(&vec![0; 10 << 20]).repeat(members));
    bytes
}

fn entries(count: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|number| format!("p/{number}")).collect();
    tar_gz(names.iter().map(|name| (name.as_str(), &b""[..])))
}

/// The tar crate writes no such names itself.
fn escaping(count: usize) -> Vec<u8> {
    let mut tar = Vec::new();
    for number in 0..count {
        let mut header = tar::Header::new_ustar();
        let name = if number % 2 == 0 { format!("../{number}") } else { format!("/etc/{number}") };
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
    }
    tar.extend_from_slice(&[0; 1024]);
    gzip(&tar)
}

fn nested(depth: usize) -> Vec<u8> {
    let innermost = tar_gz([("p/file", &b"content"[..])]);
    (0..depth).fold(innermost, |bytes, _| gzip(&bytes))
}

const ARCHIVES: usize = 5;
const ROUNDS: usize = 3;
