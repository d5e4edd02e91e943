//! One gzip member out of blocks that are compressed apart from each other: those of the index
//! before are taken over, the others are shared among the cores.
//!
//! Each block but the first may refer back to the 32 KiB of text before it, and ends on a byte
//! (RFC 1951, an empty stored block), so that the blocks one after the other are one stream. What a
//! block becomes depends on its text and on what it may refer back to, on nothing else.

use super::IndexError;
use crate::digest::Sha256;
use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The compressed blocks of an index, each by the hash of what it was made of.
#[derive(Clone, Debug, Default)]
pub struct Blocks(HashMap<Sha256, Block>);

#[derive(Clone, Debug)]
struct Block {
    compressed: Bytes,
    /// The checksum of its text.
    crc: Arc<Crc>,
}

impl Blocks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Compresses texts, one after the other, each as a block.
pub(super) fn gzip(texts: &[Vec<u8>], before: &Blocks) -> Result<(Bytes, Blocks), IndexError> {
    let blocks = blocks(texts, before)?;
    let length = blocks.iter().map(|(_, block)| block.compressed.len()).sum::<usize>();
    let mut gz = Vec::with_capacity(HEADER.len() + length + END.len() + 8);
    gz.extend_from_slice(&HEADER);
    let mut crc = Crc::new();
    let mut places = Vec::with_capacity(blocks.len());
    for (name, block) in blocks {
        let start = gz.len();
        gz.extend_from_slice(&block.compressed);
        crc.combine(&block.crc);
        places.push((name, start..gz.len(), block.crc));
    }
    gz.extend_from_slice(&END);
    gz.extend_from_slice(&crc.sum().to_le_bytes());
    // Modulo 2³², as RFC 1952 has it.
    gz.extend_from_slice(&crc.amount().to_le_bytes());
    let gz = Bytes::from(gz);
    // Kept as parts of the index itself, they take no memory of their own.
    let kept = places
        .into_iter()
        .map(|(name, place, crc)| (name, Block { compressed: gz.slice(place), crc }));
    let kept = Blocks(kept.collect());
    Ok((gz, kept))
}

/// Every block with its name, in order.
fn blocks(texts: &[Vec<u8>], before: &Blocks) -> Result<Vec<(Sha256, Block)>, IndexError> {
    let compressor = || Compress::new(Compression::new(LEVEL), false);
    let block = |compress: &mut Compress, (at, text): (usize, &Vec<u8>)| {
        let window = &*window(&texts[..at]);
        // Where the one ends and the other begins is part of what a block is made of.
        let name = Sha256::of_parts(&[&(window.len() as u64).to_le_bytes(), window, text]);
        let block = match before.0.get(&name) {
            Some(block) => block.clone(),
            None => compressed(compress, window, text)?,
        };
        Ok((name, block))
    };
    texts.par_iter().enumerate().map_init(compressor, block).collect()
}

/// What may be referred to after these texts: the end of them.
fn window(texts: &[Vec<u8>]) -> Cow<'_, [u8]> {
    let Some((last, earlier)) = texts.split_last() else { return Cow::default() };
    match WINDOW.checked_sub(last.len()) {
        None | Some(0) => Cow::Borrowed(&last[last.len().saturating_sub(WINDOW)..]),
        Some(missing) => {
            let earlier = window(earlier);
            let end = &earlier[earlier.len().saturating_sub(missing)..];
            Cow::Owned([end, last].concat())
        }
    }
}

fn compressed(compress: &mut Compress, window: &[u8], text: &[u8]) -> Result<Block, IndexError> {
    let failed = |error: &dyn std::fmt::Display| IndexError::Compression(error.to_string());
    compress.reset();
    if !window.is_empty() {
        compress.set_dictionary(window).map_err(|error| failed(&error))?;
    }
    let mut out = Vec::with_capacity(text.len() / 4 + SPARE);
    let mut rest = text;
    loop {
        let before = compress.total_in();
        let status = compress.compress_vec(rest, &mut out, FlushCompress::Sync);
        let status = status.map_err(|error| failed(&error))?;
        // What was taken of `rest` fits memory.
        rest = &rest[(compress.total_in() - before) as usize..];
        match status {
            // With room left, all of it is written.
            Status::Ok | Status::BufError if rest.is_empty() && out.len() < out.capacity() => break,
            Status::Ok | Status::BufError => out.reserve(text.len() / 4 + SPARE),
            Status::StreamEnd => return Err(failed(&"the compressor ended early")),
        }
    }
    let mut crc = Crc::new();
    crc.update(text);
    Ok(Block { compressed: out.into(), crc: Arc::new(crc) })
}

#[cfg(test)]
impl Blocks {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of these are blocks of `other` as well.
    pub(super) fn common(&self, other: &Self) -> usize {
        self.0.keys().filter(|name| other.0.contains_key(*name)).count()
    }
}

/// No flags, no time, no system: nothing that follows from anything but the contents.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last, empty block with fixed codes.
const END: [u8; 2] = [0x03, 0x00];
/// How far back deflate can refer.
const WINDOW: usize = 32 << 10;
/// More takes far longer and gains little.
const LEVEL: u32 = 7;
const SPARE: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_block_is_not_taken_for_one_that_begins_elsewhere_in_the_same_bytes() {
        let text: Vec<u8> = (0..9_000_u32).flat_map(u32::to_be_bytes).collect();
        let cut = |text: &[u8], at: usize| [text[..at].to_vec(), text[at..].to_vec()];
        let start = WINDOW + 1_000;
        let (_, before) = gzip(&cut(&text, start), &Blocks::default()).unwrap();
        // The same window and the same block one after the other, cut at another place.
        let other = &text[start - WINDOW..];
        let (gz, _) = gzip(&cut(other, 10_000), &before).unwrap();
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&gz[..]).read_to_end(&mut read).unwrap();
        assert!(read == other, "{} of {} bytes", read.len(), other.len());
    }

    #[test]
    fn a_window_is_the_end_of_all_that_came_before() {
        let mut text = Vec::new();
        let mut texts = Vec::new();
        for length in [0, 10, WINDOW - 1, 1, 5, 2 * WINDOW, 7, WINDOW] {
            let next: Vec<u8> = (0..length).map(|at| (at % 251 + texts.len()) as u8).collect();
            text.extend_from_slice(&next);
            texts.push(next);
            assert!(*window(&texts) == text[text.len().saturating_sub(WINDOW)..]);
        }
    }
}
