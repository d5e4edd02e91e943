//! Checksums as opam writes them.

use md5::Digest;
use std::fmt::Write as _;

/// A kind of checksum that opam knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 128 bits, broken, and still what a quarter of all requests ask by.
    Md5,
    /// 256 bits; also what blobs are named by.
    Sha256,
    /// 512 bits.
    Sha512,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512];

    /// The word before `=`, and the directory in a cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Lower-case hex of `bytes` under this kind.
    pub fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Md5 => hex(&md5::Md5::digest(bytes)),
            Self::Sha256 => hex(&sha2::Sha256::digest(bytes)),
            Self::Sha512 => hex(&sha2::Sha512::digest(bytes)),
        }
    }

    /// Where a cache keeps `bytes`: `/cache/md5/ab/ab…`.
    pub fn cache_path(self, bytes: &[u8]) -> String {
        let hex = self.of(bytes);
        format!("/cache/{}/{}/{hex}", self.name(), &hex[..2])
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}
