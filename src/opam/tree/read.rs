//! Reading the entries of an `index.tar.gz` that no one vouches for.

use super::error::printable;
use super::extended::{self, Extended};
use super::{Entries, TreeError, TreeLimits, gzip, header};
use crate::opam::path::{PathError, RepoPath};
use bytes::Bytes;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tar::{Archive, EntryType};

/// Reads all entries; the contents of the files are slices of one buffer.
///
/// The file is inflated beside that, by a thread of its own.
pub(super) fn read_index(gz: &[u8], limits: &TreeLimits) -> Result<Entries<Bytes>, TreeError> {
    let (pieces, received) = sync_channel::<Vec<u8>>(PIECES);
    // Memory that was used before is there at once.
    let (used, reusable) = sync_channel(PIECES);
    let (inflated, read) = std::thread::scope(|scope| {
        let inflate = move || {
            // Whoever reads may have read enough; the rest has to be sound all the same.
            gzip::inflate(gz, limits.inflated_bytes, |piece| match pieces.send(piece) {
                Ok(()) => reusable.try_recv().unwrap_or_default(),
                Err(unread) => unread.0,
            })
        };
        let inflating = std::thread::Builder::new().spawn_scoped(scope, inflate);
        let likely = gzip::likely_size(gz).min(limits.inflated_bytes);
        let read = read_tar(Pieces { received, used, piece: Vec::new(), at: 0 }, likely, limits);
        (inflating.map(|inflating| inflating.join()), read)
    });
    // What is wrong with the outer form is the cause of what is wrong inside.
    let inflated = inflated.map_err(TreeError::Gzip)?;
    inflated.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let (entries, contents) = read?;
    let contents = Bytes::from(contents);
    Ok(entries.map(|range| contents.slice(range)))
}

/// Reads a tar archive of about so many bytes: its entries, and the contents of all files one after
/// the other.
fn read_tar(
    tar: impl Read,
    likely: usize,
    limits: &TreeLimits,
) -> Result<(Entries<Range<usize>>, Vec<u8>), TreeError> {
    let mut archive = Archive::new(tar);
    let (mut entries, mut contents) = (Entries::new(limits), Vec::with_capacity(likely));
    let mut extended = None;
    for entry in archive.entries().map_err(TreeError::Tar)?.raw(true) {
        let mut entry = entry.map_err(TreeError::Tar)?;
        let name = entry.path_bytes().into_owned();
        header::check(entry.header(), &name)?;
        let before: Option<Extended> = extended.take();
        match (entry.header().entry_type(), before) {
            (EntryType::XHeader | EntryType::GNULongName | EntryType::XGlobalHeader, before) => {
                if let Some(before) = before {
                    return Err(before.dangles());
                }
                extended = read_extended(&mut entry, name)?;
            }
            (_, None) => read_entry(&mut entry, &name, &mut entries, &mut contents)?,
            (entry_type, Some(before)) => {
                let name = before.name(&name);
                before.check_size(name, entry_type, entry.size())?;
                read_entry(&mut entry, name, &mut entries, &mut contents)?;
            }
        }
    }
    if let Some(extended) = extended {
        return Err(extended.dangles());
    }
    check_end(archive.into_inner())?;
    Ok((entries, contents))
}

/// Takes a file or a directory; nothing else is served.
fn read_entry<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    name: &[u8],
    entries: &mut Entries<Range<usize>>,
    contents: &mut Vec<u8>,
) -> Result<(), TreeError> {
    match entry.header().entry_type() {
        // What some skip as its content, GNU tar and Python take for the next headers.
        EntryType::Directory if entry.size() > 0 => {
            Err(TreeError::ambiguous(name, "it is a directory with a size"))
        }
        EntryType::Directory => match directory_path(name)? {
            Some(path) => entries.add_directory(path),
            None => Ok(()),
        },
        EntryType::Regular => {
            let path = safe_path(name, name)?;
            let content = content(entry, contents, name)?;
            entries.add_file(path, content.len(), content)
        }
        other => Err(not_regular(name, other)),
    }
}

/// Reads what a header says about the entry that comes next; none if it is about no single one.
fn read_extended<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    name: Vec<u8>,
) -> Result<Option<Extended>, TreeError> {
    if entry.size() > MAX_EXTENDED {
        return Err(TreeError::ambiguous(&name, "not all of them read so long an extended header"));
    }
    let mut text = Vec::new();
    content(entry, &mut text, &name)?;
    match entry.header().entry_type() {
        EntryType::XGlobalHeader => extended::check_global(&name, &text).map(|()| None),
        EntryType::GNULongName => Ok(Some(Extended::long_name(name, &text))),
        _ => Extended::records(name, &text).map(Some),
    }
}

/// Refuses what comes behind the end: some readers go on after a single block of zeros.
fn check_end(mut tar: impl Read) -> Result<(), TreeError> {
    let mut piece = vec![0; AT_A_TIME as usize];
    loop {
        match tar.read(&mut piece).map_err(TreeError::Tar)? {
            0 => return Ok(()),
            read if piece[..read].iter().all(|byte| *byte == 0) => {}
            _ => return Err(TreeError::Tar(io::Error::other("there is more behind its end"))),
        }
    }
}

/// Reads what another thread sends.
struct Pieces {
    received: Receiver<Vec<u8>>,
    /// Where those go that were read.
    used: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    /// How much of the piece was read.
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.received.recv() {
                Ok(piece) => {
                    let read = std::mem::replace(&mut self.piece, piece);
                    // Who has enough of them needs none.
                    let _ = self.used.try_send(read);
                    self.at = 0;
                }
                // There is no more.
                Err(_) => return Ok(0),
            }
        }
        let read = (&self.piece[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

/// Adds the bytes of an entry to the contents, and says where they are.
fn content<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    contents: &mut Vec<u8>,
    name: &[u8],
) -> Result<Range<usize>, TreeError> {
    let start = contents.len();
    let mut left = entry.size();
    while left > 0 {
        // Whatever a header says, there is memory only for what comes.
        let at = contents.len();
        contents.resize(at + left.min(AT_A_TIME) as usize, 0);
        match entry.read_exact(&mut contents[at..]) {
            Ok(()) => left -= (contents.len() - at) as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let cut = format!("the file \"{}\" is cut short", printable(name));
                return Err(TreeError::Tar(io::Error::other(cut)));
            }
            Err(error) => return Err(TreeError::Tar(error)),
        }
    }
    Ok(start..contents.len())
}

/// The path of a directory; none for the root, which tar calls `./`.
fn directory_path(name: &[u8]) -> Result<Option<RepoPath>, TreeError> {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    if trimmed == b"." { Ok(None) } else { safe_path(trimmed, name).map(Some) }
}

fn safe_path(path: &[u8], name: &[u8]) -> Result<RepoPath, TreeError> {
    RepoPath::from_name(path).map_err(|cause: PathError| {
        let name = printable(name);
        TreeError::UnsafeName { name, cause }
    })
}

fn not_regular(name: &[u8], entry_type: EntryType) -> TreeError {
    let kind = match entry_type {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file",
        EntryType::GNULongLink => "the name of a link",
        _ => "of a kind that tar readers disagree about",
    };
    TreeError::NotRegular { name: printable(name), kind }
}

/// So much of a file is read at a time.
const AT_A_TIME: u64 = 256 << 10;
/// Longest extended header that libarchive reads, in bytes.
const MAX_EXTENDED: u64 = 1 << 20;
/// How many pieces wait to be read.
const PIECES: usize = 8;
