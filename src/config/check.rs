//! What no single value of a configuration can know: whether it can be meant together with others.

use super::load::{DEFAULT_NAME, Mistake};
use super::{Config, Mode, Reading};
use crate::safe_url::SafeUrl;
use rustls_pki_types::ServerName;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// A rule for a repository that is not there holds nothing. Audits have rules for others too.
pub(super) fn rules(config: &Config) -> Result<(), Mistake> {
    let mut names: Vec<&str> = config.repository.iter().map(|it| it.name.as_str()).collect();
    if names.is_empty() {
        names.push(DEFAULT_NAME);
    }
    for named in config.policy.named_repositories() {
        let name = named.get_ref().as_str();
        if !names.contains(&name) {
            let names = names.join(", ");
            let message = format!(
                "no repository \"{name}\" is configured, so these rules hold for nothing; these \
                 are: {names}"
            );
            return Err(Mistake::at(named.span(), message));
        }
    }
    Ok(())
}

/// Checks what no single value can know.
pub(super) fn all(config: &Config) -> Result<(), Mistake> {
    let mut names = BTreeSet::new();
    for repository in &config.repository {
        let upstream = &repository.upstream;
        if !names.insert(&repository.name) {
            return Err(Mistake::at(
                upstream.span(),
                format!("a second repository named \"{}\": names must differ", repository.name),
            ));
        }
        if !UPSTREAM_SCHEMES.contains(&upstream.get_ref().expose().scheme()) {
            return Err(Mistake::at(
                upstream.span(),
                "an upstream is https://…, git+https://…, git+file://… or file:///a/checkout; or \
                 http://…, which anyone on the way can change",
            ));
        }
        let url = upstream.get_ref().expose();
        if url.scheme().ends_with("file") && url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(Mistake::at(
                upstream.span(),
                "a directory is named by its whole path, with three slashes: file:///a/checkout",
            ));
        }
        let is_index = matches!(upstream.get_ref().expose().scheme(), "https" | "http");
        if let Some(path) = url.path().strip_suffix("/index.tar.gz").filter(|_| is_index) {
            let mut above = upstream.get_ref().public();
            above.set_path(path);
            return Err(Mistake::at(
                upstream.span(),
                format!("index.tar.gz is asked for below an upstream: write \"{above}\""),
            ));
        }
        if repository.mode == Mode::Verbatim && !is_index {
            return Err(Mistake::at(
                upstream.span(),
                "mode = \"verbatim\" passes on an index.tar.gz, which only an https:// upstream has",
            ));
        }
        let rewrites = &repository.rewrite_sources;
        if *rewrites.get_ref() && repository.mode == Mode::Verbatim {
            return Err(Mistake::at(
                rewrites.span(),
                "mode = \"verbatim\" passes on upstream's bytes, so rewrite_sources can't be true",
            ));
        }
        if *rewrites.get_ref() && config.server.public_url.is_none() {
            return Err(Mistake::at(
                rewrites.span(),
                "rewrite_sources = true has sources point to where clients reach this mirror: set \
                 server.public_url, such as \"https://opam.corp\"",
            ));
        }
    }
    if let Some(file) = &config.access.client_ca
        && config.access.read == Reading::Open
    {
        return Err(Mistake::at(
            file.span(),
            "access.client_ca lets in those who show a certificate, and access.read lets in \
             everyone: set access.read = \"tokens\", or leave client_ca out",
        ));
    }
    config.alert.check().map_err(|(place, message)| Mistake::at(place, message))?;
    let server = &config.server;
    if server.listen.is_empty() && server.plain_http.is_empty() {
        return Err(Mistake::of_all(
            "server.listen is empty: name at least one address, such as \"127.0.0.1:8443\"",
        ));
    }
    let addresses: Vec<SocketAddr> =
        server.listen.iter().chain(&server.plain_http).copied().collect();
    for (number, &address) in addresses.iter().enumerate() {
        let Some(other) = addresses[..number].iter().find(|other| is_within(**other, address))
        else {
            continue;
        };
        let both = match *other == address {
            true => format!("{address} twice"),
            false => format!("{other} and {address}, of which one is part of the other"),
        };
        return Err(Mistake::of_all(format!(
            "server.listen and server.plain_http name {both}: each needs its own address"
        )));
    }
    if server.hostnames.is_empty() && server.tls.is_none() && !server.listen.is_empty() {
        return Err(Mistake::of_all(
            "server.hostnames is empty: the self-made certificate needs at least one name, such \
             as \"localhost\"",
        ));
    }
    let is_name = |name: &String| ServerName::try_from(name.as_str()).is_ok();
    if let Some(name) = server.hostnames.iter().find(|name| !is_name(name)) {
        return Err(Mistake::of_all(format!(
            "server.hostnames has \"{name}\": name hosts or addresses, such as \"opam.corp\""
        )));
    }
    let public = server.public_url.as_ref().map(|url| url.expose().scheme());
    if public.is_some_and(|scheme| !matches!(scheme, "https" | "http")) {
        return Err(Mistake::of_all("server.public_url is no https:// or http:// URL"));
    }
    let public = server.public_url.as_ref().map(SafeUrl::expose);
    if public.is_some_and(|url| url.query().or(url.fragment()).is_some()) {
        return Err(Mistake::of_all(
            "server.public_url has a ? or #: paths can't be added to that",
        ));
    }
    if config.store.path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(Mistake::of_all("store.path is empty: name a directory, or leave it out"));
    }
    let (upstream, most) = (&config.upstream, MOST_TURNS);
    for (key, turns) in [("concurrency", upstream.concurrency), ("per_host", upstream.per_host)] {
        if turns.get() > most {
            return Err(Mistake::of_all(format!(
                "upstream.{key} is {turns}: {most} fetches at a time are the most"
            )));
        }
    }
    let proxy = config.upstream.proxy.as_ref();
    if proxy.is_some_and(|proxy| proxy.expose().scheme() != "http") {
        return Err(Mistake::of_all(
            "upstream.proxy is no HTTP proxy: write http://[user:password@]host:port",
        ));
    }
    Ok(())
}

/// Whether who listens on one of these addresses also listens on the other. Whether those of IPv6
/// are also of IPv4 depends on the system.
fn is_within(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (is_any || one.ip() == other.ip())
}

/// Each holds files and a thread.
const MOST_TURNS: usize = 1_024;
const UPSTREAM_SCHEMES: [&str; 5] = ["https", "http", "git+https", "git+file", "file"];
