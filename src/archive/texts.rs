//! Which texts to compare line by line, and reading them in a second walk.

use super::compare::Pair;
use super::entry::{EntryKind, Header};
use super::limits::Limits;
use super::list::{Listing, Remark};
use super::source::Source;
use super::text_diff::TextDiff;
use super::walk::{Visit, walk};
use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

/// Which texts to read for their lines.
pub(super) struct Plan {
    /// What to do for each pair.
    pub(super) lines: Vec<Planned>,
    /// Indices of entries of the pinned archive.
    pub(super) was: Vec<usize>,
    /// Indices of entries of the observed archive.
    pub(super) is: Vec<usize>,
}

/// What to do about the lines of one pair.
pub(super) enum Planned {
    Compare,
    Known(TextDiff),
}

impl Plan {
    /// Takes texts in order, as long as there is room for them.
    pub(super) fn new(
        pairs: &[&Pair<'_>],
        pinned: &Listing,
        observed: &Listing,
        limits: &Limits,
    ) -> Self {
        let mut plan = Self { lines: Vec::new(), was: Vec::new(), is: Vec::new() };
        let room = limits.text_bytes as u64;
        let (mut was_room, mut is_room) = (room, room);
        for pair in pairs {
            let was = pair.was.map(|at| &pinned.entries[at].kind);
            let is = pair.is.map(|at| &observed.entries[at].kind);
            // A mode may be all that differs.
            let same = was == is;
            let (was, is) = (Text::of(was, limits), Text::of(is, limits));
            let planned = match (was, is) {
                _ if same => Planned::Known(TextDiff::NoContent),
                (Text::NoFile, _) | (_, Text::NoFile) => Planned::Known(TextDiff::NoContent),
                (Text::Binary, _) | (_, Text::Binary) => Planned::Known(TextDiff::Binary),
                (Text::Of(was), Text::Of(is)) if was <= was_room && is <= is_room => {
                    (was_room, is_room) = (was_room - was, is_room - is);
                    plan.was.extend(pair.was);
                    plan.is.extend(pair.is);
                    Planned::Compare
                }
                _ => Planned::Known(TextDiff::TooMuch),
            };
            plan.lines.push(planned);
        }
        plan
    }
}

/// What one side has to compare.
enum Text {
    /// So many bytes; none where there is no entry.
    Of(u64),
    TooLarge,
    Binary,
    NoFile,
}

impl Text {
    fn of(kind: Option<&EntryKind>, limits: &Limits) -> Self {
        match kind {
            None => Self::Of(0),
            Some(EntryKind::File { text: false, .. } | EntryKind::SparseFile { .. }) => {
                Self::Binary
            }
            Some(EntryKind::File { size, .. }) if *size <= limits.text_file as u64 => {
                Self::Of(*size)
            }
            Some(EntryKind::File { .. }) => Self::TooLarge,
            Some(_) => Self::NoFile,
        }
    }
}

/// The contents of entries by their index.
pub(super) type Texts = HashMap<usize, Vec<u8>>;

/// Reads the contents of the entries of these indices; the caller has seen their sizes.
pub(super) fn read_texts(
    source: &mut Source<'_>,
    limits: &Limits,
    wanted: Vec<usize>,
) -> io::Result<Texts> {
    let texts: Texts = wanted.into_iter().map(|at| (at, Vec::new())).collect();
    let mut collector = Collector { missing: texts.len(), texts, at: 0 };
    if collector.missing > 0 {
        walk(source, limits, &mut collector)?;
    }
    Ok(collector.texts)
}

struct Collector {
    texts: Texts,
    missing: usize,
    /// The index of the current entry.
    at: usize,
}

impl Visit for Collector {
    fn begin(&mut self, _: Header) {}

    fn content(&mut self, bytes: &[u8]) {
        if let Some(text) = self.texts.get_mut(&self.at) {
            text.extend_from_slice(bytes);
        }
    }

    fn end(&mut self) -> ControlFlow<()> {
        self.missing -= usize::from(self.texts.contains_key(&self.at));
        self.at += 1;
        if self.missing == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn remark(&mut self, _: Remark) {}

    fn comment(&mut self, _: &[u8]) {}
}
