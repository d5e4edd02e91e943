//! Signed notes with Ed25519 (C2SP signed-note).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use zeroize::Zeroizing;

/// Largest note that is read, in bytes; enough for 16 post-quantum signatures beside ours.
pub const MAX_NOTE: usize = 128 * 1024;
/// Longest key name, in bytes.
pub const MAX_NAME: usize = 256;
/// Most signature lines that are looked at.
pub const MAX_SIGNATURES: usize = 64;

/// Why a note or key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// A name that is empty or has spaces or plus signs.
    #[error("not a key name")]
    Name,
    /// Text that is no verifier key.
    #[error("not an Ed25519 verifier key, which is written name+hash+base64")]
    VerifierKey,
    /// PEM that holds no Ed25519 private key.
    #[error("not an Ed25519 private key in PKCS #8 PEM form")]
    PrivateKey,
    /// Bytes that are no note.
    #[error("not a signed note")]
    Malformed,
    /// A note without a good signature of the key.
    #[error("not signed by the expected key, or changed since it was")]
    Unsigned,
}

/// A private key with its name.
#[derive(Clone)]
pub struct Signer {
    verifier: Verifier,
    key: SigningKey,
}

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Signer {
    /// The key that this seed gives.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        Self::new(name, SigningKey::from_bytes(seed))
    }

    /// A private key in PKCS #8 PEM form.
    ///
    /// # Errors
    /// [`NoteError::Name`] or [`NoteError::PrivateKey`].
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, NoteError> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| NoteError::PrivateKey)?;
        Self::new(name, key)
    }

    /// The private key in PKCS #8 PEM form.
    ///
    /// # Errors
    /// [`NoteError::PrivateKey`] when it can't be written.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, NoteError> {
        // Without the public key, which OpenSSL 3.0 does not read.
        let key = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        key.to_pkcs8_pem(LineEnding::LF).map_err(|_| NoteError::PrivateKey)
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// The public key.
    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// The note with this text, which ends with a newline, signed.
    pub fn sign(&self, text: &str) -> Vec<u8> {
        let signature = self.key.sign(text.as_bytes());
        let mut signed = self.verifier.hash().to_vec();
        signed.extend_from_slice(&signature.to_bytes());
        format!("{text}\n\u{2014} {} {}\n", self.name(), STANDARD.encode(signed)).into_bytes()
    }

    fn new(name: &str, key: SigningKey) -> Result<Self, NoteError> {
        let verifier = Verifier { name: check_name(name)?, key: key.verifying_key() };
        Ok(Self { verifier, key })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl Verifier {
    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note that this key has signed.
    ///
    /// Signatures of other keys are passed over.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] when this key has not signed it or one of its signatures is bad.
    pub fn open<'a>(&self, note: &'a [u8]) -> Result<&'a str, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::Malformed);
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        let mut signed = false;
        for (number, line) in signatures.split('\n').enumerate() {
            if number == MAX_SIGNATURES {
                return Err(NoteError::Malformed);
            }
            let (name, hash, signature) = signature_line(line)?;
            if name == self.name && hash == self.hash() {
                let signature =
                    Signature::from_slice(&signature).map_err(|_| NoteError::Unsigned)?;
                self.key
                    .verify_strict(text.as_bytes(), &signature)
                    .map_err(|_| NoteError::Unsigned)?;
                signed = true;
            }
        }
        if signed { Ok(text) } else { Err(NoteError::Unsigned) }
    }

    /// The key's id: the first four bytes of SHA-256 over name, newline, algorithm and key.
    fn hash(&self) -> [u8; 4] {
        let mut hasher = sha2::Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', ED25519]);
        hasher.update(self.key.as_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], &self.key.as_bytes()[..]].concat();
        let hash = u32::from_be_bytes(self.hash());
        write!(f, "{}+{hash:08x}+{}", self.name, STANDARD.encode(key))
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifierKey);
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::VerifierKey)?;
        let key: &[u8; 33] = key.as_slice().try_into().map_err(|_| NoteError::VerifierKey)?;
        let &[ED25519, ref key @ ..] = key else { return Err(NoteError::VerifierKey) };
        let key = VerifyingKey::from_bytes(key).map_err(|_| NoteError::VerifierKey)?;
        let verifier = Self { name: check_name(name)?, key };
        let expected = format!("{:08x}", u32::from_be_bytes(verifier.hash()));
        if hash == expected { Ok(verifier) } else { Err(NoteError::VerifierKey) }
    }
}

/// The name, key id and signature of a signature line.
fn signature_line(line: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let rest = line.strip_prefix("\u{2014} ").ok_or(NoteError::Malformed)?;
    let (name, signature) = rest.split_once(' ').ok_or(NoteError::Malformed)?;
    check_name(name).map_err(|_| NoteError::Malformed)?;
    let signature = STANDARD.decode(signature).map_err(|_| NoteError::Malformed)?;
    let (hash, signature) = signature.split_first_chunk::<4>().ok_or(NoteError::Malformed)?;
    Ok((name, *hash, signature.to_vec()))
}

fn check_name(name: &str) -> Result<String, NoteError> {
    let odd = |c: char| c == '+' || c.is_whitespace() || c.is_control();
    let wrong = name.is_empty() || name.len() > MAX_NAME || name.contains(odd);
    if wrong { Err(NoteError::Name) } else { Ok(name.to_owned()) }
}

const ED25519: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example key of the signed-note implementation in Go's checksum database.
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n\
                        \n\
                        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUg\
                        YN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer() -> Signer {
        Signer::from_seed("test.example/log", &[7; 32]).unwrap()
    }

    #[test]
    fn notes_of_another_implementation_are_opened() {
        let verifier: Verifier = VKEY.parse().unwrap();
        assert_eq!(verifier.to_string(), VKEY);
        assert!(verifier.open(NOTE.as_bytes()).unwrap().ends_with("problem is.\n"));
        let forged = NOTE.replace("answer", "remedy");
        assert_eq!(verifier.open(forged.as_bytes()), Err(NoteError::Unsigned));
    }

    #[test]
    fn what_was_signed_is_opened_and_nothing_else() {
        let signer = signer();
        let note = signer.sign("origin\n1\nroot\n");
        assert_eq!(signer.verifier().open(&note), Ok("origin\n1\nroot\n"));
        let other = Signer::from_seed("test.example/log", &[8; 32]).unwrap().verifier();
        assert_eq!(other.open(&note), Err(NoteError::Unsigned));
        for position in 0..note.len() {
            let mut forged = note.clone();
            forged[position] ^= 1;
            assert!(signer.verifier().open(&forged).is_err(), "{position}");
        }
    }

    #[test]
    fn keys_read_back() {
        let signer = signer();
        let again = Signer::from_pem(signer.name(), &signer.to_pem().unwrap()).unwrap();
        assert_eq!(again.verifier(), signer.verifier());
        assert_eq!(signer.verifier().to_string().parse(), Ok(signer.verifier()));
        for text in ["", "a+b", "a+00000000+AQ==", &VKEY.replace("c74f20a3", "c74f20a4")] {
            assert!(text.parse::<Verifier>().is_err(), "{text}");
        }
        for name in ["", "a b", "a+b", "a\u{7}b", &"a".repeat(MAX_NAME + 1)] {
            assert!(Signer::from_seed(name, &[7; 32]).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, text: String) {
            let _ = signer().verifier().open(&bytes);
            let _ = signer().verifier().open(format!("{text}\n\n\u{2014} {text}\n").as_bytes());
            let _ = text.parse::<Verifier>();
        }
    }
}
