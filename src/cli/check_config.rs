//! `check-config`: what the configuration says, or what is wrong with it.

use super::output::say;
use super::{Context, Failure, output};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::sink::{self, Sink};
use crate::{server, upstream};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use url::Url;

/// What `check-config` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print a mirror.toml that has every key with its default instead
    #[arg(long)]
    example: bool,
}

impl Arguments {
    /// Whether no configuration is looked at.
    pub(super) fn is_for_example(&self) -> bool {
        self.example
    }
}

pub(super) fn print_example(as_json: bool) -> ExitCode {
    match as_json {
        true => output::json(&serde_json::json!({ "example": config::EXAMPLE })),
        false => output::verbatim(config::EXAMPLE.trim_end()),
    }
    ExitCode::SUCCESS
}

pub(super) fn run(context: &Context) -> Result<ExitCode, Failure> {
    let (config, layout) = (&context.config, context.layout()?);
    let url = server::public_url(&config.server, None);
    let sinks = Sink::all(config).map_err(Failure::usage)?;
    upstream::Client::new(&config.upstream).map_err(Failure::usage)?;
    let mut expires = None;
    if config.server.tls.is_some() {
        let tls = server::tls::server_config(config, &layout.tls()).map_err(Failure::usage)?;
        expires = tls.expires;
    }
    server::tls::check_client_ca(config).map_err(Failure::usage)?;
    let root = layout.root();
    if root.exists() && !root.is_dir() {
        let root = root.display();
        return Err(Failure::Usage(format!("{root}: store.path must name a directory")));
    }
    let mut warnings = warnings(config, expires);
    if let Some(file) = &context.file
        && std::fs::metadata(file).is_ok_and(|it| it.len() == 0)
    {
        let file = file.display();
        warnings.push(format!(
            "{file} is empty: that is the defaults at a start, and no change for a running server"
        ));
    }
    if context.json {
        let repositories = config.repository.iter().map(|repository| {
            serde_json::json!({
                "name": repository.name,
                "upstream": repository.upstream.get_ref().to_string(),
                "refresh": repository.refresh.to_string(),
            })
        });
        output::json(&serde_json::json!({
            "ok": true,
            "config": context.file,
            "store": layout.root(),
            "url": url,
            "sinks": sinks.iter().map(Sink::name).collect::<Vec<_>>(),
            "warnings": warnings,
            "certificate_expires": expires,
            "repositories": repositories.collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let file =
        context.file.as_ref().map_or("defaults".to_owned(), |file| file.display().to_string());
    say!("{}{file}{:#}: no mistake found", output::GOOD, output::GOOD);
    say!("  store       {}", layout.root().display());
    say!("  clients at  {url}");
    for repository in &config.repository {
        say!(
            "  repository  {} from {}, asked every {}",
            repository.name,
            repository.upstream.get_ref(),
            repository.refresh
        );
    }
    for sink in &sinks {
        say!("  alerts      {} to {}", sink.name(), sink.address());
    }
    let bad = output::BAD;
    warnings.iter().for_each(|warning| say!("{bad}warning{bad:#}: {warning}"));
    Ok(ExitCode::SUCCESS)
}

/// What a server starts with all the same, and what may not be meant.
fn warnings(config: &Config, certificate_expires: Option<Timestamp>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(expires) = certificate_expires {
        let left = expires.duration_since(Clock::system().now());
        if left <= SignedDuration::ZERO {
            warnings.push(format!("the certificate expired at {expires}: clients refuse it"));
        } else if left < SOON {
            warnings.push(format!("the certificate expires at {expires}: renew it"));
        }
    }
    warnings.extend(unknown_name(config));
    warnings.extend(shared_port(config));
    for repository in &config.repository {
        let upstream = repository.upstream.get_ref().expose().as_str();
        if upstream.starts_with("https:") && upstream.ends_with(".git") {
            let name = &repository.name;
            warnings.push(format!(
                "{name}'s upstream looks like a git repository: write it as git+{upstream}"
            ));
        }
        if upstream.starts_with("http:") {
            let name = &repository.name;
            warnings.push(format!(
                "nothing vouches for what comes of {name}'s upstream by plain http://: whoever is \
                 on the way can change it"
            ));
        }
        let local = Url::parse(upstream.strip_prefix("git+").unwrap_or(upstream)).ok();
        let local = local.filter(|url| url.scheme() == "file");
        let directory = local.and_then(|url| url.to_file_path().ok());
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            let (name, directory) = (&repository.name, directory.display());
            warnings.push(format!("{directory}, upstream of {name}, is no directory"));
        }
    }
    let programs = config.alert.command.iter().filter_map(|it| it.run.get_ref().first());
    for program in programs.filter(|program| !is_found(program)) {
        warnings.push(format!("{program}, which alerts run, is no program here"));
    }
    let exposed = sink::exposed_secrets(config).into_iter();
    warnings.extend(
        exposed.map(|path| format!("every user of this machine may read {path}: chmod o-r it")),
    );
    warnings
}

/// That clients are told to use a name that the certificate is not for.
fn unknown_name(config: &Config) -> Option<String> {
    let url = config.server.public_url.as_ref()?.expose();
    let host = server::tls::untrusted_host(config, url)?;
    Some(match config.server.tls {
        None => format!(
            "clients that use server.public_url refuse the self-made certificate: add \"{host}\" to \
             server.hostnames"
        ),
        Some(_) => format!(
            "clients that use server.public_url refuse the certificate of server.tls: it is not for \
             {host}"
        ),
    })
}

/// That an address of IPv6 most likely takes one of IPv4 as well.
fn shared_port(config: &Config) -> Option<String> {
    let server = &config.server;
    let all = || server.listen.iter().chain(&server.plain_http);
    let any = all().find(|it| it.is_ipv6() && it.ip().is_unspecified() && it.port() != 0)?;
    let other = all().find(|it| it.is_ipv4() && it.port() == any.port())?;
    Some(format!(
        "{any} is {other} as well, unless net.ipv6.bindv6only is set: a server that can't listen on \
         both does not start"
    ))
}

/// Whether a name, as it is run, is that of a program.
fn is_found(program: &str) -> bool {
    if program.contains('/') {
        return is_executable(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| is_executable(&directory.join(program)))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// How long before its end a certificate is spoken of.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
