//! `health`: whether the server lives, for supervisors of containers.

use super::output::say;
use super::{Context, Failure, admin_client, output};
use crate::keeper::readiness::Part;
use crate::store::layout::Layout;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// What `health` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Fail also when a part is not as it should be, as /readyz tells
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let Some(parts) = of_running(&layout)? else {
        let root = layout.root().display();
        return Err(Failure::Failed(format!(
            "no server runs on {root}: start one with opam-keep serve, or name the store of one that \
             runs with --store"
        )));
    };
    Ok(tell(&parts, arguments, context.json))
}

/// What the server that runs on a store says of its parts, if one does.
pub(super) fn of_running(layout: &Layout) -> Result<Option<Vec<Part>>, Failure> {
    admin_client::ask_within(PATIENCE, layout, "/readiness")
}

pub(super) fn tell(parts: &[Part], arguments: &Arguments, as_json: bool) -> ExitCode {
    if as_json {
        output::json(&parts);
    } else {
        for Part { part, problem } in parts {
            let (good, bad) = (output::GOOD, output::BAD);
            match problem {
                None => say!("{part}: {good}ok{good:#}"),
                Some(problem) => say!("{part}: {bad}{problem}{bad:#}"),
            }
        }
    }
    let is_ready = parts.iter().all(|part| part.problem.is_none());
    if is_ready || !arguments.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A server that lives answers in less; supervisors should not have to be patient.
const PATIENCE: Duration = Duration::from_secs(5);
const AFTER_HELP: &str = "\
Exits with 0 while the server answers, with 1 when it does not within 5 seconds or, with --ready, when a part is not \
as it should be.";
