//! The folder that everything in an archive is in, mostly named after package and version.

use super::entry::{Entry, EntryKind};
use std::collections::HashSet;

/// The one folder that all entries are in, if so; entries whose names lead out don't count.
pub(super) fn common_top(entries: &[Entry]) -> Option<String> {
    let ordinary = || entries.iter().filter(|entry| is_ordinary(entry));
    let first = ordinary().next()?.name.as_str();
    let top = first.split('/').next()?;
    let inside = |entry: &Entry| match entry.name.as_str().strip_prefix(top) {
        Some("") => entry.kind == EntryKind::Directory,
        Some(rest) => rest.starts_with('/'),
        None => false,
    };
    ordinary().all(inside).then(|| top.to_owned())
}

/// Which folder names to leave out of `pinned` and `observed`, so that they have as many names in
/// common as can be: both tops, one of them, or none.
pub(super) fn align<'l>(
    pinned: (&[Entry], Option<&'l str>),
    observed: (&[Entry], Option<&'l str>),
) -> (Option<&'l str>, Option<&'l str>) {
    let (pinned_top, observed_top) = (pinned.1, observed.1);
    let mut candidates = vec![(pinned_top, observed_top)];
    for other in [(None, None), (pinned_top, None), (None, observed_top)] {
        if pinned_top != observed_top && !candidates.contains(&other) {
            candidates.push(other);
        }
    }
    if let [only] = candidates[..] {
        return only;
    }
    let common = |(left, right): (Option<&str>, Option<&str>)| {
        let names: HashSet<&str> = pinned.0.iter().map(|entry| entry.name.below(left)).collect();
        observed.0.iter().filter(|entry| names.contains(entry.name.below(right))).count()
    };
    let mut best = candidates[0];
    let mut most = common(best);
    for candidate in candidates.into_iter().skip(1) {
        let count = common(candidate);
        if count > most {
            (best, most) = (candidate, count);
        }
    }
    best
}

/// Whether the entry has a name that tells where it is.
fn is_ordinary(entry: &Entry) -> bool {
    entry.name.flag().is_none() && !entry.name.as_str().is_empty()
}
