//! `sync`: fetch archives ahead of time.

use super::output::say;
use super::own_store::with_store_or_new;
use super::selecting::{Selecting, Selection};
use super::{Context, Failure, admin_client, output};
use crate::keeper::Keeper;
use crate::keeper::selector::SelectError;
use crate::keeper::sync::{Plan, Synced, SyncedArchive};
use crate::server::admin::{SyncLine, Syncing};
use clap::Args;
use futures_util::StreamExt as _;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What `sync` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    selecting: Selecting,
    /// Only say how many archives there are to fetch, and from whose hosts; the repository is looked
    /// at all the same
    #[arg(long)]
    dry_run: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Selection { selector, pinned } = arguments.selecting.read()?;
    let syncing = Syncing { selector, is_dry: arguments.dry_run, cache: None };
    carry_out(context, syncing, arguments.quiet, pinned)
}

/// Fetches what is not kept yet, in the server that runs or here.
pub(super) fn carry_out(
    context: &Context,
    syncing: Syncing,
    quiet: bool,
    pinned: BTreeSet<String>,
) -> Result<ExitCode, Failure> {
    let mut report = Report::new(context.json, quiet, syncing.is_dry, pinned);
    let layout = context.layout()?;
    let is_running = admin_client::follow(&layout, "/sync", &syncing, |line| report.take(line))?;
    if !is_running {
        report = sync_here(context, syncing, report)?;
    }
    report.end()
}

/// No server runs, so this process takes the store, or begins it.
fn sync_here(context: &Context, syncing: Syncing, mut report: Report) -> Result<Report, Failure> {
    with_store_or_new(context, async |store, clock| {
        let keeper = Keeper::open(&context.config, store, clock).map_err(Failure::usage)?;
        let planned = keeper.plan_sync(syncing.selector).await.map_err(|error| match error {
            SelectError::NoRepository(_) => Failure::usage(error),
            SelectError::NoSnapshot { .. } | SelectError::Read(_) => Failure::failed(error),
        });
        let (plan, archives) = planned?;
        if let (Some(cache), false) = (&syncing.cache, archives.is_empty()) {
            keeper.can_ask(cache).await.map_err(Failure::failed)?;
        }
        report.take(SyncLine::Plan(plan));
        if !syncing.is_dry {
            let mut events = keeper.sync(archives, syncing.cache);
            while let Some(event) = events.next().await {
                report.take(SyncLine::Event(event));
            }
        }
        Ok(report)
    })
}

/// What is printed on the way, and what there is to say in the end.
struct Report {
    as_json: bool,
    is_dry: bool,
    progress: Progress,
    pinned: BTreeSet<String>,
    plan: Option<Plan>,
    fetched: u64,
    bytes: u64,
    missing: Vec<SyncedArchive>,
}

impl Report {
    fn new(as_json: bool, quiet: bool, is_dry: bool, pinned: BTreeSet<String>) -> Self {
        let (plan, missing) = (None, Vec::new());
        let progress = Progress::new(quiet || is_dry);
        Self { as_json, is_dry, progress, pinned, plan, fetched: 0, bytes: 0, missing }
    }

    fn take(&mut self, line: SyncLine) {
        match line {
            SyncLine::Plan(plan) => {
                self.progress.begin(plan.archives - plan.kept.min(plan.archives));
                self.plan = Some(plan);
            }
            SyncLine::Event(Synced::Bytes(bytes)) => self.progress.bytes(bytes, self.missing.len()),
            SyncLine::Event(Synced::Archive(archive)) => {
                self.progress.one();
                if self.as_json {
                    self.progress.bar.suspend(|| output::json(&archive));
                }
                match archive.size {
                    Some(size) => {
                        self.fetched += 1;
                        self.bytes += size;
                    }
                    None => self.missing.push(archive),
                }
            }
        }
    }

