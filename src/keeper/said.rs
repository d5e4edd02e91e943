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

/// A divergence that someone accepted, or that was only warned of.
pub(super) struct LetThrough<'a> {
    /// The ledger index since when.
    pub since: u64,
    pub divergence: &'a Divergence,
    /// The version's files as upstream has them; none where it is about a state as a whole.
    pub after: Option<&'a FileList>,
}

/// One snapshot's lists.
struct Lists<'a> {
    name: Sha256,
    files: Versions,
    /// `None` where they are the same.
    admitted: Option<&'a Versions>,
}

/// What was admitted last of what was looked at: while a state is held it stays the same.
type LastAdmitted = Option<(Sha256, Versions)>;

/// Which of these, that are not served now, were served since, or withdrawn. What `waits` for
/// something else is told once until it is served, however often it is withdrawn.
pub(super) fn over(
    let_through: &[Option<LetThrough<'_>>],
    waits: bool,
    previous: &Previous,
    store: &Store,
) -> Result<Vec<bool>, RefreshError> {
    let name = &previous.last.snapshot.repository;
    let mut over = vec![false; let_through.len()];
    let mut at = let_through.iter().flatten().map(|it| it.since).min();
    let (mut seen, mut admitted): (_, LastAdmitted) = (0, None);
    while let Some(before) = at {
        at = store.lookup(|catalog| catalog.snapshot_after(name, Some(before)))?;
        let Some(entry) = at else { break };
        let asked = let_through.iter().zip(&mut over);
        let open = asked.filter_map(|(it, over)| Some((it.as_ref()?, over)));
        let open: Vec<_> = open.filter(|(it, over)| !**over && it.since < entry).collect();
        if open.is_empty() {
            continue;
        }
        seen += 1;
        // Who can't tell tells once more.
        let lists = match seen > MOST {
            true => None,
            false => read(store, entry, &mut admitted),
        };
        for (it, over) in open {
            *over = lists.as_ref().map_or(!waits, |lists| lists.have_let_go(it, waits));
        }
        if seen > MOST {
            break;
        }
    }
    Ok(over)
}

impl Lists<'_> {
    fn have_let_go(&self, it: &LetThrough<'_>, waits: bool) -> bool {
        let (Some(after), Some(package)) = (it.after, it.divergence.packages.first()) else {
            return it.divergence.observed.is_none_or(|observed| observed.sha256 != self.name);
        };
        let is_withdrawn = !self.files.has(package, after);
        let is_served = self.admitted.unwrap_or(&self.files).has(package, after);
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

/// So many snapshots are looked at: a month of twenty a day.
const MOST: usize = 600;
