//! `verify`: check the whole store against itself.

use super::output::say;
use super::{Context, Failure, admin_client, named_file, output};
use crate::clock::Clock;
use crate::digest::Sha256;
use crate::keeper::proof;
use crate::keeper::verified::Verified;
use crate::keeper::verify::{self, Problem, Report, Step};
use crate::ledger::note::MAX_NOTE;
use crate::store::layout::Layout;
use clap::Args;
use http::Method;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
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
    let since: Vec<_> = arguments.since.iter().map(|it| earlier(it)).collect::<Result<_, _>>()?;
    let mut report = check(&layout, arguments.quiet);
    for (path, checkpoint) in since {
        if let Err(error) = proof::grown_since(&log, &checkpoint) {
            let subject = path.display().to_string();
            report.problems.push(Problem { subject, problem: error.to_string() });
        }
    }
    tell_server(&layout, &report.damaged);
    let sound = report.problems.is_empty();
    if context.json {
        output::json(&report);
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
            say!("opam-keep repair has damaged blobs again from who has the same bytes");
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn earlier(path: &Path) -> Result<(&Path, Vec<u8>), Failure> {
    Ok((path, named_file::read(path, MAX_NOTE)?))
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
