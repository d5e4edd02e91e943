//! What a repository's snapshots say of edits that were let through: what came to be served, or was
//! withdrawn, comes anew when it comes again.

use super::file_list::FileList;
use super::previous::Previous;
use super::refresh::RefreshError;
use super::repository::read_list;
use super::versions::Versions;
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, Entry, Snapshot};
use crate::store::Store;
use std::collections::HashMap;

/// A divergence that someone accepted, or that was only warned of.
pub(super) struct LetThrough<'a> {
    /// The ledger index since when.
    pub since: u64,
    pub divergence: &'a Divergence,
    /// The version's files as upstream has them; none where it is about a state as a whole.
    pub after: Option<&'a FileList>,
    /// Whether it is held, so that nothing came to be served of it.
    pub is_held: bool,
}

/// One snapshot's lists.
struct Lists<'a> {
    name: Sha256,
    files: Versions,
    /// `None` where they are the same.
    admitted: Option<&'a Versions>,
}

/// Up to which ledger entry what was let through was looked at and is so still, by the index since
/// when, and whether it waits: the next look goes back to there.
pub(super) type LookedAt = HashMap<(u64, bool), u64>;

/// What was admitted in the last one that was looked at: while a state is held it stays the same.
type LastAdmitted = Option<(Sha256, Versions)>;

/// Which of these, that are not served now, were served since, or withdrawn. What `waits` for
/// something else is told once until it is served, however often it is withdrawn.
pub(super) fn over(
    let_through: &[Option<LetThrough<'_>>],
    waits: bool,
    previous: &Previous,
    looked_at: &mut LookedAt,
    store: &Store,
) -> Result<Vec<bool>, RefreshError> {
    let (name, last) = (&previous.last.snapshot.repository, previous.last.entry);
    let mut over = vec![false; let_through.len()];
    let from = |it: &LetThrough<'_>| {
        looked_at.get(&(it.since, waits)).copied().unwrap_or_default().max(it.since)
    };
    let from: Vec<u64> = let_through.iter().map(|it| it.as_ref().map_or(u64::MAX, from)).collect();
    let (mut after, mut seen, mut admitted): (_, _, LastAdmitted) = (last + 1, 0, None);
    // The newest first: what was withdrawn since the last look is not in the newest.
    while let Some(entry) = store.lookup(|catalog| catalog.snapshot_by_size(name, after))? {
        let asked = let_through.iter().zip(&from).zip(&mut over);
        let open = asked.filter_map(|((it, from), over)| Some((it.as_ref()?, *from, over)));
        let open: Vec<_> = open.filter(|(_, from, over)| !**over && *from < entry).collect();
        if open.is_empty() {
            break;
        }
        let lists = match seen == MOST {
            true => None,
            false => read(store, entry, &mut admitted),
        };
        for (it, _, over) in open {
            *over = match &lists {
                Some(lists) => lists.have_let_go(it, waits),
                // Who can't tell tells once more of what may have been served.
                None => !waits && !it.is_held,
            };
        }
        if lists.is_none() {
            break;
        }
        (after, seen) = (entry, seen + 1);
    }
    let still = let_through.iter().flatten().zip(&over).filter(|(_, over)| !**over);
    looked_at.extend(still.map(|(it, _)| ((it.since, waits), last)));
    Ok(over)
}

impl Lists<'_> {
    fn have_let_go(&self, it: &LetThrough<'_>, waits: bool) -> bool {
        let (Some(after), Some(package)) = (it.after, it.divergence.packages.first()) else {
            return it.divergence.observed.is_none_or(|observed| observed.sha256 != self.name);
        };
        let is_withdrawn = !self.files.has(package, after);
        // That a version is not there may have other reasons; it comes back before it goes again.
        let is_served =
            !after.0.is_empty() && self.admitted.unwrap_or(&self.files).has(package, after);
        is_served || (is_withdrawn && !waits)
    }
}

fn read<'a>(store: &Store, entry: u64, last: &'a mut LastAdmitted) -> Option<Lists<'a>> {
    let found = store.log().entries(entry, entry + 1).next()?.ok()?;
    let (_, Entry::Snapshot(Snapshot { files: name, admitted, .. })) = found else { return None };
    let versions = |name: &Sha256| Some(Versions::of(read_list(store, name).ok()?));
    let files = versions(&name)?;
    if admitted == name {
        return Some(Lists { name, files, admitted: None });
    }
    if last.as_ref().is_none_or(|(last, _)| *last != admitted) {
        *last = Some((admitted, versions(&admitted)?));
    }
    Some(Lists { name, files, admitted: last.as_ref().map(|(_, versions)| versions) })
}

/// So many snapshots are looked at, the newest ones.
const MOST: usize = 256;

#[cfg(test)]
mod tests;
