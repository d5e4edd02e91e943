//! `verify`: check the whole store against itself.

use super::output::say;
use super::{Context, Failure, output};
use crate::keeper::verify::{self, Step};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::process::ExitCode;

/// What `verify` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show no progress bar
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    // A store that is not there is a mistake in the call, not a store with a problem.
    verify::reader(&layout).map_err(Failure::Usage)?;
    // indicatif draws nothing where standard error is no terminal.
    let target = match arguments.quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style());
    let report = verify::verify(&layout, &|step| match step {
        Step::Blobs(count) => bar.set_length(count),
        Step::Blob(_) => bar.inc(1),
    });
    bar.finish_and_clear();
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
        let counts =
            format!("{entries}, {blobs}, {}", output::count(report.bytes, "byte", "bytes"));
        match sound {
            true => say!("{}sound{:#}: {counts}", output::GOOD, output::GOOD),
            false => say!("{} wrong of {counts}", report.problems.len()),
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos}/{len} blobs, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
