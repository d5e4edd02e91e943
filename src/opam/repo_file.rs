//! The `repo` file as clients of the mirror get it.

use super::syntax::{OpamFile, SyntaxError, ValueKind, quoted};
use bytes::Bytes;

/// The one version of the format under which every client reads the file.
const OPAM_VERSION: &str = "2.0";
/// Where clients find archives, relative to the repository: so that credentials in its URL hold
/// for the archives too.
const ARCHIVE_MIRRORS: &str = "cache";

/// Upstream's `repo` file, changed so that clients stay with the mirror.
///
/// `opam-version` is `"2.0"`, or clients would ignore the file; `archive-mirrors` is the mirror's
/// own cache and nothing else; every `redirect` is gone, as clients write one into their
/// configuration for good; so is `stamp`, which no client reads and which makes all of them take a
/// new index when nothing else has changed. All other bytes stay. A file that is missing, longer
/// than an opam file may be here (1 MiB), or that can't be parsed (a client would ignore it), is
/// replaced by one with just these fields.
///
/// `browse` points at this mirror's own pages of packages, where their URL is known.
pub fn rewrite_repo_file(upstream: Option<&[u8]>, browse: Option<&str>) -> Bytes {
    let from_upstream = upstream.and_then(|bytes| rewrite(bytes, browse).ok());
    let own = minimal();
    from_upstream.or_else(|| rewrite(&own, browse).ok()).unwrap_or(own)
}

/// Why clients that get upstream's `repo` file as it is would not stay with its packages, if so.
pub(super) fn leads_away(upstream: &[u8]) -> Option<&'static str> {
    let Ok(file) = OpamFile::parse(upstream) else { return Some("can't be read") };
    let versions: Vec<_> = file.fields("opam-version").map(|field| &field.value.kind).collect();
    if file.field("redirect").is_some() {
        return Some("has a redirect, which clients can write into their configuration for good");
    }
    let is_current = matches!(versions[..], [ValueKind::String(said)] if *said == *OPAM_VERSION);
    (!is_current)
        .then_some("is not of opam-version 2.0, so that clients may make another repository of it")
}

fn rewrite(upstream: &[u8], browse: Option<&str>) -> Result<Bytes, SyntaxError> {
    let mut file = OpamFile::parse(upstream)?;
    if let Some(browse) = browse {
        ensure(&mut file, "browse", browse)?;
    }
    ensure(&mut file, "opam-version", OPAM_VERSION)?;
    ensure(&mut file, "archive-mirrors", ARCHIVE_MIRRORS)?;
    file.remove_field("redirect")?;
    file.remove_field("stamp")?;
    Ok(file.to_bytes())
}

/// Makes the field say `text`, once; one that does is left as it is.
fn ensure(file: &mut OpamFile, name: &str, text: &str) -> Result<(), SyntaxError> {
    let values: Vec<_> = file.fields(name).map(|field| &field.value.kind).collect();
    match values[..] {
        [ValueKind::String(said)] if *said == *text => Ok(()),
        _ => file.set_field(name, &quoted(text)),
    }
}

