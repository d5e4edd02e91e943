//! Reading zip: the central directory first, then entry after entry in its order.
//!
//! Each entry is in there twice, in the directory and before its data; what the two say has to
//! agree. Sizes are only claims here: what is inflated is counted and compared with them.

mod agreement;
mod mode;

use self::agreement::Claims;
use self::mode::Attributes;
use super::bounds::{Meter, Tally};
use super::entry::{Header, What};
use super::limits::Limits;
use super::list::Remark;
use super::name::{EntryName, printable};
use super::problem::Problem;
use super::source::{Source, read_full};
use super::walk::{CHUNK, Visit};
use flate2::bufread::DeflateDecoder;
use rawzip::time::ZipDateTimeKind;
use rawzip::{
    CompressionMethod, ErrorKind, ReaderAt, ZipArchive, ZipArchiveEntryWayfinder,
    ZipFileHeaderRecord, ZipLocator,
};
use std::cell::RefCell;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Goes through a zip archive.
pub(super) fn walk(
    source: &mut Source<'_>,
    limits: &Limits,
    visit: &mut dyn Visit,
) -> Result<(), Problem> {
    let size = source.size();
    let mut meter = Meter::new(limits, size);
    let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let input = Shared(RefCell::new(source));
    let archive = ZipLocator::new()
        .locate_in_reader(&input, &mut buffer, size)
        .map_err(|(_, error)| problem(error))?;
    let mut comment = Vec::new();
    archive.comment().take(LONGEST_COMMENT).read_to_end(&mut comment)?;
    if !comment.is_empty() {
        visit.comment(&comment);
    }
    let members = directory(&archive, &mut Tally::new(limits), &mut buffer)?;
    check_apart(&archive, &members, visit)?;
    for member in members {
        if member.visit(&archive, limits, &mut meter, visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Reads all of the central directory.
fn directory<R: ReaderAt>(
    archive: &ZipArchive<R>,
    tally: &mut Tally<'_>,
    buffer: &mut [u8],
) -> Result<Vec<Member>, Problem> {
    let stated = archive.entries_hint();
    let mut members = Vec::new();
    let mut entries = archive.entries(buffer);
    while let Some(record) = entries.next_entry().map_err(problem)? {
        tally.entry()?;
        members.push(Member::new(&record, tally)?);
    }
    if stated != members.len() as u64 {
        return Err(Problem::damaged("its directory has another number of entries than it says"));
    }
    Ok(members)
}

/// Refuses entries that share bytes with each other or with the directory, and remarks on those
/// that are described otherwise before their data.
fn check_apart<R: ReaderAt>(
    archive: &ZipArchive<R>,
    members: &[Member],
    visit: &mut dyn Visit,
) -> Result<(), Problem> {
    let mut ranges = Vec::with_capacity(members.len());
    let mut local = vec![0; u16::MAX as usize * 2 + 64];
    for member in members {
        let entry = archive.get_entry(member.wayfinder).map_err(problem)?;
        let (_, end) = entry.compressed_data_range();
        ranges.push((member.offset, end));
        let header = entry.local_header(&mut local).map_err(problem)?;
        if !member.claims.agree(&header, &member.name) {
            visit.remark(Remark::AmbiguousHeader { path: member.name.to_string() });
        }
    }
    ranges.sort_unstable();
    let starts = ranges.iter().skip(1).map(|(start, _)| *start);
    let next_starts = starts.chain([archive.directory_offset()]);
    let overlap = ranges.iter().zip(next_starts).any(|((_, end), next)| *end > next);
    if overlap { Err(Problem::Overlap) } else { Ok(()) }
}

/// An entry as the central directory has it.
struct Member {
    wayfinder: ZipArchiveEntryWayfinder,
    /// Where its local header is.
    offset: u64,
    method: CompressionMethod,
    encrypted: bool,
    claims: Claims,
    name: EntryName,
    kind: Kind,
    mode: Option<u32>,
    modified: Option<i64>,
}

enum Kind {
    File,
    Directory,
    /// Its content is its target.
    Symlink,
}

impl Member {
    fn new(record: &ZipFileHeaderRecord<'_>, tally: &mut Tally<'_>) -> Result<Self, Problem> {
        let raw_name = record.file_path();
        let attributes = Attributes::of(record);
        let kind = match (record.is_dir(), attributes.is_link()) {
            (true, _) => Kind::Directory,
            (false, true) => Kind::Symlink,
            (false, false) => Kind::File,
        };
        Ok(Self {
            wayfinder: record.wayfinder(),
            offset: record.local_header_offset(),
            method: record.compression_method(),
            encrypted: record.flags().is_encrypted(),
            claims: Claims::new(record, attributes),
            name: EntryName::new(tally.name(raw_name.as_bytes())?),
            kind,
            mode: attributes.mode(),
            modified: seconds(&record.last_modified()),
        })
    }

    fn visit<R: ReaderAt>(
        self,
        archive: &ZipArchive<R>,
        limits: &Limits,
        meter: &mut Meter,
        visit: &mut dyn Visit,
    ) -> Result<std::ops::ControlFlow<()>, Problem> {
        if self.encrypted {
            return Err(Problem::Unsupported { what: "encrypted entries".to_owned() });
        }
        let entry = archive.get_entry(self.wayfinder).map_err(problem)?;
        let data = BufReader::with_capacity(CHUNK, entry.reader());
        let inflated: Box<dyn Read + '_> = match self.method {
            CompressionMethod::STORE => Box::new(data),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(data)),
            other => {
                let what = format!("entries compressed by method {}", other.as_u16());
                return Err(Problem::Unsupported { what });
            }
        };
        let mut content = entry.verifying_reader(inflated);
        let what = match self.kind {
            Kind::File => What::File,
            Kind::Directory => What::Directory,
            Kind::Symlink => {
                let limit = limits.name_len;
                let mut target = vec![0; limit.saturating_add(1)];
                let length = read_full(&mut content, &mut target)?;
                meter.count(length)?;
                if length > limit {
                    return Err(Problem::NameTooLong { limit });
                }
                What::Symlink { target: printable(&target[..length], usize::MAX) }
            }
        };
        let Self { name, mode, modified, .. } = self;
        visit.begin(Header { name, what, mode, modified, owner: None });
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = read_full(&mut content, &mut chunk)?;
            if count == 0 {
                return Ok(visit.end());
            }
            meter.count(count)?;
            visit.content(&chunk[..count]);
        }
    }
}

