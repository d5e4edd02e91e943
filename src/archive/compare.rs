//! Putting the entries of two archives side by side.

use super::changes::Aspect;
use super::entry::{Entry, EntryKind};
use super::list::Listing;
use super::order::{Contested, contested};
use super::top::align;
use std::collections::BTreeSet;

/// Two archives side by side.
pub(super) struct Comparison<'l> {
    /// Files that both have in different ways, sorted by path.
    pub(super) changed: Vec<Pair<'l>>,
    /// Files that only the observed archive has, sorted by path.
    pub(super) added: Vec<Pair<'l>>,
    /// Files that only the pinned archive has, sorted by path.
    pub(super) removed: Vec<Pair<'l>>,
    /// How many files both have alike.
    pub(super) unchanged: usize,
    /// What else is different.
    pub(super) aspects: Vec<Aspect>,
}

/// A path with the index of its entry in either archive.
pub(super) struct Pair<'l> {
    pub(super) path: &'l str,
    pub(super) was: Option<usize>,
    pub(super) is: Option<usize>,
}

/// Compares what two archives hold. Of an archive that could not be read to its end it is not
/// known what is missing, so nothing is taken for missing there.
pub(super) fn compare<'l>(pinned: &'l Listing, observed: &'l Listing) -> Comparison<'l> {
    let tops = align(
        (&pinned.entries, pinned.top.as_deref()),
        (&observed.entries, observed.top.as_deref()),
    );
    let mut joined = Join::new(pinned, observed, tops);
    joined.files();
    joined.folders();
    joined.contested();
    let mut comparison = joined.comparison;
    comparison.aspects = aspects(pinned, observed, joined.seen, joined.matched);
    if pinned.problem.is_some() {
        comparison.added.clear();
    }
    if observed.problem.is_some() {
        comparison.removed.clear();
    }
    comparison
}

/// Which aspects of single entries differ anywhere.
#[derive(Default)]
struct Seen {
    times: bool,
    owners: bool,
    modes: bool,
    folders: bool,
}

struct Join<'l> {
    pinned: &'l Listing,
    observed: &'l Listing,
    tops: (Option<&'l str>, Option<&'l str>),
    comparison: Comparison<'l>,
    seen: Seen,
    /// The indices of entries that belong together.
    matched: Vec<(usize, usize)>,
}

impl<'l> Join<'l> {
    fn new(
        pinned: &'l Listing,
        observed: &'l Listing,
        tops: (Option<&'l str>, Option<&'l str>),
    ) -> Self {
        let comparison = Comparison {
            changed: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            unchanged: 0,
            aspects: Vec::new(),
        };
        Self { pinned, observed, tops, comparison, seen: Seen::default(), matched: Vec::new() }
    }

    fn files(&mut self) {
        let was = by_path(&self.pinned.entries, self.tops.0, |entry| !is_folder(entry));
        let is = by_path(&self.observed.entries, self.tops.1, |entry| !is_folder(entry));
        for (path, was, is) in merge(&was, &is) {
            let last = |group: &[(&str, usize)]| group.last().map(|(_, index)| *index);
            match (was.is_empty(), is.is_empty()) {
                (true, _) => {
                    self.comparison.added.push(Pair { path, was: None, is: last(is) });
                }
                (_, true) => {
                    self.comparison.removed.push(Pair { path, was: last(was), is: None });
                }
                (false, false) => self.both(path, was, is),
            }
        }
    }

    /// Compares entries of one name; where there are several, each from the last one on, as it is
    /// the last one that stays after unpacking.
    fn both(&mut self, path: &'l str, was: &[(&str, usize)], is: &[(&str, usize)]) {
        let mut aligned = was.iter().rev().zip(is.iter().rev());
        let differing = aligned.by_ref().find(|((_, was), (_, is))| !self.alike(*was, *is));
        for ((_, was), (_, is)) in was.iter().rev().zip(is.iter().rev()) {
            self.note(*was, *is);
        }
        let pair = match differing {
            Some(((_, was), (_, is))) => (*was, *is),
            None if was.len() == is.len() => {
                self.comparison.unchanged += 1;
                return;
            }
            // One more of the name: the first one is as new as any.
            None => (was[0].1, is[0].1),
        };
        self.comparison.changed.push(Pair { path, was: Some(pair.0), is: Some(pair.1) });
    }

    fn folders(&mut self) {
        let was = by_path(&self.pinned.entries, self.tops.0, is_folder);
        let is = by_path(&self.observed.entries, self.tops.1, is_folder);
        for (path, was, is) in merge(&was, &is) {
            // The root itself, and the top folder, may go without saying.
            self.seen.folders |= !path.is_empty() && was.len() != is.len();
            for ((_, was), (_, is)) in was.iter().zip(is) {
                self.note(*was, *is);
            }
        }
    }

