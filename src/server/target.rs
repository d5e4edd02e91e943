//! What a request asks for, parsed strictly: whatever is not one of these is refused.

use crate::ledger::tile::TilePath;
use crate::opam::Package;
use crate::opam::{Checksum, ChecksumKind};
use http::header::HOST;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// One thing that can be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The front page.
    Front,
    /// The front page's style sheet.
    Style,
    /// The self-made CA's certificate.
    Ca,
    /// A repository's `index.tar.gz`; the first repository's without a name.
    Index(Option<&'a str>),
    /// A repository's `repo` file.
    Repo(Option<&'a str>),
    /// An archive by checksum, among one repository's or all.
    Archive(Option<&'a str>, Checksum),
    /// A package's main archive.
    MainArchive(Option<&'a str>, Package),
    /// The ledger's signed head.
    Checkpoint,
    /// The ledger's public key.
    LedgerKey,
    /// A tile or entry bundle of the ledger.
    Tile(TilePath),
}

/// A request that is refused, with what to tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub message: &'static str,
}

impl Refusal {
    const fn bad(message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message }
    }

    pub(super) const fn not_found(message: &'static str) -> Self {
        Self { status: StatusCode::NOT_FOUND, message }
    }
}

/// Reads a request's head.
pub(super) fn parse<'a>(
    method: &Method,
    uri: &'a Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<Target<'a>, Refusal> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > MAX_HEADERS {
        return Err(Refusal {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            message: "the headers are longer than 16 KiB",
        });
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "only GET and HEAD are understood here",
        });
    }
    if version <= Version::HTTP_11 {
        if uri.authority().is_some() {
            return Err(Refusal::bad("this is a mirror, not a forward proxy: ask for a path"));
        }
        let hosts = headers.get_all(HOST).iter().count();
        if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
            return Err(Refusal::bad("a request has exactly one Host header"));
        }
    }
    let path = uri.path();
    if !path.starts_with('/') || path.len() > MAX_PATH {
        return Err(Refusal::bad("the path is too long or does not begin with /"));
    }
    parse_path(path)
}

fn parse_path(path: &str) -> Result<Target<'_>, Refusal> {
    // opam keeps doubled slashes of a configured URL, so empty segments mean nothing.
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err(Refusal::bad("a path has no . or .. segments"));
    }
    match segments[..] {
        [] => Ok(Target::Front),
        ["assets", "style.css"] => Ok(Target::Style),
        ["assets", "ca.pem"] => Ok(Target::Ca),
        ["ledger", "checkpoint"] => Ok(Target::Checkpoint),
        ["ledger", "key"] => Ok(Target::LedgerKey),
        ["ledger", ref rest @ ..] => parse_tile(rest),
        _ => parse_repository_path(&segments),
    }
}

fn parse_repository_path<'a>(segments: &[&'a str]) -> Result<Target<'a>, Refusal> {
    match *segments {
        ["index.tar.gz"] => Ok(Target::Index(None)),
        ["repo"] => Ok(Target::Repo(None)),
        ["cache", ref rest @ ..] => Ok(Target::Archive(None, parse_checksum(rest)?)),
        ["archive", ref rest @ ..] => Ok(Target::MainArchive(None, parse_package(rest)?)),
        [name, "index.tar.gz"] => Ok(Target::Index(Some(name))),
        [name, "repo"] => Ok(Target::Repo(Some(name))),
        [name, "cache", ref rest @ ..] => Ok(Target::Archive(Some(name), parse_checksum(rest)?)),
        [name, "archive", ref rest @ ..] => {
            Ok(Target::MainArchive(Some(name), parse_package(rest)?))
        }
        _ => Err(Refusal::not_found("there is nothing here; / says what there is")),
    }
}

/// `<kind>/<first two digits>/<digits>`, as opam asks caches.
fn parse_checksum(segments: &[&str]) -> Result<Checksum, Refusal> {
    let &[kind, prefix, hex] = segments else {
        return Err(Refusal::bad("an archive is asked for as cache/<kind>/<xx>/<hex>"));
    };
    let kind: ChecksumKind = kind
        .parse()
        .map_err(|_| Refusal::bad("the kind of a checksum is md5, sha256 or sha512"))?;
    if hex.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Refusal::bad("a checksum is written in lower-case hexadecimal digits"));
    }
    let checksum = Checksum::from_hex(kind, hex)
        .map_err(|_| Refusal::bad("the checksum does not have the length of its kind"))?;
    if hex.get(..2) != Some(prefix) {
        return Err(Refusal::bad("the directory is not the checksum's first two digits"));
    }
    Ok(checksum)
}

