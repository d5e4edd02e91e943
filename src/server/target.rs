//! What a request asks for, parsed strictly: whatever is not one of these is refused.

use super::api::{self, Call};
use super::health::Health;
use super::host;
use super::pages::{self, Form, Page};
use super::refusal::{Methods, Refusal};
use crate::keeper::{NotAPoint, When};
use crate::ledger::tile::TilePath;
use crate::opam::{Checksum, ChecksumKind, EXTRA_SOURCE, Package};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// One thing that can be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A web page.
    Page(Page),
    /// A form of a web page.
    Form(Form),
    /// A call of the JSON API.
    Api(Call),
    /// The pages' style sheet.
    Style,
    /// The self-made CA's certificate.
    Ca,
    /// Something of a repository; of the first one, or of all, without a name.
    Of {
        /// The point in its past that is asked for; now without one.
        when: Option<When>,
        /// The repository's name.
        name: Option<&'a str>,
        /// What of it.
        part: Part,
    },
    /// The ledger's signed head.
    Checkpoint,
    /// The ledger's public key.
    LedgerKey,
    /// A tile or entry bundle of the ledger.
    Tile(TilePath),
    /// Something about the server itself.
    Health(Health),
    /// What a Prometheus scrapes.
    Metrics,
}

/// What can be asked for of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `index.tar.gz`.
    Index,
    /// The `repo` file.
    Repo,
    /// An archive by checksum.
    Archive(Checksum),
    /// An archive by its name, see [`source_name`](crate::opam::source_name).
    Source(String),
}

impl Target<'_> {
    /// Whether the answer is made for each request, and may be large.
    pub(super) fn is_made_for_one(&self) -> bool {
        match self {
            Self::Page(_) | Self::Form(_) | Self::Api(_) => true,
            Self::Checkpoint | Self::Tile(_) | Self::Metrics => true,
            // Archives and past states see to that themselves.
            Self::Of { .. } | Self::Style | Self::Ca | Self::LedgerKey | Self::Health(_) => false,
        }
    }

    /// Whether it is for those who have not said who they are yet.
    pub(super) fn is_for_everyone(&self) -> bool {
        matches!(
            self,
            Self::Style
                | Self::Ca
                | Self::Health(_)
                | Self::Page(Page::LogIn { .. })
                | Self::Form(Form::LogIn)
        )
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
        return Err(Refusal::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the headers are longer than 16 KiB",
        ));
    }
    host::check(uri, version, headers)?;
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if !path.starts_with('/') {
        return Err(Refusal::bad("a path begins with /"));
    }
    if path.len() > MAX_PATH || query.len() > MAX_PATH {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "the path or the query is too long"));
    }
    parse_path(method, path, query)
}

/// What a request's head is understood as, written out for those who look at the parser from
/// outside: tests and fuzzers.
///
/// # Errors
/// The status with which such a request is refused.
pub fn understood(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<String, StatusCode> {
    let target = parse(method, uri, version, headers).map_err(|refusal| refusal.status)?;
    Ok(format!("{target:?}"))
}

fn parse_path<'a>(method: &Method, path: &'a str, query: &str) -> Result<Target<'a>, Refusal> {
    // opam keeps doubled slashes of a configured URL, so empty segments mean nothing.
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err(Refusal::bad("a path has no . or .. segments"));
    }
    if let ["api", rest @ ..] = &segments[..] {
        return api::parse(method, rest, query).map(Target::Api);
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match (pages::page(&segments, query), pages::form(&segments)) {
        (_, Some(form)) if *method == Method::POST => form.map(Target::Form),
        (Some(page), _) if is_read => page.map(Target::Page),
        (None, None) if is_read => parse_file(&segments),
        (Some(_), Some(_)) => Err(Refusal::other_method(Methods::Both)),
        (None, Some(_)) => Err(Refusal::other_method(Methods::Send)),
        (_, None) => Err(Refusal::other_method(Methods::Read)),
    }
}

