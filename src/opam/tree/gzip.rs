//! Inflating a gzip file piece by piece, within a bound.

use super::TreeError;
use flate2::bufread::GzDecoder;
use std::io::Read;

/// What no gzip file inflates beyond, per byte of its own.
const LARGEST_RATIO: usize = 1032;

/// How many bytes are handed out at a time.
const PIECE: usize = 256 << 10;

/// The most members; each one costs time even where it is empty.
const MAX_MEMBERS: usize = 1024;

/// Inflates all members of a gzip file, as GNU tar does, and hands out the bytes in order, each time
/// for memory to go on with; cut or trailing bytes are refused, once the ones before them were handed
/// out.
pub(super) fn inflate(
    gz: &[u8],
    limit: usize,
    mut each: impl FnMut(Vec<u8>) -> Vec<u8>,
) -> Result<(), TreeError> {
    let (mut rest, mut inflated) = (gz, 0);
    let mut piece = Vec::new();
    for _ in 0..MAX_MEMBERS {
        let mut member = GzDecoder::new(&mut rest);
        loop {
            // What is left in it is written over.
            piece.resize(PIECE, 0);
            let read = fill(&mut member, &mut piece).map_err(TreeError::Gzip)?;
            inflated += read;
            if inflated > limit {
                return Err(TreeError::TooLarge { limit });
            }
            if read == 0 {
                break;
            }
            piece.truncate(read);
            piece = each(piece);
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
    let message = format!("it has more than {MAX_MEMBERS} members");
    Err(TreeError::Gzip(std::io::Error::other(message)))
}

/// Reads as much as there is room for; less at the end.
fn fill(source: &mut impl Read, room: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match source.read(&mut room[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// The size that the last member states for itself, where that is possible at all.
pub(super) fn likely_size(gz: &[u8]) -> usize {
    let stated = gz.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
    usize::try_from(stated).unwrap_or(0).min(gz.len().saturating_mul(LARGEST_RATIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn inflate(gz: &[u8], limit: usize) -> Result<Vec<u8>, TreeError> {
        let mut inflated = Vec::new();
        let each = |piece: Vec<u8>| {
            inflated.extend_from_slice(&piece);
            piece
        };
        super::inflate(gz, limit, each).map(|()| inflated)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn several_members_are_one_file() {
        let both = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(inflate(&both, 7).unwrap(), b"one two");
        assert!(matches!(inflate(&both, 6), Err(TreeError::TooLarge { limit: 6 })));
    }

    #[test]
    fn the_members_are_bounded() {
        assert!(inflate(&gzip(b"").repeat(MAX_MEMBERS), 1).is_ok());
        assert!(inflate(&gzip(b"").repeat(MAX_MEMBERS + 1), 1).is_err());
    }

    #[test]
    fn cut_and_trailing_bytes_are_refused() {
        let whole = gzip(&b"some text ".repeat(100));
        for length in 0..whole.len() {
            assert!(matches!(inflate(&whole[..length], 9999), Err(TreeError::Gzip(_))), "{length}");
        }
        for tail in [&b"\0"[..], b"garbage", &whole[..12]] {
            let longer = [&whole, tail].concat();
            assert!(matches!(inflate(&longer, 9999), Err(TreeError::Gzip(_))), "{tail:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 10 << 20]);
        let mut most = 0;
        let stopped = super::inflate(&bomb, 1000, |piece| {
            most += piece.len();
            piece
        });
        assert!(matches!(stopped, Err(TreeError::TooLarge { limit: 1000 })) && most <= 1000);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0..40_usize) {
            let _ = inflate(&bytes, 1 << 20);
            let mut damaged = gzip(b"some text some text");
            let at = at % damaged.len();
            damaged.splice(at..at, bytes);
            let _ = inflate(&damaged, 1 << 20);
        }
    }
}
