//! What follows a bundle's list: ledger entries and blobs.

use super::BundleError;
use crate::digest::Sha256;
use std::fmt;
use std::str::FromStr;

/// One member, as the list names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub path: MemberPath,
    /// What its bytes hash to.
    pub sha256: Sha256,
    /// How many there are.
    pub size: u64,
}

/// Where a member is, which says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberPath {
    /// Ledger entries from this index on.
    Entries(u64),
    /// The blob of this name.
    Blob(Sha256),
}

impl fmt::Display for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(index) => write!(f, "entries/{index}"),
            Self::Blob(name) => {
                let hex = name.to_string();
                write!(f, "blobs/sha256/{}/{hex}", &hex[..2])
            }
        }
    }
}

impl FromStr for MemberPath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let path = match text.strip_prefix("entries/") {
            Some(index) => Self::Entries(index.parse().map_err(|_| ())?),
            None => {
                Self::Blob(text.rsplit('/').next().unwrap_or_default().parse().map_err(|_| ())?)
            }
        };
        // One path has one spelling.
        if path.to_string() == text { Ok(path) } else { Err(()) }
    }
}

/// The list of these members.
pub(super) fn write_list(members: &[Member]) -> Vec<u8> {
    let lines =
        members.iter().map(|Member { path, sha256, size }| format!("{sha256} {size} {path}\n"));
    lines.collect::<String>().into_bytes()
}

/// Reads what [`write_list`] writes.
pub(super) fn read_list(bytes: &[u8]) -> Result<Vec<Member>, BundleError> {
    let wrong = |line: usize| BundleError::Form(format!("line {line} of its list can't be read"));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(1))?;
    let mut members = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [sha256, size, path] = words[..] else { return Err(wrong(number)) };
        let parsed = (sha256.parse(), size.parse(), path.parse());
        let (Ok(sha256), Ok(size), Ok(path)) = parsed else { return Err(wrong(number)) };
        if matches!(path, MemberPath::Blob(name) if name != sha256) {
            return Err(wrong(number));
        }
        members.push(Member { path, sha256, size });
    }
    match write_list(&members) == bytes {
        true => Ok(members),
        false => Err(BundleError::Form("its list is written in another way".to_owned())),
    }
}