/// What is neither a page nor the API's.
fn parse_file<'a>(segments: &[&'a str]) -> Result<Target<'a>, Refusal> {
    match *segments {
        ["assets", "style.css"] => Ok(Target::Style),
        ["assets", "ca.pem"] => Ok(Target::Ca),
        ["livez"] => Ok(Target::Health(Health::Live)),
        ["readyz"] => Ok(Target::Health(Health::Ready)),
        ["version"] => Ok(Target::Health(Health::Version)),
        ["metrics"] => Ok(Target::Metrics),
        ["ledger", "checkpoint"] => Ok(Target::Checkpoint),
        ["ledger", "key"] => Ok(Target::LedgerKey),
        ["ledger", ref rest @ ..] => parse_tile(rest),
        ["at"] => Err(bad_point()),
        ["at", when, ref rest @ ..] => parse_repository_path(Some(parse_when(when)?), rest),
        _ => parse_repository_path(None, segments),
    }
}

fn parse_repository_path<'a>(
    when: Option<When>,
    segments: &[&'a str],
) -> Result<Target<'a>, Refusal> {
    let of_all = |part| Ok(Target::Of { when, name: None, part });
    let of_one = |name, part| Ok(Target::Of { when, name: Some(name), part });
    match *segments {
        ["index.tar.gz"] => of_all(Part::Index),
        ["repo"] => of_all(Part::Repo),
        ["cache", ref rest @ ..] => of_all(Part::Archive(parse_checksum(rest)?)),
        ["archive", ref rest @ ..] => of_all(parse_source(rest)?),
        [name, "index.tar.gz"] => of_one(name, Part::Index),
        [name, "repo"] => of_one(name, Part::Repo),
        [name, "cache", ref rest @ ..] => of_one(name, Part::Archive(parse_checksum(rest)?)),
        [name, "archive", ref rest @ ..] => of_one(name, parse_source(rest)?),
        _ => Err(Refusal::not_found("there is nothing here; / says what there is")),
    }
}

/// A point in the past; its colons may come percent-encoded.
fn parse_when(segment: &str) -> Result<When, Refusal> {
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| bad_point())?;
    text.parse().map_err(|_| bad_point())
}

const fn bad_point() -> Refusal {
    Refusal::bad(NotAPoint::SENTENCE)
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

/// `<name.version>` or `<name.version>/extra-source/<id>`, optionally followed by a file name that
/// only clients care for.
fn parse_source(segments: &[&str]) -> Result<Part, Refusal> {
    let (package, id) = match *segments {
        [package] | [package, _] => (package, None),
        [package, EXTRA_SOURCE, id] | [package, EXTRA_SOURCE, id, _] => (package, Some(id)),
        _ => {
            let sentence = "an archive is asked for as archive/<name.version>";
            return Err(Refusal::bad(sentence));
        }
    };
    let package: Result<Package, _> = decoded(package)?.parse();
    let package = package.map_err(|_| Refusal::bad("a package is written as name.version"))?;
    let is_id = |id: &str| id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match id {
        None => Ok(Part::Source(package.to_string())),
        Some(id) if is_id(id) => Ok(Part::Source(format!("{package}/{EXTRA_SOURCE}/{id}"))),
        Some(_) => Err(Refusal::bad("an extra source is asked for as extra-source/<id>")),
    }
}

fn decoded(segment: &str) -> Result<Cow<'_, str>, Refusal> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map_err(|_| Refusal::bad("names and versions are UTF-8"))
}

fn parse_tile<'a>(segments: &[&str]) -> Result<Target<'a>, Refusal> {
    let path = segments.join("/");
    path.parse().map(Target::Tile).map_err(|_| {
        Refusal::not_found("below ledger/ there are checkpoint, key, tile/<L>/<N>, tile/entries/<N> and, as pages, entries/<N>")
    })
}

