//! Inputs that are nearly right: without this, nearly every change to a tar archive or a gzip file
//! is caught by a checksum, and nothing behind it is ever tried.

use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;
use tar::Header;

/// The bytes before a last one that says how to make of them what is read.
pub(crate) fn choice(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_last().map(|(choice, bytes)| (*choice, bytes))
}

/// A tar archive whose headers all have the right sum.
pub(crate) fn with_right_sums(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let mut at = 0;
    while let Some(block) =
        tar.get_mut(at..at + BLOCK).filter(|block| block.iter().any(|b| *b != 0))
    {
        let mut header = Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = header.entry_size().unwrap_or(0).min(tar.len() as u64) as usize;
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    tar
}

/// A gzip file of these bytes.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    encoder.write_all(bytes).expect("memory takes every byte");
    encoder.finish().expect("a gzip stream in memory can be ended")
}

const BLOCK: usize = 512;
