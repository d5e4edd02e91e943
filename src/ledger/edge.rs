//! The right edge of a growing tree: all that is needed to append.

use super::entry::EntryError;
use super::merkle::{fold_peaks, leaf_hash, push_peak, tree_hash};
use super::tile::{
    Level, MAX_LEAF, MAX_LEVEL, TileError, TilePath, WIDTH, decode_bundle, decode_hashes,
    encode_bundle, encode_hashes,
};
use crate::digest::Sha256;
use std::collections::{BTreeMap, BTreeSet};

/// The rightmost, partial tile of every level and the rightmost, partial entry bundle.
///
/// Never changed in place: [`Edge::grow`] gives the next one, which its owner adopts only once
/// everything is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// Per level, up to 255 hashes.
    hashes: Vec<Vec<Sha256>>,
    /// Up to 255 leaves.
    bundle: Vec<Vec<u8>>,
}

/// What an append has to write, and the edge after it.
#[derive(Clone, Debug)]
pub struct Growth {
    /// The edge with the new leaves.
    pub edge: Edge,
    /// Every tile and bundle that is new or wider than before, with its bytes.
    pub tiles: Vec<(TilePath, Vec<u8>)>,
    /// Partial tiles and bundles that the new ones have made needless.
    pub needless: Vec<TilePath>,
}

impl Edge {
    /// The tiles and bundles from which the edge of a tree of `size` leaves is restored.
    pub fn needed_tiles(size: u64) -> Vec<TilePath> {
        let mut tiles = Vec::new();
        if !size.is_multiple_of(WIDTH) {
            tiles.push(TilePath::new(Level::Entries, size / WIDTH, size % WIDTH));
        }
        for level in 0..=MAX_LEVEL {
            let total = size >> (8 * u32::from(level));
            if !total.is_multiple_of(WIDTH) {
                tiles.push(TilePath::new(Level::Hashes(level), total / WIDTH, total % WIDTH));
            }
        }
        tiles
    }

