//! Reading the entries of an `index.tar.gz` that no one vouches for.

use super::error::printable;
use super::{Entries, TreeError, TreeLimits, gzip};
use crate::opam::path::{PathError, RepoPath};
use bytes::Bytes;
use std::io::{Cursor, Read};
use tar::{Archive, EntryType, PaxExtensions};

/// Reads all entries; the contents of the files are slices of one inflated buffer.
pub(super) fn read_index(gz: &[u8], limits: &TreeLimits) -> Result<Entries, TreeError> {
    let inflated = Bytes::from(gzip::inflate(gz, limits.inflated_bytes)?);
    let mut archive = Archive::new(Cursor::new(inflated.clone()));
    let mut entries = Entries::new(limits);
    for entry in archive.entries_with_seek().map_err(TreeError::Tar)? {
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
                let content = content(&entry, &inflated, &name)?;
                entries.add_file(path, content)?;
            }
            other => return Err(not_regular(&name, other)),
        }
    }
    Ok(entries)
}

/// Refuses extended headers that readers of tar understand differently: ones with a record that
/// can't be read or contradicts what was read, and global ones that say more than a comment
/// (which `git archive` writes).
fn check_extended_header<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    name: &[u8],
) -> Result<(), TreeError> {
    let size = entry.size().to_string();
    let agreed = if entry.header().entry_type() == EntryType::XGlobalHeader {
        let mut records = Vec::new();
        entry.read_to_end(&mut records).map_err(TreeError::Tar)?;
        PaxExtensions::new(&records)
            .all(|record| record.is_ok_and(|it| it.key_bytes() == b"comment"))
    } else if let Some(mut records) = entry.pax_extensions().map_err(TreeError::Tar)? {
        records.all(|record| {
            record.is_ok_and(|record| match record.key_bytes() {
                b"path" => record.value_bytes() == name,
                b"size" => record.value_bytes() == size.as_bytes(),
                key => !key.starts_with(b"GNU.sparse."),
            })
        })
    } else {
        true
    };
    if agreed { Ok(()) } else { Err(TreeError::ExtendedHeader { name: printable(name) }) }
}

/// The bytes of a regular file, out of the inflated ones.
fn content<R: Read>(
    entry: &tar::Entry<'_, R>,
    inflated: &Bytes,
    name: &[u8],
) -> Result<Bytes, TreeError> {
    let range = usize::try_from(entry.raw_file_position()).ok().and_then(|start| {
        let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
        (end <= inflated.len()).then_some(start..end)
    });
    let cut = || format!("the file \"{}\" is cut short", printable(name));
    let range = range.ok_or_else(|| TreeError::Tar(std::io::Error::other(cut())))?;
    Ok(inflated.slice(range))
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
