//! Archives that readers may understand in different ways.

use super::*;

fn remarks(bytes: &[u8]) -> String {
    let said: Vec<String> = listed(bytes).remarks.iter().map(ToString::to_string).collect();
    said.join("; ")
}

#[test]
fn names_that_lead_out_are_kept_as_data_and_flagged() {
    let tar = Tar::package("p").file("../../x", b"x").file("/etc/passwd", b"root").gz();
    let listing = listed(&tar);
    assert_eq!(&names(&listing)[4..], ["../../x", "/etc/passwd"]);
    assert_eq!(listing.entries[4].name.flag(), Some(NameFlag::LeadsOut));
    assert_eq!(listing.entries[5].name.flag(), Some(NameFlag::Absolute));
    assert_eq!(listing.top.as_deref(), Some("p"));
    assert!(remarks(&tar).contains("\"../../x\" leads out of the folder"));
    let explanation = said(&Tar::package("p").gz(), &tar);
    assert!(
        explanation.starts_with(
            "content: 2 added of 5 files (../../x, /etc/passwd); oddly, \"../../x\" leads out of the \
             folder it is unpacked in (and one more odd thing)"
        ),
        "{explanation}"
    );
    let ordinary = Tar::package("p").file("etc/passwd", b"root").gz();
    let absolute = Tar::package("p").file("/etc/passwd", b"root").gz();
    assert!(said(&ordinary, &absolute).starts_with("content"), "not the same name");
}

#[test]
fn of_two_entries_of_one_name_both_count() {
    let once = Tar::package("p").gz();
    let twice = Tar::package("p").file("p/src/a.ml", b"evil\n").gz();
    let hidden = Tar::default().file("p/src/a.ml", b"evil\n");
    let hidden = Tar([hidden.0, Tar::package("p").0].concat()).gz();
    for observed in [&twice, &hidden] {
        let explanation = explained(&once, observed);
        assert!(
            explanation.to_string().starts_with("content: 1 changed of 3 files (src/a.ml)"),
            "{explanation}"
        );
        assert!(remarks(observed).contains("\"p/src/a.ml\" is there more than once"));
        assert!(explanation.unified_diff().unwrap().contains("+evil"));
    }
    assert!(said(&twice, &hidden).starts_with("content"), "another one stays after unpacking");
    let zipped = zip(&[("a", 0o644, b"1"), ("a", 0o644, b"2")]);
    assert_eq!(names(&listed(&zipped)), ["a", "a"]);
    assert!(remarks(&zipped).contains("more than once"));
}

#[test]
fn long_names_of_gnu_and_pax_are_read() {
    let long = "p/".to_owned() + &"d/".repeat(200) + "x";
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|length| format!("{length}{rest}").len() == *length).unwrap();
        format!("{length}{rest}")
    };
    let gnu = Tar::default()
        .entry(EntryType::GNULongName, "././@LongLink", format!("{long}\0").as_bytes())
        .file("p/cut", b"x");
    let pax = Tar::default()
        .entry(EntryType::XHeader, "PaxHeaders/x", record("path", &long).as_bytes())
        .file("p/cut", b"x");
    assert_eq!(names(&listed(&gnu.gz())), [&long]);
    assert_eq!(
        said(&gnu.gz(), &pax.gz()),
        "repacked: the same file; headers or padding are written in another way"
    );
    let target = Tar::default()
        .entry(EntryType::GNULongLink, "././@LongLink", long.as_bytes())
        .link(EntryType::Symlink, "p/link", "cut");
    assert_eq!(listed(&target.gz()).entries[0].kind, EntryKind::Symlink { target: long.clone() });
    let size = Tar::default().entry(EntryType::XHeader, "x", record("size", "3").as_bytes()).with(
        EntryType::Regular,
        "p/sized",
        b"abc",
        |header| header.set_size(0),
    );
    assert!(matches!(listed(&size.gz()).entries[0].kind, EntryKind::File { size: 3, .. }));
    let both = Tar::default()
        .entry(EntryType::GNULongName, "././@LongLink", b"p/one")
        .entry(EntryType::XHeader, "x", record("path", "p/two").as_bytes())
        .file("p/three", b"x");
    assert_eq!(names(&listed(&both.gz())), ["p/two"]);
    assert!(remarks(&both.gz()).contains("more than one way"));
    let global =
        Tar::package("p").entry(EntryType::XGlobalHeader, "g", record("path", "q").as_bytes());
    assert!(remarks(&global.gz()).contains("pax_global_header"));
}

