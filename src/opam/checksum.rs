//! Checksums as opam files declare them, and what a whole `checksum` field is worth.

use crate::digest::{Digests, Md5, NotADigest, Sha256, Sha512};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The hash functions that opam knows, through 2.6 (`opamHash.ml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChecksumKind {
    /// MD5, 32 hexadecimal digits.
    Md5,
    /// SHA-256, 64 hexadecimal digits.
    Sha256,
    /// SHA-512, 128 hexadecimal digits.
    Sha512,
}

impl ChecksumKind {
    /// Every kind, weakest first.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512];

    /// How many hexadecimal digits a checksum of this kind has.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for ChecksumKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChecksumKind {
    type Err = ChecksumError;

    /// Lower-case names only, as in the paths of an archive cache.
    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == text);
        kind.ok_or_else(|| ChecksumError::UnknownKind(excerpt(text)))
    }
}

/// One checksum: a kind and the hash itself.
///
/// Prints as opam writes it, `sha256=<hex>`, and is serialized as that string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checksum {
    /// An MD5 hash.
    Md5(Md5),
    /// A SHA-256 hash.
    Sha256(Sha256),
    /// A SHA-512 hash.
    Sha512(Sha512),
}

impl Checksum {
    /// A checksum of a known kind from its hexadecimal digits, of either case.
    pub fn from_hex(kind: ChecksumKind, hex: &str) -> Result<Self, ChecksumError> {
        let wrong = |cause| ChecksumError::NotHexadecimal { kind, cause };
        match kind {
            ChecksumKind::Md5 => hex.parse().map(Self::Md5).map_err(wrong),
            ChecksumKind::Sha256 => hex.parse().map(Self::Sha256).map_err(wrong),
            ChecksumKind::Sha512 => hex.parse().map(Self::Sha512).map_err(wrong),
        }
    }

    /// The hash function.
    pub fn kind(&self) -> ChecksumKind {
        match self {
            Self::Md5(_) => ChecksumKind::Md5,
            Self::Sha256(_) => ChecksumKind::Sha256,
            Self::Sha512(_) => ChecksumKind::Sha512,
        }
    }

    /// The hash in lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        match self {
            Self::Md5(hash) => hash.to_string(),
            Self::Sha256(hash) => hash.to_string(),
            Self::Sha512(hash) => hash.to_string(),
        }
    }

    /// Whether the hashed bytes are the ones that this checksum names.
    pub fn matches(&self, digests: &Digests) -> bool {
        match self {
            Self::Md5(hash) => *hash == digests.md5,
            Self::Sha256(hash) => *hash == digests.sha256,
            Self::Sha512(hash) => *hash == digests.sha512,
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.kind())?;
        match self {
            Self::Md5(hash) => hash.fmt(f),
            Self::Sha256(hash) => hash.fmt(f),
            Self::Sha512(hash) => hash.fmt(f),
        }
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    /// As opam reads it: kind and digits in either case, and 32 bare digits are an MD5.
    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        match text.split_once('=') {
            Some((kind, hex)) => Self::from_hex(kind.to_ascii_lowercase().parse()?, hex),
            None => Self::from_hex(ChecksumKind::Md5, text)
                .map_err(|_| ChecksumError::NotAChecksum(excerpt(text))),
        }
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that is not a checksum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// A hash function that opam clients don't know.
    #[error("\"{0}\" is no kind of checksum that opam knows (md5, sha256, sha512)")]
    UnknownKind(String),
    /// The digits after the kind are too few, too many or no digits.
    #[error("this is not an {kind} checksum: {cause}")]
    NotHexadecimal {
        /// The kind that was named.
        kind: ChecksumKind,
        /// What is wrong with the digits.
        cause: NotADigest,
    },
    /// Neither `kind=digits` nor 32 bare digits.
    #[error("\"{0}\" is not a checksum: write it as kind=digits, such as sha256=…")]
    NotAChecksum(String),
}

/// A whole `checksum` field, in the file's order.
///
/// Clients ask caches for the first one only, and require all of them to match. One entry that
/// they can't read voids the whole field: they then install unverified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredChecksums {
    checksums: Vec<Checksum>,
    voided: Option<String>,
}

impl DeclaredChecksums {
    /// The field with these checksums, in this order.
    pub fn new(checksums: Vec<Checksum>) -> Self {
        Self { checksums, voided: None }
    }

    /// A field that clients ignore, and why, in a sentence for people.
    pub fn void(reason: impl Into<String>) -> Self {
        Self { checksums: Vec::new(), voided: Some(reason.into()) }
    }

    /// The field out of its entries as text: the first unreadable one voids it.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        match entries.into_iter().map(str::parse).collect() {
            Ok(checksums) => Self::new(checksums),
            Err(error) => Self::void(ChecksumError::to_string(&error)),
        }
    }

    /// The checksums in the file's order; none if there are none or the field is void.
    pub fn as_slice(&self) -> &[Checksum] {
        &self.checksums
    }

    /// The one that clients ask caches for.
    pub fn first(&self) -> Option<&Checksum> {
        self.checksums.first()
    }

    /// Why clients ignore the field, if they do.
    pub fn voided(&self) -> Option<&str> {
        self.voided.as_deref()
    }

    /// Whether no declared checksum contradicts the hashed bytes.
    ///
    /// True for any bytes where [`Self::strength`] is [`Strength::None`]: ask that first.
    pub fn all_match(&self, digests: &Digests) -> bool {
        self.checksums.iter().all(|checksum| checksum.matches(digests))
    }

    /// How far the field can be relied upon.
    pub fn strength(&self) -> Strength {
        match self.checksums.iter().map(Checksum::kind).max() {
            None => Strength::None,
            Some(ChecksumKind::Md5) => Strength::Weak,
            Some(ChecksumKind::Sha256 | ChecksumKind::Sha512) => Strength::Strong,
        }
    }
}

/// How far declared checksums can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Nothing is declared, or clients ignore the field.
    None,
    /// MD5 alone.
    Weak,
    /// At least one SHA-256 or SHA-512.
    Strong,
}

/// The start of text from outside, short enough for a message.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut excerpt: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checksums_read_as_opam_reads_them() {
        let abc = Digests::of(b"abc");
        let md5 = abc.md5.to_string();
        let sha256 = abc.sha256.to_string();
        for (text, printed) in [
            (md5.clone(), format!("md5={md5}")),
            (format!("MD5={}", md5.to_uppercase()), format!("md5={md5}")),
            (format!("Sha256={}", sha256.to_uppercase()), format!("sha256={sha256}")),
            (format!("sha512={}", abc.sha512), format!("sha512={}", abc.sha512)),
        ] {
            let checksum: Checksum = text.parse().unwrap();
            assert_eq!(checksum.to_string(), printed);
            assert!(checksum.matches(&abc) && !checksum.matches(&Digests::of(b"abd")));
            assert_eq!(checksum.hex().len(), checksum.kind().hex_len());
            let json = serde_json::to_string(&checksum).unwrap();
            assert_eq!(json, format!("\"{printed}\""));
            assert_eq!(serde_json::from_str::<Checksum>(&json).unwrap(), checksum);
        }
    }

    #[test]
    fn other_text_is_no_checksum() {
        let hex = "0".repeat(64);
        for text in
            ["", "=", "md5=", "sha1=00", &hex, &format!("md5={hex}"), &format!(" sha256={hex}")]
        {
            assert!(text.parse::<Checksum>().is_err(), "{text}");
        }
        assert!("SHA256".parse::<ChecksumKind>().is_err());
        let long = "é\n".repeat(100).parse::<Checksum>().unwrap_err().to_string();
        assert!(long.len() < 250 && !long.contains('\n'), "{long}");
    }

    #[test]
    fn trap_16_one_unreadable_entry_voids_the_whole_field() {
        let good = format!("sha256={}", Sha256::of(b"abc"));
        let declared = DeclaredChecksums::from_entries([good.as_str(), "blake3=00"]);
        assert_eq!(declared.strength(), Strength::None);
        assert!(declared.as_slice().is_empty());
        assert!(declared.voided().unwrap().contains("blake3"));
    }

    #[test]
    fn trap_18_every_declared_checksum_must_match() {
        let (abc, other) = (Digests::of(b"abc"), Digests::of(b"other"));
        let mixed =
            DeclaredChecksums::new(vec![Checksum::Md5(abc.md5), Checksum::Sha256(other.sha256)]);
        assert!(!mixed.all_match(&abc) && !mixed.all_match(&other));
        assert_eq!(mixed.strength(), Strength::Strong);
        assert_eq!(mixed.first(), Some(&Checksum::Md5(abc.md5)));
        let weak = DeclaredChecksums::new(vec![Checksum::Md5(abc.md5)]);
        assert_eq!(weak.strength(), Strength::Weak);
        assert!(weak.all_match(&abc));
        assert_eq!(DeclaredChecksums::default().strength(), Strength::None);
    }

    proptest! {
        #[test]
        fn what_reads_as_a_checksum_prints_in_one_form(
            kind in "((md5|MD5|sha256|Sha512|sha1|)=)?",
            hex in "[0-9a-fA-F]{31,33}([0-9a-f]{32}|[0-9a-f]{96})?|.{0,40}",
        ) {
            let text = format!("{kind}{hex}");
            if let Ok(checksum) = text.parse::<Checksum>() {
                let (kind, hex) = text.split_once('=').unwrap_or(("md5", &text));
                let printed = format!("{kind}={hex}").to_lowercase();
                prop_assert_eq!(checksum.to_string(), printed.as_str());
                prop_assert_eq!(printed.parse::<Checksum>(), Ok(checksum));
                prop_assert_eq!(Checksum::from_hex(checksum.kind(), hex), Ok(checksum));
            }
            let declared = DeclaredChecksums::from_entries([hex.as_str(), "md5=0"]);
            prop_assert!(declared.voided().is_some() && declared.as_slice().is_empty());
        }
    }
}
