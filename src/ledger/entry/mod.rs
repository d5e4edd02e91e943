//! The ledger's entries and their canonical form.
//!
//! A leaf is one JSON object in UTF-8 with sorted keys and no spaces, with `"v":1`, `"kind"` and
//! `"at"` (RFC 3339, UTC, to the second), at most [`MAX_LEAF`] bytes long. A leaf that is read is
//! held against what would be written, so that there is one form only.

mod divergence;
mod kept;
mod recheck;

pub use divergence::{Action, Decision, Divergence, DivergenceKind, DivergenceState, Observed};
pub use kept::{History, Import, KeyEntry, Past, Pin, Snapshot, Strength};
pub use recheck::{Outcome, Recheck};

use super::tile::MAX_LEAF;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The key that signs the ledger's checkpoints; the first entry.
    Key(KeyEntry),
    /// A URL's bytes at their first fetch.
    Pin(Pin),
    /// One state of an upstream repository and what of it is served.
    Snapshot(Snapshot),
    /// Upstream said something else than what is pinned or declared.
    Divergence(Divergence),
    /// What an operator decided about a divergence.
    Decision(Decision),
    /// A pinned URL was fetched again, with another outcome than before.
    Recheck(Recheck),
    /// What a repository's history first said.
    History(History),
    /// A bundle that was taken in.
    Import(Import),
    /// An entry of a kind that this version does not know.
    Other(OtherEntry),
}

/// An entry of a kind that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherEntry {
    at: Timestamp,
    kind: String,
    leaf: Vec<u8>,
}

/// Why an entry can't be written or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It is longer than a leaf may be.
    #[error("an entry of {length} bytes is longer than the {MAX_LEAF} that a leaf may have")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// It is not what an entry of its kind has to be.
    #[error("not an entry: {0}")]
    Malformed(String),
    /// It says something sensible in another form than the canonical one.
    #[error("not in canonical form")]
    NotCanonical,
}

impl Entry {
    /// When what the entry says happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Key(entry) => entry.at,
            Self::Pin(entry) => entry.at,
            Self::Snapshot(entry) => entry.at,
            Self::Divergence(entry) => entry.at,
            Self::Decision(entry) => entry.at,
            Self::Recheck(entry) => entry.at,
            Self::History(entry) => entry.at,
            Self::Import(entry) => entry.at,
            Self::Other(entry) => entry.at,
        }
    }

    /// The entry's kind, as the leaf names it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Key(_) => "key",
            Self::Pin(_) => "pin",
            Self::Snapshot(_) => "snapshot",
            Self::Divergence(_) => "divergence",
            Self::Decision(_) => "decision",
            Self::Recheck(_) => "recheck",
            Self::History(_) => "history",
            Self::Import(_) => "import",
            Self::Other(entry) => &entry.kind,
        }
    }

    /// The leaf, in canonical form.
    ///
    /// # Errors
    /// [`EntryError::TooLong`].
    pub fn to_leaf(&self) -> Result<Vec<u8>, EntryError> {
        let leaf = match self {
            Self::Key(entry) => canonical(entry, self.kind())?,
            Self::Pin(entry) => canonical(entry, self.kind())?,
            Self::Snapshot(entry) => canonical(entry, self.kind())?,
            Self::Divergence(entry) => canonical(entry, self.kind())?,
            Self::Decision(entry) => canonical(entry, self.kind())?,
            Self::Recheck(entry) => canonical(entry, self.kind())?,
            Self::History(entry) => canonical(entry, self.kind())?,
            Self::Import(entry) => canonical(entry, self.kind())?,
            Self::Other(entry) => entry.leaf.clone(),
        };
        match leaf.len() {
            length if length > MAX_LEAF => Err(EntryError::TooLong { length }),
            _ => Ok(leaf),
        }
    }

    /// Reads a leaf.
    ///
    /// # Errors
    /// When it is no entry, or not in the one form in which entries are written.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, EntryError> {
        if leaf.len() > MAX_LEAF {
            return Err(EntryError::TooLong { length: leaf.len() });
        }
        let value: Value = serde_json::from_slice(leaf).map_err(malformed)?;
        if serde_json::to_vec(&value).map_err(malformed)? != leaf {
            return Err(EntryError::NotCanonical);
        }
        let Value::Object(mut fields) = value else {
            return Err(EntryError::Malformed("not an object".to_owned()));
        };
        if fields.remove("v") != Some(Value::from(VERSION)) {
            return Err(EntryError::Malformed("\"v\" is not 1".to_owned()));
        }
        let Some(Value::String(kind)) = fields.remove("kind") else {
            return Err(EntryError::Malformed("it has no \"kind\"".to_owned()));
        };
        let entry = match kind.as_str() {
            "key" => Self::Key(read(fields)?),
            "pin" => Self::Pin(read(fields)?),
            "snapshot" => Self::Snapshot(read(fields)?),
            "divergence" => Self::Divergence(read(fields)?),
            "decision" => Self::Decision(read(fields)?),
            "recheck" => Self::Recheck(read(fields)?),
            "history" => Self::History(read(fields)?),
            "import" => Self::Import(read(fields)?),
            "" => return Err(EntryError::Malformed("\"kind\" is empty".to_owned())),
            _ => {
                if fields.values().any(has_float) {
                    return Err(EntryError::NotCanonical);
                }
                let text = fields.remove("at").unwrap_or_default();
                let at: Timestamp = serde_json::from_value(text.clone()).map_err(malformed)?;
                if text != at.to_string() {
                    return Err(EntryError::NotCanonical);
                }
                Self::Other(OtherEntry { at, kind, leaf: leaf.to_vec() })
            }
        };
        let canonical = entry.at().subsec_nanosecond() == 0 && entry.to_leaf()? == leaf;
        if canonical { Ok(entry) } else { Err(EntryError::NotCanonical) }
    }

    /// The entry as a JSON value, for those who list entries.
    pub fn to_json(&self) -> Value {
        let leaf = self.to_leaf().unwrap_or_default();
        serde_json::from_slice(&leaf).unwrap_or_default()
    }
}