    fn end(mut self) -> Result<ExitCode, Failure> {
        self.progress.bar.finish_and_clear();
        let Some(plan) = self.plan.take() else {
            return Err(Failure::Failed("the server stopped before it said anything".to_owned()));
        };
        if self.is_dry {
            self.tell_plan(&plan);
            return Ok(if plan.unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let told = self.fetched + self.missing.len() as u64;
        let untold = plan.archives.saturating_sub(plan.kept).saturating_sub(told);
        match self.as_json {
            true => output::json(&json!({
                "versions": plan.versions,
                "archives": plan.archives,
                "kept": plan.kept,
                "fetched": self.fetched,
                "bytes": self.bytes,
                "missing": self.missing.len() as u64 + untold,
                "unknown": plan.unknown,
                "pinned": self.pinned,
            })),
            false => self.tell(&plan, untold),
        }
        let is_whole = self.missing.is_empty() && untold == 0 && plan.unknown.is_empty();
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn tell(&self, plan: &Plan, untold: u64) {
        let (bad, heading) = (output::BAD, output::HEADING);
        if !self.missing.is_empty() {
            let count = output::count(self.missing.len() as u64, "archive", "archives");
            say!("{bad}{count} could not be had{bad:#}");
        }
        for SyncedArchive { packages, url, problem, .. } in &self.missing {
            say!("  {heading}{}{heading:#}  {url}", packages.join(" "));
            say!("    {}", problem.as_deref().unwrap_or_default());
        }
        self.tell_unknown(plan);
        let mut parts = vec![format!("{} kept already", plan.kept)];
        parts.push(format!("{} fetched ({})", self.fetched, HumanBytes(self.bytes)));
        if !self.missing.is_empty() {
            parts.push(format!("{} could not be had", self.missing.len()));
        }
        if untold > 0 {
            parts.push(format!("{untold} not tried, because the server stopped"));
        }
        say!("{}: {}", of(plan), parts.join(", "));
    }

    fn tell_plan(&self, plan: &Plan) {
        if self.as_json {
            let plan = json!({
                "versions": plan.versions,
                "archives": plan.archives,
                "kept": plan.kept,
                "hosts": plan.hosts,
                "unknown": plan.unknown,
                "pinned": self.pinned,
            });
            return output::json(&plan);
        }
        let mut hosts: Vec<(&String, &u64)> = plan.hosts.iter().collect();
        hosts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        hosts.iter().for_each(|(host, count)| say!("{count:>7}  {host}"));
        self.tell_unknown(plan);
        let to_fetch = plan.archives.saturating_sub(plan.kept);
        say!("{}: {} kept already, {to_fetch} to fetch", of(plan), plan.kept);
    }

    fn tell_unknown(&self, plan: &Plan) {
        if !plan.unknown.is_empty() {
            let bad = output::BAD;
            say!("{bad}not in the repository{bad:#}: {}", plan.unknown.join(" "));
        }
        if !self.pinned.is_empty() {
            let pinned: Vec<&str> = self.pinned.iter().map(String::as_str).collect();
            say!("pinned elsewhere, so no mirror has them: {}", pinned.join(" "));
        }
    }
}

fn of(plan: &Plan) -> String {
    let archives = output::count(plan.archives, "archive", "archives");
    format!("{archives} of {}", output::count(plan.versions, "version", "versions"))
}

/// A bar on a terminal, a line every few seconds elsewhere.
struct Progress {
    bar: ProgressBar,
    /// When the last line was printed; `None` where a bar is drawn, or nothing at all.
    last_line: Option<Instant>,
    begun: Instant,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} archives{msg}{left}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style.with_key("left", output::left));
        let begun = Instant::now();
        let last_line = (!quiet && bar.is_hidden()).then_some(begun);
        Self { bar, last_line, begun }
    }

    fn begin(&mut self, archives: u64) {
        if archives == 0 {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.bar.set_length(archives);
        self.bar.reset_elapsed();
        self.begun = Instant::now();
    }

    fn one(&self) {
        self.bar.inc(1);
    }

    fn bytes(&mut self, bytes: u64, failed: usize) {
        let seconds = self.begun.elapsed().as_secs().max(1);
        let mut text = format!("{}, {}/s", HumanBytes(bytes), HumanBytes(bytes / seconds));
        if failed > 0 {
            text = format!("{text}, {failed} not to be had");
        }
        if self.last_line.is_some_and(|last| last.elapsed() >= BETWEEN_LINES) {
            self.last_line = Some(Instant::now());
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            anstream::eprintln!("{done} of {all} archives, {text}");
        }
        self.bar.set_message(format!(", {text}"));
    }
}

const AFTER_HELP: &str = "\
Fetches what is not kept yet, verified and pinned as when a client asks. A second run asks upstream \
for nothing that is kept. What is selected is what the repository as it is served now declares: \
opam-keep refresh asks for a newer one.

  opam-keep sync --from project.opam.locked
  opam switch export - | opam-keep sync -
  opam-keep sync dune 'mirage-*' ocaml-base-compiler.5.2.0
  opam-keep sync --all --dry-run

Exits with 1 when something could not be had, or a name is in no repository.";
const BETWEEN_LINES: Duration = Duration::from_secs(5);
