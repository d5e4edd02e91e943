//! The command line: arguments, exit codes, and one file per command.
//!
//! Exit codes: 0 when all is well, 1 when a command failed or found something wrong, 2 when it
//! was called or configured in a way that can't work.

mod admin_client;
mod alerts;
mod audit;
mod check_config;
mod ci;
mod client;
mod commands;
mod divergences;
mod export;
mod export_static;
mod file_chunks;
mod health;
mod history;
mod import;
mod import_bundle;
mod log;
mod logging;
mod named_file;
mod offers;
mod output;
mod own_store;
mod prove;
mod public_key;
mod recheck;
mod refresh;
mod repair;
mod repository;
mod selecting;
mod serve;
mod snapshots;
mod status;
mod sync;
mod token;
mod user;
mod verify;

use crate::VERSION;
use crate::config::{self, Config, ConfigError, Purpose};
use crate::store::layout::Layout;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thiserror::Error;

/// A mirror for opam that pins every archive at its first fetch and says so when upstream changes.
#[derive(Debug, Parser)]
#[command(name = "opam-keep", version = VERSION.text, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// The configuration; without one /etc/opam-keep/mirror.toml, and where that is not there the
    /// defaults, which mirror opam.ocaml.org on 127.0.0.1:8443 [env: OPAM_KEEP_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, in place of store.path
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Ask no other machine for anything, as upstream.offline = true
    #[arg(long, global = true)]
    offline: bool,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// What to log: error, warn, info, debug or trace, or a filter such as "info,opam_keep=debug"
    /// [env: OPAM_KEEP_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror the configured repositories until stopped
    Serve(serve::Arguments),
    /// Read the configuration and say what is wrong with it, or what holds
    CheckConfig(check_config::Arguments),
    /// Print the commands that point opam at this mirror
    Client(client::Arguments),
    /// Tell how fresh the repositories are and what is kept
    Status,
    /// Ask the running server whether it lives
    Health(health::Arguments),
    /// Ask upstream for changes now
    Refresh(refresh::Arguments),
    /// Fetch archives ahead of time: what a project needs, some packages, or all
    Sync(sync::Arguments),
    /// Write what this mirror holds into one file for another mirror, or as files for any web server
    Export(export::Arguments),
    /// Take in what is at hand: a bundle, a directory of opam's, another mirror's cache
    Import(import::Arguments),
    /// Fetch what is pinned again, and tell what upstream gives now
    Recheck(recheck::Arguments),
    /// List the ledger's entries
    Log(log::Arguments),
    /// List what upstream said otherwise, or tell, compare and acknowledge one
    Divergences(divergences::Arguments),
    /// List the alerts that wait, or try whether alerts arrive
    Alerts(alerts::Arguments),
    /// List the states of the repositories that can be gone back to, or tell or compare them
    Snapshots(snapshots::Arguments),
    /// Compare two states of a repository, or look one over, by the policy for published versions
    Audit(audit::Arguments),
    /// Replay a git repository's history into a table of every rewrite of a published version
    History(history::Arguments),
    /// Make, list or revoke access tokens
    Token(token::Arguments),
    /// Print the proof that the ledger has a pin of a file or checksum, or check one
    Prove(prove::Arguments),
    /// Check every signature, tile, entry and blob of the store
    Verify(verify::Arguments),
    /// Fetch blobs that are damaged or missing again, from whoever has the same bytes
    Repair(repair::Arguments),
}

impl Command {
    /// Whether it tells what is in the store, and needs nothing else of the configuration.
    fn reads_the_store_alone(&self) -> bool {
        match self {
            Self::Log(_) | Self::Prove(_) | Self::Verify(_) => true,
            Self::Divergences(arguments) => arguments.only_read(),
            Self::Snapshots(arguments) => arguments.only_list(),
            _ => false,
        }
    }
}

/// The command line as data, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    // Were this clap's to read, its usage errors would have it as an argument that was given.
    let named = std::env::var_os("OPAM_KEEP_CONFIG").map(PathBuf::from);
    cli.global.config = cli.global.config.or(named).or_else(installed_configuration);
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure.to_string(), json);
            ExitCode::from(match failure {
                Failure::Usage(_) => 2,
                Failure::Failed(_) => 1,
            })
        }
    }
}

