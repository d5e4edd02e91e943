//! A ledger's public key, as a person gives it.

use super::Failure;
use crate::ledger::note::Verifier;

/// The key itself, or a file that has it.
pub(super) fn read(key: &str) -> Result<Verifier, Failure> {
    if let Ok(key) = key.parse() {
        return Ok(key);
    }
    let text = std::fs::read_to_string(key).map_err(|error| {
        Failure::Usage(format!(
            "--key {key}: neither a key as export prints it, nor a file: {error}"
        ))
    })?;
    text.trim().parse().map_err(|error| Failure::Usage(format!("--key {key}: {error}")))
}
