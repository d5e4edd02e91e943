//! A tree that only grows, as the few hashes from which its root follows: enough to check that
//! later leaves were appended to it.

use super::merkle::{fold_peaks, push_peak};
use crate::digest::Sha256;

/// The complete subtrees that a tree of so many leaves consists of, from left to right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Each with its height; as many as `size` has ones in binary.
    peaks: Vec<(u32, Sha256)>,
}

impl Frontier {
    /// The frontier of a tree of `size` leaves; `None` when that many hashes are not its peaks.
    pub fn new(size: u64, hashes: &[Sha256]) -> Option<Self> {
        let heights = (0..u64::BITS).rev().filter(|height| size >> height & 1 == 1);
        let peaks: Vec<(u32, Sha256)> = heights.zip(hashes.iter().copied()).collect();
        let is_whole = peaks.len() == hashes.len() && hashes.len() == size.count_ones() as usize;
        is_whole.then_some(Self { size, peaks })
    }

    /// Appends a leaf, by its hash.
    pub fn push(&mut self, leaf: Sha256) {
        push_peak(&mut self.peaks, 0, leaf);
        self.size += 1;
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root hash.
    pub fn root(&self) -> Sha256 {
        fold_peaks(&self.peaks)
    }

    /// The hashes of the subtrees, from left to right.
    pub fn hashes(&self) -> impl Iterator<Item = Sha256> + '_ {
        self.peaks.iter().map(|(_, hash)| *hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::merkle::tree_hash;

    #[test]
    fn a_frontier_taken_up_anywhere_leads_to_the_same_root() {
        let leaves: Vec<Sha256> = (0..70_u8).map(|number| Sha256::of(&[number])).collect();
        let mut whole = Frontier::default();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(whole.root(), tree_hash(&leaves[..size]));
            let hashes: Vec<Sha256> = whole.hashes().collect();
            let mut taken_up = Frontier::new(size as u64, &hashes).unwrap();
            leaves[size..].iter().for_each(|leaf| taken_up.push(*leaf));
            assert_eq!(taken_up.root(), tree_hash(&leaves));
            whole.push(*leaf);
        }
        assert_eq!((whole.size(), whole.root()), (70, tree_hash(&leaves)));
        assert_eq!(Frontier::new(3, &leaves[..1]), None);
        assert_eq!(Frontier::new(4, &leaves[..2]), None);
    }
}