/// Why a command ended early, in one sentence; which of the two decides the exit code.
#[derive(Debug, Error)]
enum Failure {
    /// Called or configured in a way that can't work.
    #[error("{0}")]
    Usage(String),
    /// Tried, and it did not work.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    logging::start(cli.global.log.as_deref())?;
    if let Command::CheckConfig(arguments) = &cli.command
        && arguments.is_for_example()
    {
        return Ok(check_config::print_example(cli.global.json));
    }
    let overrides = Overrides { store: cli.global.store.clone(), is_offline: cli.global.offline };
    let purpose = match cli.command {
        Command::Serve(_) | Command::CheckConfig(_) => Purpose::Serving,
        _ => Purpose::Looking,
    };
    let config = match overrides.load(cli.global.config.as_deref(), purpose) {
        Ok(config) => config,
        Err(error) => match overrides.named_store(cli.global.config.as_deref()) {
            Some(store) if cli.command.reads_the_store_alone() => {
                output::aside(&error.to_string());
                output::aside(&format!("going on, with the store {}", store.display()));
                let mut config = Config::default();
                config.store.path = Some(store);
                config
            }
            _ => return without_configuration(&cli, &overrides, &error),
        },
    };
    let context = Context { config, file: cli.global.config, overrides, json: cli.global.json };
    match cli.command {
        Command::Serve(arguments) => serve::run(context, arguments),
        Command::CheckConfig(_) => check_config::run(&context),
        Command::Client(arguments) => client::run(&context, &arguments),
        Command::Status => status::run(&context),
        Command::Health(arguments) => health::run(&context, &arguments),
        Command::Refresh(arguments) => refresh::run(&context, &arguments),
        Command::Sync(arguments) => sync::run(&context, &arguments),
        Command::Export(arguments) => export::run(&context, &arguments),
        Command::Import(arguments) => import::run(&context, &arguments),
        Command::Recheck(arguments) => recheck::run(&context, arguments),
        Command::Log(arguments) => log::run(&context, &arguments),
        Command::Divergences(arguments) => divergences::run(&context, arguments),
        Command::Alerts(arguments) => alerts::run(&context, arguments),
        Command::Token(arguments) => token::run(&context, arguments),
        Command::Snapshots(arguments) => snapshots::run(&context, &arguments),
        Command::Audit(arguments) => audit::run(&context, &arguments),
        Command::History(arguments) => history::run(&context, &arguments),
        Command::Prove(arguments) => prove::run(&context, &arguments),
        Command::Verify(arguments) => verify::run(&context, &arguments),
        Command::Repair(arguments) => repair::run(&context, &arguments),
    }
}

/// What a package installs.
fn installed_configuration() -> Option<PathBuf> {
    let path = Path::new(INSTALLED_CONFIGURATION);
    path.exists().then(|| path.to_owned())
}

/// A server that runs on the configuration before may still tell how it stands.
fn without_configuration(
    cli: &Cli,
    overrides: &Overrides,
    error: &ConfigError,
) -> Result<ExitCode, Failure> {
    if let Some(layout) = overrides.likely_layout(cli.global.config.as_deref()) {
        match &cli.command {
            Command::Status => match status::of_running(&layout) {
                Ok(Some(status)) => return Ok(status::tell(&status, cli.global.json)),
                Err(failure @ Failure::Failed(_)) => return Err(failure),
                _ => {}
            },
            Command::Health(arguments) => match health::of_running(&layout) {
                Ok(Some(parts)) => return Ok(health::tell(&parts, arguments, cli.global.json)),
                Err(failure @ Failure::Failed(_)) => return Err(failure),
                _ => {}
            },
            _ => {}
        }
    }
    Err(Failure::usage(error))
}

/// What every command starts from.
struct Context {
    config: Config,
    file: Option<PathBuf>,
    overrides: Overrides,
    json: bool,
}

/// What the command line says in place of the configuration.
#[derive(Clone, Debug)]
struct Overrides {
    store: Option<PathBuf>,
    is_offline: bool,
}

impl Overrides {
    /// Reads the configuration with what is said here in it.
    fn load(&self, file: Option<&Path>, purpose: Purpose) -> Result<Config, ConfigError> {
        let mut config = config::load(file, std::env::vars(), purpose)?;
        if let Some(path) = &self.store {
            config.store.path = Some(path.clone());
        }
        config.upstream.offline |= self.is_offline;
        Ok(config)
    }

    /// Where the store is, as far as a file with a mistake in it can say.
    fn likely_layout(&self, file: Option<&Path>) -> Option<Layout> {
        let mut config = Config::default();
        config.store.path = self.named_store(file);
        config.data_directory().ok().map(Layout::new)
    }

    /// The same, where anything names it: without a mistake it could not be another one.
    fn named_store(&self, file: Option<&Path>) -> Option<PathBuf> {
        self.store.clone().or_else(|| config::likely_store(file, std::env::vars()))
    }
}

impl Context {
    fn layout(&self) -> Result<Layout, Failure> {
        Ok(Layout::new(self.config.data_directory().map_err(Failure::usage)?))
    }
}

const INSTALLED_CONFIGURATION: &str = "/etc/opam-keep/mirror.toml";
const AFTER_HELP: &str = "\
Start with:  opam-keep serve

Any key of the configuration can also be set in the environment, as OPAM_KEEP_SECTION__KEY.

Exit codes:  0 all is well, 1 a command failed or found something wrong, 2 it can't work as \
called or configured.";
