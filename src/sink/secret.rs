//! Secrets, read from files once at the start and wiped when they are let go of.

use base64::Engine as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use thiserror::Error;
use zeroize::Zeroizing;

/// Why a secret can't be used; says nothing of what is in the file.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("{path}: {reason}: name a file that this user may read")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds no signing key.
    #[error(
        "{path}: no signing key: write \"whsec_\" and the base64 of 24 to 64 bytes, such as \
         \"whsec_$(openssl rand -base64 32)\" makes"
    )]
    NoKey {
        /// The file.
        path: String,
    },
}

/// The text of a file, without white space around it.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |reason: String| {
        let path = path.display().to_string();
        SecretError::Unreadable { path, reason }
    };
    // Room for all of it: a text that grew would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET + 1));
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(MAX_SECRET as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    let trimmed = Zeroizing::new(text.trim().to_owned());
    match trimmed.len() {
        0 => Err(unreadable("it is empty: write the secret into it".to_owned())),
        length if length > MAX_SECRET => Err(unreadable("it is too long".to_owned())),
        _ => Ok(trimmed),
    }
}

/// The key that signs webhooks: Standard Webhooks, "Signature scheme".
pub(super) fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let text = read(path)?;
    let encoded = text.strip_prefix(PREFIX);
    let decode = |encoded| base64::engine::general_purpose::STANDARD.decode(encoded).ok();
    let key = encoded.and_then(decode).map(Zeroizing::new);
    let no_key = || SecretError::NoKey { path: path.display().to_string() };
    key.filter(|key| KEY_LENGTHS.contains(&key.len())).ok_or_else(no_key)
}

/// Whether every user of this machine may read the file.
pub(super) fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
const MAX_SECRET: usize = 4_096;
const PREFIX: &str = "whsec_";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Vec<u8>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_key(file.path()).map(|key| key.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_what_the_specification_says() {
        // The example of the specification.
        let bytes = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        assert_eq!(bytes.len(), 24);
        for wrong in ["", "hush", "whsec_", "whsec_aHVzaA==", "whsec_?", "MfKQ9r8GKYqrTwjUPD8ILPZI"]
        {
            let error = key(wrong).unwrap_err();
            assert!(!error.contains("hush") && !error.contains("aHVzaA"), "{error}");
        }
        assert!(key(&"x".repeat(10_000)).unwrap_err().contains("too long"));
    }
}