const VERSION: u64 = 1;

/// Objects of `serde_json` keep their keys sorted, and its compact form has no spaces.
fn canonical(entry: &impl Serialize, kind: &str) -> Result<Vec<u8>, EntryError> {
    let mut value = serde_json::to_value(entry).map_err(malformed)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("v".to_owned(), VERSION.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    serde_json::to_vec(&value).map_err(malformed)
}

fn read<T: DeserializeOwned>(fields: serde_json::Map<String, Value>) -> Result<T, EntryError> {
    serde_json::from_value(Value::Object(fields)).map_err(malformed)
}

/// serde_json itself bounds how deep values nest.
fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        _ => false,
    }
}

fn malformed(error: serde_json::Error) -> EntryError {
    EntryError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digests;
    use proptest::prelude::*;

    fn pin(url: &str) -> Pin {
        let digests = Digests::of(b"archive");
        Pin {
            at: "2026-11-22T22:47:26Z".parse().unwrap(),
            repository: "default".to_owned(),
            packages: vec!["a.1".to_owned()],
            url: url.to_owned(),
            src: None,
            from: url.to_owned(),
            sha256: digests.sha256,
            sha512: digests.sha512,
            md5: digests.md5,
            size: digests.size,
            declared: Vec::new(),
            strength: Strength::None,
            agreed: Vec::new(),
            import: None,
        }
    }

    #[test]
    fn a_leaf_is_canonical_json() {
        let leaf = Entry::Pin(pin("https://host.example/é\"")).to_leaf().unwrap();
        let text = String::from_utf8(leaf).unwrap();
        assert!(text.starts_with("{\"at\":\"2026-11-22T22:47:26Z\",\"from\":"), "{text}");
        assert!(
            text.ends_with("\"strength\":\"none\",\"url\":\"https://host.example/é\\\"\",\"v\":1}")
        );
    }

    #[test]
    fn any_other_form_is_refused() {
        let entry = Entry::Pin(pin("https://host.example/"));
        let leaf = entry.to_leaf().unwrap();
        assert_eq!(Entry::from_leaf(&leaf), Ok(entry));
        let text = String::from_utf8(leaf).unwrap();
        for (from, to) in [
            ("{\"at\"", "{ \"at\""),
            ("22:47:26Z", "22:47:26.0Z"),
            ("22:47:26Z", "22:47:26.5Z"),
            ("22:47:26Z", "22:47:26+00:00"),
            ("\"v\":1", "\"v\":1.0"),
            ("\"v\":1", "\"v\":2"),
            ("\"size\":7", "\"size\":7,\"size\":7"),
            ("\"size\":7", "\"size\":-7"),
            ("\"v\":1", "\"unknown\":1,\"v\":1"),
            ("https://host", "https:\\/\\/host"),
        ] {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            assert!(Entry::from_leaf(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn kinds_of_later_versions_are_kept_as_they_are() {
        let leaf = br#"{"at":"2026-11-22T22:47:26Z","kind":"witness","v":1,"who":"me"}"#;
        let entry = Entry::from_leaf(leaf).unwrap();
        assert_eq!((entry.kind(), entry.to_leaf().unwrap()), ("witness", leaf.to_vec()));
        let text = std::str::from_utf8(leaf).unwrap();
        for (from, to) in
            [("\"me\"", "[1.5]"), ("26Z", "26.5Z"), ("26Z", "26+02:00"), ("witness", "")]
        {
            let other = text.replace(from, to);
            assert!(Entry::from_leaf(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn an_entry_that_no_leaf_can_hold_is_refused() {
        let entry = Entry::Pin(pin(&"x".repeat(MAX_LEAF)));
        assert!(matches!(entry.to_leaf(), Err(EntryError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn entries_read_back(url: String, packages: Vec<String>, size: u64) {
            let entry = Entry::Pin(Pin { packages, size, ..pin(&url) });
            prop_assert_eq!(Entry::from_leaf(&entry.to_leaf().unwrap()), Ok(entry));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, text in "\\{\"[a-z\":{},\\[\\]0-9]*") {
            let _ = Entry::from_leaf(&bytes);
            let _ = Entry::from_leaf(text.as_bytes());
        }
    }
}
