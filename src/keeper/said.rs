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
struct Lists {
    name: Sha256,
    files: Versions,
    /// `None` where they are the same.
    admitted: Option<Versions>,
}

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
    let mut seen = 0;
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
        let lists = read(store, entry).filter(|_| seen <= MOST);
        for (it, over) in open {
            *over = lists.as_ref().map_or(!waits, |lists| lists.have_let_go(it, waits));
        }
        if seen > MOST {
            break;
        }
    }
    Ok(over)
}

impl Lists {
    fn have_let_go(&self, it: &LetThrough<'_>, waits: bool) -> bool {
        let (Some(after), Some(package)) = (it.after, it.divergence.packages.first()) else {
            return it.divergence.observed.is_none_or(|observed| observed.sha256 != self.name);
        };
        let is_withdrawn = !self.files.has(package, after);
        let is_served = self.admitted.as_ref().unwrap_or(&self.files).has(package, after);
        is_served || (is_withdrawn && !waits)
    }
}

fn read(store: &Store, entry: u64) -> Option<Lists> {
    let found = store.log().entries(entry, entry + 1).next()?.ok()?;
    let (_, Entry::Snapshot(Snapshot { files: name, admitted, .. })) = found else { return None };
    let versions = |name: &Sha256| Some(Versions::of(read_list(store, name).ok()?));
    let admitted = match admitted == name {
        true => None,
        false => Some(versions(&admitted)?),
    };
    Some(Lists { name, files: versions(&name)?, admitted })
}

/// So many snapshots are looked at.
const MOST: usize = 64;
