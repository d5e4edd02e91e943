//! `refresh`: ask upstream for changes now.

use super::output::say;
use super::own_store::with_store;
use super::{Context, Failure, admin_client, output};
use crate::keeper::{Exceptions, Keeper, Refreshed};
use crate::server::admin::{self, RefreshReport};
use clap::Args;
use http::Method;
use std::process::ExitCode;

/// What `refresh` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The repository to ask for; all of them without a name
    repository: Option<crate::config::RepositoryName>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let path = match &arguments.repository {
        Some(name) => format!("/refresh/{name}"),
        None => "/refresh".to_owned(),
    };
    let waiting = output::spinner("asking upstream");
    let reports = match admin_client::ask(&layout, Method::POST, &path)? {
        Some(reports) => reports,
        None => refresh_here(context, arguments)?,
    };
    drop(waiting);
    let failed = reports.iter().any(|report: &RefreshReport| report.problem.is_some());
    if context.json {
        output::json(&reports);
    } else {
        reports.iter().for_each(|report| print(report, context.config.upstream.offline));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// No server runs, so this process takes the store.
fn refresh_here(context: &Context, arguments: &Arguments) -> Result<Vec<RefreshReport>, Failure> {
    with_store(context, async |store, clock| {
        let keeper = Keeper::open(&context.config, store, clock).map_err(Failure::usage)?;
        match &arguments.repository {
            None => Ok(admin::refresh(&keeper, keeper.repositories()).await),
            Some(name) => match keeper.repository(name.as_str()) {
                Some(repository) => {
                    Ok(admin::refresh(&keeper, std::slice::from_ref(repository)).await)
                }
                None => Err(Failure::Usage(keeper.no_repository(name.as_str()))),
            },
        }
    })
}

fn print(report: &RefreshReport, is_offline: bool) {
    let name = &report.repository;
    let Exceptions { held, waiting, whole, .. } = &report.exceptions;
    let bad = output::BAD;
    match (&report.refreshed, &report.problem) {
        (Some(Refreshed::Admitted { entry, .. }), _) if whole.is_some() => {
            say!("{name}: nothing new is served, ledger entry {entry}");
        }
        (Some(Refreshed::Admitted { entry, versions }), _) => {
            let versions = output::count(*versions, "version", "versions");
            say!("{name}: admitted, {versions}, ledger entry {entry}");
        }
        (Some(Refreshed::Unchanged), _) => say!("{name}: nothing new"),
        (None, problem) => {
            let problem = problem.as_deref().unwrap_or("no reason given");
            say!("{bad}{name}: {problem}{bad:#}");
        }
    }
    if let Some(why) = whole {
        say!("{name}: {bad}held{bad:#} as a whole: {why}");
    }
    let decided = [(held, "as before"), (waiting, "and not served until accepted")];
    for (versions, how) in decided.into_iter().filter(|(versions, _)| !versions.is_empty()) {
        let count = output::count(versions.len() as u64, "version", "versions");
        let few = versions.iter().take(MAX_NAMED).map(String::as_str);
        let named = few.collect::<Vec<_>>().join(" ");
        let more = if versions.len() > MAX_NAMED { " …" } else { "" };
        say!("{name}: {bad}{count} held{bad:#} {how}: {named}{more}");
    }
    if whole.is_some() || !(held.is_empty() && waiting.is_empty()) {
        match is_offline {
            false => say!("  opam-keep divergences --all tells why"),
            true => {
                say!("  opam-keep divergences --all tells why, here or where bundles come from")
            }
        }
    }
}

/// Most held versions that are named.
const MAX_NAMED: usize = 4;
