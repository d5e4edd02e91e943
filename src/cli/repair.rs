//! `repair`: fetch what rotted or went again, from whoever still has the same bytes.

use super::output::say;
use super::verify::{check, tell_server};
use super::{Context, Failure, output, status};
use crate::digest::Sha256;
use crate::keeper::repair::{Lost, Place, Repaired, Repairs};
use crate::keeper::verify::{self, Report};
use clap::Args;
use futures_util::StreamExt as _;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use url::Url;

/// What `repair` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Who to ask first: the cache of another mirror, or a directory such as a backup's blobs
    #[arg(long, value_name = "URL|DIR", value_parser = place)]
    from: Vec<Place>,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let log = verify::reader(&layout).map_err(Failure::Usage)?;
    let places = arguments.from.clone();
    let mut config = context.config.clone();
    // Whoever keeps a server from going out means its store; of one that can't be asked nobody knows.
    config.upstream.offline |= status::of_running(&layout)?.is_some_and(|status| status.offline);
    let repairs = Repairs::new(layout.clone(), &config, places).map_err(Failure::usage)?;
    let repairs = Arc::new(repairs);
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let (mut repaired, mut tried) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let report = check(&layout, arguments.quiet);
        let lost: BTreeSet<Sha256> =
            report.damaged.iter().filter(|name| !tried.contains(*name)).copied().collect();
        if lost.is_empty() {
            tell_server(
                &layout,
                &repaired.iter().chain(&report.damaged).copied().collect::<Vec<_>>(),
            );
            return Ok(end(context, &report, repaired.len()));
        }
        tried.extend(lost.iter().copied());
        let lost = Lost::of(&log, &lost).map_err(Failure::failed)?;
        let asking = output::spinner("asking who has the same bytes");
        runtime.block_on(async {
            let mut done = std::pin::pin!(Arc::clone(&repairs).repair(lost));
            while let Some(done) = done.next().await {
                repaired.extend(done.from.is_some().then_some(done.sha256));
                asking.suspend(|| print(context, &done));
            }
        });
        // What was repaired may name more that is lost, so all of it is looked at again.
    }
}

fn print(context: &Context, repaired: &Repaired) {
    if context.json {
        return output::json(repaired);
    }
    let Repaired { sha256, packages, from, problem } = repaired;
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let about =
        if packages.is_empty() { "metadata or evidence".to_owned() } else { packages.join(" ") };
    let (good, bad) = (output::GOOD, output::BAD);
    match from {
        Some(_) => say!("{good}repaired{good:#}  {about}"),
        None => say!("{bad}lost{bad:#}      {about}"),
    }
    say!("          sha256 {sha256}");
    if let Some(from) = from {
        say!("          from {from}");
    }
    if let Some(problem) = problem {
        say!("          {problem}");
    }
}

fn end(context: &Context, report: &Report, repaired: usize) -> ExitCode {
    if context.json {
        output::json(&json!({ "repaired": repaired, "problems": report.problems }));
    } else {
        let blobs = output::count(repaired as u64, "blob", "blobs");
        match (repaired, report.problems.is_empty()) {
            (0, true) => say!("{}sound{:#}: nothing to repair", output::GOOD, output::GOOD),
            (_, true) => say!("{}sound{:#}: {blobs} repaired", output::GOOD, output::GOOD),
            (_, false) => {
                let bad = output::BAD;
                for problem in &report.problems {
                    say!("{bad}{}{bad:#}: {}", problem.subject, problem.problem);
                }
                say!("{blobs} repaired, {} wrong still", report.problems.len());
            }
        }
    }
    match report.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn place(text: &str) -> Result<Place, String> {
    let directory = PathBuf::from(text);
    if !directory.exists()
        && let Some((scheme, _)) = text.split_once("://")
    {
        let url = Url::parse(text).ok().filter(|_| matches!(scheme, "http" | "https"));
        let place = url.filter(Url::has_host).map(Place::Cache);
        return place.ok_or_else(|| "another mirror's cache is https://host/cache".to_owned());
    }
    if !directory.is_dir() {
        return Err("there is no such directory".to_owned());
    }
    let has_blobs = ["sha256", "sha512", "md5"].iter().any(|kind| directory.join(kind).is_dir());
    match has_blobs {
        true => Ok(Place::Directory(directory)),
        false => {
            Err("it has none of sha256, sha512 and md5 in it, as a store's blobs, a client's \
                      download-cache and what opam admin cache writes have"
                .to_owned())
        }
    }
}

const AFTER_HELP: &str = "\
Looks the whole store over, as verify does. Asks, for each blob that is damaged or missing, first \
--from, then who gave the archive when it was pinned, then upstream.caches; only the very bytes that \
its name says are taken. Works beside a running server, as the store's owner. Metadata and evidence \
are in no upstream: name a backup's blobs. What is wrong with the ledger itself only a backup has.

Exits with 1 while something is wrong.";
