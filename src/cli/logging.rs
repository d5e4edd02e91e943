//! Logs: text on a terminal, one JSON object a line otherwise, always on standard error.

use super::Failure;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging what the filter of `--log` lets through, or else that of the environment.
pub(super) fn start(flag: Option<&str>) -> Result<(), Failure> {
    let variable = std::env::var(VARIABLE).ok();
    let (source, filter) = match (flag, &variable) {
        (Some(filter), _) => ("--log", filter),
        (None, Some(filter)) => (VARIABLE, filter.as_str()),
        (None, None) => ("--log", "info"),
    };
    let is_misspelt = |part: &str| {
        let is_ours = part.starts_with("opam_keep") || part == "access";
        !(is_ours || part.contains('=') || part.parse::<LevelFilter>().is_ok())
    };
    if filter.split(',').map(str::trim).any(is_misspelt) {
        return Err(Failure::Usage(format!(
            "{source} {filter}: write error, warn, info, debug or trace, also as TARGET=LEVEL"
        )));
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Usage(format!(
            "{source} {filter}: {error}: write error, warn, info, debug or trace"
        ))
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

const VARIABLE: &str = "OPAM_KEEP_LOG";
const QUIET: [&str; 4] = ["hyper=warn", "rustls=warn", "h2=warn", "redb=error"];
