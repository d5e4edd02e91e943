//! The ledger's signing key: made once, kept for its owner alone.

use super::durable;
use super::layout::Layout;
use super::medium::HEAD;
use crate::ledger::note::{Signer, Verifier};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use thiserror::Error;

/// Why the ledger's key can't be had.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The key's file.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is there and is no key.
    #[error("{path}: {problem}: restore it from a backup; a ledger can't change its key")]
    Unreadable {
        /// The key's file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Others may read the private key.
    #[error("{path}: others than its owner may read it: chmod 600 it")]
    Exposed {
        /// The key's file.
        path: String,
    },
    /// The operating system gave no random numbers.
    #[error("no random numbers for a new key: {0}")]
    Random(String),
}

/// The key that signs checkpoints, of a store that is there.
///
/// # Errors
/// When it can't be read or used.
pub fn load(layout: &Layout) -> Result<Signer, KeyError> {
    let path = layout.ledger_key();
    let source = || io::ErrorKind::NotFound.into();
    match path.exists() {
        true => load_or_create(layout),
        false => Err(KeyError::Io { path: path.display().to_string(), source: source() }),
    }
}

/// The key that signs checkpoints; made at the first start.
///
/// # Errors
/// When there is a key that can't be used; never replaced by a new one.
pub(super) fn load_or_create(layout: &Layout) -> Result<Signer, KeyError> {
    let path = layout.ledger_key();
    let io = |source| KeyError::Io { path: path.display().to_string(), source };
    let unreadable =
        |problem: String| KeyError::Unreadable { path: path.display().to_string(), problem };
    let signer = match std::fs::read_to_string(&path) {
        Ok(pem) => {
            let mode = std::fs::metadata(&path).map_err(io)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(KeyError::Exposed { path: path.display().to_string() });
            }
            let public = std::fs::read_to_string(layout.ledger_public_key()).map_err(io)?;
            let verifier: Verifier = public.trim().parse().map_err(|error| {
                unreadable(format!("the public key beside it can't be read: {error}"))
            })?;
            let signer = Signer::from_pem(verifier.name(), &pem)
                .map_err(|error| unreadable(error.to_string()))?;
            if signer.verifier() != verifier {
                return Err(unreadable(
                    "it does not belong to the public key beside it".to_owned(),
                ));
            }
            return Ok(signer);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A new key can't sign for an old ledger, and would hide that the old one is lost.
            if layout.ledger().join(HEAD).exists() {
                return Err(unreadable("the key of this ledger is missing".to_owned()));
            }
            new_signer()?
        }
        Err(error) => return Err(io(error)),
    };
    let directory = path.parent().unwrap_or(layout.root());
    durable::create_directory(directory).map_err(io)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    let pem = signer.to_pem().map_err(|error| unreadable(error.to_string()))?;
    // The public key first: a private key is never there without it.
    let public = format!("{}\n", signer.verifier());
    durable::write(&layout.ledger_public_key(), public.as_bytes(), 0o644).map_err(io)?;
    durable::write(&path, pem.as_bytes(), 0o600).map_err(io)?;
    Ok(signer)
}

fn new_signer() -> Result<Signer, KeyError> {
    let random = |error: getrandom::Error| KeyError::Random(error.to_string());
    let (mut seed, mut name) = ([0; 32], [0; 6]);
    getrandom::fill(&mut seed).map_err(random)?;
    getrandom::fill(&mut name).map_err(random)?;
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    Signer::from_seed(&format!("opam-keep/{name}"), &seed)
        .map_err(|error| KeyError::Random(error.to_string()))
}