#[test]
fn sparse_files_are_compared_as_they_are_stored() {
    let sparse = |real: u64, offset: u64| {
        Tar::default().with(EntryType::GNUSparse, "p/disk", b"data", |header| {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(real);
            gnu.sparse[0].set_offset(offset);
            gnu.sparse[0].set_length(4);
        })
    };
    let listing = listed(&sparse(1 << 60, 0).gz());
    assert_eq!(listing.problem, None);
    assert!(
        matches!(listing.entries[0].kind, EntryKind::SparseFile { size: 112, .. }),
        "{listing:?}"
    );
    assert!(said(&sparse(1 << 60, 0).gz(), &sparse(1 << 60, 512).gz()).starts_with("content"));
    let mut extended = sparse(1 << 20, 0);
    extended.0.clear();
    let mut extended = extended.with(EntryType::GNUSparse, "p/disk", b"", |header| {
        header.as_gnu_mut().unwrap().set_is_extended(true);
        header.set_size(4);
    });
    let mut block = [0; 512];
    block[504] = 1;
    extended.0.extend_from_slice(&block);
    extended.0.extend_from_slice(&[0; 512]);
    extended.0.extend_from_slice(b"data");
    extended.0.resize(extended.0.len().next_multiple_of(512), 0);
    let listing = listed(&extended.file("p/after", b"x").gz());
    assert_eq!(names(&listing), ["p/disk", "p/after"], "{listing:?}");
    let pax = Tar::default()
        .entry(EntryType::XHeader, "x", b"22 GNU.sparse.major=1\n28 GNU.sparse.name=p/sparse\n")
        .file("GNUSparseFile.0/x", b"1\n0\n4\ndata");
    assert_eq!(names(&listed(&pax.gz())), ["p/sparse"]);
}

#[test]
fn absurd_sizes_end_early() {
    for size in [1 << 40, 1 << 62, u64::MAX] {
        let tar = Tar::package("p")
            .with(EntryType::Regular, "p/big", b"x", |header| header.set_size(size));
        let listing = listed(&tar.gz());
        assert!(listing.problem.is_some(), "{size}");
        assert_eq!(listing.entries.len(), 4);
    }
    let link = Tar::default()
        .with(EntryType::Symlink, "p/l", b"", |header| header.set_size(1 << 30))
        .file("p/x", b"x");
    assert_eq!(names(&listed(&link.gz())), ["p/l", "p/x"]);
    assert!(remarks(&link.gz()).contains("more than one way"));
}

#[test]
fn what_follows_the_end_is_said() {
    let tar = Tar::package("p");
    assert!(remarks(&gz(&[&tar.bytes()[..], b"more"].concat())).contains("bytes after its end"));
    assert!(remarks(&[&tar.gz()[..], b"more"].concat()).contains("after the compressed data"));
    assert_eq!(remarks(&gz(&[&tar.bytes()[..], &[0; 9000]].concat())), "");
    let longer = said(&tar.gz(), &[&tar.gz()[..], b"more"].concat());
    assert!(
        longer.starts_with("recompressed") && longer.contains("oddly, there are bytes after"),
        "{longer}"
    );
    let no_end = said(&tar.gz(), &gz(&tar.0));
    assert!(no_end.starts_with("repacked: the same 3 files; headers or padding"), "{no_end}");
}

#[test]
fn nested_archives_are_not_opened() {
    let inner = gz(&Tar::package("inner").bytes());
    let outer = Tar::default().file("p/inner.tar.gz", &inner).gz();
    assert_eq!(names(&listed(&outer)), ["p/inner.tar.gz"]);
    let zipped = gz(&zip(&[("a", 0o644, b"1")]));
    assert_eq!(listed(&zipped).format.container, Container::Plain);
    assert_eq!(listed(&gz(&gz(b"x"))).document, Some(Document::Binary));
}

#[test]
fn a_zip_symlink_is_its_target() {
    let zipped = zip(&[("p/link", 0o120_777, b"../out")]);
    assert_eq!(listed(&zipped).entries[0].kind, EntryKind::Symlink { target: "../out".to_owned() });
}

#[test]
fn an_ordinary_file_that_begins_like_an_archive_is_read_as_a_file() {
    for text in [&b"BZh is how bzip2 begins\n"[..], b"BZh9 text\n", b"PK is not a zip\n"] {
        let listing = listed(text);
        assert_eq!((listing.problem, listing.entries.len()), (None, 1));
    }
    assert_eq!(listed(&[0; 10]).format.container, Container::Plain);
}

