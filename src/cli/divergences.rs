//! `divergences`: what upstream said otherwise, why, and what was decided about it.

use super::output::say;
use super::own_store::with_store;
use super::{Context, Failure, admin_client, output, user};
use crate::archive::Explanation;
use crate::keeper::Decided;
use crate::keeper::current::Current;
use crate::keeper::divergences::{self, DecideError, Recorded};
use crate::keeper::edited;
use crate::keeper::verify;
use crate::ledger::entry::{Action, DivergenceKind, DivergenceState};
use crate::server::admin::Deciding;
use crate::store::blobs::Blobs;
use clap::builder::NonEmptyStringValueParser;
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
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Print how the files of an edited version, and those of its archives, differ
    Diff {
        #[command(flatten)]
        which: Which,
    },
    /// Note in the ledger that they were seen
    #[command(visible_alias = "acknowledge")]
    Ack(Decision),
    /// Serve an edit that is held, or a whole state; what was there first stays fetchable
    Accept(Decision),
}

#[derive(Debug, Args)]
struct Which {
    /// The number before it in the list, its index in the ledger
    #[arg(value_parser = id)]
    id: u64,
}

#[derive(Debug, Args)]
struct Decision {
    /// The numbers before them in the list, their indices in the ledger
    #[arg(value_name = "ID", required = true, value_parser = id)]
    ids: Vec<u64>,
    /// Why, for those who read the ledger later
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    why: Option<String>,
    /// Who decides, when that is not the name of the user who runs this
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    by: Option<String>,
}

fn id(text: &str) -> Result<u64, &'static str> {
    text.parse()
        .map_err(|_| "a divergence is named by its number, which opam-keep divergences lists")
}

impl Arguments {
    /// Whether nothing is decided.
    pub(super) fn only_read(&self) -> bool {
        !matches!(self.command, Some(Command::Ack(_) | Command::Accept(_)))
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => list(context, arguments.all),
        Some(Command::List { all }) => list(context, all || arguments.all),
        Some(Command::Show { which }) => show(context, which.id),
        Some(Command::Diff { which }) => diff(context, which.id),
        Some(Command::Ack(decision)) => decide(context, Action::Acknowledge, decision),
        Some(Command::Accept(decision)) => decide(context, Action::Accept, decision),
    }
}

