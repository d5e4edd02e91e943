//! Explaining why observed bytes are not the pinned ones.

use super::changes::{Aspect, Change, Content, Side, State};
use super::compare::{Comparison, Pair, compare};
use super::explanation::{
    Explanation, NotAnArchive, Recompressed, Repacked, Truncated, Unreadable, UntilThen,
};
use super::format::{Compression, Container};
use super::limits::Limits;
use super::list::{Listing, Remark, list_source};
use super::problem::Problem;
use super::source::{Source, read_full};
use super::text_diff::{Room, TextDiff};
use super::texts::{Plan, Planned, Texts, read_texts};
use crate::digest::Sha256;
use sha2::Digest as _;
use std::io::{self, Read, Seek};

/// Explains how `observed` differs from `pinned`; `None` if it doesn't, byte for byte.
///
/// # Errors
/// Those of the two readers alone; whatever the archives are, there is an answer.
pub fn explain<P: Read + Seek, O: Read + Seek>(
    pinned: &mut P,
    observed: &mut O,
    limits: &Limits,
) -> io::Result<Option<Explanation>> {
    let (pinned, observed) = (Source::new(pinned)?, Source::new(observed)?);
    let mut sources = Sources { pinned, observed, limits };
    let explanation = sources.explain();
    // A failure that was seen only through a decoder goes before what was made of it.
    sources.pinned.failure()?;
    sources.observed.failure()?;
    explanation
}

enum Likeness {
    Same,
    /// The observed bytes are the first of the pinned ones, and there are some.
    Beginning,
    Other,
}

struct Sources<'i> {
    pinned: Source<'i>,
    observed: Source<'i>,
    limits: &'i Limits,
}

impl Sources<'_> {
    fn likeness(&mut self) -> io::Result<Likeness> {
        if self.observed.size() > self.pinned.size() {
            return Ok(Likeness::Other);
        }
        self.pinned.rewind()?;
        self.observed.rewind()?;
        let (mut was, mut is) = (vec![0; COMPARED], vec![0; COMPARED]);
        loop {
            let count = read_full(&mut self.observed, &mut is)?;
            let same = read_full(&mut self.pinned, &mut was[..count])?;
            if was[..same] != is[..count] {
                return Ok(Likeness::Other);
            }
            if count < COMPARED {
                break;
            }
        }
        Ok(match self.observed.size() {
            size if size == self.pinned.size() => Likeness::Same,
            0 => Likeness::Other,
            _ => Likeness::Beginning,
        })
    }

    fn explain(&mut self) -> io::Result<Option<Explanation>> {
        match self.likeness()? {
            Likeness::Same => Ok(None),
            Likeness::Beginning => Ok(Some(Explanation::Truncated(Truncated {
                size: self.observed.size(),
                pinned_size: self.pinned.size(),
                until_then: UntilThen::Same,
            }))),
            Likeness::Other => self.explain_other().map(Some),
        }
    }

    fn explain_other(&mut self) -> io::Result<Explanation> {
        let observed = list_source(&mut self.observed, self.limits)?;
        let pinned = list_source(&mut self.pinned, self.limits)?;
        if self.same_inside(&pinned, &observed)? {
            let (was, is) = (pinned.format, observed.format);
            let (inflated, remarks) = (observed.inflated, observed.remarks);
            return Ok(Explanation::Recompressed(Recompressed { was, is, inflated, remarks }));
        }
        if let Some(explanation) = not_an_archive(&pinned, &observed) {
            return Ok(explanation);
        }
        let compared = compare(&pinned, &observed);
        let found = self.content(&pinned, &observed, &compared)?;
        Ok(match (observed.problem.clone(), pinned.problem.clone()) {
            (Some(Problem::EndsEarly), _) => Explanation::Truncated(Truncated {
                size: observed.size,
                pinned_size: pinned.size,
                until_then: UntilThen::Other { entries: observed.entries.len(), found },
            }),
            (Some(why), _) => unreadable(Side::Observed, why, found),
            (None, Some(why)) => unreadable(Side::Pinned, why, found),
            (None, None) if found.differences() > 0 => Explanation::Content(found),
            (None, None) => match (ambiguous(&observed), ambiguous(&pinned)) {
                (Some(why), _) => unreadable(Side::Observed, why, found),
                (None, Some(why)) => unreadable(Side::Pinned, why, found),
                (None, None) => same_files(&pinned, &observed, found),
            },
        })
    }

    /// Whether both inflate to the same bytes, or one of them to the other: a server may compress
    /// once more what is compressed already, and tell no one.
    fn same_inside(&mut self, pinned: &Listing, observed: &Listing) -> io::Result<bool> {
        let (Some(was), Some(is)) = (pinned.inflated, observed.inflated) else { return Ok(false) };
        Ok(was == is
            || (is.size == pinned.size && is.sha256 == sha256(&mut self.pinned)?)
            || (was.size == observed.size && was.sha256 == sha256(&mut self.observed)?))
    }

    /// The comparison in detail, with the lines of changed texts.
    fn content(
        &mut self,
        pinned: &Listing,
        observed: &Listing,
        compared: &Comparison<'_>,
    ) -> io::Result<Content> {
        let Comparison { changed, added, removed, unchanged, aspects } = compared;
        let listed = changed.iter().chain(added).chain(removed).take(self.limits.listed);
        let listed: Vec<&Pair<'_>> = listed.collect();
        let lines = self.lines(pinned, observed, &listed)?;
        let state =
            |listing: &Listing, at: Option<usize>| at.map(|at| State::from(&listing.entries[at]));
        let changes = listed.iter().zip(lines).map(|(pair, lines)| Change {
            path: pair.path.to_owned(),
            was: state(pinned, pair.was),
            is: state(observed, pair.is),
            lines,
        });
        Ok(Content {
            added: added.len(),
            removed: removed.len(),
            changed: changed.len(),
            unchanged: *unchanged,
            changes: changes.collect(),
            aspects: aspects.clone(),
            remarks: observed.remarks.clone(),
        })
    }

    /// The lines of each pair; reads the archives once more for those that are texts.
    fn lines(
        &mut self,
        pinned: &Listing,
        observed: &Listing,
        pairs: &[&Pair<'_>],
    ) -> io::Result<Vec<TextDiff>> {
        let plan = Plan::new(pairs, pinned, observed, self.limits);
        let was = read_texts(&mut self.pinned, self.limits, plan.was)?;
        let is = read_texts(&mut self.observed, self.limits, plan.is)?;
        let Limits { diff_bytes: bytes, diff_steps: steps, .. } = *self.limits;
        let mut room = Room { bytes, steps };
        let lines = pairs.iter().zip(plan.lines).map(|(pair, lines)| match lines {
            Planned::Known(diff) => diff,
            Planned::Compare => TextDiff::of(text(&was, pair.was), text(&is, pair.is), &mut room),
        });
        Ok(lines.collect())
    }
}

