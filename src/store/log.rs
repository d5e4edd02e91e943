//! The ledger on its medium: reading for anyone, appending for the one writer.

use super::medium::{HEAD, LedgerMedium, SwapError};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::edge::Edge;
use crate::ledger::entry::{Entry, EntryError};
use crate::ledger::note::{Signer, Verifier};
use crate::ledger::tile::{TilePath, decode_bundle};
use std::io;
use std::sync::Arc;
use thiserror::Error;
use vouching::Vouching;

#[cfg(test)]
mod tests;
mod vouching;

/// Why a ledger can't be read or appended to.
#[derive(Debug, Error)]
pub enum LogError {
    /// The medium failed.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file in the ledger.
        path: String,
        /// What the medium said.
        source: io::Error,
    },
    /// A file that the checkpoint vouches for is missing.
    #[error("ledger: {0} is missing")]
    Missing(String),
    /// A file does not hold what the checkpoint vouches for.
    #[error("ledger {path}: {problem}")]
    Damaged {
        /// The file in the ledger.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another writer moved the head.
    #[error("ledger: another writer moved the head")]
    Lost,
    /// An entry can't be written as a leaf.
    #[error("ledger: {0}")]
    Entry(#[from] EntryError),
}

/// Reads a ledger, and believes of it what its signed head vouches for.
#[derive(Clone)]
pub struct LogReader {
    medium: Arc<dyn LedgerMedium>,
    verifier: Verifier,
    vouching: Arc<Vouching>,
}

impl LogReader {
    /// Reads the ledger on `medium`, whose checkpoints `verifier` can check.
    pub fn new(medium: Arc<dyn LedgerMedium>, verifier: Verifier) -> Self {
        Self { medium, verifier, vouching: Arc::default() }
    }

    /// The public key of the ledger.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The signed head with its bytes; `None` before the first entry.
    ///
    /// # Errors
    /// When the signature does not hold or the medium fails.
    pub fn checkpoint(&self) -> Result<Option<(Checkpoint, Vec<u8>)>, LogError> {
        let Some(bytes) = self.read(HEAD)? else { return Ok(None) };
        let checkpoint = Checkpoint::open(&bytes, &self.verifier)
            .map_err(|error| damaged(HEAD, error.to_string()))?;
        Ok(Some((checkpoint, bytes)))
    }

    /// How many entries the ledger has.
    ///
    /// # Errors
    /// As [`LogReader::checkpoint`].
    pub fn size(&self) -> Result<u64, LogError> {
        Ok(self.checkpoint()?.map_or(0, |(checkpoint, _)| checkpoint.size))
    }

    /// A tile or bundle under the head; a partial one is cut from the head's, so that the path of
    /// any earlier checkpoint's partial tile goes on to work, and that of one which a crash left
    /// over never gives other entries.
    ///
    /// # Errors
    /// When the medium fails, or its bytes are not those that the head vouches for.
    pub fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, LogError> {
        let Some((head, _)) = self.checkpoint()? else { return Ok(None) };
        let Some(wider) = path.wider(head.size) else { return Ok(None) };
        let Some(bytes) = self.tile_as_it_is(&wider)? else { return Ok(None) };
        self.vouching.check(self, &head, &wider, &bytes)?;
        cut(path, &wider, bytes).map(Some)
    }

    /// The same, whatever is in it: for those who check it themselves.
    ///
    /// # Errors
    /// When the medium fails.
    pub fn tile_as_it_is(&self, path: &TilePath) -> Result<Option<Vec<u8>>, LogError> {
        let mut missing = None;
        loop {
            // What no checkpoint vouches for yet may still be written again with other entries.
            let Some(wider) = path.wider(self.size()?) else { return Ok(None) };
            match self.read(&wider.to_string())? {
                Some(bytes) => return cut(path, &wider, bytes).map(Some),
                None if missing == Some(wider) => return self.beyond_the_head(path, wider),
                // The head may have moved meanwhile, and the tile given way to a wider one.
                None => missing = Some(wider),
            }
        }
    }

    /// A tile out of one that is wider than the head says: a backup whose checkpoint was copied
    /// first has no other.
    fn beyond_the_head(
        &self,
        path: &TilePath,
        missing: TilePath,
    ) -> Result<Option<Vec<u8>>, LogError> {
        for wider in missing.all_wider() {
            if let Some(bytes) = self.read(&wider.to_string())? {
                return cut(path, &wider, bytes).map(Some);
            }
        }
        Ok(None)
    }

    /// The leaves from index `from` up to `size`, which a checkpoint vouches for.
    pub fn leaves(&self, from: u64, size: u64) -> Leaves {
        self.leaves_by(LogReader::tile, from, size)
    }

    /// The same, whatever is in them: for those who check them themselves.
    pub fn leaves_as_they_are(&self, from: u64, size: u64) -> Leaves {
        self.leaves_by(LogReader::tile_as_it_is, from, size)
    }

    fn leaves_by(&self, read: ReadTile, next: u64, size: u64) -> Leaves {
        Leaves { reader: self.clone(), read, next, size, bundle: Vec::new().into_iter() }
    }

    /// The entries from index `from` up to `size`.
    pub fn entries(
        &self,
        from: u64,
        size: u64,
    ) -> impl Iterator<Item = Result<(u64, Entry), LogError>> + use<> {
        self.leaves(from, size).map(|leaf| {
            let (index, leaf) = leaf?;
            let entry = Entry::from_leaf(&leaf).map_err(|error| {
                let path = TilePath::bundle_of(index, index + 1).to_string();
                damaged(&path, format!("entry {index}: {error}"))
            })?;
            Ok((index, entry))
        })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, LogError> {
        self.medium.read(path).map_err(|source| LogError::Io { path: path.to_owned(), source })
    }

    /// The tiles at the right edge of the tree under `head`, which add up to its root.
    fn edge_tiles(&self, head: &Checkpoint) -> Result<(Edge, EdgeTiles), LogError> {
        let mut tiles = Vec::new();
        for path in Edge::needed_tiles(head.size) {
            let bytes = self.tile_as_it_is(&path)?;
            tiles.push((path, bytes.ok_or_else(|| LogError::Missing(path.to_string()))?));
        }
        let edge = Edge::restore(head.size, tiles.clone())
            .map_err(|error| vouching::told(&error, &tiles))?;
        if edge.root() == head.root {
            return Ok((edge, tiles));
        }
        let problem = format!("the tiles of {} entries do not add up to its root hash", head.size);
        Err(damaged(HEAD, problem))
    }
}

/// The tile at `path` out of the bytes of the same or a wider one.
fn cut(path: &TilePath, wider: &TilePath, bytes: Vec<u8>) -> Result<Vec<u8>, LogError> {
    if wider == path {
        return Ok(bytes);
    }
    path.cut(&bytes).map_err(|error| damaged(&wider.to_string(), error.to_string()))
}

/// Each tile at the edge of a tree, with its bytes.
type EdgeTiles = Vec<(TilePath, Vec<u8>)>;
/// One of the ways to read a tile.
type ReadTile = fn(&LogReader, &TilePath) -> Result<Option<Vec<u8>>, LogError>;

/// Leaves in order, one bundle read at a time.
pub struct Leaves {
    reader: LogReader,
    read: ReadTile,
    next: u64,
    size: u64,
    bundle: std::vec::IntoIter<Vec<u8>>,
}

impl Iterator for Leaves {
    type Item = Result<(u64, Vec<u8>), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next >= self.size {
                return None;
            }
            if let Some(leaf) = self.bundle.next() {
                self.next += 1;
                return Some(Ok((self.next - 1, leaf)));
            }
            match self.read_bundle() {
                Ok(bundle) => self.bundle = bundle,
                Err(error) => {
                    self.next = self.size;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Leaves {
    fn read_bundle(&self) -> Result<std::vec::IntoIter<Vec<u8>>, LogError> {
        let path = TilePath::bundle_of(self.next, self.size);
        let bytes = (self.read)(&self.reader, &path)?;
        let bytes = bytes.ok_or_else(|| LogError::Missing(path.to_string()))?;
        let leaves =
            decode_bundle(&bytes).map_err(|error| damaged(&path.to_string(), error.to_string()))?;
        let skip = self.next % 256;
        if (leaves.len() as u64) <= skip {
            return Err(damaged(&path.to_string(), "too few entries".to_owned()));
        }
        let mut leaves = leaves.into_iter();
        if skip > 0 {
            // The index in a bundle is below 256.
            leaves.nth(skip as usize - 1);
        }
        Ok(leaves)
    }
}

/// The ledger in the hands of its one writer.
pub struct LogWriter {
    reader: LogReader,
    signer: Signer,
    edge: Edge,
    head: Option<Vec<u8>>,
}

impl LogWriter {
    /// Takes up the ledger where its head stands.
    ///
    /// # Errors
    /// When the head or the tiles at its edge are damaged or missing.
    pub fn open(medium: Arc<dyn LedgerMedium>, signer: Signer) -> Result<Self, LogError> {
        let reader = LogReader::new(medium, signer.verifier());
        let (edge, head) = match reader.checkpoint()? {
            None => (Edge::default(), None),
            Some((checkpoint, bytes)) => (reader.edge_tiles(&checkpoint)?.0, Some(bytes)),
        };
        Ok(Self { reader, signer, edge, head })
    }

    /// Reads the same ledger.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Appends leaves; they are durable and under the signed head when this returns the index of
    /// the first.
    ///
    /// # Errors
    /// After an error it is not known whether the leaves are in the ledger: the writer must be
    /// opened anew to find out.
    pub fn append(&mut self, leaves: &[Vec<u8>]) -> Result<u64, LogError> {
        let first = self.edge.size();
        let growth = self.edge.grow(leaves)?;
        let files: Vec<(String, Vec<u8>)> =
            growth.tiles.into_iter().map(|(path, bytes)| (path.to_string(), bytes)).collect();
        let medium = &self.reader.medium;
        medium
            .write_all(&files)
            .map_err(|source| LogError::Io { path: "tile".to_owned(), source })?;
        let checkpoint = Checkpoint {
            origin: self.signer.name().to_owned(),
            size: growth.edge.size(),
            root: growth.edge.root(),
        };
        let head = checkpoint.signed(&self.signer);
        medium.swap_head(self.head.as_deref(), &head).map_err(|error| match error {
            SwapError::Lost => LogError::Lost,
            SwapError::Io(source) => LogError::Io { path: HEAD.to_owned(), source },
        })?;
        let needless: Vec<String> = growth.needless.iter().map(TilePath::to_string).collect();
        medium.prune(&needless);
        self.edge = growth.edge;
        self.head = Some(head);
        Ok(first)
    }
}

fn damaged(path: &str, problem: String) -> LogError {
    LogError::Damaged { path: path.to_owned(), problem }
}
