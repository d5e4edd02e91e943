//! Any bytes at all, and archives with some bytes changed.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::io::{self, Read, Seek, SeekFrom};

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

/// One archive of each form, small enough to be changed everywhere.
fn seeds() -> Vec<Vec<u8>> {
    let tar = Tar::package("foo-1.0")
        .entry(EntryType::GNULongName, "l", b"foo-1.0/long")
        .file("x", b"x")
        .entry(EntryType::XHeader, "x", b"17 path=foo-1.0/y\n")
        .entry(EntryType::GNUSparse, "foo-1.0/sparse", b"data")
        .link(EntryType::Symlink, "foo-1.0/l", "src")
        .bytes();
    let files: [(&str, u32, &[u8]); 3] =
        [("p/a", 0o644, b"a text\n"), ("p/b", 0o755, b"b"), ("p/l", 0o120_777, b"a")];
    let stored = zip_with(&files, rawzip::CompressionMethod::STORE);
    vec![gz(&tar), bz2(&tar), xz(&tar), zst(&tar), zip(&files), stored, b"text\n".to_vec(), tar]
}

/// Explains within the limits and checks that they hold.
fn check(pinned: &[u8], observed: &[u8]) {
    let explanation =
        explain(&mut Cursor::new(pinned), &mut Cursor::new(observed), &LIMITS).unwrap();
    for bytes in [pinned, observed] {
        let listing = listed_within(bytes, &LIMITS);
        assert!(listing.entries.len() <= LIMITS.entries && listing.remarks.len() <= LIMITS.listed);
        let names: usize = listing.entries.iter().map(|entry| entry.name.as_str().len()).sum();
        // A byte takes up to ten once it is printable.
        assert!(names <= 10 * LIMITS.names_bytes);
        assert!(listing.inflated.is_none_or(|it| it.size <= LIMITS.inflated(bytes.len() as u64)));
        assert_eq!(list(&mut Trickle(Cursor::new(bytes)), &LIMITS).unwrap(), listing);
    }
    assert_eq!(explanation.is_none(), pinned == observed);
    let Some(explanation) = explanation else { return };
    let json = serde_json::to_string(&explanation).unwrap();
    assert!(json.len() < 100_000, "{}", json.len());
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
    let sentence = explanation.to_string();
    assert!(!sentence.chars().any(char::is_control), "{sentence}");
    assert!(explanation.unified_diff().is_none_or(|diff| diff.len() < 100_000));
}

/// A reader that never gives more than a few bytes at a time.
struct Trickle<'a>(Cursor<&'a [u8]>);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let some = buffer.len().min(1 + self.0.get_ref().len() % 61);
        self.0.read(&mut buffer[..some])
    }
}

impl Seek for Trickle<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn how_far_a_damaged_archive_can_be_read_does_not_depend_on_its_reader() {
    // All of the archive, and then what no decoder takes. It is so little that a decoder that is
    // given it at once meets the damage before it has handed anything out.
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&Tar::package("foo-1.0").bytes()).unwrap();
    encoder.flush().unwrap();
    let mut damaged = encoder.get_ref().clone();
    damaged.push(0xff);
    let listing = listed(&damaged);
    assert!(listing.problem.is_some());
    assert_eq!(list(&mut Trickle(Cursor::new(&damaged)), &Limits::default()).unwrap(), listing);
}

#[test]
fn an_entry_longer_than_it_claims_is_told_of_alike_whatever_its_reader() {
    let content = [b'x'; 200];
    let mut zip = zip_with(&[("p/a", 0o644, &content)], rawzip::CompressionMethod::STORE);
    // The size in the header before the data and in the directory.
    for (signature, at) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
        let header = zip.windows(4).position(|it| it == signature).unwrap();
        zip[header + at..][..4].copy_from_slice(&5_u32.to_le_bytes());
    }
    let listing = listed(&zip);
    assert!(listing.problem.is_some());
    assert_eq!(list(&mut Trickle(Cursor::new(&zip)), &Limits::default()).unwrap(), listing);
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

impl Mutation {
    fn any() -> impl Strategy<Value = Self> {
        let bytes = prop::collection::vec(any::<u8>(), 1..20);
        prop_oneof![
            4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            1 => any::<Index>().prop_map(Self::Cut),
            1 => (any::<Index>(), bytes).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Self::Repeat(from, to)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(part);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic_or_go_beyond_the_limits(
        pinned in prop::collection::vec(any::<u8>(), 0..600),
        observed in prop::collection::vec(any::<u8>(), 0..600),
        seed in any::<Index>(),
    ) {
        check(&pinned, &observed);
        let seeds = seeds();
        let seed = &seeds[seed.index(seeds.len())];
        check(seed, &observed);
        // Behind a magic number, more is looked at.
        check(&pinned, &[&seed[..seed.len().min(8)], &observed].concat());
    }

    #[test]
    fn no_changed_archive_panics_or_goes_beyond_the_limits(
        which in any::<Index>(),
        other in any::<Index>(),
        mutations in prop::collection::vec(Mutation::any(), 1..6),
    ) {
        let seeds = seeds();
        let mut changed = seeds[which.index(seeds.len())].clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut changed));
        check(&seeds[other.index(seeds.len())], &changed);
        check(&changed, &seeds[other.index(seeds.len())]);
    }

    #[test]
    fn no_changed_tar_panics_or_goes_beyond_the_limits_once_inflated(
        mutations in prop::collection::vec(Mutation::any(), 1..4),
        block in 0..12_usize,
        field in 0..512_usize,
        byte: u8,
    ) {
        let seeds = seeds();
        let mut tar = seeds.last().unwrap().clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut tar));
        // A changed header whose sum is right all the same.
        if let Some(header) = tar.get_mut(block * 512..(block + 1) * 512) {
            header[field] = byte;
            let mut fixed = Header::from_byte_slice(header).clone();
            fixed.set_cksum();
            header.copy_from_slice(fixed.as_bytes());
        }
        check(&seeds[0], &gz_level(&tar, 1));
    }
}
