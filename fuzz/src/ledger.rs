//! The ledger's formats: each has one form only, and what is not signed is not believed.

use opam_keep::digest::Sha256;
use opam_keep::ledger::checkpoint::Checkpoint;
use opam_keep::ledger::edge::Edge;
use opam_keep::ledger::entry::Entry;
use opam_keep::ledger::merkle::{leaf_hash, tree_hash};
use opam_keep::ledger::note::Verifier;
use opam_keep::ledger::proof::{TextProof, TileTree, verify_consistency, verify_inclusion};
use opam_keep::ledger::tile::{
    Level, MAX_LEAF, TilePath, decode_bundle, decode_hashes, encode_bundle, encode_hashes,
};
use std::convert::Infallible;

/// A leaf that reads is the very one that would be written.
pub fn ledger_entry(leaf: &[u8]) {
    let Ok(entry) = Entry::from_leaf(leaf) else { return };
    assert_eq!(entry.to_leaf().expect("what was read can be written"), leaf);
    assert!(leaf.len() <= MAX_LEAF && !entry.kind().is_empty());
    assert_eq!(serde_json::to_vec(&entry.to_json()).expect("a value is JSON"), leaf);
    assert_eq!(entry.at().subsec_nanosecond(), 0);
}

/// A line with a tile's path, and then a tile's bytes.
pub fn tile(input: &[u8]) {
    let (line, bytes) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[][..]),
    };
    if let Some(path) = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()) {
        assert_eq!(TilePath::to_string(&path).as_bytes(), line);
        check_tile(&path, bytes);
    }
    let Ok(leaves) = decode_bundle(bytes) else { return };
    assert_eq!(encode_bundle(&leaves), bytes);
    let hashes: Vec<Sha256> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let growth = Edge::default().grow(&leaves).expect("no leaf of a bundle is too long");
    assert_eq!(growth.edge.root(), tree_hash(&hashes));
    let size = growth.edge.size();
    let needed = Edge::needed_tiles(size).into_iter().map(|path| {
        let written = growth.tiles.iter().find(|tile| tile.0 == path);
        written.cloned().expect("every tile that is needed was written")
    });
    assert_eq!(Edge::restore(size, needed.collect()).as_ref(), Ok(&growth.edge));
}

fn check_tile(path: &TilePath, bytes: &[u8]) {
    assert!(path.wider(0).is_none());
    if let Some(wider) = path.wider(u64::MAX) {
        assert!(wider.width() >= path.width() && wider.index() == path.index());
    }
    let Ok(cut) = path.cut(bytes) else { return };
    assert!(bytes.starts_with(&cut));
    match path.level() {
        Level::Entries => assert_eq!(encode_bundle(&decode_bundle(&cut).expect("a bundle")), cut),
        Level::Hashes(_) => {
            let hashes = decode_hashes(path, &cut).expect("just as many as the path says");
            assert_eq!(encode_hashes(&hashes), cut);
        }
    }
    let _ = Edge::restore(path.width(), vec![(*path, cut)]);
}

/// A note, also as a checkpoint; a key; and the text of one that is signed here.
pub fn note(bytes: &[u8]) {
    let signer = crate::signer();
    let key = signer.verifier();
    if let Ok(text) = key.open(bytes) {
        // Nobody but the signer makes its signature, and that makes just one.
        let signed = signer.sign(text);
        let signature = &signed[text.len() + 1..];
        assert!(bytes.starts_with(text.as_bytes()));
        assert!(bytes.windows(signature.len()).any(|window| window == signature));
    }
    let _ = Checkpoint::open(bytes, &key);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(verifier) = text.parse::<Verifier>() {
        assert_eq!(verifier.to_string(), text);
    }
    let signed = signer.sign(text);
    if let Ok(opened) = key.open(&signed) {
        assert_eq!(opened, text);
    }
    if let Ok(checkpoint) = Checkpoint::open(&signed, &key) {
        assert!(text.starts_with(&checkpoint.to_string()));
        assert_eq!(Checkpoint::open(&checkpoint.signed(&signer), &key), Ok(checkpoint));
    }
}

/// A proof as text; and sizes and hashes that lie, as many as there are bytes for.
pub fn proof(bytes: &[u8]) {
    if let Some(proof) = TextProof::parse(bytes) {
        assert_eq!(proof.to_bytes(), bytes);
    }
    let (numbers, rest) = bytes.as_chunks::<8>();
    let [size, index, old, ..] = numbers else { return };
    let [size, index, old] = [size, index, old].map(|number| u64::from_le_bytes(*number));
    let (hashes, _) = bytes.as_chunks::<32>();
    let hashes: Vec<Sha256> = hashes.iter().map(|hash| Sha256::from_bytes(*hash)).collect();
    // Each tile holds the same hash throughout, so that no tree is too large to be asked.
    let hash = hashes.last().copied().unwrap_or(Sha256::of(rest));
    let read =
        |path: &TilePath| Ok::<_, Infallible>(encode_hashes(&vec![hash; path.width() as usize]));
    let mut tree = TileTree::new(size, read);
    let inclusion = tree.inclusion(index);
    assert_eq!(inclusion.is_ok(), index < size);
    let consistency = tree.consistency(old);
    assert_eq!(consistency.is_ok(), (1..=size).contains(&old));
    for proof in [inclusion.as_ref().ok(), consistency.as_ref().ok(), Some(&hashes)] {
        let Some(proof) = proof else { continue };
        let other = Sha256::of(b"another root");
        assert!(!verify_inclusion(proof, index, hash, size, other));
        assert!(old == 0 || !verify_consistency(proof, old, hash, size, other));
    }
    check_honest(size % MOST + 1, index, old, bytes);
}

/// In a tree as it should be, every proof holds, and for nothing else.
fn check_honest(size: u64, index: u64, old: u64, seed: &[u8]) {
    let (index, old) = (index % size, old % size + 1);
    let leaves: Vec<Vec<u8>> = (0..size).map(|n| [seed, &n.to_le_bytes()].concat()).collect();
    let hashes: Vec<Sha256> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let tiles = Edge::default().grow(&leaves).expect("short leaves").tiles;
    let mut tree = TileTree::new(size, |path: &TilePath| {
        tiles.iter().find(|tile| tile.0 == *path).map(|tile| tile.1.clone()).ok_or(())
    });
    let root = tree_hash(&hashes);
    let at = |size: u64| &hashes[..size as usize];
    let proof = tree.inclusion(index).expect("there is such a leaf");
    let leaf = hashes[index as usize];
    assert!(verify_inclusion(&proof, index, leaf, size, root));
    assert!(!verify_inclusion(&proof, index + 1, leaf, size, root));
    let proof = tree.consistency(old).expect("it was of that size");
    assert!(verify_consistency(&proof, old, tree_hash(at(old)), size, root));
    assert!(!verify_consistency(&proof, old, leaf_hash(b"x"), size, root));
}

/// Trees that are as they should be have up to so many leaves, so that each takes no time.
const MOST: u64 = 300;