/// `<name.version>`, optionally followed by a file name that only clients care for.
fn parse_package(segments: &[&str]) -> Result<Package, Refusal> {
    let (&[package] | &[package, _]) = segments else {
        return Err(Refusal::bad("a package's archive is asked for as archive/<name.version>"));
    };
    let package: Cow<'_, str> = percent_decode_str(package)
        .decode_utf8()
        .map_err(|_| Refusal::bad("a package's name and version are UTF-8"))?;
    package.parse().map_err(|_| Refusal::bad("a package is written as name.version"))
}

fn parse_tile<'a>(segments: &[&str]) -> Result<Target<'a>, Refusal> {
    let path = segments.join("/");
    path.parse().map(Target::Tile).map_err(|_| {
        Refusal::not_found("the ledger has checkpoint, key, tile/<L>/<N> and tile/entries/<N>")
    })
}

/// Longest headers that are looked at, names and values together, in bytes.
const MAX_HEADERS: usize = 16 * 1024;
/// Longest path that is looked at, in bytes.
const MAX_PATH: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> HeaderMap {
        let host = || (HOST, "localhost".parse().unwrap());
        let mut headers = HeaderMap::new();
        std::iter::repeat_with(host).take(count).for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    fn get(uri: &str) -> Result<String, u16> {
        let uri: Uri = uri.parse().unwrap();
        parse(&Method::GET, &uri, Version::HTTP_11, &hosts(1))
            .map(|target| format!("{target:?}"))
            .map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn every_kind_of_checksum_is_understood_in_any_repository() {
        for (kind, length) in [("md5", 32), ("sha256", 64), ("sha512", 128)] {
            let hex = "ab".repeat(length / 2);
            for path in [
                format!("/cache/{kind}/ab/{hex}"),
                format!("/default/cache/{kind}/ab/{hex}"),
                format!("/default//cache//{kind}/ab/{hex}"),
            ] {
                assert!(get(&path).unwrap().starts_with("Archive("), "{path}");
            }
        }
    }

    #[test]
    fn what_is_not_a_target_is_refused() {
        let hex = "ab".repeat(32);
        for (path, status) in [
            (format!("/cache/sha256/ab/{}", hex.to_uppercase()), 400),
            (format!("/cache/sha256/cd/{hex}"), 400),
            (format!("/cache/sha1/ab/{hex}"), 400),
            (format!("/cache/sha256/ab/{hex}ab"), 400),
            (format!("/cache/sha256/ab/{hex}/x"), 400),
            (format!("/cache/sha256/ab/../{hex}"), 400),
            (format!("/cache/sha256/%61b/{hex}"), 400),
            ("/%2e%2e/etc/passwd".to_owned(), 404),
            ("/ledger/tile/0/0".to_owned(), 404),
            ("/ledger/../keys".to_owned(), 400),
            ("/nothing".to_owned(), 404),
            (format!("/{}", "a".repeat(2_000)), 400),
            ("http://elsewhere.example/index.tar.gz".to_owned(), 400),
        ] {
            assert_eq!(get(&path), Err(status), "{path}");
        }
        let uri: Uri = "/".parse().unwrap();
        let parse = |method, version, count| {
            parse(&method, &uri, version, &hosts(count))
                .map_err(|refusal| refusal.status.as_u16())
                .err()
        };
        assert_eq!(parse(Method::POST, Version::HTTP_11, 1), Some(405));
        assert_eq!(parse(Method::GET, Version::HTTP_11, 2), Some(400));
        assert_eq!(parse(Method::GET, Version::HTTP_11, 0), Some(400));
        assert_eq!(parse(Method::GET, Version::HTTP_10, 0), None);
        assert_eq!(parse(Method::GET, Version::HTTP_11, 2_000), Some(431));
    }
}
