//! What is in an archive: entries, digests, and what is odd about it.

use super::document::Document;
use super::entry::{Entry, EntryKind, Header, What};
use super::format::{Container, Format};
use super::limits::Limits;
use super::name::printable;
use super::order::{Contested, contested};
use super::problem::Problem;
use super::source::Source;
use super::top::common_top;
use super::walk::{Visit, Walked, walk};
use crate::digest::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::io::{self, Read, Seek};
use std::ops::ControlFlow;

/// An archive's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What the archive is.
    pub format: Format,
    /// Its own length in bytes.
    pub size: u64,
    /// What it inflates to; none for a zip, and for what could not be read to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inflated: Option<Inflated>,
    /// Everything in it, in its order; one nameless file if it has no container.
    pub entries: Vec<Entry>,
    /// The folder that all of it is in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub top: Option<String>,
    /// A comment on the whole, printable; `git archive` puts the commit there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// What it looks like, if it has no container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub document: Option<Document>,
    /// What is odd about it.
    pub remarks: Vec<Remark>,
    /// What ended the reading early: then there may be more in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<Problem>,
}

/// The bytes inside a compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inflated {
    /// Their length.
    pub size: u64,
    /// Their hash.
    pub sha256: Sha256,
}

/// Something odd: readers of archives may understand it in different ways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "remark", rename_all = "kebab-case")]
pub enum Remark {
    /// Two entries of one name, of which mostly the last one counts.
    #[error("\"{path}\" is there more than once")]
    DuplicateName {
        /// The name.
        path: String,
    },
    /// Entries below one that is no folder, so that they may go through a link.
    #[error("there are entries below \"{path}\", which is no folder")]
    OverlaidName {
        /// The name.
        path: String,
    },
    /// An absolute name, or one with `..` in it.
    #[error("\"{path}\" leads out of the folder it is unpacked in")]
    UnsafeName {
        /// The name.
        path: String,
    },
    /// A header that contradicts itself or another one.
    #[error("the headers of \"{path}\" can be read in more than one way")]
    AmbiguousHeader {
        /// The entry.
        path: String,
    },
    /// Something else than padding after the end of the tar archive.
    #[error("there are bytes after its end")]
    BytesAfterEnd,
    /// Something else than compressed data after compressed data.
    #[error("there are bytes after the compressed data")]
    TrailingBytes,
}

/// Lists what is in an archive.
///
/// # Errors
/// Those of the reader alone. What is wrong with the archive is said by [`Listing::problem`].
pub fn list<R: Read + Seek>(reader: &mut R, limits: &Limits) -> io::Result<Listing> {
    let mut source = Source::new(reader)?;
    let listing = list_source(&mut source, limits);
    source.failure()?;
    listing
}

pub(super) fn list_source(source: &mut Source<'_>, limits: &Limits) -> io::Result<Listing> {
    let mut lister = Lister::new(limits);
    let Walked { format, head, inflated, problem } = walk(source, limits, &mut lister)?;
    let plain = format.container == Container::Plain;
    let mut listing = Listing {
        format,
        size: source.size(),
        inflated,
        top: common_top(&lister.entries),
        entries: lister.entries,
        comment: lister.comment,
        document: plain.then(|| Document::recognise(&head)),
        remarks: lister.remarks,
        problem,
    };
    let room = limits.listed.saturating_sub(listing.remarks.len());
    let remarks: Vec<Remark> = of_names(&listing).take(room).collect();
    listing.remarks.extend(remarks);
    Ok(listing)
}

/// Remarks on names, which are known only at the end.
fn of_names(listing: &Listing) -> impl Iterator<Item = Remark> {
    let flagged = listing.entries.iter().filter(|entry| entry.name.flag().is_some());
    let unsafe_names = flagged.map(|entry| Remark::UnsafeName { path: entry.name.to_string() });
    unsafe_names.chain(contested(listing, None).into_iter().map(|contested| match contested {
        Contested::Duplicate(path) => Remark::DuplicateName { path: path.to_owned() },
        Contested::Overlaid(path) => Remark::OverlaidName { path: path.to_owned() },
    }))
}

/// Collects entries and hashes their contents.
struct Lister {
    listed: usize,
    entries: Vec<Entry>,
    remarks: Vec<Remark>,
    comment: Option<String>,
    current: Option<Current>,
}

/// The entry whose content is being read.
struct Current {
    header: Header,
    hasher: sha2::Sha256,
    size: u64,
    text: bool,
}

impl Lister {
    fn new(limits: &Limits) -> Self {
        let listed = limits.listed;
        Self { listed, entries: Vec::new(), remarks: Vec::new(), comment: None, current: None }
    }
}

impl Visit for Lister {
    fn begin(&mut self, header: Header) {
        self.current = Some(Current { header, hasher: sha2::Sha256::new(), size: 0, text: true });
    }

    fn content(&mut self, bytes: &[u8]) {
        let Some(current) = &mut self.current else { return };
        if current.size < LOOKED_AT {
            let first = bytes.len().min(LOOKED_AT as usize);
            current.text &= !bytes[..first].contains(&0);
        }
        current.hasher.update(bytes);
        current.size += bytes.len() as u64;
    }

    fn end(&mut self) -> ControlFlow<()> {
        self.entries.extend(self.current.take().map(Current::finish));
        ControlFlow::Continue(())
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < self.listed {
            self.remarks.push(remark);
        }
    }

    fn comment(&mut self, comment: &[u8]) {
        self.comment.get_or_insert_with(|| printable(comment, LONGEST_COMMENT));
    }
}

impl Current {
    fn finish(self) -> Entry {
        let sha256 = Sha256::from_bytes(self.hasher.finalize().into());
        let (size, text) = (self.size, self.text);
        let Header { name, what, mode, modified, owner } = self.header;
        let kind = match what {
            What::File => EntryKind::File { size, sha256, text },
            What::SparseFile => EntryKind::SparseFile { size, sha256 },
            What::Directory => EntryKind::Directory,
            What::Symlink { target } => EntryKind::Symlink { target },
            What::HardLink { target } => EntryKind::HardLink { target },
            What::Special { letter } => EntryKind::Special { letter },
        };
        Entry { name, kind, mode, modified, owner }
    }
}

/// A file with a zero among its first bytes is no text; git looks as far.
const LOOKED_AT: u64 = 8000;

/// The characters of a comment that are kept.
const LONGEST_COMMENT: usize = 200;
