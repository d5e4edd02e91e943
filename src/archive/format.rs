//! What an archive is, by its first bytes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A container inside a compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// What has to be inflated first.
    pub compression: Compression,
    /// What is inside.
    pub container: Container,
}

/// How a whole file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all. A zip file compresses each entry for itself.
    None,
    /// RFC 1952, of one or more members.
    Gzip,
    /// bzip2, of one or more streams.
    Bzip2,
    /// xz, of one or more streams.
    Xz,
    /// RFC 8878, of one or more frames.
    Zstd,
}

/// How files are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// POSIX ustar and pax, GNU and the oldest tar.
    Tar,
    /// PKWARE's APPNOTE.
    Zip,
    /// No container: one file.
    Plain,
}

impl Compression {
    /// By the magic bytes.
    pub(super) fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] if is_bzip2_block(rest) => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, which may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl Container {
    /// By the magic bytes, once inflated. A zip is looked for only where nothing was: one inside
    /// a compression is a nested archive.
    pub(super) fn detect(compression: Compression, head: &[u8]) -> Self {
        if compression == Compression::None && is_zip(head) {
            Self::Zip
        } else if head.first_chunk().is_some_and(is_tar_header) {
            Self::Tar
        } else {
            Self::Plain
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "plain",
            Self::Gzip => "gz",
            Self::Bzip2 => "bz2",
            Self::Xz => "xz",
            Self::Zstd => "zst",
        })
    }
}

impl fmt::Display for Format {
    /// As file names end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.container, self.compression) {
            (Container::Zip, _) => f.write_str("zip"),
            (Container::Tar, Compression::None) => f.write_str("tar"),
            (Container::Tar, compression) => write!(f, "tar.{compression}"),
            (Container::Plain, Compression::None) => f.write_str("a plain file"),
            (Container::Plain, compression) => write!(f, "a plain file in {compression}"),
        }
    }
}

/// Whether the block's sum is right, or there are only zeros, as at the end of an empty archive.
pub(super) fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let stated = tar::Header::from_byte_slice(block).cksum().ok();
    // Some old writers took bytes for signed when they summed them up.
    let unsigned = sum(block, i64::from);
    let signed = sum(block, |byte| i64::from(byte as i8));
    stated.is_some_and(|stated| [unsigned, signed].contains(&i64::from(stated)))
}

/// The length of a tar block.
pub(super) const BLOCK: usize = 512;

/// How much of a file has to be seen to know what it is.
pub(super) const HEAD: usize = 64 << 10;

fn sum(block: &[u8; BLOCK], value: impl Fn(u8) -> i64) -> i64 {
    let blanked = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { b' ' } else { *byte };
    block.iter().enumerate().map(blanked).map(value).sum()
}

/// Where a tar header has its own sum.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Entries, or the end of an empty archive.
fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// A bzip2 header is text; what comes after it is not. Cut ones are taken by their first bytes.
fn is_bzip2_block(rest: &[u8]) -> bool {
    let block = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    let end = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
    let length = rest.len().min(block.len());
    rest[..length] == block[..length] || rest[..length] == end[..length]
}
