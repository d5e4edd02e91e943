//! Writes what the fuzz targets begin with, a directory for each: `seed CORPUS`.
//!
//! Real opam files, indexes and archives where the recorded world is at hand; small ones that are
//! made here, and what opam-keep itself writes, wherever this runs.

mod archives;
mod bundles;
mod ledger;
mod metadata;
mod texts;

// Every crate here is instrumented, and this one has what the instrumentation calls.
use libfuzzer_sys as _;
use opam_keep::digest::Sha256;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use world::Recorded;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: seed CORPUS");
        return ExitCode::from(2);
    };
    let recorded = Recorded::find();
    let corpus = Corpus { directory: PathBuf::from(directory) };
    let written = metadata::seed(&corpus, recorded.as_ref())
        .and_then(|()| archives::seed(&corpus, recorded.as_ref()))
        .and_then(|()| ledger::seed(&corpus))
        .and_then(|()| bundles::seed(&corpus))
        .and_then(|()| texts::seed(&corpus));
    if let Err(error) = written {
        eprintln!("{}: {error}", corpus.directory.display());
        return ExitCode::FAILURE;
    }
    println!("seeds: {}", if recorded.is_some() { "recorded and made" } else { "made ones only" });
    ExitCode::SUCCESS
}

/// Where the seeds go.
struct Corpus {
    directory: PathBuf,
}

impl Corpus {
    /// Adds a seed of a target, under a name that follows from its bytes.
    fn add(&self, target: &str, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let bytes = bytes.as_ref();
        let directory = self.directory.join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("seed-{}", Sha256::of(bytes))), bytes)
    }
}

/// A file of the project.
fn of_project(name: &str) -> std::io::Result<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name))
}
