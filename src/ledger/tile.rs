//! Tiles and entry bundles: names, widths and bytes (C2SP tlog-tiles).
//!
//! A tile of level L and index N holds up to 256 hashes of complete subtrees of 256^L leaves; an
//! entry bundle holds up to 256 leaves, each after its length in two bytes.

use crate::digest::Sha256;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How many hashes or leaves a full tile has.
pub const WIDTH: u64 = 256;
/// Longest leaf, in bytes: what two bytes of length can say.
pub const MAX_LEAF: usize = 65_535;
/// Highest level that a ledger can reach: 256^8 is 2^64.
pub const MAX_LEVEL: u8 = 7;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Leaves.
    Entries,
    /// Hashes of subtrees of 256^level leaves; 0 to [`MAX_LEVEL`].
    Hashes(u8),
}

/// The path of a tile or entry bundle, such as `tile/0/x001/234.p/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    level: Level,
    index: u64,
    /// 1 to 256.
    width: u16,
}

/// Why a path or a tile's bytes can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TileError {
    /// Text that is no tile's path.
    #[error("not the path of a tile")]
    Path,
    /// Bytes that are not the tile of this path.
    #[error("holds {found} where {expected} are expected")]
    Width {
        /// How many hashes or leaves there are.
        found: String,
        /// How many there should be.
        expected: u64,
    },
    /// Leaves that are not those of the tile's hashes.
    #[error("holds other leaves than the hashes say")]
    Leaves,
    /// A bundle that ends within a leaf, or holds more than 256.
    #[error("is no bundle of entries")]
    Bundle,
}

impl TilePath {
    /// A full or partial tile; `width` is 1 to 256.
    pub fn new(level: Level, index: u64, width: u64) -> Self {
        debug_assert!((1..=WIDTH).contains(&width));
        Self { level, index, width: width.min(WIDTH) as u16 }
    }

    /// The bundle with the leaf of this index, as wide as it is in a ledger of `size` leaves.
    pub fn bundle_of(leaf: u64, size: u64) -> Self {
        let index = leaf / WIDTH;
        let width = size.saturating_sub(index.saturating_mul(WIDTH)).clamp(1, WIDTH);
        Self::new(Level::Entries, index, width)
    }

    /// What the tile holds.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Which tile of its level it is.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or leaves it has.
    pub fn width(&self) -> u64 {
        u64::from(self.width)
    }

    /// Whether it has all 256.
    pub fn is_full(&self) -> bool {
        self.width() == WIDTH
    }

    /// The same tile as wide as it is in a ledger of `size` leaves; `None` when that is narrower
    /// than this one.
    pub fn wider(&self, size: u64) -> Option<Self> {
        let total = match self.level {
            Level::Entries | Level::Hashes(0) => size,
            Level::Hashes(level) => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
        };
        let width = total.checked_sub(self.index.checked_mul(WIDTH)?)?.min(WIDTH);
        (width >= self.width()).then(|| Self::new(self.level, self.index, width))
    }

    /// The same tile in every greater width, the next one first.
    pub fn all_wider(self) -> impl Iterator<Item = Self> {
        (self.width() + 1..=WIDTH).map(move |width| Self::new(self.level, self.index, width))
    }

    /// This tile's bytes, cut from those of the same tile at a larger width.
    ///
    /// # Errors
    /// When `wider` does not hold enough.
    pub fn cut(&self, wider: &[u8]) -> Result<Vec<u8>, TileError> {
        let expected = self.width();
        match self.level {
            Level::Hashes(_) => {
                let length = 32 * usize::from(self.width);
                let found = (wider.len() / 32).to_string();
                let cut = wider.get(..length).ok_or(TileError::Width { found, expected })?;
                Ok(cut.to_vec())
            }
            Level::Entries => {
                let leaves = decode_bundle(wider)?;
                let found = leaves.len().to_string();
                let leaves = leaves.get(..usize::from(self.width));
                Ok(encode_bundle(leaves.ok_or(TileError::Width { found, expected })?))
            }
        }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Entries => f.write_str("tile/entries/")?,
            Level::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        // Groups of three digits; all but the last begin with an x.
        let groups = self.index.checked_ilog10().unwrap_or(0) / 3;
        for group in (1..=groups).rev() {
            write!(f, "x{:03}/", self.index / 1_000u64.pow(group) % 1_000)?;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    /// Accepts exactly what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, TileError> {
        if text.len() > MAX_PATH {
            return Err(TileError::Path);
        }
        let rest = text.strip_prefix("tile/").ok_or(TileError::Path)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError::Path)?;
        let level = match level {
            "entries" => Level::Entries,
            level => Level::Hashes(
                level.parse().ok().filter(|l| *l <= MAX_LEVEL).ok_or(TileError::Path)?,
            ),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| TileError::Path)?),
            None => (rest, WIDTH),
        };
        if !(1..=WIDTH).contains(&width) {
            return Err(TileError::Path);
        }
        let digits: String = index.chars().filter(char::is_ascii_digit).collect();
        let index = digits.parse().map_err(|_| TileError::Path)?;
        let path = Self::new(level, index, width);
        // Whatever else was in the text makes it another path.
        if path.to_string() == text { Ok(path) } else { Err(TileError::Path) }
    }
}

