//! What people and clients write: mirror.toml, requests, checksums and other small values.

use crate::{Corpus, of_project};
use opam_keep::digest::Digests;
use std::io;

pub(crate) fn seed(corpus: &Corpus) -> io::Result<()> {
    let example = of_project("mirror.toml.example")?;
    corpus.add("mirror_toml", &example)?;
    // Every key alone in its section, also those that are commented out.
    let mut section = "";
    for line in example.lines().skip(2).map(|line| line.strip_prefix("# ").unwrap_or(line)) {
        if line.starts_with('[') {
            section = line;
        } else if line.contains(" = ") {
            corpus.add("mirror_toml", format!("{section}\n{line}\n"))?;
        }
    }
    let Digests { md5, sha256, sha512, .. } = Digests::of(b"archive");
    let hex = sha256.to_string();
    for path in REQUESTS {
        corpus.add(
            "request_target",
            format!("GET {}", path.replace("HEX", &hex).replace("XX", &hex[..2])),
        )?;
    }
    for path in ["/login", "/api/v1/divergences/4", "/api/v1/repositories/default/refresh"] {
        corpus.add("request_target", format!("POST {path}"))?;
    }
    for checksum in [format!("md5={md5}"), md5.to_string(), format!("SHA512={sha512}")] {
        corpus.add("value", checksum)?;
    }
    corpus.add("value", format!("sha256={sha256} md5={md5}"))?;
    VALUES.iter().try_for_each(|value| corpus.add("value", value))
}

const REQUESTS: [&str; 29] = [
    "/",
    "/index.tar.gz",
    "/default/repo",
    "/cache/sha256/XX/HEX",
    "//default//cache/md5/90/900150983cd24fb0d6963f7d28e17f72",
    "/archive/a.1%2B2/b.tar.gz",
    "/default/archive/a.1/extra-source/0123456789abcdef/c.patch",
    "/at/2026-05-20/index.tar.gz",
    "/at/2026-05-20T12%3A00%3A00%2B02:00/default/repo",
    "/at/12/cache/sha256/XX/HEX",
    "/ledger/checkpoint",
    "/ledger/key",
    "/ledger/tile/0/x001/234.p/5",
    "/ledger/tile/entries/000",
    "/ledger?from=12&kind=pin",
    "/packages?q=a%20b&page=2",
    "/default/packages/a/a.1",
    "/divergences?state=open",
    "/divergences/4",
    "/ledger/entries/7/proof",
    "/snapshots/12",
    "/login?next=/divergences",
    "/assets/style.css",
    "/readyz",
    "/metrics",
    "/api/v1/openapi.json",
    "/api/v1/divergences?state=open",
    "/api/v1/repositories/default/packages/a/a.1",
    "http://elsewhere.example/../x",
];

const VALUES: [&str; 8] = [
    "packages/a/a.1/opam",
    "a.1.0~beta",
    "mirage-*.3*",
    "https://me:hunter2@host.example:8443/p/a.tar.gz?q=1#f",
    "git+https://host.example/a.git#main",
    "file:///a/b",
    "http://[::1]/%2e%2e/a",
    "mailto:me@host.example",
];
