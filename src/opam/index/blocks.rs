//! One gzip member out of blocks that are compressed apart from each other: those of the index
//! before are taken over, the others are shared among the cores.
//!
//! Each block but the first may refer back to the 16 KiB of text before it, and ends on a byte
//! (RFC 1951, an empty stored block), so that the blocks one after the other are one stream. What a
//! block becomes depends on its files and on those that it may refer back to, on nothing else: their
//! paths and hashes name it, and one that is taken over is not even written as tar again.

use super::{END, IndexError, IndexFile, tar};
use crate::digest::Sha256;
use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The compressed blocks of an index, each by the hash of the names of what it was made of.
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

/// Compresses an archive of these files, each group of them as a block.
pub(super) fn gzip(
    files: &[IndexFile<'_>],
    groups: &[Range<usize>],
    before: &Blocks,
) -> Result<(Bytes, Blocks), IndexError> {
    let blocks = blocks(files, groups, before)?;
    let length = blocks.iter().map(|(_, block)| block.compressed.len()).sum::<usize>();
    let mut gz = Vec::with_capacity(HEADER.len() + length + LAST.len() + 8);
    gz.extend_from_slice(&HEADER);
    let mut crc = Crc::new();
    let mut places = Vec::with_capacity(blocks.len());
    for (name, block) in blocks {
        let start = gz.len();
        gz.extend_from_slice(&block.compressed);
        crc.combine(&block.crc);
        places.push((name, start..gz.len(), block.crc));
    }
    gz.extend_from_slice(&LAST);
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
    files: &[IndexFile<'_>],
    groups: &[Range<usize>],
    before: &Blocks,
) -> Result<Vec<(Sha256, Block)>, IndexError> {
    let block = |group: &Range<usize>| {
        let (earlier, group_files) = (earlier(&files[..group.start]), &files[group.clone()]);
        let is_last = group.end == files.len();
        let name = name(earlier, group_files, is_last);
        let block = match before.0.get(&name) {
            Some(block) => block.clone(),
            None => {
                let (window, mut text) = (tar(earlier)?, tar(group_files)?);
                if is_last {
                    text.extend_from_slice(&END);
                }
                compressed(&window[window.len().saturating_sub(WINDOW)..], &text)?
            }
        };
        Ok((name, block))
    };
    groups.par_iter().map(block).collect()
}

/// The last of these files, as many as it takes to fill the window.
fn earlier<'f, 'a>(files: &'f [IndexFile<'a>]) -> &'f [IndexFile<'a>] {
    let mut length = 0;
    let count = files.iter().rev().take_while(|file| {
        let is_needed = length < WINDOW;
        length += file.size();
        is_needed
    });
    &files[files.len() - count.count()..]
}

/// What a block is made of: which files it may refer back to, which ones it has, and whether the
/// archive ends with it.
fn name(earlier: &[IndexFile<'_>], files: &[IndexFile<'_>], is_last: bool) -> Sha256 {
    let mut text = Vec::with_capacity((earlier.len() + files.len()) * LIKELY_NAME);
    // No path has these bytes.
    for (files, end) in [(earlier, b'\x01'), (files, if is_last { b'\x03' } else { b'\x02' })] {
        for file in files {
            text.extend_from_slice(file.path.as_str().as_bytes());
            text.push(b'\0');
            text.extend_from_slice(file.name.as_bytes());
        }
        text.push(end);
    }
    Sha256::of(&text)
}

fn compressed(window: &[u8], text: &[u8]) -> Result<Block, IndexError> {
    let failed = |error: &dyn std::fmt::Display| IndexError::Compression(error.to_string());
    // A new one each time: what it looks at just beyond the window is zero then, and not what it
    // compressed before.
    let mut compress = Compress::new(Compression::new(LEVEL), false);
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
const LAST: [u8; 2] = [0x03, 0x00];
/// How far back a block may refer into the ones before it. Deflate could refer back twice as far;
/// that gains a percent, and has more blocks compressed again.
const WINDOW: usize = 16 << 10;
/// More takes far longer and gains little.
const LEVEL: u32 = 5;
/// About how long a path and a hash are.
const LIKELY_NAME: usize = 96;
const SPARE: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    use crate::opam::RepoPath;
    use crate::opam::index::groups;
    use proptest::prelude::*;

    /// Files of these lengths, whose bytes follow from number and length.
    fn files(lengths: &[usize]) -> Vec<(RepoPath, Vec<u8>)> {
        let file = |(number, length): (usize, &usize)| {
            let content = (0..*length).map(|at| (at * at % 251 + number) as u8);
            (format!("packages/p/p.{number:04}/opam").parse().unwrap(), content.collect())
        };
        lengths.iter().enumerate().map(file).collect()
    }

    fn inflated(gz: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(gz).read_to_end(&mut read).unwrap();
        read
    }

    #[test]
    fn a_block_follows_from_nothing_that_was_compressed_before_it() {
        // The library looks at one byte more than it was given to refer back to.
        let (end, there) = (b"abc", b"abcX and so on");
        let window = [&[b'.'; WINDOW - 40][..], there, &[b'-'; 40 - 14 - 3], end].concat();
        let text = [&b"Q"[..], there].concat();
        let after = |byte: u8| {
            compressed(&[], &vec![byte; 2 * WINDOW]).unwrap();
            compressed(&window, &text).unwrap().compressed
        };
        assert_eq!(after(b'X'), after(b'Y'));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_over_the_archive_is_that_of_its_files(
            lengths in prop::collection::vec(prop_oneof![1..2_000_usize, 1..40_000_usize], 1..60),
            others in prop::collection::vec((any::<prop::sample::Index>(), 1..3_000_usize), 0..4),
            gone in any::<prop::sample::Index>(),
        ) {
            let mut after = lengths.clone();
            for (at, length) in others {
                after[at.index(lengths.len())] = length;
            }
            let mut after = files(&after);
            after.remove(gone.index(after.len()));
            let before = files(&lengths);
            let of = |files: &[(RepoPath, Vec<u8>)], before: &Blocks| {
                let files: Vec<_> =
                    files.iter().map(|(path, content)| IndexFile::new(path, content)).collect();
                let (gz, blocks) = gzip(&files, &groups(&files), before).unwrap();
                (gz, blocks, [tar(&files).unwrap(), END.to_vec()].concat())
            };
            let (gz, blocks, expected) = of(&before, &Blocks::default());
            prop_assert!(inflated(&gz) == expected);
            let (gz, _, expected) = of(&after, &blocks);
            prop_assert!(inflated(&gz) == expected);
            prop_assert!(gz == of(&after, &Blocks::default()).0);
        }
    }
}