/// A time as seconds since 1970, taking one without a zone for UTC; none that is no date.
fn seconds(time: &ZipDateTimeKind) -> Option<i64> {
    let local = match time {
        ZipDateTimeKind::Utc(time) => return Some(time.to_unix()),
        ZipDateTimeKind::Local(time) => time,
    };
    let small = |part: u8| i8::try_from(part).ok();
    let civil = jiff::civil::DateTime::new(
        i16::try_from(local.year()).ok()?,
        small(local.month())?,
        small(local.day())?,
        small(local.hour())?,
        small(local.minute())?,
        small(local.second())?,
        0,
    );
    let zoned = civil.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

fn problem(error: rawzip::Error) -> Problem {
    match error.into_kind() {
        // The directory is at the end: without its last record the end is missing.
        ErrorKind::MissingEndOfCentralDirectory | ErrorKind::Eof => Problem::EndsEarly,
        ErrorKind::IO(error) => error.into(),
        kind => Problem::damaged(kind),
    }
}

/// A source that is read at offsets, and fully: what is said of an entry that is longer than it
/// claims depends on how much is read at once.
struct Shared<'s, 'i>(RefCell<&'s mut Source<'i>>);

impl ReaderAt for Shared<'_, '_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut source = self.0.borrow_mut();
        source.seek(SeekFrom::Start(offset))?;
        read_full(*source, buffer)
    }
}

/// The bytes of a comment that are looked at.
const LONGEST_COMMENT: u64 = 1024;
