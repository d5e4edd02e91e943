//! Reading tar block by block: POSIX ustar and pax, GNU, and the oldest kind.
//!
//! The `tar` crate decodes the fields of a header; its own reader of entries would hold long names
//! and extended headers in memory whatever their size, and expand the holes of sparse files.

mod extended;

use self::extended::Extended;
use super::bounds::Tally;
use super::entry::{Header, Owner, What};
use super::format::{BLOCK, is_tar_header};
use super::list::Remark;
use super::name::{EntryName, printable};
use super::problem::Problem;
use super::source::read_full;
use super::walk::{CHUNK, Stream, Visit};
use std::ops::ControlFlow;
use tar::EntryType;

/// Goes through a tar archive, and on to the end of the stream behind it.
pub(super) fn walk(
    stream: &mut Stream<'_>,
    tally: &mut Tally<'_>,
    visit: &mut dyn Visit,
) -> Result<ControlFlow<()>, Problem> {
    let mut extended = Extended::default();
    let mut block = [0; BLOCK];
    loop {
        match read_full(stream, &mut block)? {
            // Many a writer leaves the end mark out.
            0 => return Ok(ControlFlow::Continue(())),
            BLOCK => {}
            _ => return Err(Problem::EndsEarly),
        }
        if block == [0; BLOCK] {
            read_padding(stream, visit)?;
            return Ok(ControlFlow::Continue(()));
        }
        if !is_tar_header(&block) {
            return Err(Problem::damaged("the checksum of a tar header is wrong"));
        }
        tally.entry()?;
        let header = tar::Header::from_byte_slice(&block);
        if extended.read(header, stream, tally, visit)? {
            continue;
        }
        let member = Member { header, extended: std::mem::take(&mut extended) };
        if member.visit(stream, tally, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// Reads what comes after the end: zeros, mostly.
fn read_padding(stream: &mut Stream<'_>, visit: &mut dyn Visit) -> Result<(), Problem> {
    let mut chunk = vec![0; CHUNK];
    let mut zeros = true;
    loop {
        let count = read_full(stream, &mut chunk)?;
        if count == 0 {
            break;
        }
        zeros &= chunk[..count].iter().all(|byte| *byte == 0);
    }
    if !zeros {
        visit.remark(Remark::BytesAfterEnd);
    }
    Ok(())
}

/// A header with everything that was said about it before.
struct Member<'b> {
    header: &'b tar::Header,
    extended: Extended,
}

impl Member<'_> {
    fn visit(
        self,
        stream: &mut Stream<'_>,
        tally: &mut Tally<'_>,
        visit: &mut dyn Visit,
    ) -> Result<ControlFlow<()>, Problem> {
        let raw_name = self.extended.name().map_or_else(|| self.header.path_bytes(), Into::into);
        let name = EntryName::new(tally.name(&raw_name)?);
        let what = self.what(&raw_name, tally)?;
        let stored = self.stored_size()?;
        let has_content =
            matches!(what, What::File | What::SparseFile | What::Special { .. }) && !self.is_node();
        let path = name.to_string();
        // Some readers take whatever is named like a folder for one.
        let like_folder =
            raw_name.ends_with(b"/") || raw_name.ends_with(b"/.") || *raw_name == *b".";
        let is_odd = like_folder && !matches!(what, What::Directory);
        if is_odd || self.extended.is_ambiguous() || (!has_content && stored > 0) {
            visit.remark(Remark::AmbiguousHeader { path });
        }
        let sparse_map = matches!(what, What::SparseFile).then(|| self.header.as_gnu()).flatten();
        visit.begin(Header {
            name,
            what,
            mode: self.header.mode().ok().map(|mode| mode & PERMISSIONS),
            modified: self.extended.modified.or_else(|| self.header.mtime().ok()?.try_into().ok()),
            owner: self.owner(tally)?,
        });
        if let Some(gnu) = sparse_map {
            read_sparse_map(gnu, stream, visit)?;
        }
        if has_content {
            read_content(stream, stored, visit)?;
        }
        Ok(visit.end())
    }

    fn what(&self, raw_name: &[u8], tally: &mut Tally<'_>) -> Result<What, Problem> {
        let target = || {
            let in_header = || self.header.link_name_bytes().unwrap_or_default();
            self.extended.target().map_or_else(in_header, Into::into)
        };
        Ok(match self.header.entry_type() {
            EntryType::Symlink => {
                What::Symlink { target: printable(tally.name(&target())?, usize::MAX) }
            }
            EntryType::Link => What::HardLink { target: EntryName::new(tally.name(&target())?) },
            EntryType::Directory => What::Directory,
            // The oldest kind has no letter for a folder.
            EntryType::Regular if raw_name.ends_with(b"/") => What::Directory,
            EntryType::GNUSparse => What::SparseFile,
            EntryType::Regular | EntryType::Continuous if self.extended.sparse => What::SparseFile,
            EntryType::Regular | EntryType::Continuous => What::File,
            other => What::Special { letter: printable(&[other.as_byte()], 1) },
        })
    }

    /// Whether it is a device or a pipe, which has no content whatever its size.
    fn is_node(&self) -> bool {
        matches!(self.header.entry_type(), EntryType::Char | EntryType::Block | EntryType::Fifo)
    }

    fn stored_size(&self) -> Result<u64, Problem> {
        match self.extended.size {
            Some(size) => Ok(size),
            None => self.header.entry_size().map_err(Problem::damaged),
        }
    }

    fn owner(&self, tally: &mut Tally<'_>) -> Result<Option<Owner>, Problem> {
        let user = self.extended.user().or_else(|| self.header.username_bytes());
        let group = self.extended.group().or_else(|| self.header.groupname_bytes());
        let mut printed = |name: Option<&[u8]>| -> Result<String, Problem> {
            Ok(printable(tally.name(name.unwrap_or_default())?, usize::MAX))
        };
        let uid = self.extended.uid.or_else(|| self.header.uid().ok());
        let gid = self.extended.gid.or_else(|| self.header.gid().ok());
        let (user, group) = (printed(user)?, printed(group)?);
        Ok(uid.zip(gid).map(|(uid, gid)| Owner { uid, gid, user, group }))
    }
}

/// Passes on the map of an old GNU sparse file, as part of what is stored of it.
fn read_sparse_map(
    gnu: &tar::GnuHeader,
    stream: &mut Stream<'_>,
    visit: &mut dyn Visit,
) -> Result<(), Problem> {
    for hole in &gnu.sparse {
        visit.content(&hole.offset);
        visit.content(&hole.numbytes);
    }
    visit.content(&gnu.realsize);
    let mut more = gnu.is_extended();
    while more {
        let mut block = [0; BLOCK];
        if read_full(stream, &mut block)? < BLOCK {
            return Err(Problem::EndsEarly);
        }
        visit.content(&block);
        more = block[SPARSE_CONTINUES] == 1;
    }
    Ok(())
}

/// Passes a content on, and over its padding.
fn read_content(stream: &mut Stream<'_>, size: u64, visit: &mut dyn Visit) -> Result<(), Problem> {
    let mut chunk = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut left = size;
    while left > 0 {
        let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if read_full(stream, &mut chunk[..wanted])? < wanted {
            return Err(Problem::EndsEarly);
        }
        visit.content(&chunk[..wanted]);
        left -= wanted as u64;
    }
    skip_padding(stream, size)
}

/// Skips to the next block.
fn skip_padding(stream: &mut Stream<'_>, size: u64) -> Result<(), Problem> {
    // A remainder by the length of a block fits.
    let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
    let mut rest = [0; BLOCK];
    match read_full(stream, &mut rest[..padding])? {
        read if read < padding => Err(Problem::EndsEarly),
        _ => Ok(()),
    }
}

/// The bits of a mode that a file system keeps.
const PERMISSIONS: u32 = 0o7777;

/// Where an extended sparse header says whether another one follows.
const SPARSE_CONTINUES: usize = 504;
