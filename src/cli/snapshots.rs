//! `snapshots`: the states of the repositories that can be gone back to, and how they differ.

use super::output::say;
use super::{Context, Failure, audit, output};
use crate::keeper::audit::compare;
use crate::keeper::snapshots::{self, Admitted};
use crate::keeper::verify;
use crate::ledger::entry::{Past, Snapshot};
use crate::server;
use crate::store::blobs::Blobs;
use clap::{Args, Subcommand};
use jiff::fmt::rfc2822;
use serde_json::json;
use std::process::ExitCode;

/// What `snapshots` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, the newest last, as without a command
    List(Which),
    /// Tell all of one, and how to use it
    Show {
        /// Its number in the list, its index in the ledger
        #[arg(value_parser = number)]
        snapshot: u64,
    },
    /// Tell which versions the second one adds, removes or edits
    Diff {
        /// The number of the state before
        #[arg(value_parser = number)]
        old: u64,
        /// The number of the state after
        #[arg(value_parser = number)]
        new: u64,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Only those of this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Only the last so many of them
    #[arg(long, short = 'n', value_name = "COUNT")]
    last: Option<usize>,
}

fn number(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "a snapshot is named by its number, which opam-keep snapshots lists")
}

impl Arguments {
    /// Whether all is in the store that is told: where clients reach it, and the policy for edits, are
    /// not.
    pub(super) fn only_list(&self) -> bool {
        matches!(self.command, None | Some(Command::List(_)))
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        None => list(context, &arguments.which),
        Some(Command::List(which)) => list(context, which),
        Some(Command::Show { snapshot }) => show(context, *snapshot),
        Some(Command::Diff { old, new }) => diff(context, *old, *new),
    }
}

