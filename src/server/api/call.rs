//! What a request to the API asks for.

use super::operations::OPERATIONS;
use crate::keeper::browse::StateFilter;
use crate::opam::{Package, PackageName};
use crate::server::refusal::{Methods, Refusal};
use http::Method;

/// One thing that can be asked of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Call {
    /// The OpenAPI document.
    Document,
    /// How everything stands.
    Status,
    /// A search in one repository, or in all.
    Packages { repository: Option<String>, query: String, page: usize },
    /// A package and its versions.
    Package { repository: String, name: PackageName },
    /// A version.
    Version { repository: String, package: Package },
    /// A list of divergences.
    Divergences { filter: StateFilter, page: usize },
    /// One divergence, explained.
    Divergence(u64),
    /// A list of snapshots of one repository, or of all.
    Snapshots { repository: Option<String>, page: usize },
    /// One snapshot and what it changed.
    Snapshot(u64),
    /// The ledger's head and key.
    Ledger,
    /// One entry of the ledger.
    Entry(u64),
    /// An entry's proof.
    Proof(u64),
    /// Decides about a divergence.
    Decide(u64),
    /// Fetches again what is pinned.
    Recheck,
    /// Fetches archives ahead of time.
    Sync,
    /// Asks a repository's upstream now.
    Refresh(String),
}

impl Call {
    /// Whether it changes something or makes this server ask others.
    pub(in crate::server) fn decides(&self) -> bool {
        matches!(self, Self::Decide(_) | Self::Recheck | Self::Sync | Self::Refresh(_))
    }
}

/// The call of a path below `/api`.
pub(in crate::server) fn parse(
    method: &Method,
    segments: &[&str],
    query: &str,
) -> Result<Call, Refusal> {
    let ["v1", segments @ ..] = segments else { return Err(NOTHING) };
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let (mut is_read, mut is_sent_to) = (false, false);
    for operation in OPERATIONS {
        let Some(captures) = captures(operation.path, segments) else { continue };
        if operation.method == *method {
            return (operation.read)(&captures, query);
        }
        is_read |= operation.method == Method::GET;
        is_sent_to |= operation.method == Method::POST;
    }
    Err(match (is_read, is_sent_to) {
        (true, true) => Refusal::other_method(Methods::Both),
        (true, false) => Refusal::other_method(Methods::Read),
        (false, true) => Refusal::other_method(Methods::Send),
        (false, false) => NOTHING,
    })
}

/// What stands where a template has names in braces, if the path fits it.
fn captures<'a>(template: &str, segments: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut captures = Vec::new();
    let mut given = segments.iter();
    for part in template.split('/').skip(1) {
        let segment = given.next()?;
        if part.starts_with('{') {
            captures.push(*segment);
        } else if part != *segment {
            return None;
        }
    }
    given.next().is_none().then_some(captures)
}

const NOTHING: Refusal =
    Refusal::not_found("there is no such call; /api/v1/openapi.json says which there are");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_understood_or_refused_with_its_reason() {
        let call = |method, path: &str| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let segments: Vec<&str> = path.split('/').collect();
            parse(&method, &segments, query).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(call(Method::GET, "v1/status"), Ok(Call::Status));
        assert_eq!(call(Method::HEAD, "v1/divergences/7"), Ok(Call::Divergence(7)));
        assert_eq!(call(Method::POST, "v1/divergences/7"), Ok(Call::Decide(7)));
        assert_eq!(
            call(Method::GET, "v1/packages?q=a%20b&repository=default&page=3"),
            Ok(Call::Packages {
                repository: Some("default".to_owned()),
                query: "a b".to_owned(),
                page: 2
            })
        );
        let Ok(Call::Version { repository, package }) =
            call(Method::GET, "v1/repositories/default/packages/conf-g%2B%2B/conf-g%2b%2b.1.0")
        else {
            panic!("a version");
        };
        assert_eq!(
            (repository.as_str(), package.to_string().as_str()),
            ("default", "conf-g++.1.0")
        );
        for (method, path, status) in [
            (Method::GET, "v2/status", 404),
            (Method::GET, "v1", 404),
            (Method::GET, "v1/status/x", 404),
            (Method::POST, "v1/status", 405),
            (Method::DELETE, "v1/divergences/7", 405),
            (Method::GET, "v1/recheck", 405),
            (Method::GET, "v1/divergences/x", 400),
            (Method::GET, "v1/divergences?state=gone", 400),
            (Method::GET, "v1/packages?page=0", 400),
            (Method::GET, "v1/repositories/default/packages/a/b.1", 404),
        ] {
            assert_eq!(call(method, path), Err(status), "{path}");
        }
    }
}
