//! Inclusion and consistency proofs (RFC 6962 section 2.1), and their text (C2SP tlog-proof).

use super::merkle::{fold_peaks, node_hash, push_peak, tree_hash};
use super::note::MAX_NOTE;
use super::tile::{Level, MAX_LEAF, TileError, TilePath, WIDTH, decode_hashes};
use crate::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use thiserror::Error;

/// Longest proof: a tree of 2^63 leaves is 63 levels high.
pub const MAX_HASHES: usize = 63;

/// Why a proof can't be made.
#[derive(Debug, Error)]
pub enum ProofError<E> {
    /// The tree has no such leaf, or no such earlier size.
    #[error("the ledger has no entry or size {0}")]
    OutOfRange(u64),
    /// A tile can't be read.
    #[error("{0}")]
    Read(E),
    /// A tile does not hold what it should.
    #[error("{0} {1}")]
    Tile(TilePath, TileError),
}

/// A tree of `size` leaves whose tiles are read as they are needed.
pub struct TileTree<F> {
    size: u64,
    read: F,
    tiles: HashMap<TilePath, Vec<Sha256>>,
}

impl<E, F: FnMut(&TilePath) -> Result<Vec<u8>, E>> TileTree<F> {
    /// The tree of `size` leaves; `read` gives a tile's bytes.
    pub fn new(size: u64, read: F) -> Self {
        Self { size, read, tiles: HashMap::new() }
    }

