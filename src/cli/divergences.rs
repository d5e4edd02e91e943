//! `divergences`: what upstream said otherwise, why, and what was decided about it.

use super::output::say;
use super::own_store::with_store;
use super::{Context, Failure, admin_client, output};
use crate::archive::Explanation;
use crate::keeper::Decided;
use crate::keeper::divergences::{self, Recorded};
use crate::keeper::verify;
use crate::ledger::entry::{Action, DivergenceState};
use crate::server::admin::Deciding;
use crate::store::blobs::Blobs;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;
use std::process::ExitCode;

/// What `divergences` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// List also those that someone has decided about
    #[arg(long)]
    all: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List those that nobody has decided about yet, as without a command
    List {
        /// List also those that someone has decided about
        #[arg(long)]
        all: bool,
    },
    /// Tell all that is known of one: what was expected, what came, and how they differ
    Show { id: u64 },
    /// Print how the text files of the expected and the observed archive differ
    Diff { id: u64 },
    /// Note in the ledger that it was seen
    Ack(Decision),
    /// Serve an edit that is held, or a whole state; what was there first stays fetchable
    Accept(Decision),
}

#[derive(Debug, Args)]
struct Decision {
    id: u64,
    /// Why, for those who read the ledger later
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who decides, when that is not the name of the user who runs this
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => list(context, arguments.all),
        Some(Command::List { all }) => list(context, all || arguments.all),
        Some(Command::Show { id }) => show(context, id),
        Some(Command::Diff { id }) => diff(context, id),
        Some(Command::Ack(decision)) => decide(context, Action::Acknowledge, decision),
        Some(Command::Accept(decision)) => decide(context, Action::Accept, decision),
    }
}

