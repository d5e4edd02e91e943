//! What comes in paths, queries and forms, for pages and the JSON API alike: parsed strictly.

use super::refusal::Refusal;
use crate::keeper::browse::StateFilter;
use crate::opam::{Package, PackageName};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// A value of a query or of a form; of several of one name the first.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

/// The one repository that a query asks for.
pub(super) fn repository(query: &str) -> Option<String> {
    parameter(query, "repository").filter(|name| !name.is_empty())
}

/// Pages are counted from 1 in addresses, and from 0 everywhere else.
pub(super) fn page_number(query: &str) -> Result<usize, Refusal> {
    match parameter(query, "page").as_deref() {
        None | Some("") => Ok(0),
        Some(number) => match number.parse::<usize>() {
            Ok(number @ 1..=MAX_PAGE) => Ok(number - 1),
            _ => Err(Refusal::bad("a page is a number from 1 to 100000")),
        },
    }
}

/// Which divergences a query asks for; the open ones unless it says so.
pub(super) fn state(query: &str) -> Result<StateFilter, Refusal> {
    let Some(state) = parameter(query, "state").filter(|state| !state.is_empty()) else {
        return Ok(StateFilter::Open);
    };
    let found = StateFilter::ALL.into_iter().find(|filter| filter.to_string() == state);
    found.ok_or(Refusal::bad("a state is open, acknowledged, accepted or all"))
}

/// A ledger entry's number.
pub(super) fn entry(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::bad("an entry is named by its number in the ledger"))
}

/// A package's name in one segment of a path.
pub(super) fn package_name(segment: &str) -> Result<PackageName, Refusal> {
    let name = percent_decode_str(segment).decode_utf8().ok().and_then(|name| name.parse().ok());
    name.ok_or(Refusal::not_found("there is no package of that name"))
}

/// A version in a path, below its package.
pub(super) fn version(name: &str, package: &str) -> Result<Package, Refusal> {
    let decoded = percent_decode_str(package).decode_utf8().ok();
    let package: Option<Package> = decoded.and_then(|package| package.parse().ok());
    let package = package.filter(|it| package_name(name).is_ok_and(|name| name == it.name));
    package.ok_or(Refusal::not_found("a version is found at packages/<name>/<name.version>"))
}

const MAX_PAGE: usize = 100_000;