fn list(context: &Context, all: bool) -> Result<ExitCode, Failure> {
    let mut recorded = read(context)?;
    recorded.retain(|it| all || it.state == DivergenceState::Open);
    mark(context, &mut recorded)?;
    if context.json {
        recorded.iter().for_each(output::json);
        return Ok(ExitCode::SUCCESS);
    }
    if recorded.is_empty() {
        say!("{}", if all { "no divergence was ever seen" } else { "no divergence is open" });
    }
    for Recorded { id, state, divergence, outdated, .. } in &recorded {
        let mut about = match divergence.packages.is_empty() {
            true => divergence.repository.clone(),
            false => divergence.packages.join(" "),
        };
        if !divergence.edits.is_empty() {
            about = format!("{about}: {}", divergence.edits.join(", "));
        }
        let (bad, what) = (output::BAD, divergence.what);
        let held = if divergence.held { "held, " } else { "" };
        let outdated = if *outdated { "outdated, " } else { "" };
        say!("{id:>7}  {}  {state}  {bad}{outdated}{held}{what}{bad:#} {about}", divergence.at);
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
    let Recorded { state, divergence, decisions, outdated, .. } = &recorded;
    let (bad, heading) = (output::BAD, output::HEADING);
    say!("{heading}Divergence {id}{heading:#}: {bad}{}{bad:#}, {state}", divergence.what);
    say!("  seen         {}", divergence.at);
    match divergence.packages.is_empty() {
        true => say!("  repository   {}", divergence.repository),
        false => {
            let packages = divergence.packages.join(" ");
            say!("  packages     {packages} of repository {}", divergence.repository);
        }
    }
    if divergence.what.is_of_metadata() {
        match (divergence.held, *state == DivergenceState::Accepted) {
            _ if *outdated => {
                say!("  outdated     upstream withdrew this, or edited it again, which is a");
                say!("               divergence of its own: this one can't be accepted");
            }
            (true, true) => say!("  policy       it was held, and is served since it was accepted"),
            (false, true) => say!("  policy       it only warned of this, and it was accepted"),
            (true, false) => {
                say!("  policy       held: not served as upstream has it until this is accepted");
            }
            (false, false) => say!("  policy       it only warns of this: nobody has to accept it"),
        }
    }
    say!("  asked        {}", divergence.url);
    if let Some(src) = &divergence.src {
        say!("  declared as  {src}");
    }
    if divergence.from != divergence.url {
        say!("  answered by  {}", divergence.from);
    }
    // Of metadata these are lists of files, which nobody would know by their checksums.
    if !divergence.what.is_of_metadata() {
        for expected in &divergence.expected {
            say!("  expected     {expected}");
        }
        if let Some(observed) = &divergence.observed {
            let bytes = output::count(observed.size, "byte", "bytes");
            say!("  observed     sha256={}, {bytes}", observed.sha256);
        }
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
            if explanation.unified_diff().is_some() || !divergence.edits.is_empty() {
                say!("               opam-keep divergences diff {id} prints the lines");
            }
        }
        Ok(None) if !divergence.edits.is_empty() => {
            say!("               opam-keep divergences diff {id} prints the files' lines");
            if divergence.edits.iter().any(|edit| edit == "source-rewritten") {
                let package = divergence.packages.join(" ");
                say!(
                    "               Its archives are not both here to compare. Where the URL is the"
                );
                say!(
                    "               old one's, this fetches the new one:  opam-keep recheck {package}"
                );
            }
        }
        Ok(None) if divergence.what.is_of_metadata() => {}
        Ok(None) => {
            say!("  explanation  none: the expected bytes and the observed ones are not both kept")
        }
        Err(error) => say!("  explanation  none: {error}"),
    }
    for decision in decisions {
        let why = decision.why.as_deref().map(output::escaped);
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        let by = output::escaped(&decision.by);
        say!("  {:<12} by {by} at {}{why}", decision.action.state(), decision.at);
    }
    if *state != DivergenceState::Accepted && divergence.held && !outdated {
        say!(
            "\nTo serve what upstream says, for good:  opam-keep divergences accept {id} --why \"…\""
        );
    }
    if *state == DivergenceState::Open {
        say!("\nOnce it is looked into:  opam-keep divergences ack {id} --why \"…\"");
    }
    Ok(ExitCode::SUCCESS)
}

