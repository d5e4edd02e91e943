//! What a header of tar has to look like for all readers to see the same entry in it.
//!
//! What was reviewed here is unpacked by the tar of each client. An entry that one of them sees
//! and the other does not would be installed without a review, so nothing is guessed: what GNU
//! tar, libarchive, Python or the `tar` crate read differently is refused.

use super::TreeError;
use tar::{EntryType, Header};

/// Refuses a header in which readers could see different entries; `name` is its own.
pub(super) fn check(header: &Header, name: &[u8]) -> Result<(), TreeError> {
    match form_fault(header).or_else(|| number_fault(header)) {
        None => Ok(()),
        Some(fault) => Err(TreeError::ambiguous(name, fault)),
    }
}

fn form_fault(header: &Header) -> Option<&'static str> {
    if header.as_ustar().is_some() {
        return None;
    }
    let bytes = header.as_bytes();
    // Python takes it for a part of the name whatever the format is, libarchive for the holes of a
    // sparse file whatever the type is.
    if bytes[PREFIX..].iter().any(|byte| *byte != 0) {
        return Some("only some of them read the last part of its header");
    }
    if header.as_gnu().is_some() {
        return None;
    }
    // Some look at the first five letters alone.
    if bytes[MAGIC..].starts_with(b"ustar") {
        return Some("its format is neither that of POSIX nor that of GNU");
    }
    let is_extended = matches!(
        header.entry_type(),
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    );
    is_extended.then_some("its format has no extended headers")
}

/// A number that a reader can't read makes it skip the entry, or end there.
fn number_fault(header: &Header) -> Option<&'static str> {
    let (fields, bytes) = (header.as_old(), header.as_bytes());
    let is_time_or_id = |field: &[u8]| {
        is_octal(field) || is_filled_with_digits(field) || matches!(field[0], 0x80 | 0xff)
    };
    // As few bytes as the `tar` crate reads, and no sign.
    let is_size = |field: &[u8]| is_octal(field) || field.starts_with(&[0x80, 0, 0, 0]);
    let checked = [
        (is_size(&fields.size), "its size is not written as all of them read it"),
        (is_octal(&fields.cksum), "its checksum is not written as all of them read it"),
        (is_octal(&fields.mode), "its mode is not written as all of them read it"),
        (is_time_or_id(&fields.uid), "its owner is not written as all of them read it"),
        (is_time_or_id(&fields.gid), "its group is not written as all of them read it"),
        (is_time_or_id(&fields.mtime), "its time is not written as all of them read it"),
        (
            is_time_or_id(&bytes[DEVICE_MAJOR..DEVICE_MINOR])
                && is_time_or_id(&bytes[DEVICE_MINOR..PREFIX]),
            "its device is not written as all of them read it",
        ),
    ];
    checked.into_iter().find(|(is_plain, _)| !is_plain).map(|(_, fault)| fault)
}

/// Spaces, octal digits, and then at least one zero byte or space and nothing else; or only zero
/// bytes.
fn is_octal(field: &[u8]) -> bool {
    let rest = behind_digits(field);
    !rest.is_empty() && rest.iter().all(|byte| matches!(byte, 0 | b' '))
}

/// As bsdtar writes a number that leaves no room for what ends it.
fn is_filled_with_digits(field: &[u8]) -> bool {
    behind_digits(field).is_empty() && field.last().is_some_and(|last| *last != b' ')
}

/// What comes after spaces and octal digits.
fn behind_digits(field: &[u8]) -> &[u8] {
    let mut rest = field;
    while let [b' ', after @ ..] = rest {
        rest = after;
    }
    while let [b'0'..=b'7', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// Where the fields begin in a header.
const MAGIC: usize = 257;
const DEVICE_MAJOR: usize = 329;
const DEVICE_MINOR: usize = 337;
const PREFIX: usize = 345;