/// Whether the observed bytes are an answer of another kind altogether.
fn not_an_archive(pinned: &Listing, observed: &Listing) -> Option<Explanation> {
    let document = observed.document.clone()?;
    // Where nothing could be inflated there is nothing to recognise.
    let known = observed.problem.is_none() || !observed.entries.is_empty();
    let readable = known || observed.format.compression == Compression::None;
    let replaced = match &pinned.document {
        None => true,
        Some(was) => document.is_answer() && !document.is_like(was),
    };
    let size = observed.size;
    (readable && replaced).then_some(Explanation::NotAnArchive(NotAnArchive { size, document }))
}

/// What keeps an archive from being called the same as another: what is in it depends on who reads
/// it.
fn ambiguous(listing: &Listing) -> Option<Problem> {
    listing.remarks.iter().find_map(|remark| match remark {
        Remark::AmbiguousHeader { path } => Some(Problem::Ambiguous { path: path.clone() }),
        _ => None,
    })
}

/// Archives that have no file that differs.
fn same_files(pinned: &Listing, observed: &Listing, mut found: Content) -> Explanation {
    let (was, is) = (pinned.format, observed.format);
    if found.aspects.is_empty() && was.container == Container::Zip {
        return Explanation::Recompressed(Recompressed {
            was,
            is,
            inflated: None,
            remarks: found.remarks,
        });
    }
    if found.aspects.is_empty() {
        found.aspects.push(Aspect::Encoding);
    }
    let Content { unchanged: files, aspects, remarks, .. } = found;
    Explanation::Repacked(Repacked { files, aspects, remarks })
}

/// The text of an entry; none is like an empty one.
fn text(texts: &Texts, at: Option<usize>) -> &[u8] {
    at.and_then(|at| texts.get(&at)).map_or(&[], Vec::as_slice)
}

fn unreadable(side: Side, why: Problem, found: Content) -> Explanation {
    let nothing = found.differences() + found.unchanged == 0;
    Explanation::Unreadable(Unreadable { side, why, found: (!nothing).then_some(found) })
}

fn sha256(source: &mut Source<'_>) -> io::Result<Sha256> {
    source.rewind()?;
    let mut hasher = sha2::Sha256::new();
    let mut chunk = vec![0; COMPARED];
    loop {
        match read_full(source, &mut chunk)? {
            0 => return Ok(Sha256::from_bytes(hasher.finalize().into())),
            count => hasher.update(&chunk[..count]),
        }
    }
}

/// How many bytes are compared at a time.
const COMPARED: usize = 256 << 10;
