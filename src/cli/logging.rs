//! Logs: text on a terminal, one JSON object a line otherwise, always on standard error.

use super::Failure;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging what `filter` lets through.
pub(super) fn start(filter: &str) -> Result<(), Failure> {
    let is_misspelt = |part: &str| {
        let is_ours = part.starts_with("opam_keep") || part == "access";
        !(is_ours || part.contains('=') || part.parse::<LevelFilter>().is_ok())
    };
    if filter.split(',').map(str::trim).any(is_misspelt) {
        return Err(Failure::Usage(format!(
            "--log {filter}: write error, warn, info, debug or trace, also as TARGET=LEVEL"
        )));
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Usage(format!("--log {filter}: {error}: write error, warn, info, debug or trace"))
    })?;
    // What libraries say of their insides is not for administrators.
    let filter = QUIET.iter().fold(filter, |filter, directive| {
        filter.add_directive(directive.parse().expect("the quiet directives are directives"))
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let started = match terminal {
        true => builder.with_target(false).try_init(),
        false => builder.json().try_init(),
    };
    started.map_err(Failure::failed)
}

const QUIET: [&str; 4] = ["hyper=warn", "rustls=warn", "h2=warn", "redb=error"];
