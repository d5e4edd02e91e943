//! Paths that are what they are by the order of an archive's entries: unpacked in another order,
//! something else comes out.

use super::entry::EntryKind;
use super::list::Listing;
use std::cmp::Ordering;

/// A path that the order decides about, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contested<'l> {
    /// It is there more than once, and not always as a folder.
    Duplicate(&'l str),
    /// There are entries below it, and it is no folder: they may go through a link.
    Overlaid(&'l str),
}

impl<'l> Contested<'l> {
    pub(super) fn path(self) -> &'l str {
        match self {
            Self::Duplicate(path) | Self::Overlaid(path) => path,
        }
    }
}

/// The contested paths of an archive, from its folder `top` on, sorted.
pub(super) fn contested<'l>(listing: &'l Listing, top: Option<&str>) -> Vec<Contested<'l>> {
    let path = |entry: &'l super::entry::Entry| {
        (entry.name.below(top), entry.kind == EntryKind::Directory)
    };
    let mut paths: Vec<(&str, bool)> = listing.entries.iter().map(path).collect();
    paths.sort_unstable_by(|(left, _), (right, _)| by_folder(left, right));
    let mut found = Vec::new();
    // The last path that is no folder, and whether that was found to matter.
    let mut above: Option<(&str, bool)> = None;
    for group in paths.chunk_by(|(left, _), (right, _)| left == right) {
        let [(path, _), ..] = group else { continue };
        let is_folder = group.iter().all(|(_, is_folder)| *is_folder);
        if !is_folder && group.len() > 1 {
            found.push(Contested::Duplicate(path));
        }
        match &mut above {
            Some((above, told)) if is_below(path, above) => {
                if !std::mem::replace(told, true) {
                    found.push(Contested::Overlaid(above));
                }
            }
            _ => above = (!is_folder).then_some((*path, false)),
        }
    }
    found
}

/// Sorts paths so that whatever is below one comes right after it.
fn by_folder(left: &str, right: &str) -> Ordering {
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    left.bytes().map(key).cmp(right.bytes().map(key))
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}
