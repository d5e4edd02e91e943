//! `token`: who may read, where reading is not open, and who may decide.

use super::output::say;
use super::{Context, Failure, output};
use crate::clock::Clock;
use crate::config::{HumanDuration, Reading};
use crate::keeper::verify;
use crate::store::layout::Layout;
use crate::store::owner;
use crate::store::tokens::{self, Role, Token, TokenName, Tokens, TokensError};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::process::ExitCode;

/// What `token` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token and print its secret, which is shown this once
    Add {
        /// Whose it is: it is logged, and stands in the ledger with what they decide
        name: TokenName,
        /// Good for deciding as well: acknowledge, accept, recheck, sync
        #[arg(long)]
        admin: bool,
        /// For how long it is good, such as "90d"; for ever without
        #[arg(long, value_name = "DURATION")]
        expires: Option<HumanDuration>,
    },
    /// List all tokens, without their secrets
    List,
    /// Make a token good for nothing, at once
    Revoke {
        /// Whose
        name: TokenName,
    },
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    // A misspelt path must not become a store.
    verify::reader(&layout).map_err(Failure::Usage)?;
    match arguments.command {
        Command::Add { name, admin, expires } => add(context, &layout, name, admin, expires),
        Command::List => list(context, &layout),
        Command::Revoke { name } => {
            tokens::revoke(&layout, &name).map_err(|error| failure(error, &layout))?;
            match context.json {
                true => output::json(&json!({ "revoked": name })),
                false => say!("{name}: revoked"),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn add(
    context: &Context,
    layout: &Layout,
    name: TokenName,
    is_admin: bool,
    expires: Option<HumanDuration>,
) -> Result<ExitCode, Failure> {
    let role = if is_admin { Role::Admin } else { Role::Read };
    let now = Clock::system().now();
    let expires = expires.map(|lasts| {
        let lasts = SignedDuration::try_from(lasts.get()).unwrap_or(SignedDuration::MAX);
        now.checked_add(lasts).unwrap_or(Timestamp::MAX)
    });
    let secret = tokens::add(layout, name.clone(), role, now, expires);
    let secret = secret.map_err(|error| failure(error, layout))?;
    match context.json {
        true => output::json(&json!({
            "name": name, "role": role, "expires": expires, "token": secret.expose(),
        })),
        // Alone on standard output, so that it can be piped to where it belongs.
        false => say!("{}", secret.expose()),
    }
    if !is_admin && !context.json && context.config.access.read == Reading::Open {
        anstream::eprintln!(
            "everyone who can connect may read without it: [access] does not say read = \"tokens\""
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context, layout: &Layout) -> Result<ExitCode, Failure> {
    let tokens = Tokens::read(layout).map_err(|error| failure(error, layout))?;
    let now = Clock::system().now();
    for Token { name, role, at, expires, .. } in tokens.all() {
        if context.json {
            output::json(&json!({ "name": name, "role": role, "at": at, "expires": expires }));
            continue;
        }
        let until = match expires {
            Some(expires) if *expires <= now => {
                format!(", {0}over since {expires}{0:#}", output::BAD)
            }
            Some(expires) => format!(", until {expires}"),
            None => String::new(),
        };
        say!("{name}  {role}, since {at}{until}");
    }
    if tokens.all().is_empty() && !context.json {
        say!("no tokens");
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(error: TokensError, layout: &Layout) -> Failure {
    match &error {
        TokensError::Exists(_) | TokensError::Unknown(_) | TokensError::TooMany => {
            Failure::usage(error)
        }
        TokensError::Unreadable { .. } => Failure::failed(error),
        TokensError::Io { source, .. } => {
            Failure::Usage(format!("{error}{}", owner::advice(source, layout)))
        }
    }
}

const AFTER_HELP: &str = "\
With read = \"tokens\" in [access], only those who have one get anything. A running server knows of changes \
within a second. Clients give it as the password of any user, or as a bearer token:

  opam-keep client                            # how opam and curl come to show it
  curl -H \"Authorization: Bearer TOKEN\" https://keep/index.tar.gz";
