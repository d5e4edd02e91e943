//! The signed head of the ledger (C2SP tlog-checkpoint).

use super::note::{NoteError, Signer, Verifier};
use crate::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use thiserror::Error;

/// How many leaves the ledger has and what they hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger's name, which is also its key's name.
    pub origin: String,
    /// How many leaves there are.
    pub size: u64,
    /// The tree's root hash.
    pub root: Sha256,
}

/// Why a checkpoint can't be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is not signed as it should be.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// It is signed and says no size and root hash.
    #[error("checkpoint: not a ledger's head")]
    Malformed,
    /// It is signed and of another ledger.
    #[error("checkpoint: of another ledger")]
    Origin,
}

impl Checkpoint {
    /// The checkpoint as a signed note.
    pub fn signed(&self, signer: &Signer) -> Vec<u8> {
        signer.sign(&self.to_string())
    }

    /// A checkpoint that `verifier`'s ledger has signed.
    ///
    /// Extension lines are passed over.
    ///
    /// # Errors
    /// When signature, origin or form are not as they should be.
    pub fn open(note: &[u8], verifier: &Verifier) -> Result<Self, CheckpointError> {
        let text = verifier.open(note)?;
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Malformed);
        };
        if origin != verifier.name() {
            return Err(CheckpointError::Origin);
        }
        let number: u64 = size.parse().map_err(|_| CheckpointError::Malformed)?;
        let root = STANDARD.decode(root).map_err(|_| CheckpointError::Malformed)?;
        let root = root.as_slice().try_into().map_err(|_| CheckpointError::Malformed)?;
        if number.to_string() != size {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self { origin: origin.to_owned(), size: number, root: Sha256::from_bytes(root) })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = STANDARD.encode(self.root.as_bytes());
        writeln!(f, "{}\n{}\n{root}", self.origin, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_odd_ones_are_refused() {
        let signer = Signer::from_seed("test.example/log", &[7; 32]).unwrap();
        let checkpoint = Checkpoint {
            origin: "test.example/log".to_owned(),
            size: 20_852_163,
            root: Sha256::of(b"root"),
        };
        let note = checkpoint.signed(&signer);
        assert_eq!(Checkpoint::open(&note, &signer.verifier()), Ok(checkpoint.clone()));
        let text = checkpoint.to_string();
        let extended = signer.sign(&format!("{text}extension\n"));
        assert_eq!(Checkpoint::open(&extended, &signer.verifier()), Ok(checkpoint));
        for (from, to) in
            [("20852163", "020852163"), ("20852163", "+1"), ("20852163", "-1"), ("=", "")]
        {
            let odd = signer.sign(&text.replace(from, to));
            let opened = Checkpoint::open(&odd, &signer.verifier());
            assert_eq!(opened, Err(CheckpointError::Malformed), "{to}");
        }
        let other = signer.sign(&text.replace("test.example", "other.example"));
        assert_eq!(Checkpoint::open(&other, &signer.verifier()), Err(CheckpointError::Origin));
    }
}
