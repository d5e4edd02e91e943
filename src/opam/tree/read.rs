//! Reading the entries of an `index.tar.gz` that no one vouches for.

use super::error::printable;
use super::{Entries, TreeError, TreeLimits, gzip};
use crate::opam::path::{PathError, RepoPath};
use bytes::Bytes;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tar::{Archive, EntryType, PaxExtensions};

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
    for entry in archive.entries().map_err(TreeError::Tar)? {
        let mut entry = entry.map_err(TreeError::Tar)?;
        let name = entry.path_bytes().into_owned();
        check_extended_header(&mut entry, &name)?;
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => {}
            EntryType::Directory => {
                if let Some(path) = directory_path(&name)? {
                    entries.add_directory(path)?;
                }
            }
            EntryType::Regular => {
                let path = safe_path(&name, &name)?;
                let content = content(&mut entry, &mut contents, &name)?;
                entries.add_file(path, content.len(), content)?;
            }
            other => return Err(not_regular(&name, other)),
        }
    }
    Ok((entries, contents))
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

/// Refuses extended headers that readers of tar understand differently: ones with a record that
/// can't be read or contradicts what was read, and global ones that say more than a comment
/// (which `git archive` writes).
fn check_extended_header<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    name: &[u8],
) -> Result<(), TreeError> {
    let size = entry.size();
    let agreed = if entry.header().entry_type() == EntryType::XGlobalHeader {
        let mut records = Vec::new();
        entry.read_to_end(&mut records).map_err(TreeError::Tar)?;
        PaxExtensions::new(&records)
            .all(|record| record.is_ok_and(|it| it.key_bytes() == b"comment"))
    } else if let Some(mut records) = entry.pax_extensions().map_err(TreeError::Tar)? {
        records.all(|record| {
            record.is_ok_and(|record| match record.key_bytes() {
                b"path" => record.value_bytes() == name,
                b"size" => record.value_bytes() == size.to_string().as_bytes(),
                key => !key.starts_with(b"GNU.sparse."),
            })
        })
    } else {
        true
    };
    if agreed { Ok(()) } else { Err(TreeError::ExtendedHeader { name: printable(name) }) }
}

/// Adds the bytes of a regular file to the contents, and says where they are.
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
        _ => "of a kind that tar readers disagree about",
    };
    TreeError::NotRegular { name: printable(name), kind }
}

/// So much of a file is read at a time.
const AT_A_TIME: u64 = 256 << 10;
/// How many pieces wait to be read.
const PIECES: usize = 8;
