//! The three hashes that opam knows, over the same bytes in one pass.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A hash of `N` bytes; prints and parses as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest<const N: usize>([u8; N]);

/// An MD5 hash; opam still declares these, nothing here relies on one alone.
pub type Md5 = Digest<16>;
/// A SHA-256 hash; the name of a blob.
pub type Sha256 = Digest<32>;
/// A SHA-512 hash.
pub type Sha512 = Digest<64>;

impl Sha256 {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl<const N: usize> Digest<N> {
    /// The hash's own bytes.
    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// A hash from its own bytes.
    pub const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> fmt::Display for Digest<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // Lists have tens of thousands of hashes, so it is not done digit by digit.
        let mut text = [0; 128];
        for (byte, pair) in self.0.iter().zip(text.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        // Digits are ASCII.
        f.write_str(std::str::from_utf8(&text[..2 * N]).unwrap_or_default())
    }
}

impl<const N: usize> fmt::Debug for Digest<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a hash: wrong length, or not hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct NotADigest {
    expected: usize,
}

impl<const N: usize> FromStr for Digest<N> {
    type Err = NotADigest;

    /// Accepts upper-case digits too, as opam does in checksums.
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let wrong = NotADigest { expected: 2 * N };
        if text.len() != 2 * N {
            return Err(wrong);
        }
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16).ok_or(wrong)?;
            let low = (pair[1] as char).to_digit(16).ok_or(wrong)?;
            // Two hexadecimal digits always fit a byte.
            *byte = (high * 16 + low) as u8;
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> Serialize for Digest<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<const N: usize> JsonSchema for Digest<N> {
    fn schema_name() -> Cow<'static, str> {
        format!("Digest{}", N * 8).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^[0-9a-f]{{{}}}$", N * 2);
        json_schema!({
            "type": "string",
            "pattern": pattern,
            "description": format!("{} bits in hexadecimal digits", N * 8),
        })
    }
}

impl<'de, const N: usize> Deserialize<'de> for Digest<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything that is known of some bytes once all of them were hashed.
///
/// Only [`Hasher::finish`] makes one out of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// MD5.
    pub md5: Md5,
    /// SHA-256.
    pub sha256: Sha256,
    /// SHA-512.
    pub sha512: Sha512,
    /// Length in bytes.
    pub size: u64,
}

impl Digests {
    /// Hashes bytes that are all at hand.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Computes all three hashes and the length of a stream.
#[derive(Clone, Default)]
pub struct Hasher {
    md5: md5::Md5,
    sha256: sha2::Sha256,
    sha512: sha2::Sha512,
    size: u64,
}

impl Hasher {
    /// Takes the stream's next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let Self { md5, sha256, sha512, size } = self;
        *size += bytes.len() as u64;
        let mut one = || {
            md5.update(bytes);
            sha256.update(bytes);
        };
        // SHA-512 takes about as long as the other two.
        let mut other = || sha512.update(bytes);
        if bytes.len() >= WORTH_TWO_CORES {
            rayon::join(one, other);
        } else {
            one();
            other();
        }
    }

    /// How many bytes there were so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of all bytes taken.
    pub fn finish(self) -> Digests {
        Digests {
            md5: Digest(self.md5.finalize().into()),
            sha256: Digest(self.sha256.finalize().into()),
            sha512: Digest(self.sha512.finalize().into()),
            size: self.size,
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("size", &self.size).finish_non_exhaustive()
    }
}

/// From so many bytes on, hashing takes several times as long as handing it to another core.
const WORTH_TWO_CORES: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_gives_the_published_test_vectors() {
        let digests = Digests::of(b"abc");
        assert_eq!(digests.md5.to_string(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            digests.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(digests.sha512.to_string().starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(digests.size, 3);
        assert_eq!(digests.sha256, Sha256::of(b"abc"));
    }

    #[test]
    fn long_parts_and_short_ones_give_the_same() {
        let bytes: Vec<u8> = (0..3 * WORTH_TWO_CORES).map(|it| (it % 251) as u8).collect();
        let mut hasher = Hasher::default();
        bytes.chunks(1_000).for_each(|part| hasher.update(part));
        assert_eq!(hasher.finish(), Digests::of(&bytes));
    }

    #[test]
    fn only_whole_hexadecimal_text_is_a_digest() {
        assert!("AB".repeat(32).parse::<Sha256>().is_ok());
        for text in ["", "ab", &"zz".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }
}
