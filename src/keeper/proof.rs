//! Proofs that the ledger has an entry, and that it only grew since an earlier checkpoint.

use crate::ledger::checkpoint::{Checkpoint, CheckpointError};
use crate::ledger::entry::{Entry, EntryError};
use crate::ledger::merkle::leaf_hash;
use crate::ledger::note::Verifier;
use crate::ledger::proof::{ProofError, TextProof, TileTree, verify_consistency, verify_inclusion};
use crate::ledger::tile::TilePath;
use crate::store::log::{LogError, LogReader};
use thiserror::Error;

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

/// Why a proof proves nothing.
#[derive(Debug, Error)]
pub enum CheckError {
    /// It is none.
    #[error("not a proof (C2SP tlog-proof) with its entry as extra data, as prove prints it")]
    Malformed,
    /// Its checkpoint is not this ledger's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its entry is not in the tree that its checkpoint is of.
    #[error("its checkpoint does not have its entry: the proof was changed")]
    NotIncluded,
    /// Its entry can't be read.
    #[error("its entry: {0}")]
    Entry(#[from] EntryError),
}

/// Why an earlier checkpoint speaks against a ledger.
#[derive(Debug, Error)]
pub enum GrowthError {
    /// It is not this ledger's, or none at all.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Entries are gone.
    #[error("the ledger had {earlier} entries then and has {now} now: it was set back")]
    SetBack {
        /// How many it had.
        earlier: u64,
        /// How many it has.
        now: u64,
    },
    /// Entries are others.
    #[error("the first {0} entries are not those of then: the ledger was rewritten")]
    Rewritten(u64),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A tile can't be read.
    #[error(transparent)]
    Proof(#[from] ProofError<LogError>),
}

/// Proves that the ledger has its entry at `index`, up to the newest checkpoint.
///
/// # Errors
/// When there is no such entry, or the ledger can't be read.
pub fn prove(log: &LogReader, index: u64) -> Result<TextProof, ProveError> {
    let Some((checkpoint, note)) = log.checkpoint()?.filter(|(it, _)| index < it.size) else {
        return Err(ProveError::NotFound(index));
    };
    let Some((_, leaf)) = log.leaves(index, index + 1).next().transpose()? else {
        return Err(ProveError::NotFound(index));
    };
    let hashes = tree(log, checkpoint.size).inclusion(index)?;
    if !verify_inclusion(&hashes, index, leaf_hash(&leaf), checkpoint.size, checkpoint.root) {
        return Err(ProveError::Damaged);
    }
    Ok(TextProof { leaf, index, hashes, checkpoint: note })
}

/// What `proof` proves to whoever trusts `key`: an entry, its index, and the checkpoint that has it.
///
/// # Errors
/// [`CheckError`], when it proves nothing.
pub fn check(proof: &[u8], key: &Verifier) -> Result<(u64, Entry, Checkpoint), CheckError> {
    let proof = TextProof::parse(proof).filter(|it| !it.leaf.is_empty());
    let TextProof { leaf, index, hashes, checkpoint } = proof.ok_or(CheckError::Malformed)?;
    let checkpoint = Checkpoint::open(&checkpoint, key)?;
    if !verify_inclusion(&hashes, index, leaf_hash(&leaf), checkpoint.size, checkpoint.root) {
        return Err(CheckError::NotIncluded);
    }
    Ok((index, Entry::from_leaf(&leaf)?, checkpoint))
}

/// How many entries the ledger had at `earlier`, a signed checkpoint that is still true of it.
///
/// # Errors
/// [`GrowthError`], when it is not, or the ledger can't be read.
pub fn grown_since(log: &LogReader, earlier: &[u8]) -> Result<u64, GrowthError> {
    let earlier = Checkpoint::open(earlier, log.verifier())?;
    let now = log.checkpoint()?.map(|(checkpoint, _)| checkpoint);
    let Some(now) = now.filter(|now| now.size >= earlier.size) else {
        return Err(GrowthError::SetBack { earlier: earlier.size, now: log.size()? });
    };
    let proof = tree(log, now.size).consistency(earlier.size)?;
    if !verify_consistency(&proof, earlier.size, earlier.root, now.size, now.root) {
        return Err(GrowthError::Rewritten(earlier.size));
    }
    Ok(earlier.size)
}

fn tree(
    log: &LogReader,
    size: u64,
) -> TileTree<impl FnMut(&TilePath) -> Result<Vec<u8>, LogError>> {
    TileTree::new(size, |path: &TilePath| {
        log.tile(path)?.ok_or_else(|| LogError::Missing(path.to_string()))
    })
}
