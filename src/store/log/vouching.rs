//! Whether a tile is one that the signed head vouches for: up from it, hash by hash.

use super::{LogError, LogReader, damaged};
use crate::digest::Sha256;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::merkle::{leaf_hash, tree_hash};
use crate::ledger::tile::{
    Level, TileError, TilePath, WIDTH, decode_bundle, decode_hashes, encode_hashes,
};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What was vouched for before.
#[derive(Debug, Default)]
pub(super) struct Vouching {
    /// The root of each full tile of hashes; neither ever changes.
    full: Mutex<HashMap<TilePath, Sha256>>,
}

impl Vouching {
    /// Checks a tile that is as wide as it is under `head`.
    pub(super) fn check(
        &self,
        reader: &LogReader,
        head: &Checkpoint,
        path: &TilePath,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        match path.level() {
            Level::Hashes(level) => {
                let hashes = decode_hashes(path, bytes)
                    .map_err(|error| damaged(&path.to_string(), error.to_string()))?;
                let is_vouched = self.is_vouched(reader, head, level, path.index(), &hashes)?;
                is_vouched
                    .then_some(())
                    .ok_or_else(|| damaged(&path.to_string(), HASHES.to_owned()))
            }
            Level::Entries => {
                let leaves = decode_bundle(bytes)
                    .map_err(|error| damaged(&path.to_string(), error.to_string()))?;
                let hashes: Vec<Sha256> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
                if hashes.len() as u64 == path.width()
                    && self.is_vouched(reader, head, 0, path.index(), &hashes)?
                {
                    return Ok(());
                }
                let vouched = TilePath::new(Level::Hashes(0), path.index(), path.width());
                let vouched = reader.tile(&vouched).ok().flatten().unwrap_or_default();
                Err(rewritten(path, &hashes, &vouched))
            }
        }
    }

    /// Whether these are the hashes of that tile.
    fn is_vouched(
        &self,
        reader: &LogReader,
        head: &Checkpoint,
        level: u8,
        index: u64,
        hashes: &[Sha256],
    ) -> Result<bool, LogError> {
        let path = TilePath::new(Level::Hashes(level), index, hashes.len() as u64);
        if !path.is_full() {
            let (_, tiles) = reader.edge_tiles(head)?;
            return Ok(tiles.contains(&(path, encode_hashes(hashes))));
        }
        let root = tree_hash(hashes);
        if self.full().get(&path) == Some(&root) {
            return Ok(true);
        }
        // One hash of the level above is what all of these come to.
        let above = TilePath::new(Level::Hashes(level + 1), index / WIDTH, index % WIDTH + 1);
        let above = above.wider(head.size).unwrap_or(above);
        let Some(bytes) = reader.tile_as_it_is(&above)? else { return Ok(false) };
        let Ok(hashes) = decode_hashes(&above, &bytes) else { return Ok(false) };
        let is_vouched = hashes.get((index % WIDTH) as usize) == Some(&root)
            && self.is_vouched(reader, head, level + 1, above.index(), &hashes)?;
        if is_vouched {
            let mut full = self.full();
            if full.len() >= MAX_REMEMBERED {
                full.clear();
            }
            full.insert(path, root);
        }
        Ok(is_vouched)
    }

    fn full(&self) -> std::sync::MutexGuard<'_, HashMap<TilePath, Sha256>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with the tiles at the edge of a tree.
pub(super) fn told(error: &TileError, tiles: &[(TilePath, Vec<u8>)]) -> LogError {
    let at = |level| tiles.iter().find(|(path, _)| path.level() == level);
    match (error, at(Level::Entries), at(Level::Hashes(0))) {
        (TileError::Leaves, Some((path, bundle)), Some((_, vouched))) => {
            let leaves = decode_bundle(bundle).unwrap_or_default();
            let hashes: Vec<Sha256> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
            rewritten(path, &hashes, vouched)
        }
        _ => damaged("tile", error.to_string()),
    }
}

/// Says which entry of a bundle is another one than it was, as far as the hashes can tell.
fn rewritten(bundle: &TilePath, found: &[Sha256], vouched: &[u8]) -> LogError {
    let first = bundle.index() * WIDTH;
    let (vouched, _) = vouched.as_chunks::<32>();
    let place = vouched.iter().zip(found).position(|(vouched, found)| vouched != found.as_bytes());
    let problem = match place {
        Some(place) => format!(
            "entry {} was rewritten: it is not the one that the ledger's hashes vouch for",
            first + place as u64
        ),
        None => format!(
            "entries {first} to {} are not those that the ledger's hashes vouch for",
            first + bundle.width() - 1
        ),
    };
    damaged(&bundle.to_string(), problem)
}

const HASHES: &str = "holds other hashes than those that the ledger's head vouches for";
/// 256 entries each.
const MAX_REMEMBERED: usize = 65_536;