/// Longest headers that are looked at, names and values together, in bytes.
const MAX_HEADERS: usize = 16 * 1024;
/// Longest path, and longest query, that is looked at, in bytes.
const MAX_PATH: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HOST;
    use proptest::prelude::*;

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
        understood(&Method::GET, &uri, Version::HTTP_11, &hosts(1))
            .map_err(|status| status.as_u16())
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
                assert!(get(&path).unwrap().contains("part: Archive("), "{path}");
            }
        }
    }

    #[test]
    fn all_of_a_repository_is_there_in_the_past_too() {
        let hex = "ab".repeat(32);
        for path in [
            "index.tar.gz".to_owned(),
            "repo".to_owned(),
            "default/index.tar.gz".to_owned(),
            format!("cache/sha256/ab/{hex}"),
            format!("default//cache/sha256/ab/{hex}"),
            "default/archive/hello.1.0".to_owned(),
            "archive/hello.1.0/extra-source/0123456789abcdef/c.patch".to_owned(),
        ] {
            let now = get(&format!("/{path}")).unwrap();
            assert!(now.contains("when: None"), "{now}");
            for (when, expected) in [
                ("2026-05-20", "Day(2026-05-20)"),
                ("2026-05-20T12%3A00%3A00Z", "Time(2026-05-20T12:00:00Z)"),
                ("2026-05-20T12:00:00%2B02:00", "Time(2026-05-20T10:00:00Z)"),
                ("12", "Size(12)"),
            ] {
                let then = get(&format!("/at/{when}/{path}")).unwrap();
                let expected = now.replacen("when: None", &format!("when: Some({expected})"), 1);
                assert_eq!(then, expected, "{path}");
            }
        }
        for (path, status) in [
            ("/at", 400),
            ("/at/", 400),
            ("/at/yesterday/index.tar.gz", 400),
            ("/at/2026-02-30/repo", 400),
            ("/at/%ff/repo", 400),
            ("/at/12", 404),
            ("/at/12/ledger/checkpoint", 404),
            ("/at/12/at/12/index.tar.gz", 404),
        ] {
            assert_eq!(get(path), Err(status), "{path}");
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
            ("/archive/hello".to_owned(), 400),
            ("/archive/hello.1/a/b".to_owned(), 400),
            ("/archive/hello.1/extra-source/%2e%2e/a".to_owned(), 400),
            ("/archive/hello.1/extra-source/a/b/c".to_owned(), 400),
            ("/archive/hello.1/extra-source/a%2f..%2fb".to_owned(), 400),
            ("/archive/hello.1/extra-source/%ff/a".to_owned(), 400),
            (format!("/{}", "a".repeat(2_000)), 414),
            (format!("/packages?q={}", "a".repeat(2_000)), 414),
            ("/logout".to_owned(), 405),
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
        assert_eq!(parse(Method::DELETE, Version::HTTP_11, 1), Some(405));
        assert_eq!(parse(Method::GET, Version::HTTP_11, 2), Some(400));
        assert_eq!(parse(Method::GET, Version::HTTP_11, 0), Some(400));
        assert_eq!(parse(Method::GET, Version::HTTP_10, 0), None);
        assert_eq!(parse(Method::GET, Version::HTTP_11, 2_000), Some(431));
    }

    /// A path of the words that paths are made of.
    fn path() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            "(cache|sha256|md5|ab|archive|extra-source|at|ledger|tile|entries|000|x001|api|v1)",
            "(default|repo|index[.]tar[.]gz|packages|divergences|snapshots|login|assets|[.]{1,3})",
            "(2026-05-[0-9]{2}|[0-9]{1,21}|[a-z]{1,2}[.][0-9~+]{1,3}|(ab){32}|(ab){16})",
            "(%[0-9a-f]{2}|[a-z]){0,4}",
        ];
        prop::collection::vec(segment, 0..7).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        #[test]
        fn any_path_is_understood_in_one_way_or_refused(
            path in path(), query in "([?](q|page|state|next|from)=[a-z0-9%&=/]{0,8})?", post: bool
        ) {
            let method = if post { Method::POST } else { Method::GET };
            let ask = |path: &str| {
                let uri: Uri = format!("{path}{query}").parse().unwrap();
                understood(&method, &uri, Version::HTTP_11, &hosts(1))
            };
            let answer = ask(&path);
            if let Err(status) = answer {
                prop_assert!([400, 404, 405].contains(&status.as_u16()), "{}", status);
            }
            let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
            prop_assert!(!(dots && answer.is_ok()), "{}", path);
            // As opam asks where the configured URL ends with a slash.
            prop_assert_eq!(ask(&path.replace('/', "//")), answer);
        }
    }
}
