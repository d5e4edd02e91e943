//! Archives: whatever they are there is an answer, within the limits, and the same one however the
//! bytes come.

use crate::mending::{choice, gzip, with_right_sums};
use opam_keep::archive::{Explanation, Limits, Listing, explain, list};
use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// A tar archive, plain or compressed.
pub fn archive_tar(input: &[u8]) {
    let Some((choice, bytes)) = choice(input) else { return };
    match choice % 4 {
        0 => drop(checked(bytes)),
        1 => drop(checked(&with_right_sums(bytes))),
        2 => drop(checked(&gzip(&with_right_sums(bytes)))),
        _ => {
            let plain = checked(&with_right_sums(bytes));
            let inside = checked(&gzip(&with_right_sums(bytes)));
            // What is in an archive does not depend on what it is compressed with.
            if plain.format.to_string() == "tar" && plain.problem.is_none() {
                assert_eq!((plain.entries, plain.top), (inside.entries, inside.top));
            }
        }
    }
}

/// A zip archive.
pub fn archive_zip(bytes: &[u8]) {
    checked(bytes);
    // A zip may come inside of a gzip that a server added, where it is a file like any other.
    if bytes.first() == Some(&0) {
        checked(&bytes[1..]);
    }
}

/// Two archives, the first one as long as the first two bytes say.
pub fn archive_compare(input: &[u8]) {
    let Some((choice, rest)) = choice(input) else { return };
    let Some((length, rest)) = rest.split_first_chunk() else { return };
    let (pinned, observed) =
        rest.split_at(usize::from(u16::from_be_bytes(*length)) % (rest.len() + 1));
    match choice % 3 {
        0 => compared(pinned, observed),
        1 => compared(&with_right_sums(pinned), &with_right_sums(observed)),
        _ => compared(&gzip(&with_right_sums(pinned)), &with_right_sums(observed)),
    }
}

/// The listing, which keeps to the limits.
fn checked(bytes: &[u8]) -> Listing {
    let listing = list(&mut Cursor::new(bytes), &LIMITS).expect("memory can be read");
    assert!(listing.entries.len() <= LIMITS.entries && listing.remarks.len() <= LIMITS.listed);
    let names: usize = listing.entries.iter().map(|entry| entry.name.as_str().len()).sum();
    // A byte takes up to ten once it is printable.
    assert!(names <= 10 * LIMITS.names_bytes);
    let may = (bytes.len() as u64 * LIMITS.inflation_ratio).max(LIMITS.inflation_floor);
    assert!(listing.inflated.is_none_or(|it| it.size <= may.min(LIMITS.inflated_bytes)));
    assert_eq!(listing.size, bytes.len() as u64);
    let slowly = list(&mut Trickle(Cursor::new(bytes)), &LIMITS).expect("memory can be read");
    assert_eq!(listing, slowly);
    let json = serde_json::to_string(&listing).expect("a listing is JSON");
    assert_eq!(serde_json::from_str::<Listing>(&json).expect("it reads back"), listing);
    listing
}

/// Explains in both directions, and checks that the answers are good for people and programs.
fn compared(pinned: &[u8], observed: &[u8]) {
    for (pinned, observed) in [(pinned, observed), (observed, pinned), (pinned, pinned)] {
        let explanation = explain(&mut Cursor::new(pinned), &mut Cursor::new(observed), &LIMITS);
        let explanation = explanation.expect("memory can be read");
        assert_eq!(explanation.is_none(), pinned == observed);
        let Some(explanation) = explanation else { continue };
        let json = serde_json::to_string(&explanation).expect("an explanation is JSON");
        assert!(json.len() < LARGEST_ANSWER, "{}", json.len());
        let again: Explanation = serde_json::from_str(&json).expect("it reads back");
        assert_eq!(again, explanation);
        let sentence = explanation.to_string();
        assert!(!sentence.is_empty() && !sentence.chars().any(char::is_control), "{sentence:?}");
        assert!(explanation.unified_diff().is_none_or(|diff| diff.len() < LARGEST_ANSWER));
    }
}

/// A reader that never gives more than a few bytes at a time.
struct Trickle<'a>(Cursor<&'a [u8]>);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let some = buffer.len().min(1 + (self.0.position() % 97) as usize);
        self.0.read(&mut buffer[..some])
    }
}

impl Seek for Trickle<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Small, so that what goes over them shows.
const LIMITS: Limits = Limits {
    inflated_bytes: 1 << 20,
    inflation_ratio: 1000,
    inflation_floor: 1 << 16,
    members: 20,
    window: 1 << 24,
    entries: 20,
    name_len: 300,
    names_bytes: 2000,
    extended_header: 1000,
    text_file: 500,
    text_bytes: 1000,
    diff_bytes: 400,
    diff_steps: 100,
    listed: 5,
};

/// No answer within these limits is longer, in bytes.
const LARGEST_ANSWER: usize = 100_000;
