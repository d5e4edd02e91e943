//! `alerts`: what waits to be told and why, and whether alerts arrive at all.

use super::output::say;
use super::{Context, Failure, output, status};
use crate::clock::Clock;
use crate::keeper::alerts::{SinkStatus, WaitingStatus, Words, of_store};
use crate::keeper::verify;
use crate::sink::Sink;
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// What `alerts` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a test alert to every sink, now and once; it does not count as delivered
    Test {
        /// Only to this one
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => list(context),
        Some(Command::Test { sink }) => test(context, sink.as_deref()),
    }
}

/// How a sink stands, in one sentence.
pub(super) fn sentence(status: &SinkStatus) -> String {
    let (bad, good) = (output::BAD, output::GOOD);
    let SinkStatus { sink, delivered, given_up, waiting, .. } = status;
    // What kept one that is told by now from being told is over.
    let problem = status.problem.as_ref().filter(|_| !waiting.is_empty());
    let state = match (waiting.len(), problem) {
        (0, _) => format!("{good}nothing waits{good:#}"),
        (count, None) => format!("{count} waiting"),
        (count, Some(_)) => format!("{bad}{count} waiting{bad:#}"),
    };
    let given_up = match given_up {
        0 => String::new(),
        count => format!(", {bad}{count} given up{bad:#}"),
    };
    let problem = problem.map_or(String::new(), |why| format!("\n{INDENT}{why}"));
    format!("{sink}: {state}, {delivered} delivered{given_up}{problem}")
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    // Whoever may not ask the server may not read what waits either.
    let status = status::of_running(&layout)?;
    let sinks = of_store(&layout, &context.config);
    if context.json {
        output::json(&sinks);
        return Ok(ExitCode::SUCCESS);
    }
    if sinks.is_empty() {
        say!("nobody is told: mirror.toml names no [[alert.webhook]], [[alert.email]] or");
        say!("[[alert.command]]");
    }
    for status in &sinks {
        let heading = output::HEADING;
        let address = status.address.as_deref().unwrap_or("not configured any more");
        say!("{heading}{}{heading:#}  {address}", status.sink);
        let said = sentence(status);
        let said = said.split_once(": ").map_or(said.as_str(), |(_, said)| said);
        say!("  {}", said.replace(INDENT, "  "));
        for waiting in status.waiting.iter().take(MAX_SHOWN) {
            print(waiting);
        }
        match status.waiting.len().saturating_sub(MAX_SHOWN) {
            0 => {}
            more => say!("  and {more} more"),
        }
    }
    if status.is_none() && !sinks.is_empty() {
        say!("no server runs: nothing is sent until one does");
    }
    Ok(ExitCode::SUCCESS)
}

fn print(waiting: &WaitingStatus) {
    let WaitingStatus { what, queued_at, attempts, next_at, problem, .. } = waiting;
    say!("  {queued_at}  {what}");
    if *attempts > 0 {
        let attempts = output::count(u64::from(*attempts), "attempt", "attempts");
        let next = next_at.map_or(String::new(), |at| {
            format!(", the next at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        });
        say!("    {attempts}{next}");
        say!("    {}", problem.as_deref().unwrap_or_default());
    }
}

fn test(context: &Context, only: Option<&str>) -> Result<ExitCode, Failure> {
    let mut sinks = Sink::all(&context.config).map_err(Failure::usage)?;
    if let Some(only) = only {
        sinks.retain(|sink| sink.name() == only);
    }
    if sinks.is_empty() {
        return Err(Failure::Usage(match only {
            Some(only) => format!("no sink \"{only}\" is configured: opam-keep alerts lists them"),
            None => "nobody is told: name an [[alert.webhook]], [[alert.email]] or \
                     [[alert.command]] in mirror.toml"
                .to_owned(),
        }));
    }
    let server = &context.config.server;
    let words = verify::reader(&context.layout()?).map_or_else(
        |_| Words::without_ledger(server),
        |reader| Words::new(reader.verifier(), server),
    );
    let alert = words.test(Clock::system().exactly());
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let deliveries = sinks.iter().map(|sink| sink.deliver(&alert));
    let waiting = output::spinner("telling them");
    let outcomes = runtime.block_on(futures_util::future::join_all(deliveries));
    drop(waiting);
    let mut code = ExitCode::SUCCESS;
    for (sink, outcome) in sinks.iter().zip(outcomes) {
        let problem = outcome.err().map(|error| error.to_string());
        if problem.is_some() {
            code = ExitCode::FAILURE;
        }
        if context.json {
            output::json(&json!({ "sink": sink.name(), "alert": alert.id, "problem": problem }));
            continue;
        }
        let (bad, good) = (output::BAD, output::GOOD);
        match problem {
            None => say!("{}: {good}taken{good:#} by {}", sink.name(), sink.address()),
            Some(problem) => say!("{}: {bad}not taken{bad:#}: {problem}", sink.name()),
        }
    }
    Ok(code)
}

/// Under the values of `status`.
const INDENT: &str = "             ";
/// Most alerts that are listed of one sink.
const MAX_SHOWN: usize = 20;