/// A bundle's bytes: each leaf after its length as two bytes, big-endian.
///
/// Leaves are at most [`MAX_LEAF`] bytes long; the rest of a longer one is left out.
pub fn encode_bundle(leaves: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&leaf[..usize::from(length)]);
    }
    bytes
}

/// The leaves of a bundle.
///
/// # Errors
/// [`TileError::Bundle`] when the bytes end within a leaf or hold more than 256.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<Vec<u8>>, TileError> {
    let (mut leaves, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(TileError::Bundle)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (leaf, after) = after.split_at_checked(length).ok_or(TileError::Bundle)?;
        if leaves.len() as u64 == WIDTH {
            return Err(TileError::Bundle);
        }
        leaves.push(leaf.to_vec());
        rest = after;
    }
    Ok(leaves)
}

/// The hashes of a tile.
///
/// # Errors
/// When there are not exactly as many as the path says.
pub fn decode_hashes(path: &TilePath, bytes: &[u8]) -> Result<Vec<Sha256>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() as u64 != path.width() || !rest.is_empty() {
        let found = format!("{} bytes", bytes.len());
        return Err(TileError::Width { found, expected: path.width() });
    }
    Ok(hashes.iter().map(|hash| Sha256::from_bytes(*hash)).collect())
}

/// The bytes of a tile.
pub fn encode_hashes(hashes: &[Sha256]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect()
}

/// The longest path has seven groups of digits.
const MAX_PATH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_written_as_the_specification_does() {
        for (path, text) in [
            (TilePath::new(Level::Hashes(0), 0, 256), "tile/0/000"),
            (TilePath::new(Level::Hashes(1), 1_234_067, 8), "tile/1/x001/x234/067.p/8"),
            (TilePath::new(Level::Entries, 1_000, 256), "tile/entries/x001/000"),
            (TilePath::new(Level::Entries, 999, 1), "tile/entries/999.p/1"),
        ] {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path));
        }
        for text in [
            "",
            "tile/0/0",
            "tile/0/0000",
            "tile/8/000",
            "tile/00/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/257",
            "tile/0/x000/001",
            "tile/0/001/",
            "tile/-1/000",
            "tile/0/000.p/08",
            "tile/data/000",
            "/tile/0/000",
            "tile/0/+00",
        ] {
            assert_eq!(text.parse::<TilePath>(), Err(TileError::Path), "{text}");
        }
    }

    #[test]
    fn a_narrow_tile_is_cut_from_a_wide_one() {
        let leaves: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n; usize::from(n)]).collect();
        let narrow = TilePath::new(Level::Entries, 0, 4);
        assert_eq!(narrow.wider(10), Some(TilePath::new(Level::Entries, 0, 10)));
        assert_eq!(narrow.wider(3), None);
        assert_eq!(narrow.cut(&encode_bundle(&leaves)), Ok(encode_bundle(&leaves[..4])));
        assert!(narrow.cut(&encode_bundle(&leaves[..3])).is_err());
        let hashes = TilePath::new(Level::Hashes(0), 0, 2);
        assert_eq!(hashes.cut(&[7; 96]), Ok(vec![7; 64]));
    }

    proptest! {
        #[test]
        fn every_path_reads_back(level in 0u8..=7, index: u64, width in 1u64..=256, entries: bool) {
            let level = if entries { Level::Entries } else { Level::Hashes(level) };
            let path = TilePath::new(level, index, width);
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }

        #[test]
        fn no_bytes_make_a_reader_fail_otherwise(bytes: Vec<u8>, text: String) {
            if let Ok(leaves) = decode_bundle(&bytes) {
                prop_assert_eq!(encode_bundle(&leaves), bytes);
            }
            if let Ok(path) = text.parse::<TilePath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