    /// The edge of a tree of `size` leaves, from the tiles that [`Edge::needed_tiles`] names.
    ///
    /// # Errors
    /// When a tile holds more or less than its path says, or the leaves are not those of the
    /// hashes. Whether the root is the expected one is the caller's to check.
    pub fn restore(size: u64, tiles: Vec<(TilePath, Vec<u8>)>) -> Result<Self, TileError> {
        let mut edge = Self { size, ..Self::default() };
        for (path, bytes) in tiles {
            match path.level() {
                Level::Entries => {
                    edge.bundle = decode_bundle(&bytes)?;
                    let found = edge.bundle.len();
                    if found as u64 != path.width() {
                        let found = found.to_string();
                        return Err(TileError::Width { found, expected: path.width() });
                    }
                }
                Level::Hashes(level) => {
                    *edge.level(usize::from(level)) = decode_hashes(&path, &bytes)?;
                }
            }
        }
        // The root vouches for the hashes only; these vouch for the leaves, which are written
        // again with the next append.
        let leaves: Vec<Sha256> = edge.bundle.iter().map(|leaf| leaf_hash(leaf)).collect();
        match edge.hashes.first() {
            Some(hashes) if *hashes != leaves => Err(TileError::Leaves),
            None if !leaves.is_empty() => Err(TileError::Leaves),
            _ => Ok(edge),
        }
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root hash.
    pub fn root(&self) -> Sha256 {
        let mut peaks = Vec::new();
        for (level, hashes) in self.hashes.iter().enumerate().rev() {
            for hash in hashes {
                push_peak(&mut peaks, 8 * level as u32, *hash);
            }
        }
        fold_peaks(&peaks)
    }

    /// The tree with `leaves` appended, and what to write for it.
    ///
    /// # Errors
    /// [`EntryError::TooLong`] when a leaf is longer than [`MAX_LEAF`].
    pub fn grow(&self, leaves: &[Vec<u8>]) -> Result<Growth, EntryError> {
        let mut edge = self.clone();
        let mut full = BTreeMap::new();
        for leaf in leaves {
            if leaf.len() > MAX_LEAF {
                return Err(EntryError::TooLong { length: leaf.len() });
            }
            edge.push(leaf, &mut full);
        }
        for path in Self::needed_tiles(edge.size) {
            let bytes = match path.level() {
                Level::Entries => encode_bundle(&edge.bundle),
                Level::Hashes(level) => encode_hashes(edge.level(usize::from(level))),
            };
            full.insert(path, bytes);
        }
        let before: BTreeSet<TilePath> = Self::needed_tiles(self.size).into_iter().collect();
        // A partial tile of a level above that did not grow is there already.
        full.retain(|path, _| !before.contains(path));
        let after: BTreeSet<TilePath> = Self::needed_tiles(edge.size).into_iter().collect();
        let needless = before.difference(&after).copied().collect();
        Ok(Growth { edge, tiles: full.into_iter().collect(), needless })
    }

    fn push(&mut self, leaf: &[u8], full: &mut BTreeMap<TilePath, Vec<u8>>) {
        self.bundle.push(leaf.to_vec());
        if self.bundle.len() as u64 == WIDTH {
            let path = TilePath::new(Level::Entries, self.size / WIDTH, WIDTH);
            full.insert(path, encode_bundle(&std::mem::take(&mut self.bundle)));
        }
        let (mut hash, mut index) = (leaf_hash(leaf), self.size);
        for level in 0..=MAX_LEVEL {
            let hashes = self.level(usize::from(level));
            hashes.push(hash);
            if hashes.len() as u64 != WIDTH {
                break;
            }
            let hashes = std::mem::take(hashes);
            index /= WIDTH;
            full.insert(TilePath::new(Level::Hashes(level), index, WIDTH), encode_hashes(&hashes));
            hash = tree_hash(&hashes);
        }
        self.size += 1;
    }

    fn level(&mut self, level: usize) -> &mut Vec<Sha256> {
        if self.hashes.len() <= level {
            self.hashes.resize(level + 1, Vec::new());
        }
        &mut self.hashes[level]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn leaf(number: u64) -> Vec<u8> {
        format!("leaf {number}").into_bytes()
    }

    #[test]
    fn batches_of_any_size_give_the_same_tree_and_the_same_tiles() {
        let total = 70_000u64;
        let mut hashes = Vec::new();
        let mut one_by_one = Edge::default();
        let (mut edge, mut tiles) = (Edge::default(), HashMap::new());
        for (number, batch) in (0u64..).zip([1, 2, 253, 1, 255, 1, 700, 64_000, 300].repeat(3)) {
            let end = (edge.size() + batch).min(total);
            let leaves: Vec<_> = (edge.size()..end).map(leaf).collect();
            hashes.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
            let growth = edge.grow(&leaves).unwrap();
            for path in &growth.needless {
                assert!(tiles.remove(path).is_some(), "{path}");
            }
            tiles.extend(growth.tiles);
            edge = growth.edge;
            assert_eq!(edge.root(), tree_hash(&hashes), "batch {number}");
            let needed = Edge::needed_tiles(edge.size());
            let needed: Vec<_> = needed.iter().map(|path| (*path, tiles[path].clone())).collect();
            assert_eq!(Edge::restore(edge.size(), needed).unwrap(), edge);
            if edge.size() == total {
                break;
            }
        }
        let mut last = HashMap::new();
        for number in 0..total {
            let growth = one_by_one.grow(&[leaf(number)]).unwrap();
            growth.needless.iter().for_each(|path| drop(last.remove(path)));
            last.extend(growth.tiles);
            one_by_one = growth.edge;
        }
        assert_eq!((one_by_one, last), (edge, tiles));
    }

    #[test]
    fn a_tile_of_another_width_restores_nothing() {
        let growth = Edge::default().grow(&[leaf(0), leaf(1)]).unwrap();
        for (path, bytes) in &growth.tiles {
            let short = vec![(*path, bytes[..bytes.len() - 32.min(bytes.len())].to_vec())];
            assert!(Edge::restore(2, short).is_err(), "{path}");
        }
    }

    #[test]
    fn damaged_leaves_restore_nothing() {
        let growth = Edge::default().grow(&[leaf(0), leaf(1)]).unwrap();
        for (at, (path, bytes)) in growth.tiles.iter().enumerate() {
            for position in 0..bytes.len() {
                let mut tiles = growth.tiles.clone();
                tiles[at].1[position] ^= 1;
                let restored = Edge::restore(2, tiles);
                assert!(restored.is_err(), "byte {position} of {path}");
            }
        }
    }

    #[test]
    fn a_leaf_that_no_bundle_can_hold_is_refused() {
        assert!(Edge::default().grow(&[vec![0; MAX_LEAF]]).is_ok());
        assert!(Edge::default().grow(&[vec![0; MAX_LEAF + 1]]).is_err());
    }
}