fn minimal() -> Bytes {
    let version = quoted(OPAM_VERSION);
    let mirrors = quoted(ARCHIVE_MIRRORS);
    format!("opam-version: {version}\narchive-mirrors: {mirrors}\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opam::tree::world;
    use proptest::prelude::*;

    fn rewritten(upstream: &str) -> String {
        String::from_utf8(rewrite_repo_file(Some(upstream.as_bytes()), None).to_vec()).unwrap()
    }

    #[test]
    fn browse_leads_to_our_own_pages_where_their_url_is_known() {
        let ours = "https://opam.corp/default/packages/";
        for upstream in [Some("opam-version: \"2.0\"\nbrowse: \"https://a\"\n"), Some("{"), None] {
            let file = rewrite_repo_file(upstream.map(str::as_bytes), Some(ours));
            let text = String::from_utf8(file.to_vec()).unwrap();
            assert_eq!(text.matches(&format!("browse: \"{ours}\"")).count(), 1, "{text}");
            assert!(text.contains("archive-mirrors: \"cache\""), "{text}");
        }
    }

    const MINIMAL: &str = "opam-version: \"2.0\"\narchive-mirrors: \"cache\"\n";

    #[test]
    fn trap_9_no_client_is_led_away() {
        let upstream = "# public\nopam-version: \"2.0\"\nredirect: [\n  \"https://a\" {x}\n]\n\
            archive-mirrors: [\"https://opam.ocaml.org/cache\"] # theirs\n\
            redirect: \"https://b\"\nannounce: [\"hello\" {opam-version < \"2.1\"}]";
        assert_eq!(
            rewritten(upstream),
            "# public\nopam-version: \"2.0\"\narchive-mirrors: \"cache\" # theirs\n\
             announce: [\"hello\" {opam-version < \"2.1\"}]"
        );
        assert_eq!(
            rewritten("archive-mirrors: \"https://a\"\narchive-mirrors: \"/b\"\n"),
            "archive-mirrors: \"cache\"\nopam-version: \"2.0\"\n"
        );
    }

    #[test]
    fn trap_9_the_opam_version_is_one_that_clients_read() {
        for version in ["\"2.1\"", "\"3.0\"", "\"1.2\"", "2", "[\"2.0\"]"] {
            let file = rewritten(&format!("opam-version: {version}\nbrowse: \"s\"\n"));
            assert_eq!(file, "opam-version: \"2.0\"\nbrowse: \"s\"\narchive-mirrors: \"cache\"\n");
        }
        for unreadable in
            ["", "x: ", "\u{feff}opam-version: \"2.0\"", "{", "a: 1 opam-version: \"3\""]
        {
            assert!(OpamFile::parse(rewritten(unreadable).as_bytes()).is_ok(), "{unreadable}");
        }
        assert_eq!(rewritten("{"), MINIMAL);
        assert_eq!(rewrite_repo_file(None, None), MINIMAL);
    }

    #[test]
    fn trap_13_the_file_is_a_function_of_upstreams_and_stays_what_it_is() {
        let upstream = "browse: \"https://a\"\r\nupstream: \"https://b\"\r\n";
        let once = rewritten(upstream);
        assert!(once.starts_with(upstream));
        for stamp in ["stamp: \"a\"", "stamp: \"b\""] {
            assert_eq!(once, rewritten(&format!("{upstream}{stamp}")));
        }
        assert_eq!(once, rewritten(upstream));
        assert_eq!(once, rewritten(&once));
        assert_eq!(rewritten(MINIMAL), MINIMAL);
    }

    #[test]
    fn trap_20_archive_mirrors_are_relative_so_that_credentials_hold() {
        let file = OpamFile::parse(&rewrite_repo_file(None, None)).unwrap();
        match &file.field("archive-mirrors").unwrap().value.kind {
            ValueKind::String(mirror) => {
                let mirror = mirror.as_str().unwrap();
                assert!(!mirror.contains(':') && !mirror.starts_with('/'), "{mirror}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_real_repo_file_keeps_all_its_lines() {
        for (name, tree) in world::snapshots() {
            let upstream = tree.repo_file().unwrap();
            let served = rewrite_repo_file(Some(upstream), None);
            assert!(served.starts_with(upstream), "{name}");
            assert!(served.ends_with(b"archive-mirrors: \"cache\"\n"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_upstream_says_the_file_is_one_that_clients_read(
            upstream in "(opam-version: \"[123]\\.[01]\"\n|redirect: \"x\" ?|archive-mirrors: y\n|\
                         # c\n?|a: \"b\"\r\n|\\}){0,8}"
        ) {
            let file = OpamFile::parse(&rewrite_repo_file(Some(upstream.as_bytes()), None)).unwrap();
            prop_assert_eq!(file.fields("opam-version").count(), 1);
            prop_assert_eq!(file.fields("archive-mirrors").count(), 1);
            prop_assert!(file.field("redirect").is_none());
        }
    }
}
