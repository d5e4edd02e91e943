//! `log`: the ledger's entries.

use super::output::say;
use super::{Context, Failure, output};
use crate::keeper::verify;
use crate::ledger::entry::{Entry, Past};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::process::ExitCode;

/// What `log` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only entries about this package (name or name.version), repository, URL, or part of a URL
    /// that has a '.', '/' or ':'
    about: Option<String>,
    /// Only entries of this kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Only the last so many of them
    #[arg(long, short = 'n', value_name = "COUNT")]
    last: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Key,
    Pin,
    Snapshot,
    Divergence,
    Decision,
    Recheck,
    History,
    Import,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Pin => "pin",
            Self::Snapshot => "snapshot",
            Self::Divergence => "divergence",
            Self::Decision => "decision",
            Self::Recheck => "recheck",
            Self::History => "history",
            Self::Import => "import",
        }
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    let size = reader.size().map_err(Failure::failed)?;
    let mut entries = VecDeque::new();
    // A decision is about what its divergence is about, whatever kinds are listed.
    let mut divergences = BTreeSet::new();
    let mut found = false;
    for entry in reader.entries(0, size) {
        let (index, entry) = entry.map_err(Failure::failed)?;
        let is_about = match (&arguments.about, &entry) {
            (None, _) => true,
            (Some(_), Entry::Decision(decision)) => divergences.contains(&decision.divergence),
            (Some(about), entry) => is_about(entry, about),
        };
        if is_about && let Entry::Divergence(_) = &entry {
            divergences.insert(index);
        }
        if !is_about || arguments.kind.is_some_and(|kind| kind.name() != entry.kind()) {
            continue;
        }
        found = true;
        match arguments.last {
            None => print(index, &entry, context.json),
            Some(count) => {
                entries.push_back((index, entry));
                if entries.len() > count {
                    entries.pop_front();
                }
            }
        }
    }
    entries.iter().for_each(|(index, entry)| print(*index, entry, context.json));
    if let (false, Some(about)) = (found, &arguments.about) {
        let kind = arguments.kind.map_or(String::new(), |kind| format!("{} ", kind.name()));
        output::aside(&format!("no {kind}entry is about {about}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn is_about(entry: &Entry, about: &str) -> bool {
    let (urls, packages) = match entry {
        Entry::Pin(pin) => ([Some(&pin.url), pin.src.as_ref()], &pin.packages[..]),
        Entry::Divergence(divergence) => {
            ([Some(&divergence.url), divergence.src.as_ref()], &divergence.packages[..])
        }
        Entry::Recheck(recheck) => ([Some(&recheck.url), None], &recheck.packages[..]),
        Entry::Snapshot(snapshot) => ([Some(&snapshot.upstream), None], &[][..]),
        Entry::History(_) => ([None, None], &[][..]),
        Entry::Key(_) | Entry::Decision(_) | Entry::Import(_) | Entry::Other(_) => return false,
    };
    let named = |package: &String| {
        package == about || package.split_once('.').is_some_and(|(name, _)| name == about)
    };
    let repository = match entry {
        Entry::Pin(pin) => &pin.repository,
        Entry::Divergence(divergence) => &divergence.repository,
        Entry::Recheck(recheck) => &recheck.repository,
        Entry::Snapshot(snapshot) => &snapshot.repository,
        Entry::History(history) => &history.repository,
        Entry::Key(_) | Entry::Decision(_) | Entry::Import(_) | Entry::Other(_) => return false,
    };
    let part_of_url = || {
        about.contains(['/', ':', '.']) && urls.into_iter().flatten().any(|it| it.contains(about))
    };
    packages.iter().any(named) || repository == about || part_of_url()
}

fn print(index: u64, entry: &Entry, as_json: bool) {
    if as_json {
        return output::json(&json!({ "index": index, "entry": entry.to_json() }));
    }
    let (heading, bad) = (output::HEADING, output::BAD);
    let at = entry.at();
    match entry {
        Entry::Pin(pin) => {
            say!("{index:>7}  {at}  {heading}pin{heading:#} {}", pin.url);
            say!("         {} bytes, sha256 {}", pin.size, pin.sha256);
        }
        Entry::Snapshot(snapshot) => {
            let name = &snapshot.repository;
            let versions = output::count(snapshot.versions, "version", "versions");
            say!("{index:>7}  {at}  {heading}snapshot{heading:#} {name}, {versions}");
            if let Some(Past { since, .. }) = snapshot.past {
                say!("         as upstream had it at {since}, for /at/ alone");
            }
        }
        Entry::Divergence(divergence) => {
            let what = divergence.what;
            // One without packages is about the state of a repository as a whole.
            let about = match divergence.packages.is_empty() {
                true => divergence.repository.clone(),
                false => divergence.packages.join(" "),
            };
            let held = if divergence.held { "held, " } else { "" };
            say!("{index:>7}  {at}  {bad}divergence{bad:#} {held}{what} {about}");
            say!("         {}", divergence.url);
            if divergence.from != divergence.url {
                say!("         from {}", divergence.from);
            }
            let lines = divergence.detail.lines().filter(|line| !line.is_empty());
            lines.for_each(|line| say!("         {line}"));
        }
        Entry::Recheck(recheck) => {
            let (outcome, before) = (recheck.outcome, recheck.before);
            let style = if outcome.is_good() { heading } else { bad };
            let url = &recheck.url;
            say!("{index:>7}  {at}  {style}recheck{style:#} {outcome} (was {before}): {url}");
            say!("         {}", recheck.detail);
        }
        Entry::Decision(decision) => {
            let (state, about) = (decision.action.state(), decision.divergence);
            say!(
                "{index:>7}  {at}  {heading}decision{heading:#} divergence {about} {state} by {}",
                output::escaped(&decision.by)
            );
            if let Some(why) = &decision.why {
                say!("         {}", output::escaped(why));
            }
        }
        Entry::Import(import) => {
            let name = output::escaped(import.key.split('+').next().unwrap_or_default());
            let (from, size) = (import.from, import.size);
            say!("{index:>7}  {at}  {heading}import{heading:#} a bundle of ledger {name}");
            say!("         its entries from {from} up to {size}");
        }
        Entry::History(history) => {
            let (name, urls) = (&history.repository, output::count(history.urls, "URL", "URLs"));
            say!("{index:>7}  {at}  {heading}history{heading:#} {name}: {urls} as first declared");
            say!("         up to commit {}", history.revision);
        }
        Entry::Key(key) => {
            say!("{index:>7}  {at}  {heading}key{heading:#} {}", key.vkey);
        }
        Entry::Other(_) => {
            say!("{index:>7}  {at}  {heading}{}{heading:#}", entry.kind());
        }
    }
}
