//! `health`: whether the server lives, for supervisors of containers.

use super::output::say;
use super::{Context, Failure, admin_client, output};
use crate::keeper::readiness::Part;
use clap::Args;
use http::Method;
use std::process::ExitCode;

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
    let parts: Option<Vec<Part>> = admin_client::ask(&layout, Method::GET, "/readiness")?;
    let Some(parts) = parts else {
        let root = layout.root().display();
        return Err(Failure::Failed(format!(
            "no server runs on {root}: start one with opam-keep serve"
        )));
    };
    if context.json {
        output::json(&parts);
    } else {
        for Part { part, problem } in &parts {
            let (good, bad) = (output::GOOD, output::BAD);
            match problem {
                None => say!("{part}: {good}ok{good:#}"),
                Some(problem) => say!("{part}: {bad}{problem}{bad:#}"),
            }
        }
    }
    let is_ready = parts.iter().all(|part| part.problem.is_none());
    Ok(if is_ready || !arguments.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const AFTER_HELP: &str = "\
Exits with 0 while the server answers, with 1 when it does not or, with --ready, when a part is not \
as it should be.";
