//! Archives that are made to cost much.

use super::*;
use std::time::{Duration, Instant};

/// Lists it and says how it ended, in a time that leaves room for a slow machine.
fn ends(bytes: &[u8], limits: &Limits) -> Problem {
    let start = Instant::now();
    let listing = listed_within(bytes, limits);
    println!("{} bytes in {:?}: {:?}", bytes.len(), start.elapsed(), listing.problem);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    listing.problem.expect("a problem")
}

/// Zeros without end, as a stream of so many parts of 10 MiB each.
fn bomb(compress: fn(&[u8]) -> Vec<u8>, parts: usize) -> Vec<u8> {
    let header =
        Tar::default().with(EntryType::Regular, "p/zeros", b"", |header| header.set_size(1 << 33));
    [compress(&header.0), compress(&vec![0; 10 << 20]).repeat(parts)].concat()
}

#[test]
fn a_bomb_of_any_compression_stops_at_the_ratio() {
    for compress in [gz, bz2, xz, zst] {
        let limits = Limits { inflation_floor: 32 << 20, ..Limits::default() };
        let bytes = bomb(compress, 1000);
        assert!(bytes.len() < 12 << 20);
        // Ten times the size and more, and never all of the 10 GB.
        let limits = Limits { inflation_ratio: 20, ..limits };
        assert!(matches!(ends(&bytes, &limits), Problem::TooLarge { .. }));
    }
}

#[test]
fn a_10_gb_bomb_of_10_mb_stops_with_the_ordinary_limits() {
    let bytes = bomb(gz, 1000);
    assert!(bytes.len() < 11 << 20);
    let Problem::TooLarge { limit } = ends(&bytes, &Limits::default()) else { panic!() };
    assert!(limit < 3 << 30, "{limit}");
    let explanation = said(&Tar::package("p").gz(), &bytes);
    assert!(
        explanation.starts_with(
            "unreadable: what was observed can't be compared: it inflates to more than"
        ),
        "{explanation}"
    );
}

#[test]
fn a_zip_bomb_stops_at_the_ratio() {
    let zeros = vec![0; 64 << 20];
    let limits = Limits { inflation_floor: 1 << 20, inflation_ratio: 20, ..Limits::default() };
    assert!(matches!(ends(&zip(&[("z", 0o644, &zeros)]), &limits), Problem::TooLarge { .. }));
}

#[test]
fn windows_are_bounded() {
    let limits = Limits { window: 8 << 20, ..Limits::default() };
    let large = xz_with(b"text", 64 << 20);
    assert_eq!(listed(&large).problem, None);
    assert_eq!(ends(&large, &limits), Problem::WindowTooLarge { limit: 8 << 20 });
    // A frame that states a window of 64 MiB: exponent 16 over the smallest, 1 KiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 16 << 3, 1, 0, 0];
    assert_eq!(ends(&frame, &limits), Problem::WindowTooLarge { limit: 8 << 20 });
    assert_eq!(listed(&frame).problem, None);
    let absurd = [0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3, 1, 0, 0];
    assert!(matches!(ends(&absurd, &Limits::default()), Problem::WindowTooLarge { .. }));
}