fn list(context: &Context, all: bool) -> Result<ExitCode, Failure> {
    let mut recorded = read(context)?;
    recorded.retain(|it| all || it.state == DivergenceState::Open);
    if context.json {
        recorded.iter().for_each(output::json);
        return Ok(ExitCode::SUCCESS);
    }
    if recorded.is_empty() {
        say!("{}", if all { "no divergence was ever seen" } else { "no divergence is open" });
    }
    for Recorded { id, state, divergence, .. } in &recorded {
        let packages = divergence.packages.join(" ");
        let (bad, what) = (output::BAD, divergence.what);
        say!("{id:>7}  {}  {state}  {bad}{what}{bad:#} {packages}", divergence.at);
        say!("         {}", divergence.url);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, id: u64) -> Result<ExitCode, Failure> {
    let recorded = find(context, id)?;
    let explained = explain(context, &recorded);
    if context.json {
        let explanation = explained.as_ref().ok().and_then(Option::as_ref);
        output::json(&json!({ "recorded": recorded, "explanation": explanation }));
        return Ok(ExitCode::SUCCESS);
    }
    let Recorded { state, divergence, decisions, .. } = &recorded;
    let (bad, heading) = (output::BAD, output::HEADING);
    say!("{heading}Divergence {id}{heading:#}: {bad}{}{bad:#}, {state}", divergence.what);
    say!("  seen         {}", divergence.at);
    say!(
        "  packages     {} of repository {}",
        divergence.packages.join(" "),
        divergence.repository
    );
    say!("  asked        {}", divergence.url);
    if let Some(src) = &divergence.src {
        say!("  declared as  {src}");
    }
    if divergence.from != divergence.url {
        say!("  answered by  {}", divergence.from);
    }
    for expected in &divergence.expected {
        say!("  expected     {expected}");
    }
    if let Some(observed) = &divergence.observed {
        let bytes = output::count(observed.size, "byte", "bytes");
        say!("  observed     sha256={}, {bytes}", observed.sha256);
    }
    let mut lines = divergence.detail.lines();
    say!("  in words     {}", lines.next().unwrap_or_default());
    lines.for_each(|line| say!("               {line}"));
    if let Some(evidence) = &divergence.evidence {
        let path = context.layout()?.blob(evidence);
        say!("  evidence     {}", path.display());
    }
    match explained {
        Ok(Some(explanation)) => {
            say!("  explanation  {explanation}");
            if explanation.unified_diff().is_some() {
                say!("               opam-keep divergences diff {id} prints the lines");
            }
        }
        Ok(None) if divergence.what.is_of_metadata() => {}
        Ok(None) => {
            say!("  explanation  none: the expected bytes and the observed ones are not both kept")
        }
        Err(error) => say!("  explanation  none: {error}"),
    }
    for decision in decisions {
        let why = decision.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
        say!("  {:<12} by {} at {}{why}", decision.action.state(), decision.by, decision.at);
    }
    if *state != DivergenceState::Accepted && divergence.what.is_of_metadata() {
        say!("\nTo serve what upstream says:  opam-keep divergences accept {id} --why \"…\"");
    }
    if *state == DivergenceState::Open {
        say!("\nOnce it is looked into:  opam-keep divergences ack {id} --why \"…\"");
    }
    Ok(ExitCode::SUCCESS)
}

fn diff(context: &Context, id: u64) -> Result<ExitCode, Failure> {
    let recorded = find(context, id)?;
    let explanation = explain(context, &recorded).map_err(Failure::failed)?;
    match explanation.as_ref().and_then(Explanation::unified_diff) {
        Some(diff) => {
            diff.lines().for_each(|line| say!("{line}"));
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let why = explanation.map_or_else(
                || "the expected bytes and the observed ones are not both kept".to_owned(),
                |explanation| explanation.to_string(),
            );
            Err(Failure::Failed(format!("divergence {id} has no lines to compare: {why}")))
        }
    }
}

fn decide(context: &Context, action: Action, decision: Decision) -> Result<ExitCode, Failure> {
    let Decision { id, why, by } = decision;
    let deciding = Deciding { action, by: by.unwrap_or_else(user), why };
    let (layout, path) = (context.layout()?, format!("/divergences/{id}"));
    let answer = admin_client::tell(&layout, Method::POST, &path, &deciding)?;
    let is_running = answer.is_some();
    let Decided { entry, pinned, problem } = match answer {
        Some(decided) => decided,
        None => {
            let entry = decide_here(context, id, deciding)?;
            Decided { entry, pinned: Vec::new(), problem: None }
        }
    };
    if context.json {
        output::json(&json!({
            "divergence": id,
            "entry": entry,
            "pinned": pinned,
            "problem": problem,
        }));
    } else {
        say!("divergence {id}: {} in ledger entry {entry}", action.state());
        for pin in pinned {
            say!("Its archive is pinned by ledger entry {pin}.");
        }
        if let (Action::Accept, false) = (action, is_running) {
            say!("It is served from the next refresh on; no server runs.");
        }
        if let Some(problem) = &problem {
            say!("{}not done{:#}: {problem}", output::BAD, output::BAD);
        }
    }
    Ok(if problem.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// No server runs, so this process takes the store.
fn decide_here(context: &Context, id: u64, deciding: Deciding) -> Result<u64, Failure> {
    with_store(context, async |store, clock| {
        let Deciding { action, by, why } = deciding;
        let decided = divergences::decide(&store, &clock, id, action, by, why).await;
        decided.map(|(entry, _)| entry).map_err(Failure::usage)
    })
}

fn read(context: &Context) -> Result<Vec<Recorded>, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    divergences::all(&reader).map_err(Failure::failed)
}

fn find(context: &Context, id: u64) -> Result<Recorded, Failure> {
    read(context)?.into_iter().find(|recorded| recorded.id == id).ok_or_else(|| {
        Failure::Usage(format!(
            "ledger entry {id} is no divergence: opam-keep divergences --all lists them"
        ))
    })
}

fn explain(context: &Context, recorded: &Recorded) -> Result<Option<Explanation>, String> {
    let layout = context.layout().map_err(|failure| failure.to_string())?;
    let reader = verify::reader(&layout)?;
    divergences::explain(&reader, &Blobs::at(layout), &recorded.divergence)
        .map_err(|error| error.to_string())
}

/// Who runs this, as far as the surroundings tell.
fn user() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let id = || format!("uid {}", rustix::process::getuid().as_raw());
    variable("SUDO_USER").or_else(|| variable("USER")).unwrap_or_else(id)
}