#[test]
fn archives_that_unpack_otherwise_in_another_order_are_not_called_the_same() {
    let folder = |tar: Tar| tar.entry(EntryType::Directory, "p/d", b"");
    let file = |tar: Tar| tar.file("p/d", b"x");
    let link = |tar: Tar| tar.link(EntryType::Symlink, "p/l", "elsewhere");
    let through = |tar: Tar| tar.file("p/l/x", b"x");
    let first = |tar: Tar| tar.file("p/a", b"1");
    let hard = |tar: Tar| tar.link(EntryType::Link, "p/h", "p/a");
    let second = |tar: Tar| tar.file("p/a", b"2");
    type Step<'s> = &'s dyn Fn(Tar) -> Tar;
    let orders: [([Step<'_>; 3], [Step<'_>; 3], &str); 3] = [
        ([&folder, &file, &first], [&file, &folder, &first], "1 changed of 2 files (d)"),
        ([&link, &through, &first], [&through, &link, &first], "1 changed of 3 files (l)"),
        ([&first, &hard, &second], [&first, &second, &hard], "1 changed of 2 files (a)"),
    ];
    for (was, is, words) in orders {
        let [was, is] = [was, is]
            .map(|steps| steps.into_iter().fold(Tar::package("p"), |tar, step| step(tar)).gz());
        let said = said(&was, &is);
        let words = words.replace("of 2", "of 5").replace("of 3", "of 6");
        assert!(said.starts_with(&format!("content: {words}")), "{said}");
        assert!(explained(&was, &gz_level(&ungz(&was), 1)).to_string().starts_with("recompressed"));
    }
    let overlaid = through(link(Tar::package("p"))).gz();
    assert!(remarks(&overlaid).contains("entries below \"p/l\", which is no folder"));
    let alone = file(Tar::package("p"));
    assert!(said(&alone.clone().gz(), &folder(alone).gz()).starts_with("content"));
}

#[test]
fn headers_that_readers_differ_about_are_not_called_the_same() {
    let plain = Tar::package("p").gz();
    let more = |tar: Tar| Tar([tar.0, Tar::package("p").0].concat()).gz();
    for (odd, words) in [
        (more(Tar::default().entry(EntryType::XGlobalHeader, "g", b"12 path=p/x\n")), "pax_global"),
        (
            more(Tar::default().entry(EntryType::XHeader, "x", b"11 mtime=1\n").entry(
                EntryType::XHeader,
                "x",
                b"11 mtime=1\n",
            )),
            "\"p\"",
        ),
        (
            Tar::package("p")
                .with(EntryType::Symlink, "p/l", b"", |header| header.set_size(9))
                .gz(),
            "l",
        ),
    ] {
        let said = said(&plain, &odd);
        let is_told =
            said.starts_with("unreadable: what was observed") || said.starts_with("content");
        assert!(is_told && said.contains("more than one way") && said.contains(words), "{said}");
    }
    let named = |name: &str| Tar::default().file("p/a", b"a").file(name, b"b").gz();
    for odd in ["p/b/.", "p/b//."] {
        let said = said(&named("p/b"), &named(odd));
        assert!(said.starts_with("unreadable") && said.contains("more than one way"), "{said}");
    }
    let comment = more(Tar::default().entry(EntryType::XGlobalHeader, "g", b"11 mtime=1\n"));
    assert!(said(&plain, &comment).starts_with("repacked"), "that says nothing of what is in it");
}

#[test]
fn a_zip_whose_two_halves_disagree_is_not_called_the_same() {
    let files: [(&str, u32, &[u8]); 2] = [("p/a", 0o644, b"one"), ("p/b", 0o644, b"two")];
    let zipped = zip_with(&files, rawzip::CompressionMethod::STORE);
    let directory = find(&zipped, b"PK\x01\x02", 0);
    let patched = |at: usize, value: u8| {
        let mut patched = zipped.clone();
        patched[at] = value;
        patched
    };
    for (what, odd) in [
        ("the local method", patched(8, 8)),
        ("the local flags", patched(6, zipped[6] | 1)),
        ("a link by MS-DOS", {
            let mut odd = patched(directory + 5, 0);
            odd[directory + 40..directory + 42].copy_from_slice(&0o120_777_u16.to_le_bytes());
            odd
        }),
        ("the name of a disk", {
            let mut odd = patched(directory + 5, 0);
            odd[directory + 38] = 8;
            odd
        }),
    ] {
        let said = said(&zipped, &odd);
        assert!(said.starts_with("unreadable: what was observed"), "{what}: {said}");
    }
    // MS-DOS's bit for folders makes a file executable.
    for (low, high) in [(0x10, 0), (0x10, 0o100_755_u16)] {
        let mut executable = patched(directory + 5, 0);
        executable[directory + 38] = low;
        executable[directory + 40..directory + 42].copy_from_slice(&high.to_le_bytes());
        let said = said(&zipped, &executable);
        assert!(said.starts_with("content: 1 changed of 2 files (a)"), "{said}");
    }
}

fn ungz(bytes: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut decoder, &mut inflated).unwrap();
    inflated
}
