//! A ledger's public key, as a person gives it.

use super::{Failure, named_file};
use crate::ledger::note::Verifier;
use std::path::Path;

/// The key itself, or a file that has it.
pub(super) fn read(key: &str) -> Result<Verifier, Failure> {
    if let Ok(key) = key.parse() {
        return Ok(key);
    }
    if key.contains('+') && !Path::new(key).exists() {
        return Err(Failure::Usage(format!(
            "--key {key}: no ledger's public key, or one with a typing error: copy it as export or \
             the ledger's page shows it"
        )));
    }
    let bytes = named_file::read(Path::new(key), MAX_KEY)?;
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|error| Failure::Usage(format!("--key {key}: {error}")))
}

/// Longest file with a key; a name is some hundred characters long.
const MAX_KEY: usize = 4 << 10;