fn list(context: &Context, which: &Which) -> Result<ExitCode, Failure> {
    let mut admitted = read(context)?;
    if let Some(name) = &which.repository {
        admitted.retain(|it| it.snapshot.repository == *name);
        let is_configured = context.config.repository.iter().any(|it| it.name.as_str() == name);
        if admitted.is_empty() && !is_configured {
            return Err(Failure::Usage(format!(
                "no repository \"{name}\" is configured, and none of that name ever was served"
            )));
        }
    }
    let left_out = which.last.map_or(0, |last| admitted.len().saturating_sub(last));
    let admitted = &admitted[left_out..];
    if context.json {
        admitted.iter().for_each(output::json);
        return Ok(ExitCode::SUCCESS);
    }
    if admitted.is_empty() {
        match &which.repository {
            Some(name) => say!("no snapshot of {name} was admitted yet"),
            None => say!("no snapshot was admitted yet"),
        }
    }
    let revisions: Vec<String> = admitted
        .iter()
        .map(|it| short(it.snapshot.revision.as_deref().unwrap_or_default()))
        .collect();
    let width = revisions.iter().map(|it| it.chars().count()).max().unwrap_or_default();
    for (Admitted { entry, snapshot }, revision) in admitted.iter().zip(revisions) {
        let Snapshot { at, repository, versions, past, .. } = snapshot;
        let versions = output::count(*versions, "version", "versions");
        let how = past.map_or("served".to_owned(), |Past { since, .. }| format!("past, {since}"));
        say!("{entry:>7}  {at}  {repository}  {versions}  {revision:<width$}  {how}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What tells a revision from others: when upstream last modified it, what stands in the quotes of its
/// entity tag, a hash, or a commit.
fn short(revision: &str) -> String {
    let date = revision.strip_prefix("date:").and_then(|date| rfc2822::parse(date).ok());
    match date {
        Some(date) => date.strftime("%Y-%m-%d %H:%M").to_string(),
        None => {
            let tag = revision.trim_start_matches("etag:").trim_start_matches("W/");
            let tag = tag.trim_start_matches("sha256:");
            tag.trim_matches('"').chars().take(SHORT).collect()
        }
    }
}

fn show(context: &Context, entry: u64) -> Result<ExitCode, Failure> {
    let Admitted { snapshot, .. } = find(&read(context)?, entry)?;
    let url = server::public_url(&context.config.server, None);
    let when = match &snapshot.past {
        Some(Past { since, .. }) => since.to_string(),
        None => (entry + 1).to_string(),
    };
    let url = format!("{url}/at/{when}/{}", snapshot.repository);
    if context.json {
        output::json(&json!({ "entry": entry, "snapshot": snapshot, "url": url }));
        return Ok(ExitCode::SUCCESS);
    }
    say!("{0}Snapshot {entry}{0:#} of repository {1}", output::HEADING, snapshot.repository);
    say!("  upstream     {}", snapshot.upstream);
    if let Some(revision) = &snapshot.revision {
        say!("  revision     {revision}");
    }
    match &snapshot.past {
        None => say!("  admitted     {}", snapshot.at),
        Some(Past { since, until }) => {
            say!("  brought in   {}, from upstream's history", snapshot.at);
            say!("  stands for   {since} until {until}");
        }
    }
    say!("  versions     {}, {}", snapshot.versions, snapshot.mode);
    say!("  files        {}", context.layout()?.blob(&snapshot.files).display());
    say!("  served       {}", context.layout()?.blob(&snapshot.admitted).display());
    // As `client` has people name them.
    let first = context.config.repository.first().map(|it| it.name.as_str());
    let name = Some(&*snapshot.repository).filter(|name| Some(*name) != first);
    say!("\nTo build with it:");
    output::verbatim(&format!("  opam repository set-url {} {url}", name.unwrap_or("default")));
    Ok(ExitCode::SUCCESS)
}

fn diff(context: &Context, old: u64, new: u64) -> Result<ExitCode, Failure> {
    let admitted = read(context)?;
    let (old, new) = (find(&admitted, old)?, find(&admitted, new)?);
    let blobs = Blobs::at(context.layout()?);
    let tree = |it: &Admitted| {
        let failed = |error| Failure::Failed(format!("snapshot {}: {error}", it.entry));
        snapshots::tree(&blobs, &it.snapshot).map_err(failed)
    };
    let repository = &new.snapshot.repository;
    if old.snapshot.repository != *repository && !context.json {
        anstream::eprintln!(
            "these are of two repositories: {} and {repository}",
            old.snapshot.repository
        );
    }
    let compared = compare(&tree(&old)?, &tree(&new)?, &context.config.policy, repository);
    match context.json {
        true => compared.edits.iter().for_each(output::json),
        false => audit::print_comparison(&compared),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(context: &Context) -> Result<Vec<Admitted>, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    snapshots::all(&reader).map_err(Failure::failed)
}

fn find(admitted: &[Admitted], entry: u64) -> Result<Admitted, Failure> {
    let found = admitted.iter().find(|it| it.entry == entry).cloned();
    found.ok_or_else(|| {
        let what = "is no snapshot: opam-keep snapshots lists them";
        Failure::Usage(format!("ledger entry {entry} {what}"))
    })
}

/// How much of a tag, hash or commit tells it from others.
const SHORT: usize = 12;

const AFTER_HELP: &str = "\
A snapshot is \"served\" when it was what clients got from its time on, and \"past\" when it was \
brought in from upstream's history for the time that follows.

A build with the packages of a day:  opam repository set-url default URL/at/2026-05-20/";

#[cfg(test)]
mod tests {
    #[test]
    fn a_revision_is_told_by_what_differs_in_it() {
        for (revision, told) in [
            ("date:Sat, 28 Nov 2026 04:02:25 GMT", "2026-11-28 04:02"),
            ("etag:W/\"6a5b-17\"", "6a5b-17"),
            ("etag:\"0123456789abcdef\"", "0123456789ab"),
            ("sha256:0123456789abcdef", "0123456789ab"),
            ("c0ffeec0ffeec0ffee", "c0ffeec0ffee"),
            ("date:yesterday", "date:yesterd"),
            ("", ""),
        ] {
            assert_eq!(super::short(revision), told);
        }
    }
}
