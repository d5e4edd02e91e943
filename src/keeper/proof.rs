//! The proof that the ledger has an entry.

use crate::ledger::merkle::leaf_hash;
use crate::ledger::proof::{ProofError, TextProof, TileTree, verify_inclusion};
use crate::store::log::{LogError, LogReader};
use thiserror::Error;

/// An entry's bytes, and the proof that the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The leaf.
    pub leaf: Vec<u8>,
    /// The proof, up to the newest checkpoint.
    pub proof: TextProof,
}

/// Why there is no proof.
#[derive(Debug, Error)]
pub enum ProveError {
    /// The ledger has no such entry.
    #[error("the ledger has no entry {0} yet")]
    NotFound(u64),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A tile can't be read.
    #[error(transparent)]
    Proof(#[from] ProofError<LogError>),
    /// The ledger is damaged.
    #[error("the ledger's tiles do not fit its checkpoint: run opam-keep verify")]
    Damaged,
}

/// Proves that the ledger has its entry at `index`.
///
/// # Errors
/// When there is no such entry, or the ledger can't be read.
pub fn prove(log: &LogReader, index: u64) -> Result<Proved, ProveError> {
    let Some((checkpoint, note)) = log.checkpoint()?.filter(|(it, _)| index < it.size) else {
        return Err(ProveError::NotFound(index));
    };
    let Some((_, leaf)) = log.leaves(index, index + 1).next().transpose()? else {
        return Err(ProveError::NotFound(index));
    };
    let mut tree = TileTree::new(checkpoint.size, |path| {
        log.tile(path)?.ok_or_else(|| LogError::Missing(path.to_string()))
    });
    let hashes = tree.inclusion(index)?;
    if !verify_inclusion(&hashes, index, leaf_hash(&leaf), checkpoint.size, checkpoint.root) {
        return Err(ProveError::Damaged);
    }
    Ok(Proved { leaf, proof: TextProof { index, hashes, checkpoint: note } })
}
