//! `export`: what this mirror holds, for others to take.

use super::named_file::problem;
use super::output::say;
use super::selecting::{Selecting, Selection};
use super::{Context, Failure, export_static, named_file, output};
use crate::keeper::export::{self, Export, ExportError, Exported, Since, Step};
use crate::keeper::verify;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::{MAX_NOTE, Verifier};
use crate::safe_url::SafeUrl;
use crate::store::blobs::Blobs;
use crate::store::{durable, keys};
use clap::{ArgGroup, Args};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `export` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("target").args(["out", "into"]).required(true))]
pub(super) struct Arguments {
    #[command(flatten)]
    selecting: Selecting,
    /// The bundle's file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only what is new since then: a ledger size, as import prints it, or a file with a checkpoint
    #[arg(long, value_name = "SIZE|CHECKPOINT")]
    since: Option<String>,
    /// Write the whole mirror as plain files instead, for any web server
    #[arg(
        long = "static",
        value_name = "DIR",
        conflicts_with_all = ["since", "packages", "from", "all", "repository"]
    )]
    into: Option<PathBuf>,
    /// Bring an earlier --static export up to date
    #[arg(long, requires = "into", conflicts_with = "out")]
    pub(super) update: bool,
    /// With --static: the repository file by file as well, below packages/, as dune reads it; an
    /// --update goes on with that
    #[arg(long, requires = "into", conflicts_with = "out")]
    pub(super) unpacked: bool,
    /// Where clients reach the --static files, in place of server.public_url, for sources that
    /// are rewritten
    #[arg(long, value_name = "URL", requires = "into", conflicts_with = "out")]
    pub(super) url: Option<SafeUrl>,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    match (&arguments.into, &arguments.out) {
        (Some(root), _) => export_static::run(context, root, arguments),
        (None, Some(out)) => bundle(context, arguments, out),
        // clap asks for one of them.
        (None, None) => Err(Failure::Usage("say --out FILE or --static DIR".to_owned())),
    }
}

fn bundle(context: &Context, arguments: &Arguments, out: &Path) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let log = verify::reader(&layout).map_err(Failure::Usage)?;
    let signer = keys::load(&layout).map_err(Failure::usage)?;
    let since = arguments.since.as_deref().map(|text| since(text, log.verifier()));
    let since = since.transpose()?.unwrap_or(Since::Size(0));
    let Selection { selector, pinned } = arguments.selecting.read_or_all()?;
    let export = Export { since, repository: selector.repository, packages: selector.packages };
    let bar = progress(arguments.quiet);
    let failed =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", out.display()));
    if out == Path::new("-") {
        return Err(Failure::usage("a bundle is a file of its own: name one, such as farm.bundle"));
    }
    if out.exists() {
        return Err(Failure::Usage(format!("{} is there already", out.display())));
    }
    // Under its own name only when it is whole.
    let directory = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".opam-keep-").tempfile_in(directory);
    let file = file.map_err(|error| Failure::Usage(problem(directory, &error)))?;
    let tell = |step| match step {
        Step::Bytes(bytes) => bar.set_length(bytes),
        Step::Written(bytes) => bar.inc(bytes),
    };
    let writer = BufWriter::with_capacity(BUFFER, file.as_file());
    let exported = export::export(&log, &Blobs::at(layout), &signer, export, writer, tell);
    bar.finish_and_clear();
    let exported = exported.map_err(|error| match error {
        ExportError::NotReached { .. } | ExportError::OtherLedger(_) => Failure::usage(error),
        ExportError::NoSnapshot => Failure::failed(error),
        error => failed(&error),
    })?;
    let size = file.as_file().metadata().map_err(|error| failed(&error))?.len();
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    file.persist_noclobber(out).map_err(|error| failed(&error.error))?;
    durable::sync_directory(directory).map_err(|error| failed(&error))?;
    let Exported { from, size: entries, archives, unknown } = &exported;
    if context.json {
        output::json(&json!({
            "file": out, "bytes": size, "from": from, "size": entries,
            "archives": archives, "unknown": unknown, "pinned": pinned,
            "key": log.verifier().to_string(),
        }));
    } else {
        let archives = output::count(*archives, "archive", "archives");
        say!("{}: {archives}, {}", out.display(), HumanBytes(size));
        say!("  ledger entries {from} up to {entries}, signed with");
        say!("  {}", log.verifier());
        if !unknown.is_empty() {
            say!("{}not in the repository{:#}: {}", output::BAD, output::BAD, unknown.join(" "));
        }
        if !pinned.is_empty() {
            let pinned: Vec<&str> = pinned.iter().map(String::as_str).collect();
            say!("pinned elsewhere, so no mirror has them: {}", pinned.join(" "));
        }
    }
    Ok(if unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A ledger size, or a checkpoint in a file.
fn since(text: &str, verifier: &Verifier) -> Result<Since, Failure> {
    if let Ok(size) = text.parse() {
        return Ok(Since::Size(size));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::Usage(format!("{text}: {error}"));
    let note = named_file::read(Path::new(text), MAX_NOTE)
        .map_err(|failure| Failure::Usage(format!("{failure}; or give a ledger size")))?;
    let checkpoint = Checkpoint::open(&note, verifier).map_err(|error| failed(&error))?;
    Ok(Since::Checkpoint(checkpoint))
}

fn progress(quiet: bool) -> ProgressBar {
    let target = match quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}

const AFTER_HELP: &str = "\
A bundle is one file, signed with the ledger's key: the ledger's entries, the repositories as they are \
served now, and the archives that are pinned; of some packages only, when some are named. It is a tar \
archive. On the other side:  opam-keep import FILE --key KEY

--static writes the mirror as files, with the paths and bytes that the server gives: index.tar.gz, \
repo and cache/. Files are hard links into the store where that is possible.

  opam-keep export --out farm.bundle
  opam-keep export --out farm.bundle --since 4711
  opam-keep export --out project.bundle --from project.opam.locked
  opam-keep export --static /srv/www/opam --update";
const BUFFER: usize = 1 << 20;
