//! The addresses of the web pages and of their forms.

use crate::keeper::browse::StateFilter;
use crate::opam::{Package, PackageName};
use crate::server::given::{
    entry, package_name, page_number, parameter, repository, state, version,
};
use crate::server::refusal::Refusal;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Page {
    /// How everything stands, and what to paste into a shell.
    Home,
    /// A search in one repository, or in all.
    Packages { repository: Option<String>, query: String, page: usize },
    /// A package and its versions.
    Package { repository: String, name: PackageName },
    /// A version.
    Version { repository: String, package: Package },
    /// A list of divergences.
    Divergences { filter: StateFilter, page: usize },
    /// One divergence; with the ledger entry of the decision that was just made.
    Divergence { id: u64, done: Option<u64> },
    /// A list of snapshots of one repository, or of all.
    Snapshots { repository: Option<String>, page: usize },
    /// One snapshot.
    Snapshot(u64),
    /// What the ledger is, and how to verify it.
    Ledger,
    /// One entry of the ledger.
    Entry(u64),
    /// The proof that the ledger has it, to be downloaded.
    Proof(u64),
    /// Where to show a token; then the browser goes on to this path.
    LogIn { to: String },
}

/// What a page's form asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Form {
    /// Shows a token.
    LogIn,
    /// Ends the session.
    LogOut,
    /// Decides about a divergence.
    Decide(u64),
}

/// The page at a path; `None` where there is none.
pub(in crate::server) fn page(segments: &[&str], query: &str) -> Option<Result<Page, Refusal>> {
    let number = || page_number(query);
    Some(match *segments {
        [] => Ok(Page::Home),
        ["packages"] => number().map(|page| Page::Packages {
            repository: repository(query),
            query: parameter(query, "q").unwrap_or_default(),
            page,
        }),
        [repository, "packages"] => number().map(|page| Page::Packages {
            repository: Some(repository.to_owned()),
            query: parameter(query, "q").unwrap_or_default(),
            page,
        }),
        [repository, "packages", name] => {
            package_name(name).map(|name| Page::Package { repository: repository.to_owned(), name })
        }
        [repository, "packages", name, package] => version(name, package)
            .map(|package| Page::Version { repository: repository.to_owned(), package }),
        ["divergences"] => {
            state(query).and_then(|filter| Ok(Page::Divergences { filter, page: number()? }))
        }
        ["divergences", id] => {
            let done = parameter(query, "done").and_then(|done| done.parse().ok());
            entry(id).map(|id| Page::Divergence { id, done })
        }
        ["snapshots"] => {
            number().map(|page| Page::Snapshots { repository: repository(query), page })
        }
        ["snapshots", id] => entry(id).map(Page::Snapshot),
        ["ledger"] => Ok(Page::Ledger),
        ["ledger", "entries", index] => entry(index).map(Page::Entry),
        ["ledger", "entries", index, "proof"] => entry(index).map(Page::Proof),
        ["login"] => {
            let to = parameter(query, "to").filter(|to| is_own_path(to));
            Ok(Page::LogIn { to: to.unwrap_or_else(|| "/".to_owned()) })
        }
        _ => return None,
    })
}

/// The form that is sent to a path.
pub(in crate::server) fn form(segments: &[&str]) -> Option<Result<Form, Refusal>> {
    Some(match *segments {
        ["login"] => Ok(Form::LogIn),
        ["logout"] => Ok(Form::LogOut),
        ["divergences", id] => entry(id).map(Form::Decide),
        _ => return None,
    })
}

/// Whether a browser that is sent there stays with this server.
pub(in crate::server) fn is_own_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= MAX_PATH
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// A text as one segment of a path, or as a value in a query.
pub(in crate::server) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

const MAX_PATH: usize = 1_024;
/// RFC 3986: what means something in a path or a query, or may not stand there as it is.
const RESERVED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'`')
    .add(b'{')
    .add(b'}');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_sent_to_this_server_alone() {
        for (path, expected) in [
            ("/", true),
            ("/divergences/5?done=6", true),
            ("//elsewhere.example", false),
            ("/\\elsewhere.example", false),
            ("https://elsewhere.example", false),
            ("", false),
            ("/a b", false),
            ("/\r\nset-cookie: x", false),
        ] {
            assert_eq!(is_own_path(path), expected, "{path}");
        }
    }

    #[test]
    fn addresses_are_understood_or_refused_with_a_reason() {
        let name = "conf-g%2B%2B";
        let Some(Ok(Page::Version { package, .. })) =
            page(&["default", "packages", name, "conf-g%2b%2b.1.0"], "")
        else {
            panic!("a version")
        };
        assert_eq!(package.to_string(), "conf-g++.1.0");
        assert_eq!(encoded("conf-g++"), name);
        for (segments, query) in [
            (&["packages"][..], "page=0"),
            (&["packages"], "page=x"),
            (&["divergences"], "state=closed"),
            (&["divergences", "x"], ""),
            (&["snapshots", "-1"], ""),
            (&["default", "packages", "a", "b.1"], ""),
            (&["default", "packages", "<script>"], ""),
            (&["default", "packages", "%ff"], ""),
        ] {
            assert!(matches!(page(segments, query), Some(Err(_))), "{segments:?} {query}");
        }
        assert!(page(&["default", "nothing"], "").is_none());
    }
}
