//! The one form of tar that bundles have: every byte of it follows from paths, sizes and contents.

use super::BundleError;
use std::io::{self, Read, Write};
use tar::{EntryType, Header};

/// The header of a file.
fn header(path: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Writes a file of `size` bytes, which `content` writes.
pub(super) fn write<W: Write>(
    out: &mut W,
    path: &str,
    size: u64,
    content: impl FnOnce(&mut W) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(header(path, size)?.as_bytes())?;
    content(out)?;
    out.write_all(&[0; BLOCK][..padding(size)])
}

/// Writes the archive's end.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// Reads the header of the file `path`, whatever size it says, and returns the size.
pub(super) fn read_size(source: &mut impl Read, path: &str) -> Result<u64, BundleError> {
    let block = read_block(source, path)?;
    let size = Header::from_byte_slice(&block).entry_size();
    let size = size.map_err(|_| BundleError::Form(format!("{path} has no size")))?;
    same_header(&block, path, size)?;
    Ok(size)
}

/// Reads the header of the file `path` of `size` bytes.
pub(super) fn read_header(
    source: &mut impl Read,
    path: &str,
    size: u64,
) -> Result<(), BundleError> {
    same_header(&read_block(source, path)?, path, size)
}

/// Reads what fills up the last block of a file.
pub(super) fn read_padding(
    source: &mut impl Read,
    path: &str,
    size: u64,
) -> Result<(), BundleError> {
    let mut block = [0; BLOCK];
    let padding = &mut block[..padding(size)];
    read_exact(source, padding, path)?;
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(BundleError::Form(format!("there is something after {path}"))),
    }
}

/// Reads the archive's end, after which there is nothing.
pub(super) fn read_end(source: &mut impl Read) -> Result<(), BundleError> {
    let mut end = [0; 2 * BLOCK];
    read_exact(source, &mut end, "its end")?;
    let is_over = end.iter().all(|byte| *byte == 0) && source.read(&mut [0])? == 0;
    is_over
        .then_some(())
        .ok_or_else(|| BundleError::Form("there is something after its end".to_owned()))
}

/// Fills `buffer`.
pub(super) fn read_exact(
    source: &mut impl Read,
    buffer: &mut [u8],
    path: &str,
) -> Result<(), BundleError> {
    source.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BundleError::Truncated(path.to_owned()),
        _ => BundleError::Io(error),
    })
}

fn read_block(source: &mut impl Read, path: &str) -> Result<[u8; BLOCK], BundleError> {
    let mut block = [0; BLOCK];
    read_exact(source, &mut block, path)?;
    Ok(block)
}

fn same_header(block: &[u8; BLOCK], path: &str, size: u64) -> Result<(), BundleError> {
    match header(path, size)?.as_bytes() == block {
        true => Ok(()),
        false => Err(BundleError::Form(format!("{path} is missing, or not where it belongs"))),
    }
}

fn padding(size: u64) -> usize {
    // What is left of a block is less than a block.
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

const BLOCK: usize = 512;
