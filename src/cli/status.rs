//! `status`: how fresh the repositories are and what is kept.

use super::output::say;
use super::{Context, Failure, admin_client, output};
use crate::VERSION;
use crate::clock::Clock;
use crate::keeper::recheck::RecheckStatus;
use crate::keeper::verified::Verified;
use crate::keeper::verify;
use crate::keeper::{Exceptions, alerts};
use crate::ledger::entry::Entry;
use crate::server::status::{ConfigurationStatus, RepositoryStatus, Status};
use crate::store::layout::Layout;
use crate::store::tokens::{Tokens, TokensError};
use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(context: &Context) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let status = match of_running(&layout)? {
        Some(status) => status,
        None => at_rest(context, &layout)?,
    };
    Ok(tell(&status, context.json))
}

/// The status of the server that runs on a store, if one does.
pub(super) fn of_running(layout: &Layout) -> Result<Option<Status>, Failure> {
    admin_client::ask_within(PATIENCE, layout, "/status")
}

pub(super) fn tell(status: &Status, as_json: bool) -> ExitCode {
    match as_json {
        true => output::json(status),
        false => print(status),
    }
    ExitCode::SUCCESS
}

/// What the ledger of a store tells when no server runs on it.
fn at_rest(context: &Context, layout: &Layout) -> Result<Status, Failure> {
    let reader = verify::reader(layout).map_err(Failure::Usage)?;
    let size = reader.size().map_err(Failure::failed)?;
    let (mut pins, mut divergences, mut snapshots) = (0, 0, BTreeMap::new());
    let mut decided = HashSet::new();
    for entry in reader.entries(0, size) {
        match entry.map_err(Failure::failed)? {
            (_, Entry::Pin(_)) => pins += 1,
            (_, Entry::Divergence(_)) => divergences += 1,
            // What was brought in from upstream's past is not the current state.
            (index, Entry::Snapshot(snapshot)) if snapshot.past.is_none() => {
                snapshots.insert(snapshot.repository.clone(), (index, snapshot));
            }
            (_, Entry::Decision(decision)) => drop(decided.insert(decision.divergence)),
            (_, _) => {}
        }
    }
    let repositories = snapshots.into_values().map(|(index, snapshot)| RepositoryStatus {
        exceptions: Exceptions::kept(layout, &snapshot.repository, index).unwrap_or_default(),
        name: snapshot.repository,
        upstream: snapshot.upstream,
        versions: Some(snapshot.versions),
        entry: Some(index),
        admitted_at: Some(snapshot.at),
        fresh_at: None,
        problem: None,
    });
    Ok(Status {
        running: false,
        stopping: false,
        version: VERSION.text.to_owned(),
        url: None,
        at: Clock::system().now(),
        store: Some(layout.root().to_owned()),
        offline: context.config.upstream.offline,
        tokens: tokens_problem(layout),
        configuration: None,
        verified: Verified::last(layout),
        problem: None,
        ledger: reader.verifier().name().to_owned(),
        entries: size,
        pins,
        divergences,
        open_divergences: divergences.saturating_sub(decided.len() as u64),
        fetching: 0,
        rechecks: None,
        sinks: alerts::of_store(layout, &context.config),
        repositories: repositories.collect(),
    })
}

/// What is wrong with the list of tokens, as far as this user may read it.
fn tokens_problem(layout: &Layout) -> Option<String> {
    let error = Tokens::read(layout).err()?;
    matches!(error, TokensError::Unreadable { .. }).then(|| error.to_string())
}