    /// The hashes that prove that leaf `index` is in the tree, from the leaf upwards.
    ///
    /// # Errors
    /// When there is no such leaf or a tile can't be read.
    pub fn inclusion(&mut self, index: u64) -> Result<Vec<Sha256>, ProofError<E>> {
        if index >= self.size {
            return Err(ProofError::OutOfRange(index));
        }
        let (mut low, mut high, mut proof) = (0, self.size, Vec::new());
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                proof.push(self.range(middle, high)?);
                high = middle;
            } else {
                proof.push(self.range(low, middle)?);
                low = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// The hashes that prove that the tree's first `old` leaves are the tree of that size.
    ///
    /// # Errors
    /// When `old` is 0 or beyond the tree's size, or a tile can't be read.
    pub fn consistency(&mut self, old: u64) -> Result<Vec<Sha256>, ProofError<E>> {
        if old == 0 || old > self.size {
            return Err(ProofError::OutOfRange(old));
        }
        let (mut low, mut high, mut proof) = (0, self.size, Vec::new());
        // Whether the old tree's root is not yet among what the verifier knows.
        while old != high {
            let middle = low + split(high - low);
            if old <= middle {
                proof.push(self.range(middle, high)?);
                high = middle;
            } else {
                proof.push(self.range(low, middle)?);
                low = middle;
            }
        }
        if low > 0 {
            proof.push(self.range(low, high)?);
        }
        proof.reverse();
        Ok(proof)
    }

    /// The hash of the subtree of the leaves from `low` to `high`, `low` being aligned as RFC 6962
    /// splits trees.
    fn range(&mut self, low: u64, high: u64) -> Result<Sha256, ProofError<E>> {
        let (mut at, mut peaks) = (low, Vec::new());
        while at < high {
            let height = (high - at).ilog2().min(if at == 0 { 63 } else { at.trailing_zeros() });
            push_peak(&mut peaks, height, self.subtree(height, at >> height)?);
            at += 1 << height;
        }
        Ok(fold_peaks(&peaks))
    }

    /// The hash of the complete subtree of 2^`height` leaves that is number `index` of its kind.
    fn subtree(&mut self, height: u32, index: u64) -> Result<Sha256, ProofError<E>> {
        // A height is below 64, so the level is at most 7.
        let level = Level::Hashes((height / 8) as u8);
        let first = index << (height % 8);
        let tile = first / WIDTH;
        let path = TilePath::new(level, tile, 1);
        let path = path.wider(self.size).unwrap_or(path);
        if !self.tiles.contains_key(&path) {
            let bytes = (self.read)(&path).map_err(ProofError::Read)?;
            let hashes = decode_hashes(&path, &bytes);
            self.tiles.insert(path, hashes.map_err(|error| ProofError::Tile(path, error))?);
        }
        let hashes = self.tiles.get(&path).map(Vec::as_slice).unwrap_or_default();
        // A place within a tile is below 256.
        let start = (first % WIDTH) as usize;
        let missing = || {
            let (found, expected) = (hashes.len().to_string(), path.width());
            ProofError::Tile(path, TileError::Width { found, expected })
        };
        hashes.get(start..start + (1 << (height % 8))).map(tree_hash).ok_or_else(missing)
    }
}

/// Whether `proof` proves that leaf `index` with this hash is in a tree of `size` leaves with this
/// root (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    proof: &[Sha256],
    index: u64,
    leaf: Sha256,
    size: u64,
    root: Sha256,
) -> bool {
    if index >= size || proof.len() > MAX_HASHES {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` proves that a tree of `size` leaves with this root begins with the tree of
/// `old_size` leaves with that root (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(
    proof: &[Sha256],
    old_size: u64,
    old_root: Sha256,
    size: u64,
    root: Sha256,
) -> bool {
    if old_size == 0 || old_size > size || proof.len() > MAX_HASHES {
        return false;
    }
    if old_size == size {
        return proof.is_empty() && old_root == root;
    }
    let (mut node, mut last) = (old_size - 1, size - 1);
    while node % 2 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut hashes = proof.iter();
    let first = match old_size.is_power_of_two() {
        true => Some(&old_root),
        false => hashes.next(),
    };
    let Some(first) = first else { return false };
    let (mut old_hash, mut hash) = (*first, *first);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old_root && hash == root
}

/// An inclusion proof with the checkpoint that it leads to, as one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextProof {
    /// The leaf, as extra data, so that nothing else is needed to check the proof; empty where one
    /// does not carry it.
    pub leaf: Vec<u8>,
    /// The leaf's index.
    pub index: u64,
    /// The proof.
    pub hashes: Vec<Sha256>,
    /// The signed checkpoint.
    pub checkpoint: Vec<u8>,
}

impl TextProof {
    /// The text: a header, the leaf, the index, the hashes, an empty line and the checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if !self.leaf.is_empty() {
            text.push_str(&format!("{EXTRA}{}\n", STANDARD.encode(&self.leaf)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads what [`TextProof::to_bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_TEXT {
            return None;
        }
        let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return None;
        }
        let (mut line, mut leaf) = (lines.next()?, Vec::new());
        if let Some(extra) = line.strip_prefix(EXTRA) {
            leaf = STANDARD.decode(extra).ok().filter(|leaf| !leaf.is_empty())?;
            line = lines.next()?;
        }
        let number = line.strip_prefix("index ")?;
        let index: u64 = number.parse().ok().filter(|index: &u64| index.to_string() == number)?;
        let mut hashes = Vec::new();
        for line in lines {
            let hash: [u8; 32] = STANDARD.decode(line).ok()?.try_into().ok()?;
            hashes.push(Sha256::from_bytes(hash));
            if hashes.len() > MAX_HASHES {
                return None;
            }
        }
        Some(Self { leaf, index, hashes, checkpoint: bytes[end + 2..].to_vec() })
    }
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Longest proof as text that is read, in bytes.
pub const MAX_TEXT: usize = MAX_NOTE + 2 * MAX_LEAF;
const HEADER: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";