fn diff(context: &Context, id: u64) -> Result<ExitCode, Failure> {
    let recorded = find(context, id)?;
    let what = recorded.divergence.what;
    if what.is_of_metadata() && what != DivergenceKind::Edited {
        return Err(Failure::Failed(format!(
            "divergence {id} is about a repository as a whole and has no lines to compare: \
             opam-keep divergences show {id} tells what is known of it"
        )));
    }
    let blobs = Blobs::at(context.layout()?);
    let files = edited::files_diff(&blobs, &recorded.divergence).map_err(Failure::failed)?;
    let explanation = explain(context, &recorded).map_err(Failure::failed)?;
    let archives = explanation.as_ref().and_then(Explanation::unified_diff);
    if files.is_none() && archives.is_none() {
        let why = explanation.map_or_else(
            || "the expected bytes and the observed ones are not both kept".to_owned(),
            |explanation| explanation.to_string(),
        );
        return Err(Failure::Failed(format!("divergence {id} has no lines to compare: {why}")));
    }
    if context.json {
        output::json(&json!({
            "divergence": id,
            "files": files,
            "archives": archives,
            "explanation": explanation,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    files.iter().flat_map(|diff| diff.lines()).for_each(output::verbatim);
    if let (Some(_), Some(explanation)) = (&files, &explanation) {
        say!("\nIts archive: {explanation}");
    }
    archives.iter().flat_map(|diff| diff.lines()).for_each(output::verbatim);
    Ok(ExitCode::SUCCESS)
}

fn decide(context: &Context, action: Action, decision: Decision) -> Result<ExitCode, Failure> {
    let Decision { ids, why, by } = decision;
    // What is decided stays in the ledger, so either all of them can be decided about or none is.
    let mut known = read(context)?;
    known.retain(|known| ids.contains(&known.id));
    mark(context, &mut known)?;
    for &id in &ids {
        let known = known.iter().find(|known| known.id == id).ok_or_else(|| unknown(id))?;
        let about = &known.divergence;
        if action == Action::Accept && !about.what.is_of_metadata() {
            return Err(Failure::usage(DecideError::NothingToAccept { id, what: about.what }));
        }
        if action == Action::Accept && known.outdated {
            return Err(Failure::usage(DecideError::Outdated(id)));
        }
    }
    let by = by.unwrap_or_else(user::name);
    let deciding = Deciding { ids: ids.clone(), action, by, why };
    let answer = admin_client::tell(&context.layout()?, Method::POST, "/divergences", &deciding)?;
    let is_running = answer.is_some();
    let decided: Vec<Decided> = match answer {
        Some(decided) => decided,
        None => decide_here(context, deciding)?,
    };
    for (id, decided) in ids.iter().zip(&decided) {
        tell(context, *id, action, decided, is_running);
    }
    match decided.iter().all(|decided| decided.problem.is_none()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// Tells what became of one decision.
fn tell(context: &Context, id: u64, action: Action, decided: &Decided, is_running: bool) {
    let Decided { entry, before, pinned, acknowledged, problem, waiting, unpinned } = decided;
    if context.json {
        output::json(&json!({
            "divergence": id,
            "entry": entry,
            "before": before,
            "pinned": pinned,
            "acknowledged": acknowledged,
            "problem": problem,
            "waiting": waiting,
            "unpinned": unpinned,
        }));
        return;
    }
    match before {
        None => say!("divergence {id}: {} in ledger entry {entry}", action.state()),
        Some(before) => say!(
            "divergence {id} was {} before, by {} at {} (ledger entry {entry}): nothing was noted",
            before.action.state(),
            output::escaped(&before.by),
            before.at
        ),
    }
    for pin in pinned {
        say!("Its archive is pinned by ledger entry {pin}.");
    }
    for same in acknowledged {
        say!("Divergence {same} told of the same bytes: acknowledged as well.");
    }
    if let Some(unpinned) = unpinned {
        say!("It is served; {unpinned}.");
    }
    if let Some(waiting) = waiting {
        say!("It is not served yet: {waiting}.");
    }
    if let (Action::Accept, false, None) = (action, is_running, problem) {
        say!("It is served from the next refresh on; no server runs.");
    }
    if let Some(problem) = problem {
        say!("{}not done{:#}: {problem}", output::BAD, output::BAD);
    }
}

/// No server runs, so this process takes the store.
fn decide_here(context: &Context, deciding: Deciding) -> Result<Vec<Decided>, Failure> {
    with_store(context, async |store, clock| {
        let Deciding { ids, action, by, why } = deciding;
        let deciding = divergences::Deciding { action, by, why, with: None };
        let (noted, result) = divergences::decide(&store, &clock, ids, &deciding).await;
        result.map_err(Failure::usage)?;
        let decided = noted.into_iter().map(|it| Decided::noted(it.entry, it.before));
        Ok(decided.collect())
    })
}

fn read(context: &Context) -> Result<Vec<Recorded>, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    divergences::all(&reader).map_err(Failure::failed)
}

fn unknown(id: u64) -> Failure {
    Failure::Usage(format!(
        "ledger entry {id} is no divergence: opam-keep divergences --all lists them"
    ))
}

fn find(context: &Context, id: u64) -> Result<Recorded, Failure> {
    let found = read(context)?.into_iter().find(|recorded| recorded.id == id);
    let mut found = found.ok_or_else(|| unknown(id))?;
    mark(context, std::slice::from_mut(&mut found))?;
    Ok(found)
}

/// Marks those that are outdated.
fn mark(context: &Context, recorded: &mut [Recorded]) -> Result<(), Failure> {
    let layout = context.layout()?;
    let reader = verify::reader(&layout).map_err(Failure::Usage)?;
    let blobs = Blobs::at(layout);
    let mut current = Current::in_ledger(&reader, &blobs).map_err(Failure::failed)?;
    recorded.iter_mut().for_each(|recorded| current.mark(recorded));
    Ok(())
}

fn explain(context: &Context, recorded: &Recorded) -> Result<Option<Explanation>, String> {
    let layout = context.layout().map_err(|failure| failure.to_string())?;
    let reader = verify::reader(&layout)?;
    let pinned = |expected: &[_]| Ok(divergences::pinned(&reader, expected)?);
    divergences::explain(&pinned, &Blobs::at(layout), &recorded.divergence)
        .map_err(|error| error.to_string())
}
