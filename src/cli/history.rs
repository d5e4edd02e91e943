//! `history`: every rewrite of a published version in a git repository's history.

use super::output::say;
use super::own_store::with_store;
use super::{Context, Failure, admin_client, output, repository};
use crate::keeper::first_said::{self, FirstSaid};
use crate::keeper::history::{self, Rewrite, Step, Told};
use crate::opam::EditKind;
use crate::server::admin::Seeded;
use crate::upstream::repository::LocalGit;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `history` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// A clone of a package repository, with all of its history
    #[arg(long, value_name = "DIR")]
    git: PathBuf,
    /// The branch, tag or commit at which the history ends
    #[arg(long, value_name = "REVISION", default_value = "HEAD")]
    rev: String,
    /// Tell every edit, not only those that the policy warns of or holds
    #[arg(long)]
    all: bool,
    /// The repository whose rules in [policy] hold; without it the only one that is configured
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Note in the ledger what each URL was first said to give: a first fetch that gives something
    /// else is a divergence from then on
    #[arg(long)]
    pin: bool,
    /// Show no progress bar
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let repository = match arguments.pin {
        true => repository::of_store(context, arguments.repository.as_deref())?,
        false => repository::of_policy(context, arguments.repository.as_deref())?,
    };
    let git = LocalGit::open(&arguments.git).map_err(Failure::usage)?;
    let commit = git.commit(&arguments.rev).map_err(Failure::usage)?;
    if git.is_shallow().map_err(Failure::failed)? {
        let clone = arguments.git.display();
        if arguments.pin {
            return Err(Failure::Usage(format!(
                "{clone}: a shallow clone does not know what was said first: \
                 git fetch --unshallow gets the rest"
            )));
        }
        anstream::eprintln!(
            "{clone}: a shallow clone: what was published before its first commit is taken as \
             published by it; git fetch --unshallow gets the rest"
        );
    }
    let bar = progress(arguments.quiet, git.count(&commit).map_err(Failure::failed)?);
    let mut summary = Summary::default();
    let told = Told {
        policy: &context.config.policy,
        repository,
        all: arguments.all,
        published: arguments.pin,
    };
    let mut first = FirstSaid::default();
    let totals = history::replay(&git, &commit, &told, |step| match step {
        Step::Commit => bar.inc(1),
        Step::Published { name, commit, opam, url } => {
            if let Ok(package) = name.parse() {
                first.add(&package, &commit, &opam, url.as_deref());
            }
        }
        Step::Rewrite(rewrite) => {
            summary.count(&rewrite);
            bar.suspend(|| print(&rewrite, context.json));
        }
    });
    bar.finish_and_clear();
    let totals = totals.map_err(Failure::failed)?;
    if !context.json {
        let commits = output::count(totals.commits, "commit", "commits");
        let versions = output::count(totals.versions, "version", "versions");
        summary.print(&format!("{commits}, {versions} published"));
    }
    if arguments.pin {
        let Seeded { entry } = seed(context, repository, &commit, &first)?;
        let urls = output::count(first.len() as u64, "URL", "URLs");
        match context.json {
            true => output::json(&json!({ "entry": entry, "urls": first.len() })),
            false => say!("what {urls} were first said to give is in ledger entry {entry}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn seed(
    context: &Context,
    repository: &str,
    commit: &str,
    first: &FirstSaid,
) -> Result<Seeded, Failure> {
    let (layout, text) = (context.layout()?, first.to_bytes());
    let path = format!("/history/{repository}/{commit}");
    if let Some(seeded) = admin_client::send_bytes(&layout, &path, text.clone().into())? {
        return Ok(seeded);
    }
    // No server runs, so this process takes the store.
    with_store(context, async |store, clock| {
        let (repository, commit) = (repository.to_owned(), commit.to_owned());
        let entry = first_said::seed(&store, &clock, repository, commit, text).await;
        entry.map(|entry| Seeded { entry }).map_err(Failure::failed)
    })
}

fn print(rewrite: &Rewrite, as_json: bool) {
    if as_json {
        return output::json(rewrite);
    }
    let Rewrite { commit, date, package, kinds, .. } = rewrite;
    let day = date.strftime("%Y-%m-%d");
    let commit: String = commit.chars().take(10).collect();
    say!("{day}  {commit}  {package}: {}", names(kinds));
}

fn names(kinds: &[EditKind]) -> String {
    kinds.iter().map(EditKind::to_string).collect::<Vec<_>>().join(", ")
}

/// How many rewrites there were, by kind and by year.
#[derive(Default)]
struct Summary {
    rewrites: u64,
    kinds: BTreeMap<EditKind, u64>,
    years: BTreeMap<i16, u64>,
}

impl Summary {
    fn count(&mut self, rewrite: &Rewrite) {
        self.rewrites += 1;
        for kind in &rewrite.kinds {
            *self.kinds.entry(*kind).or_default() += 1;
        }
        let year = rewrite.date.to_zoned(jiff::tz::TimeZone::UTC).year();
        *self.years.entry(year).or_default() += 1;
    }

    fn print(&self, of: &str) {
        let heading = output::HEADING;
        if self.rewrites > 0 {
            say!();
        }
        say!("{heading}{}{heading:#} in {of}", output::count(self.rewrites, "rewrite", "rewrites"));
        self.kinds.iter().for_each(|(kind, count)| say!("  {kind:<18}{count:>7}"));
        self.years.iter().for_each(|(year, count)| say!("  {year:<18}{count:>7}"));
    }
}

fn progress(quiet: bool, commits: u64) -> ProgressBar {
    // indicatif draws nothing where standard error is no terminal.
    let target = match quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} commits, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(commits), target).with_style(style)
}

const AFTER_HELP: &str = "\
A merge counts as what it brought into its first parent. A version that comes back is compared \
with what it was before it went; where its directory lies plays no part.

--json prints one object a line: commit, date, package (as name.version), kinds, before and after; \
with --pin one more object: entry and urls.";