#[test]
fn members_without_content_are_bounded() {
    let limits = Limits { members: 1000, ..Limits::default() };
    for compress in [gz, bz2, xz, zst] {
        let many = compress(b"").repeat(1001);
        assert_eq!(ends(&many, &limits), Problem::TooManyMembers { limit: 1000 });
        let start = Instant::now();
        listed(&compress(b"").repeat(1 << 18));
        println!("as many as allowed: {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let start = Instant::now();
    assert_eq!(listed(&xz_with(b"x", 64 << 20).repeat(2000)).problem, None);
    println!("2000 large windows: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(60));
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(1001);
    assert_eq!(ends(&skippable, &limits), Problem::TooManyMembers { limit: 1000 });
    let cut = [0x50, 0x2a, 0x4d, 0x18, 255, 255, 255, 255];
    assert_eq!(ends(&cut, &limits), Problem::EndsEarly);
}

#[test]
fn a_million_entries_are_not_listed() {
    let one = Tar::default().file("p/x", b"");
    let tar = gz_level(&one.0.repeat(1_000_000), 1);
    assert_eq!(ends(&tar, &Limits::default()), Problem::TooManyEntries { limit: 200_000 });
    let headers = Tar::default().entry(EntryType::GNULongName, "l", b"x").0.repeat(1_000_000);
    let headers = gz_level(&headers, 1);
    assert_eq!(ends(&headers, &Limits::default()), Problem::TooManyEntries { limit: 200_000 });
    let explanation = said(&Tar::package("p").gz(), &tar);
    assert!(
        explanation.contains("more than 200000 entries; as far as it was read"),
        "{explanation}"
    );
    let limits = Limits { entries: 2, ..Limits::default() };
    let zipped = zip(&[("a", 0, b""), ("b", 0, b""), ("c", 0, b"")]);
    assert_eq!(ends(&zipped, &limits), Problem::TooManyEntries { limit: 2 });
}

#[test]
fn as_many_entries_as_allowed_are_compared_in_time() {
    let many = |offset: u32| {
        let names = (0..199_000_u32).map(|n| format!("p/{}/{}", n % 7, n + offset));
        gz_level(&names.fold(Tar::default(), |tar, name| tar.file(&name, b"")).bytes(), 1)
    };
    let (was, is) = (many(0), many(1000));
    let start = Instant::now();
    let explanation = explained(&was, &is);
    println!("{:?}: {explanation}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(60));
    let content = explanation.content().unwrap();
    assert!(content.changes.len() <= Limits::default().listed);
    assert!(serde_json::to_string(&explanation).unwrap().len() < 4 << 20);
}

#[test]
fn names_are_bounded() {
    let limits = Limits { name_len: 100, names_bytes: 150, ..Limits::default() };
    let long = |length: usize| {
        Tar::default().entry(EntryType::GNULongName, "l", &b"n".repeat(length)).file("p/x", b"")
    };
    assert_eq!(listed_within(&long(100).gz(), &limits).problem, None);
    assert_eq!(ends(&long(200).gz(), &limits), Problem::NameTooLong { limit: 100 });
    assert_eq!(ends(&gz(&long(80).0.repeat(2)), &limits), Problem::NamesTooLarge { limit: 150 });
    let absurd =
        Tar::default().with(EntryType::GNULongName, "l", b"", |header| header.set_size(1 << 40));
    assert!(matches!(ends(&absurd.gz(), &Limits::default()), Problem::NameTooLong { .. }));
    let pax = Tar::default().with(EntryType::XHeader, "l", b"", |header| header.set_size(1 << 40));
    assert!(matches!(ends(&pax.gz(), &Limits::default()), Problem::HeaderTooLarge { .. }));
    let target = zip(&[("l", 0o120_777, &b"t".repeat(200))]);
    assert_eq!(ends(&target, &limits), Problem::NameTooLong { limit: 100 });
}

#[test]
fn entries_of_a_zip_never_share_bytes() {
    let zipped = zip(&[("a", 0o644, b"first"), ("b", 0o644, b"second")]);
    let directory = find(&zipped, b"PK\x01\x02", 0);
    let second = find(&zipped, b"PK\x01\x02", directory + 4);
    // The second entry of the directory points to the first one's data.
    let mut overlapping = zipped.clone();
    overlapping.copy_within(directory + 42..directory + 46, second + 42);
    assert_eq!(ends(&overlapping, &Limits::default()), Problem::Overlap);
    // The first one claims to reach into the second.
    let mut longer = zipped.clone();
    longer[directory + 20] += 20;
    assert_eq!(ends(&longer, &Limits::default()), Problem::Overlap);
    let mut renamed = zipped;
    renamed[30] = b'z';
    assert!(listed(&renamed).remarks.iter().any(|it| matches!(it, Remark::AmbiguousHeader { .. })));
}

#[test]
fn sizes_that_a_zip_claims_are_not_believed() {
    let zipped = zip(&[("a", 0o644, b"some content")]);
    let directory = find(&zipped, b"PK\x01\x02", 0);
    for (at, value) in
        [(20, u32::MAX), (20, 1 << 30), (24, u32::MAX), (24, 5), (42, 1 << 30), (16, 7)]
    {
        let mut lying = zipped.clone();
        lying[directory + at..directory + at + 4].copy_from_slice(&value.to_le_bytes());
        println!("{at} {value}: {}", ends(&lying, &Limits::default()));
    }
    let end = find(&zipped, b"PK\x05\x06", 0);
    for at in [8, 10, 12, 16] {
        let mut lying = zipped.clone();
        lying[end + at] = lying[end + at].wrapping_add(9);
        println!("{at}: {:?}", listed(&lying).problem);
    }
}

#[test]
fn what_cannot_be_read_in_a_zip_is_said() {
    let mut zipped = zip(&[("a", 0o644, b"x")]);
    let directory = find(&zipped, b"PK\x01\x02", 0);
    zipped[directory + 10] = 12;
    assert_eq!(
        ends(&zipped, &Limits::default()).to_string(),
        "it has entries compressed by method 12, which can't be read here"
    );
    zipped[directory + 8] |= 1;
    assert!(matches!(ends(&zipped, &Limits::default()), Problem::Unsupported { .. }));
}

#[test]
fn differences_are_bounded_however_many_there_are() {
    let package = |salt: &str| {
        let tar = (0..300).fold(Tar::default(), |tar, n| {
            let text: String = (0..2000).map(|line| format!("{salt} {n} {line}\n")).collect();
            tar.file(&format!("p/{n}"), text.as_bytes())
        });
        tar.gz()
    };
    let limits = Limits { listed: 200, ..Limits::default() };
    let explanation = within(&package("was"), &package("is"), &limits);
    let content = explanation.content().unwrap();
    assert_eq!((content.changed, content.changes.len()), (300, 200));
    let hunks: usize = content.changes.iter().filter_map(|it| it.lines.hunks()).map(str::len).sum();
    assert!(hunks <= limits.diff_bytes + 4096, "{hunks}");
    assert!(content.changes.iter().any(|it| matches!(it.lines, TextDiff::Cut { .. })));
    assert!(content.changes.iter().any(|it| it.lines == TextDiff::TooMuch));
    let diff = explanation.unified_diff().unwrap();
    assert!(diff.ends_with("And 100 more files.\n") && diff.len() < 1 << 20);
    let large = Tar::default().file("p/x", &b"a\n".repeat(1 << 20)).gz();
    let small = Tar::default().file("p/x", b"a\n").gz();
    assert_eq!(explained(&small, &large).content().unwrap().changes[0].lines, TextDiff::TooMuch);
}
