//! `verify`: check the whole store against itself.

use super::output::say;
use super::{Context, Failure, admin_client, named_file, output};
use crate::clock::Clock;
use crate::digest::Sha256;
use crate::keeper::proof::{self, GrowthError};
use crate::keeper::verified::Verified;
use crate::keeper::verify::{self, Report, Step};
use crate::ledger::checkpoint::CheckpointError;
use crate::ledger::note::{MAX_NOTE, NoteError};
use crate::store::layout::Layout;
use crate::store::log::LogReader;
use clap::Args;
use http::Method;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `verify` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A copy of ledger/checkpoint from then: check as well that the ledger only grew since
    #[arg(long, value_name = "CHECKPOINT")]
    since: Vec<PathBuf>,
    /// Show no progress bar
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    // A store that is not there is a mistake in the call, not a store with a problem.
    let log = verify::reader(&layout).map_err(Failure::Usage)?;
    let since: Vec<Since> =
        arguments.since.iter().map(|it| Since::of(it, &log)).collect::<Result<_, _>>()?;
    let report = check(&layout, arguments.quiet);
    tell_server(&layout, &report.damaged);
    let sound = report.problems.is_empty();
    if context.json {
        output::json(&Told { report: &report, since: &since });
    } else {
        for problem in &report.problems {
            let (bad, subject) = (output::BAD, &problem.subject);
            say!("{bad}{subject}{bad:#}: {}", problem.problem);
        }
        let entries = output::count(report.entries, "entry", "entries");
        let blobs = output::count(report.blobs, "blob", "blobs");
        let counts = format!("{entries}, {blobs}, {}", HumanBytes(report.bytes));
        match sound {
            true => say!("{}sound{:#}: {counts}", output::GOOD, output::GOOD),
            false => say!("{} wrong of {counts}", report.problems.len()),
        }
        if !report.damaged.is_empty() {
            say!("opam-keep repair fetches damaged blobs again, from whoever has the same bytes");
        }
        since.iter().for_each(Since::print);
    }
    let has_grown = since.iter().all(|since| since.problem.is_none());
    Ok(if sound && has_grown { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report, and what earlier checkpoints say of the ledger.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    since: &'a [Since],
}

/// What an earlier checkpoint says of the ledger.
#[derive(Serialize)]
struct Since {
    checkpoint: String,
    /// How many entries there were, all of which are the same.
    entries: Option<u64>,
    problem: Option<String>,
}

impl Since {
    fn of(path: &Path, log: &LogReader) -> Result<Self, Failure> {
        let note = named_file::read(path, MAX_NOTE)?;
        let checkpoint = path.display().to_string();
        Ok(match proof::grown_since(log, &note) {
            Ok(entries) => Self { checkpoint, entries: Some(entries), problem: None },
            Err(GrowthError::Checkpoint(CheckpointError::Note(NoteError::Malformed))) => {
                let sentence = "no checkpoint: name a copy of ledger/checkpoint";
                return Err(Failure::Usage(format!("{checkpoint}: {sentence}")));
            }
            Err(error) => Self { checkpoint, entries: None, problem: Some(error.to_string()) },
        })
    }

    fn print(&self) {
        let Self { checkpoint, entries, problem } = self;
        let (good, bad) = (output::GOOD, output::BAD);
        match (entries, problem) {
            (Some(entries), _) => {
                let entries = output::count(*entries, "entry", "entries");
                say!("{good}grown{good:#} since {checkpoint}, from {entries}");
            }
            (None, problem) => {
                say!("{bad}{checkpoint}{bad:#}: {}", problem.as_deref().unwrap_or_default());
            }
        }
    }
}

/// Looks the whole store over, showing how far that has come, and leaves in it what was found.
pub(super) fn check(layout: &Layout, quiet: bool) -> Report {
    // indicatif draws nothing where standard error is no terminal.
    let target = match quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style());
    let report = verify::verify(layout, &|step| match step {
        Step::Blobs(count) => bar.set_length(count),
        Step::Blob(_) => bar.inc(1),
    });
    bar.finish_and_clear();
    let left = Verified::new(&report, Clock::system().now()).leave(layout);
    if let Err(error) = left {
        tracing::debug!(%error, "what was found is not left in the store");
    }
    report
}

/// Has a running server look at what was found damaged, and at what was before: it tells people.
pub(super) fn tell_server(layout: &Layout, damaged: &[Sha256]) {
    let names: Vec<_> = damaged.iter().take(MAX_TOLD).collect();
    // Whoever may read the store need not be able to talk to its server.
    if let Err(failure) = admin_client::tell::<usize>(layout, Method::POST, "/blobs", &names) {
        tracing::warn!(%failure, "the running server does not know what was found");
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} blobs{left}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("left", output::left)
}

/// As many names as fit into one message to the server.
const MAX_TOLD: usize = 200;