#[cfg(test)]
mod tests {
    use super::super::edge::Edge;
    use super::super::merkle::leaf_hash;
    use super::*;
    use crate::ledger::tile::encode_hashes;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn leaf(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    fn root(size: u64) -> Sha256 {
        let hashes: Vec<Sha256> = (0..size).map(|number| leaf_hash(&leaf(number))).collect();
        tree_hash(&hashes)
    }

    fn tree(size: u64) -> TileTree<impl FnMut(&TilePath) -> Result<Vec<u8>, Infallible>> {
        let leaves: Vec<_> = (0..size).map(leaf).collect();
        let tiles: HashMap<_, _> =
            Edge::default().grow(&leaves).unwrap().tiles.into_iter().collect();
        TileTree::new(size, move |path: &TilePath| Ok(tiles[path].clone()))
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved() {
        for size in (1..70).chain([255, 256, 257, 600, 65_537]) {
            let (mut tree, root) = (tree(size), root(size));
            let step = if size > 1_000 { 4_099 } else { 1 };
            for index in (0..size).step_by(step).chain([size - 1]) {
                let proof = tree.inclusion(index).unwrap();
                let hash = leaf_hash(&leaf(index));
                assert!(verify_inclusion(&proof, index, hash, size, root), "{index} of {size}");
                assert!(!verify_inclusion(&proof, index, leaf_hash(b"x"), size, root));
                assert!(!verify_inclusion(&proof, index + 1, hash, size, root));
                if let [kept @ .., _] = &proof[..] {
                    assert!(!verify_inclusion(kept, index, hash, size, root));
                }
            }
            assert!(tree.inclusion(size).is_err());
        }
    }

    #[test]
    fn every_small_tree_is_proved_to_begin_with_every_smaller_one() {
        for size in (1..40).chain([257, 70_000]) {
            let (mut tree, new) = (tree(size), root(size));
            for old in (1..=size.min(40)).chain([size / 2 + 1, size]) {
                let proof = tree.consistency(old).unwrap();
                assert!(verify_consistency(&proof, old, root(old), size, new), "{old} of {size}");
                assert!(!verify_consistency(&proof, old, leaf_hash(b"x"), size, new));
                if old < size {
                    assert!(!verify_consistency(&proof, old, root(old), size, leaf_hash(b"x")));
                }
            }
        }
    }

    #[test]
    fn a_proof_reads_back() {
        let proof = TextProof {
            leaf: b"leaf".to_vec(),
            index: 3,
            hashes: vec![leaf_hash(b"a"), leaf_hash(b"b")],
            checkpoint: b"origin\n4\nroot\n\n\xe2\x80\x94 name sig\n".to_vec(),
        };
        let bytes = proof.to_bytes();
        assert!(bytes.starts_with(b"c2sp.org/tlog-proof@v1\nextra bGVhZg==\nindex 3\n"));
        assert_eq!(TextProof::parse(&bytes), Some(proof.clone()));
        let longest = TextProof { leaf: vec![0; MAX_LEAF], ..proof.clone() };
        assert_eq!(TextProof::parse(&longest.to_bytes()), Some(longest));
        let none = TextProof { leaf: Vec::new(), hashes: Vec::new(), ..proof };
        assert!(none.to_bytes().starts_with(b"c2sp.org/tlog-proof@v1\nindex 3\n"));
        assert_eq!(TextProof::parse(&none.to_bytes()), Some(none));
        assert_eq!(TextProof::parse(b"c2sp.org/tlog-proof@v1\nindex 03\n\n"), None);
    }

    proptest! {
        #[test]
        fn a_proof_as_text_has_one_form(
            leaf: Vec<u8>,
            index: u64,
            hashes in prop::collection::vec(any::<[u8; 32]>(), 0..4),
            checkpoint: Vec<u8>,
            text in "(index [+0]?[0-9]{1,20}\n|extra [A-Za-z0-9=]{0,4}\n|[A-Za-z0-9+/]{43}=\n|\n|é){0,5}",
        ) {
            let hashes = hashes.into_iter().map(Sha256::from_bytes).collect();
            let proof = TextProof { leaf, index, hashes, checkpoint };
            prop_assert_eq!(TextProof::parse(&proof.to_bytes()), Some(proof));
            let text = format!("{HEADER}\n{text}");
            if let Some(proof) = TextProof::parse(text.as_bytes()) {
                prop_assert_eq!(proof.to_bytes(), text.as_bytes());
            }
        }

        #[test]
        fn in_a_tree_of_any_size_there_are_proofs_of_what_is_there_alone(
            size: u64,
            index: u64,
            old: u64,
            other in prop::collection::vec(any::<[u8; 32]>(), 0..66),
        ) {
            // Each tile holds one hash throughout, so that no tree is too large to be asked.
            let hash = leaf_hash(b"");
            let read = |path: &TilePath| {
                let hashes = vec![hash; usize::try_from(path.width()).unwrap()];
                Ok::<_, Infallible>(encode_hashes(&hashes))
            };
            let mut tree = TileTree::new(size, read);
            let (inclusion, consistency) = (tree.inclusion(index), tree.consistency(old));
            prop_assert_eq!(inclusion.is_ok(), index < size);
            prop_assert_eq!(consistency.is_ok(), (1..=size).contains(&old));
            let other: Vec<Sha256> = other.into_iter().map(Sha256::from_bytes).collect();
            for proof in [inclusion.unwrap_or_default(), consistency.unwrap_or_default(), other] {
                prop_assert!(!verify_inclusion(&proof, index, hash, size, leaf_hash(b"x")));
                prop_assert!(!verify_consistency(&proof, old, hash, size, leaf_hash(b"x")));
            }
        }
    }
}
