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
            "content: 2 added of 5 files (../../x, /etc/passwd); there are 2 odd things"
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
    assert!(longer.starts_with("recompressed") && longer.contains("something odd"), "{longer}");
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
