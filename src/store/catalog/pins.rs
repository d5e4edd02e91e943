//! What is pinned: by URL, and by each checksum of the bytes.

use super::index::{Change, Index, IndexError, Table};
use super::{Catalog, number};
use crate::digest::Sha256;
use crate::ledger::entry::Pin;
use crate::opam::Checksum;
use std::collections::HashMap;

/// What a pin says about its blob, and where the pin stands in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The blob.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// The ledger index of the first pin with these bytes (by checksum) or of the URL's pin.
    pub entry: u64,
}

impl Catalog {
    /// The first pin of a URL.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pin(&self, url: &str) -> Result<Option<Kept>, IndexError> {
        Ok(self.get(Table::Pin, url.as_bytes())?.and_then(|value| kept(&value)))
    }

    /// The pin of a URL to these very bytes: the first one, or one beside it that a strong
    /// checksum vouched for.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pin_to(&self, url: &str, sha256: &Sha256) -> Result<Option<Kept>, IndexError> {
        let first = self.pin(url)?.filter(|first| first.sha256 == *sha256);
        if first.is_some() {
            return Ok(first);
        }
        Ok(self.get(Table::Pin, &pin_to_key(url, sha256))?.and_then(|value| kept(&value)))
    }

    /// The pinned blob that has this checksum.
    ///
    /// # Errors
    /// When the index fails.
    pub fn kept(&self, checksum: &Checksum) -> Result<Option<Kept>, IndexError> {
        Ok(self.get(Table::Blob, &checksum_key(checksum))?.and_then(|value| kept(&value)))
    }

    /// The pinned blob of a source: the one that all its checksums lead to or, without any, the first
    /// that one of its URLs was pinned to.
    ///
    /// # Errors
    /// When the index fails.
    pub fn kept_of<'u>(
        &self,
        checksums: &[Checksum],
        urls: impl IntoIterator<Item = &'u String>,
    ) -> Result<Option<Kept>, IndexError> {
        let mut found: Option<Kept> = None;
        for checksum in checksums {
            match (self.kept(checksum)?, found) {
                (Some(kept), Some(first)) if kept.sha256 != first.sha256 => return Ok(None),
                (Some(kept), _) => found = Some(kept),
                (None, _) => return Ok(None),
            }
        }
        // Which of its URLs answers first may change; which one did, not.
        for url in urls.into_iter().filter(|_| checksums.is_empty()) {
            let pins = found.into_iter().chain(self.pin(url)?);
            found = pins.min_by_key(|kept| kept.entry);
        }
        Ok(found)
    }

    /// How many pins there are.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pins(&self) -> Result<u64, IndexError> {
        self.number(META_PINS)
    }
}

/// Notes a pin; the first one of a URL and the first one of these bytes count, also when two come
/// in one batch.
pub(super) fn apply_pin(
    index: &dyn Index,
    number: u64,
    pin: &Pin,
    seen: &mut HashMap<(Table, Vec<u8>), Sha256>,
    changes: &mut Vec<Change>,
) -> Result<(), IndexError> {
    let value = kept_value(&Kept { sha256: pin.sha256, size: pin.size, entry: number });
    let checksums =
        [Checksum::Md5(pin.md5), Checksum::Sha256(pin.sha256), Checksum::Sha512(pin.sha512)];
    // Notes it where nothing is noted yet, and says what is noted there now.
    let mut note = |table, key: Vec<u8>| -> Result<Sha256, IndexError> {
        if let Some(seen) = seen.get(&(table, key.clone())) {
            return Ok(*seen);
        }
        let known = index.get(table, &key)?.and_then(|value| kept(&value));
        let noted = known.map_or(pin.sha256, |known| known.sha256);
        if known.is_none() {
            changes.push(Change::Put(table, key.clone(), value.clone()));
        }
        seen.insert((table, key), noted);
        Ok(noted)
    };
    for checksum in &checksums {
        note(Table::Blob, checksum_key(checksum))?;
    }
    if note(Table::Pin, pin.url.as_bytes().to_vec())? != pin.sha256 {
        note(Table::Pin, pin_to_key(&pin.url, &pin.sha256))?;
    }
    Ok(())
}

/// No URL has a line break, so no other URL begins like this.
fn pin_to_key(url: &str, sha256: &Sha256) -> Vec<u8> {
    format!("{url}\n{sha256}").into_bytes()
}

pub(super) fn checksum_key(checksum: &Checksum) -> Vec<u8> {
    let (kind, bytes): (u8, &[u8]) = match checksum {
        Checksum::Md5(digest) => (b'm', digest.as_bytes()),
        Checksum::Sha256(digest) => (b's', digest.as_bytes()),
        Checksum::Sha512(digest) => (b'S', digest.as_bytes()),
    };
    std::iter::once(kind).chain(bytes.iter().copied()).collect()
}

fn kept_value(kept: &Kept) -> Vec<u8> {
    [&kept.sha256.as_bytes()[..], &kept.size.to_be_bytes(), &kept.entry.to_be_bytes()].concat()
}

fn kept(value: &[u8]) -> Option<Kept> {
    let (sha256, rest) = value.split_first_chunk::<32>()?;
    let (size, entry) = rest.split_first_chunk::<8>()?;
    Some(Kept {
        sha256: Sha256::from_bytes(*sha256),
        size: u64::from_be_bytes(*size),
        entry: number(entry)?,
    })
}

/// How many pins there are.
pub(super) const META_PINS: &[u8] = b"pins";
