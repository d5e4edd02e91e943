//! `client`: what to paste so that opam uses this mirror.

use super::ci::Ci;
use super::commands::{Mirror, Recipe};
use super::output::say;
use super::{Context, Failure, output, status};
use crate::config::{Mode, Reading};
use crate::digest::Sha256;
use crate::server::{self, tls};
use crate::store::layout::Layout;
use crate::store::owner;
use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use url::{Host, Url};

/// What `client` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where clients reach the mirror, in place of what the server or server.public_url says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What to paste into a CI service, a Dockerfile or a dune project instead
    #[arg(long, value_enum, value_name = "WHERE")]
    ci: Option<Ci>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let server = &context.config.server;
    let url = match &arguments.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => match status::of_running(&layout).ok().flatten().and_then(|status| status.url) {
            // It may listen elsewhere than this configuration says.
            Some(url) if server.public_url.is_none() => url,
            _ => server::public_url(server, None),
        },
    };
    check(&url)?;
    let ca = match (&server.tls, url.starts_with("https:")) {
        (None, true) if !server.listen.is_empty() => Some(absolute(&tls::ca_path(&layout.tls()))),
        _ => None,
    };
    let read = ca.as_deref().map(fingerprint);
    let fingerprint = read.as_ref().and_then(|read| read.as_ref().ok());
    let mirror = mirror(context, &url, ca.as_deref());
    let recipes = match arguments.ci {
        Some(ci) => ci.recipes(&mirror),
        None => mirror.all(),
    };
    if context.json {
        output::json(&json!({
            "url": url,
            "ca": ca,
            "ca_sha256": fingerprint,
            "needs_token": mirror.needs_token,
            "recipes": recipes,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(ca), Some(read)) = (&ca, &read) {
        let ca = ca.display();
        match read {
            Ok(fingerprint) => {
                say!("# {ca} is the CA of this mirror, SHA-256");
                say!("# {fingerprint}; give clients a copy.\n");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                say!("# {ca} is made at the first start.\n");
            }
            Err(error) => {
                let advice = owner::advice(error, &layout);
                say!("# {ca}: {error}{advice}, or take the copy at {url}/assets/ca.pem.\n");
            }
        }
    }
    if is_this_machine(&url) {
        say!(
            "# {url} is this machine alone. Others need server.listen and server.hostnames, and then\n\
             # --url https://HOST, or server.public_url.\n"
        );
    } else if let Some(host) = unknown_name(context, &url) {
        say!(
            "# Clients refuse the self-made certificate under this name: add \"{host}\" to\n\
             # server.hostnames, unless something in front of it has a certificate of its own.\n"
        );
    }
    recipes.iter().for_each(print);
    if arguments.ci.is_none() {
        for repository in context.config.repository.iter().skip(1) {
            let name = &repository.name;
            say!(
                "# Another repository:  opam repository add --all-switches --set-default {name} {url}/{name}"
            );
        }
        say!("# What to paste into CI:  opam-keep client --ci github|gitlab|docker|dune");
    }
    Ok(ExitCode::SUCCESS)
}

/// What `serve` says on a terminal when it starts.
pub(super) fn greet(context: &Context, url: &str, self_made: bool, layout: &Layout) {
    let ca = self_made.then(|| absolute(&tls::ca_path(&layout.tls())));
    let mirror = mirror(context, url, ca.as_deref());
    say!("{}opam-keep{:#} serves {url}\n", output::GOOD, output::GOOD);
    mirror.first_steps().iter().for_each(print);
    say!(
        "# More:  opam-keep client; for CI and containers:  opam-keep client --ci github|gitlab|docker|dune\n"
    );
}

/// Shells, YAML and opam files all read such a URL as it is written, and opam can add a path to it.
fn check(url: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%:/@[]+".contains(c);
    let is_web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    match is_web && url.chars().all(plain) {
        true => Ok(()),
        false => Err(Failure::usage(
            "the mirror's URL can't be pasted into commands: write --url or server.public_url as \
             https://host/path, with letters, digits and -._~%/ alone",
        )),
    }
}

/// The host of a URL that the self-made certificate is not for.
fn unknown_name(context: &Context, url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|_| context.config.server.tls.is_none())?;
    server::tls::untrusted_host(&context.config, &url).map(str::to_owned)
}

fn is_this_machine(url: &str) -> bool {
    match Url::parse(url).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn print(recipe: &Recipe) {
    say!("{}{} {}{:#}", output::HEADING, recipe.comment, recipe.title, output::HEADING);
    recipe.lines.iter().for_each(|line| output::verbatim(line));
    say!();
}

fn mirror<'a>(context: &'a Context, url: &'a str, ca: Option<&'a Path>) -> Mirror<'a> {
    let config = &context.config;
    let first = config.repository.first();
    let repository = first.map_or("default", |repository| repository.name.as_str());
    let needs_token = config.access.read == Reading::Tokens;
    let is_verbatim = config.repository.iter().any(|it| it.mode == Mode::Verbatim);
    Mirror { url, repository, ca, needs_token, is_verbatim }
}

/// The SHA-256 of the certificate itself, as browsers and openssl show it.
fn fingerprint(ca: &Path) -> io::Result<String> {
    let pem = std::fs::read(ca)?;
    let certificate = CertificateDer::from_pem_slice(&pem);
    let certificate = certificate.map_err(|error| io::Error::other(error.to_string()))?;
    let hash = Sha256::of(&certificate);
    let bytes = hash.as_bytes().iter().map(|byte| format!("{byte:02X}"));
    Ok(bytes.collect::<Vec<_>>().join(":"))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
