//! RFC 6962 tree hashing (section 2.1).

use crate::digest::Sha256;
use sha2::Digest as _;

/// The hash of a leaf: SHA-256 of a zero byte and the leaf's bytes.
pub fn leaf_hash(leaf: &[u8]) -> Sha256 {
    hash(&[&[0], leaf])
}

/// The hash of an inner node: SHA-256 of a one byte and both children's hashes.
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    hash(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The hash of a tree without leaves.
pub fn empty_hash() -> Sha256 {
    hash(&[])
}

/// The hash of a tree with these leaf hashes.
pub fn tree_hash(leaves: &[Sha256]) -> Sha256 {
    let mut peaks: Vec<(u32, Sha256)> = Vec::new();
    for leaf in leaves {
        push_peak(&mut peaks, 0, *leaf);
    }
    fold_peaks(&peaks)
}

/// Adds a complete subtree of 2^`height` leaves to the right of `peaks`, merging equal heights.
///
/// Peaks are complete subtrees from left to right, each lower than the one before.
pub(super) fn push_peak(peaks: &mut Vec<(u32, Sha256)>, height: u32, hash: Sha256) {
    let (mut height, mut hash) = (height, hash);
    while let Some((_, left)) = peaks.pop_if(|(last, _)| *last == height) {
        hash = node_hash(&left, &hash);
        height += 1;
    }
    peaks.push((height, hash));
}

/// The hash of the tree that consists of these peaks.
pub(super) fn fold_peaks(peaks: &[(u32, Sha256)]) -> Sha256 {
    let hashes = peaks.iter().rev().map(|(_, hash)| *hash);
    hashes.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_hash)
}

fn hash(parts: &[&[u8]]) -> Sha256 {
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Sha256::from_bytes(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Sha256]) -> Sha256 {
        match leaves {
            [] => empty_hash(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn hashes_agree_with_the_published_ones() {
        assert_eq!(
            empty_hash().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            leaf_hash(b"").to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            leaf_hash(b"L123456").to_string(),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
        assert_eq!(
            node_hash(&Sha256::of(b"x"), &Sha256::of(b"y")),
            hash(&[&[1], Sha256::of(b"x").as_bytes(), Sha256::of(b"y").as_bytes()])
        );
    }

    #[test]
    fn peaks_give_the_tree_of_the_definition() {
        let leaves: Vec<Sha256> = (0..600u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for size in (0..70).chain([255, 256, 257, 511, 512, 513, 600]) {
            assert_eq!(tree_hash(&leaves[..size]), by_definition(&leaves[..size]), "{size}");
        }
    }
}