    /// Counts paths as changed that the order of entries decides about, unless that is the same.
    fn contested(&mut self) {
        let contested: BTreeSet<&str> = contested(self.pinned, self.tops.0)
            .into_iter()
            .chain(contested(self.observed, self.tops.1))
            .map(Contested::path)
            .collect();
        if contested.is_empty() || self.is_same_sequence() {
            return;
        }
        let was = by_path(&self.pinned.entries, self.tops.0, |_| true);
        let is = by_path(&self.observed.entries, self.tops.1, |_| true);
        let Comparison { changed, added, removed, unchanged, .. } = &mut self.comparison;
        let known: BTreeSet<&str> =
            changed.iter().chain(&*added).chain(&*removed).map(|pair| pair.path).collect();
        for (path, was, is) in merge(&was, &is) {
            if !contested.contains(path) || known.contains(path) {
                continue;
            }
            let last = |group: &[(&str, usize)]| group.last().map(|(_, index)| *index);
            changed.push(Pair { path, was: last(was), is: last(is) });
            *unchanged = unchanged.saturating_sub(1);
        }
        changed.sort_unstable_by_key(|pair| pair.path);
    }

    /// Whether both have the same entries in the same order.
    fn is_same_sequence(&self) -> bool {
        let (pinned, observed) = (&self.pinned.entries, &self.observed.entries);
        pinned.len() == observed.len()
            && pinned.iter().zip(observed).enumerate().all(|(at, (was, is))| {
                was.name.below(self.tops.0) == is.name.below(self.tops.1) && self.alike(at, at)
            })
    }

    /// Whether two files are the same in all that counts as content.
    fn alike(&self, was: usize, is: usize) -> bool {
        let (was, is) = (&self.pinned.entries[was], &self.observed.entries[is]);
        let kinds = match (&was.kind, &is.kind) {
            (EntryKind::HardLink { target: was }, EntryKind::HardLink { target: is }) => {
                was.below(self.tops.0) == is.below(self.tops.1)
            }
            (was, is) => was == is,
        };
        let is_file = matches!(was.kind, EntryKind::File { .. } | EntryKind::SparseFile { .. });
        let execution = was.executable() == is.executable();
        let powers = was.mode.unwrap_or(0) & POWERS == is.mode.unwrap_or(0) & POWERS;
        kinds && (!is_file || (execution && powers))
    }

    /// Notes what else is different between two entries.
    fn note(&mut self, was: usize, is: usize) {
        self.matched.push((was, is));
        let (was, is) = (&self.pinned.entries[was], &self.observed.entries[is]);
        let differ = |both: Option<bool>| both.unwrap_or(false);
        self.seen.times |= differ(was.modified.zip(is.modified).map(|(was, is)| was != is));
        self.seen.owners |= differ(was.owner.as_ref().zip(is.owner.as_ref()).map(|(a, b)| a != b));
        self.seen.modes |= differ(was.mode.zip(is.mode).map(|(was, is)| was != is));
    }
}

fn aspects(
    pinned: &Listing,
    observed: &Listing,
    seen: Seen,
    mut matched: Vec<(usize, usize)>,
) -> Vec<Aspect> {
    matched.sort_unstable();
    let in_order = matched.is_sorted_by_key(|(_, is)| *is);
    let format = Aspect::Format { was: pinned.format, is: observed.format };
    let top = Aspect::TopFolder { was: pinned.top.clone(), is: observed.top.clone() };
    let comment = Aspect::Comment { was: pinned.comment.clone(), is: observed.comment.clone() };
    let mut aspects = Vec::new();
    for (differs, aspect) in [
        (pinned.format.container != observed.format.container, format),
        (pinned.top != observed.top, top),
        (pinned.comment != observed.comment, comment),
        (!in_order, Aspect::Order),
        (seen.times, Aspect::Times),
        (seen.owners, Aspect::Owners),
        (seen.modes, Aspect::Modes),
        (seen.folders, Aspect::Folders),
    ] {
        if differs {
            aspects.push(aspect);
        }
    }
    aspects
}

/// The chosen entries with their paths below the top folder, sorted by path, then as they come.
fn by_path<'l>(
    entries: &'l [Entry],
    top: Option<&str>,
    chosen: impl Fn(&Entry) -> bool,
) -> Vec<(&'l str, usize)> {
    let numbered = entries.iter().enumerate().filter(|(_, entry)| chosen(entry));
    let mut sorted: Vec<_> =
        numbered.map(|(index, entry)| (entry.name.below(top), index)).collect();
    sorted.sort_unstable();
    sorted
}

/// A path with its entries on either side.
type Group<'l, 's> = (&'l str, &'s [(&'l str, usize)], &'s [(&'l str, usize)]);

/// Goes through two sorted lists at once, path by path.
fn merge<'l, 's>(
    mut was: &'s [(&'l str, usize)],
    mut is: &'s [(&'l str, usize)],
) -> impl Iterator<Item = Group<'l, 's>> {
    std::iter::from_fn(move || {
        let first = |list: &[(&'l str, usize)]| list.first().map(|(path, _)| *path);
        let path = match (first(was), first(is)) {
            (Some(was), Some(is)) => was.min(is),
            (was, is) => was.or(is)?,
        };
        let (was_here, was_rest) = was.split_at(was.partition_point(|(it, _)| *it <= path));
        let (is_here, is_rest) = is.split_at(is.partition_point(|(it, _)| *it <= path));
        (was, is) = (was_rest, is_rest);
        Some((path, was_here, is_here))
    })
}

fn is_folder(entry: &Entry) -> bool {
    entry.kind == EntryKind::Directory
}

/// The bits of a mode that lend someone's rights to a program.
const POWERS: u32 = 0o7000;
