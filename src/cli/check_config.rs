//! `check-config`: what the configuration says, or what is wrong with it.

use super::output::say;
use super::{Context, Failure, output};
use crate::clock::Clock;
use crate::sink::{self, Sink};
use crate::{server, upstream};
use jiff::SignedDuration;
use std::process::ExitCode;

pub(super) fn run(context: &Context) -> Result<ExitCode, Failure> {
    let (config, layout) = (&context.config, context.layout()?);
    let url = server::public_url(&config.server, None);
    let sinks = Sink::all(config).map_err(Failure::usage)?;
    let exposed = sink::exposed_secrets(config);
    upstream::Client::new(&config.upstream).map_err(Failure::usage)?;
    let mut expires = None;
    if config.server.tls.is_some() {
        let tls = server::tls::server_config(config, &layout.tls()).map_err(Failure::usage)?;
        expires = tls.expires;
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
            "exposed_secrets": exposed,
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
    if let Some(expires) = expires {
        let left = expires.duration_since(Clock::system().now());
        if left <= SignedDuration::ZERO {
            say!("{bad}warning{bad:#}: the certificate expired at {expires}: clients refuse it");
        } else if left < SOON {
            say!("{bad}warning{bad:#}: the certificate expires at {expires}: renew it");
        }
    }
    for repository in &config.repository {
        let upstream = repository.upstream.get_ref().expose();
        let directory = upstream.to_file_path().ok().filter(|_| upstream.scheme() == "file");
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            let (name, directory) = (&repository.name, directory.display());
            say!("{bad}warning{bad:#}: {directory}, upstream of {name}, is no directory");
        }
    }
    for path in &exposed {
        say!("{bad}warning{bad:#}: every user of this machine may read {path}: chmod o-r it");
    }
    Ok(ExitCode::SUCCESS)
}

/// How long before its end a certificate is spoken of.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
