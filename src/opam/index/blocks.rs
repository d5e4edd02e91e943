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
use std::collections::HashMap;
use std::ops::Range;
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

/// Compresses `text`, of which `cuts` are the ends of the blocks, the last one its own end.
pub(super) fn gzip(
    text: &[u8],
    cuts: &[usize],
    before: &Blocks,
) -> Result<(Bytes, Blocks), IndexError> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ranges: Vec<Range<usize>> =
        starts.zip(cuts).map(|(start, end)| start..*end).filter(|it| !it.is_empty()).collect();
    let blocks = blocks(text, &ranges, before)?;
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
fn blocks(
    text: &[u8],
    ranges: &[Range<usize>],
    before: &Blocks,
) -> Result<Vec<(Sha256, Block)>, IndexError> {
    let compressor = || Compress::new(Compression::new(LEVEL), false);
    let block = |compress: &mut Compress, range: &Range<usize>| {
        let window = &text[range.start.saturating_sub(WINDOW)..range.start];
        let text = &text[range.clone()];
        // Where the one ends and the other begins is part of what a block is made of.
        let name = Sha256::of_parts(&[&(window.len() as u64).to_le_bytes(), window, text]);
        let block = match before.0.get(&name) {
            Some(block) => block.clone(),
            None => compressed(compress, window, text)?,
        };
        Ok((name, block))
    };
    ranges.par_iter().map_init(compressor, block).collect()
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
        let (start, end) = (WINDOW + 1_000, text.len());
        let (_, before) = gzip(&text, &[start, end], &Blocks::default()).unwrap();
        // The same window and the same block one after the other, cut at another place.
        let other = &text[start - WINDOW..];
        let (gz, _) = gzip(other, &[10_000, other.len()], &before).unwrap();
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&gz[..]).read_to_end(&mut read).unwrap();
        assert!(read == other, "{} of {} bytes", read.len(), other.len());
    }
}