fn print(status: &Status) {
    let (heading, good, bad) = (output::HEADING, output::GOOD, output::BAD);
    let running = match status.running {
        true if status.stopping => format!("{bad}stopping{bad:#}, version {}", status.version),
        true => format!("{good}running{good:#}, version {}", status.version),
        false => "not running; this is what the ledger tells".to_owned(),
    };
    say!("server       {running}");
    if let Some(url) = &status.url {
        say!("clients at   {url}");
    }
    if let Some(store) = &status.store {
        say!("store        {}", store.display());
    }
    if status.offline {
        say!("upstream     {heading}offline{heading:#}: nothing is asked of other machines");
    }
    if let Some(configuration) = &status.configuration {
        print_configuration(configuration);
    }
    if let Some(problem) = &status.tokens {
        say!("{bad}tokens{bad:#}       {problem}");
    }
    if let Some(problem) = &status.problem {
        say!("{bad}problem{bad:#}      {problem}");
    }
    let entries = output::count(status.entries, "entry", "entries");
    let pins = output::count(status.pins, "pin", "pins");
    say!("ledger       {}: {entries}, {pins}", status.ledger);
    if let Some(verified) = &status.verified {
        print_verified(verified);
    }
    match (status.open_divergences, status.divergences) {
        (0, 0) => say!("divergences  {good}none{good:#}"),
        (0, all) => say!("divergences  {good}none open{good:#}, {all} in all"),
        (open, all) => {
            say!("divergences  {bad}{open} open{bad:#}, {all} in all; see opam-keep divergences")
        }
    }
    if status.fetching > 0 {
        let archives = output::count(status.fetching as u64, "archive", "archives");
        say!("fetching     {archives}");
    }
    if let Some(rechecks) = &status.rechecks {
        print_rechecks(rechecks);
    }
    status.sinks.iter().enumerate().for_each(|(place, sink)| {
        let name = if place == 0 { "alerts" } else { "" };
        say!("{name:<12} {}", super::alerts::sentence(sink));
    });
    for repository in &status.repositories {
        say!("\n{heading}{}{heading:#}  {}", repository.name, repository.upstream);
        match (repository.versions, repository.admitted_at) {
            (Some(versions), Some(at)) => {
                let versions = output::count(versions, "version", "versions");
                say!("  serving    {versions}, admitted {at}");
            }
            _ if status.running && !status.offline && repository.problem.is_none() => {
                say!("  serving    nothing yet: its first index is being fetched")
            }
            _ => say!("  serving    nothing yet: no snapshot was admitted"),
        }
        if let Some(at) = repository.fresh_at {
            say!("  fresh      upstream last answered well at {at}");
        }
        if let Some(problem) = &repository.problem {
            say!("  {bad}problem{bad:#}    {problem}");
        }
        print_exceptions(&repository.exceptions);
    }
}

fn print_exceptions(exceptions: &Exceptions) {
    let bad = output::BAD;
    let Exceptions { refused, kept, held, waiting, whole } = exceptions;
    if let Some(why) = whole {
        say!("  {bad}held{bad:#}       as a whole, and nothing new is served: {why}");
    }
    let decided = [(held, "as admitted before"), (waiting, "not served until accepted")];
    for (versions, how) in decided.into_iter().filter(|(versions, _)| !versions.is_empty()) {
        let count = output::count(versions.len() as u64, "version", "versions");
        let some = some_of(versions.iter().map(String::as_str));
        say!("  {bad}held{bad:#}       {count} {how}: {some}");
    }
    for (versions, what) in [(refused, "left out"), (kept, "kept")] {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (package, reason) in versions {
            by_reason.entry(reason).or_default().push(package);
        }
        for (reason, packages) in by_reason {
            let count = output::count(packages.len() as u64, "version", "versions");
            let as_before = if what == "kept" { " as admitted before" } else { "" };
            let some = some_of(packages.into_iter());
            say!("  {bad}{what:<8}{bad:#}   {count}{as_before} ({reason}): {some}");
        }
    }
}

fn print_configuration(configuration: &ConfigurationStatus) {
    let bad = output::BAD;
    let ConfigurationStatus { since, problem, at_next_start } = configuration;
    match problem {
        Some(problem) => {
            say!("config       {bad}the change is refused:{bad:#} {problem}");
            say!("             what holds since {since} goes on");
        }
        None => say!("config       in force since {since}"),
    }
    if !at_next_start.is_empty() {
        say!("             from the next start on: {}", at_next_start.join(", "));
    }
}

fn print_verified(verified: &Verified) {
    let (good, bad) = (output::GOOD, output::BAD);
    match verified.problems {
        0 => say!("verified     {good}sound{good:#} at {}", verified.at),
        problems => {
            say!("verified     {bad}{problems} wrong{bad:#} at {}", verified.at);
            say!(
                "             opam-keep verify says what, and opam-keep repair fetches blobs again"
            );
        }
    }
}

/// The first few of many; --json has them all.
fn some_of<'a>(packages: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = if packages.len() > MAX_NAMED { " …" } else { "" };
    format!("{}{more}", packages.take(MAX_NAMED).collect::<Vec<_>>().join(" "))
}

fn print_rechecks(rechecks: &RecheckStatus) {
    let bad = output::BAD;
    let outcomes = rechecks.urls.iter().map(|(outcome, count)| match outcome.is_good() {
        true => format!("{count} {outcome}"),
        false => format!("{bad}{count} {outcome}{bad:#}"),
    });
    let outcomes: Vec<String> = outcomes.collect();
    let outcomes = if outcomes.is_empty() { "none yet".to_owned() } else { outcomes.join(", ") };
    say!("rechecks     {outcomes}; {} due now", rechecks.due);
    if rechecks.urls.keys().any(|outcome| !outcome.is_good()) {
        say!("             see opam-keep log --kind recheck");
    }
    if let (true, Some(since)) = (rechecks.behind, rechecks.due_since) {
        say!("             {bad}behind{bad:#}: one is due since {since}; raise recheck.bandwidth");
    }
}

/// It reads all that is to be rechecked, which takes a while where a million archives are.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most versions of one kind that are named.
const MAX_NAMED: usize = 8;
