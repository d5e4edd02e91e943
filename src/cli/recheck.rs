//! `recheck`: fetch what is pinned again, and tell what upstream gives now.

use super::output::say;
use super::own_store::with_store;
use super::{Context, Failure, admin_client, output};
use crate::keeper::Keeper;
use crate::keeper::recheck::{Asker, Checked, Selection};
use crate::ledger::entry::Outcome;
use crate::server::admin::Rechecked;
use clap::Args;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What `recheck` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// A package as name or name.version, or part of a URL; without one, what is due by now
    #[arg(value_name = "PACKAGE|URL")]
    about: Option<String>,
    /// Everything that is pinned
    #[arg(long, conflicts_with = "about")]
    all: bool,
    /// Show no progress bar
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Failure> {
    let selection = match (arguments.all, arguments.about) {
        (true, _) => Selection::All,
        (false, Some(about)) => Selection::About(about),
        (false, None) => Selection::Due,
    };
    let layout = context.layout()?;
    let mut report = Report::new(context.json, arguments.quiet);
    let is_running =
        admin_client::follow(&layout, "/recheck", &selection, |line| report.take(line))?;
    if !is_running {
        report = recheck_here(context, selection, report)?;
    }
    Ok(report.end())
}

/// No server runs, so this process takes the store.
fn recheck_here(
    context: &Context,
    selection: Selection,
    mut report: Report,
) -> Result<Report, Failure> {
    with_store(context, async |store, clock| {
        let keeper = Keeper::open(&context.config, store, clock).map_err(Failure::usage)?;
        let subjects = keeper.select(selection).await.map_err(Failure::usage)?;
        report.take(Rechecked::Urls(subjects.len()));
        let mut checks = keeper.recheck(subjects, Asker::Person);
        while let Some(checked) = checks.next().await {
            report.take(checked.map_or_else(Rechecked::Failed, Rechecked::Checked));
        }
        Ok(report)
    })
}

/// What is printed on the way, and what there is to say in the end.
struct Report {
    as_json: bool,
    bar: ProgressBar,
    urls: usize,
    outcomes: BTreeMap<Outcome, u64>,
    failed: u64,
}

impl Report {
    fn new(as_json: bool, quiet: bool) -> Self {
        // indicatif draws nothing where standard error is no terminal.
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style());
        Self { as_json, bar, urls: 0, outcomes: BTreeMap::new(), failed: 0 }
    }

    fn take(&mut self, line: Rechecked) {
        match line {
            Rechecked::Urls(count) => {
                self.urls = count;
                self.bar.set_length(count as u64);
                return;
            }
            Rechecked::Checked(checked) => {
                *self.outcomes.entry(checked.outcome).or_default() += 1;
                self.bar.suspend(|| print(&checked, self.as_json));
            }
            Rechecked::Failed(error) => {
                self.failed += 1;
                self.bar.suspend(|| match self.as_json {
                    true => output::json(&json!({
                        "url": error.url(), "outcome": null, "error": error.to_string(),
                    })),
                    false => say!("{}{error}{:#}", output::BAD, output::BAD),
                });
            }
        }
        self.bar.inc(1);
    }

    fn end(self) -> ExitCode {
        self.bar.finish_and_clear();
        let told: u64 = self.outcomes.values().sum::<u64>() + self.failed;
        let untold = (self.urls as u64).saturating_sub(told);
        if !self.as_json {
            let mut parts: Vec<String> =
                self.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
            let failed = self.failed + untold;
            if failed > 0 {
                parts.push(format!("{failed} not rechecked"));
            }
            let urls = output::count(self.urls as u64, "URL", "URLs");
            match parts.is_empty() {
                true => say!("nothing is due; --all rechecks everything"),
                false => say!("{urls}: {}", parts.join(", ")),
            }
        }
        let good = self.outcomes.keys().all(|outcome| outcome.is_good());
        match good && self.failed == 0 && untold == 0 {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

/// What is as it was is only counted, unless a program reads along.
fn print(checked: &Checked, as_json: bool) {
    if as_json {
        return output::json(checked);
    }
    let Checked { url, packages, outcome, detail, divergence, .. } = checked;
    if *outcome == Outcome::Same {
        return;
    }
    let style = if outcome.is_good() { output::HEADING } else { output::BAD };
    say!("{style}{outcome}{style:#}  {}", packages.join(" "));
    say!("  {url}");
    say!("  {detail}");
    if let Some(id) = divergence {
        say!("  opam-keep divergences show {id} tells more");
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos}/{len} URLs, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

const AFTER_HELP: &str = "\
Outcomes:
  same         the pinned bytes
  moved        the pinned bytes, by a redirect to another place
  changed      other bytes: a divergence
  gone         404, 410 or 451
  unreachable  no connection, no end, or another status

An outcome that is not the one before is written to the ledger. Exits with 1 unless all are the \
same or moved.";
