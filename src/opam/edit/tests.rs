//! Every kind of edit, what is none, and the real repository.

use super::*;
use crate::opam::tree::world;
use proptest::prelude::*;

fn kinds(before: &str, after: &str) -> Vec<EditKind> {
    let state = |opam| VersionState { opam, files: BTreeMap::new() };
    let changes = compare(Some(&state(before.as_bytes())), Some(&state(after.as_bytes())));
    let mut kinds: Vec<EditKind> = changes.iter().map(|change| change.kind).collect();
    kinds.dedup();
    kinds
}

fn url(lines: &str) -> String {
    format!("opam-version: \"2.0\"\nurl {{\n{lines}\n}}\n")
}

const SRC: &str = "src: \"https://a.example/1.tgz\"";
const MD5: &str = "md5=0123456789abcdef0123456789abcdef";
const SHA256: &str = "sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "sha256=1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn source(src: &str, checksums: &[&str]) -> String {
    let checksums: Vec<String> = checksums.iter().map(|text| format!("\"{text}\"")).collect();
    url(&format!("{src}\nchecksum: [{}]", checksums.join(" ")))
}

#[test]
fn other_ways_to_write_the_same_are_no_edit() {
    for (before, after) in [
        ("a: \"x\"\nb: true", "b:   true # why\na: [\"x\"]"),
        ("description: \"a\\nb\"", "description: \"\"\"a\nb\"\"\""),
        ("depends: [\"a\" {>= \"1\"}]", "depends: \"a\" { >=  \"1\" }"),
        ("depends: []", ""),
        ("build: [\"make\" \"x\"]", "build: [[\"make\" \"x\"]]"),
        ("available: (os = \"linux\")", "available: os = \"linux\""),
        ("x: \"\\065\"", "x: \"A\""),
        ("a: \"x\"\r\n", "a: \"x\"\n"),
    ] {
        assert_eq!(kinds(before, after), [], "{before} {after}");
    }
    let same = [
        source(SRC, &[MD5, SHA256]),
        source(SRC, &[SHA256, MD5]),
        source(SRC, &[&MD5[4..], &SHA256.to_uppercase().replace("SHA256", "sha256")]),
        url(&format!("checksum: [\"{MD5}\" \"{SHA256}\"]\narchive: \"https://a.example/1.tgz\"")),
    ];
    for other in &same {
        assert_eq!(kinds(&same[0], other), [], "{other}");
    }
}

#[test]
fn fields_are_of_the_kind_that_they_change() {
    use EditKind::{Build, Constraints, Description, ExtraSource, Files, Patches, Unreadable};
    for (before, after, expected) in [
        ("depends: [\"a\"]", "depends: [\"a\" \"b\"]", vec![Constraints]),
        ("", "flags: avoid-version", vec![Constraints]),
        ("available: true", "available: false", vec![Constraints]),
        ("synopsis: \"a\"", "synopsis: \"b\"", vec![Description]),
        ("", "x-anything: 1", vec![Description]),
        ("patches: \"a\"", "patches: [\"a\" \"b\"]", vec![Patches]),
        ("patches: [\"a\" \"b\"]", "patches: [\"b\" \"a\"]", vec![Patches]),
        ("build: [\"a\"]", "build: [[\"a\"] [\"b\"]]", vec![Build]),
        ("", "setenv: A = \"b\"", vec![Build]),
        ("", "nobody-knows-this: 1", vec![Build]),
        ("", "section \"a\" { b: 1 }", vec![Build]),
        ("", "extra-files: [\"a\" \"md5=0123456789abcdef0123456789abcdef\"]", vec![Files]),
        ("a: 1", "a: 1\na: 2", vec![Build]),
        ("a: 1", "a: [", vec![Unreadable]),
        ("a: [", "a: 1", vec![Unreadable]),
        ("", "patches: \"../../etc/passwd\"", vec![Unreadable]),
        ("", "extra-source \"a\" { src: \"https://a.example/p\" }", vec![ExtraSource]),
        ("synopsis: \"a\"\nbuild: \"b\"", "depends: \"c\"", vec![Constraints, Description, Build]),
    ] {
        assert_eq!(kinds(before, after), expected, "{before} -> {after}");
    }
}

#[test]
fn sources_are_moved_only_while_a_checksum_holds_them() {
    use EditKind::{ChecksumAdded, ChecksumRemoved, SourceMoved, SourceRewritten};
    const MOVED: &str = "src: \"https://b.example/1.tgz\"";
    let nothing = "opam-version: \"2.0\"".to_owned();
    let with_mirror = format!("{SRC}\nmirrors: \"https://b.example/1.tgz\"");
    for (before, after, expected) in [
        (source(SRC, &[MD5]), source(SRC, &[MD5, SHA256]), vec![ChecksumAdded]),
        (source(SRC, &[]), source(SRC, &[SHA256]), vec![ChecksumAdded]),
        (source(SRC, &[MD5, SHA256]), source(SRC, &[SHA256]), vec![ChecksumRemoved]),
        (source(SRC, &[SHA256]), source(SRC, &[]), vec![ChecksumRemoved]),
        (source(SRC, &[SHA256]), source(SRC, &[SHA256, "sha1=00"]), vec![ChecksumRemoved]),
        (source(SRC, &[MD5]), source(SRC, &[SHA256]), vec![ChecksumAdded, ChecksumRemoved]),
        (source(SRC, &[MD5]), source(MOVED, &[SHA256]), vec![SourceRewritten]),
        (source(SRC, &[SHA256]), source(SRC, &[OTHER]), vec![SourceRewritten]),
        (source(SRC, &[MD5, SHA256]), source(SRC, &[MD5, OTHER]), vec![SourceRewritten]),
        (source(SRC, &[SHA256]), source(MOVED, &[SHA256]), vec![SourceMoved]),
        (source(SRC, &[SHA256]), source(&with_mirror, &[SHA256]), vec![SourceMoved]),
        (source(&with_mirror, &[]), source(SRC, &[]), vec![SourceMoved]),
        // Without a checksum a new place can give anything.
        (source(SRC, &[]), source(MOVED, &[]), vec![SourceRewritten]),
        (source(SRC, &[]), source(&with_mirror, &[]), vec![SourceRewritten]),
        (source(&with_mirror, &[]), source(MOVED, &[]), vec![SourceRewritten]),
        (source(SRC, &[SHA256]), nothing.clone(), vec![SourceRewritten]),
        (nothing.clone(), source(SRC, &[SHA256]), vec![SourceRewritten]),
        (
            url("git: \"https://a.example/r#1\""),
            url("git: \"https://a.example/r#2\""),
            vec![SourceRewritten],
        ),
        // The same archive, another part of it.
        (
            source(SRC, &[SHA256]),
            source(&format!("{SRC}\nsubpath: \"evil\""), &[SHA256]),
            vec![SourceRewritten],
        ),
    ] {
        assert_eq!(kinds(&before, &after), expected, "{before} -> {after}");
        assert_eq!(kinds(&after, &after), []);
    }
}

#[test]
fn extra_sources_and_files_are_compared_one_by_one() {
    use EditKind::{ExtraSource, Files, SourceMoved};
    let extra = |src: &str, checksum: &str| {
        format!("extra-source \"p\" {{\n{src}\nchecksum: \"{checksum}\"\n}}\n")
    };
    let first = extra(SRC, SHA256);
    assert_eq!(kinds(&first, &extra(SRC, OTHER)), [ExtraSource]);
    assert_eq!(kinds(&first, ""), [ExtraSource]);
    let moved = extra("src: \"https://b.example/p\"", SHA256);
    assert_eq!(kinds(&first, &moved), [SourceMoved]);

    let file = |path: &str, bytes: &[u8]| VersionState {
        opam: b"",
        files: BTreeMap::from([(path.to_owned(), Sha256::of(bytes))]),
    };
    let before = file("files/a", b"1");
    for (after, subjects) in [
        (file("files/a", b"2"), vec!["files/a"]),
        (file("files/b", b"1"), vec!["files/a", "files/b"]),
    ] {
        let changes = compare(Some(&before), Some(&after));
        assert!(changes.iter().all(|change| change.kind == Files));
        assert!(changes.iter().map(|change| change.subject.as_str()).eq(subjects));
    }
    assert_eq!(compare(Some(&before), Some(&before)), []);
    assert_eq!(compare(None, Some(&before))[0].kind, EditKind::VersionAdded);
    assert_eq!(compare(Some(&before), None)[0].kind, EditKind::VersionRemoved);
}

#[test]
fn a_report_stays_short_whatever_the_fields_say() {
    let long = format!("synopsis: \"{}\"", "é".repeat(10_000));
    let state = |opam| VersionState { opam, files: BTreeMap::new() };
    let changes = compare(Some(&state(b"")), Some(&state(long.as_bytes())));
    let after = changes[0].after.as_ref().unwrap();
    assert!(after.len() <= MAX_TEXT + '…'.len_utf8() && after.ends_with('…'));
}

/// Looked at by hand, one by one.
#[test]
fn the_edits_between_two_real_snapshots_are_what_they_are() {
    let snapshots = world::snapshots();
    let [(_, before), (_, after), ..] = &snapshots[..] else { return };
    let edits = edits(before, after);
    let of = |package: &str| {
        let edit = edits.iter().find(|edit| edit.package.to_string() == package);
        let mut kinds: Vec<_> = edit.unwrap().changes.iter().map(|it| it.kind.name()).collect();
        kinds.dedup();
        kinds.join(" ")
    };
    for (package, kinds) in NAMED {
        assert_eq!(of(package), *kinds, "{package}");
    }
    let count = |kind| edits.iter().flat_map(|it| &it.changes).filter(|it| it.kind == kind).count();
    assert_eq!(count(EditKind::VersionAdded), 512);
    assert_eq!(count(EditKind::VersionRemoved), 5);
    assert_eq!(count(EditKind::SourceMoved), 24);
    // Both had no source at all before, and run one now.
    assert_eq!(count(EditKind::SourceRewritten), 2);
}

#[test]
fn the_same_real_snapshot_has_no_edit_to_itself() {
    for (name, tree) in world::snapshots() {
        assert_eq!(edits(&tree, &tree), [], "{name}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic_and_none_differs_from_itself(
        before in "(depends: \\[\"a\" \\{>= \"1\"\\}\\]\n|url \\{ src: \"https://a\" \\}\n|x: [a-z\"&|()!]{0,6}\n){0,4}",
        after in "(depends: \"a\"\n|url \\{ checksum: \"md5=00\" \\}\n|x: [a-z\"&|()!]{0,6}\n){0,4}",
    ) {
        kinds(&before, &after);
        prop_assert_eq!(kinds(&before, &before), []);
    }

    #[test]
    fn fields_in_another_order_with_comments_between_them_are_no_edit(
        fields in proptest::collection::btree_map("[a-z]{1,5}", "[a-z ]{0,5}", 0..8),
        seed: u64,
    ) {
        let lines: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}: \"{value}\"\n")).collect();
        let mut shuffled = lines.clone();
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, (seed.rotate_left(index as u32) % (index as u64 + 1)) as usize);
        }
        prop_assert_eq!(kinds(&lines.concat(), &shuffled.join("# comment\n\n")), []);
    }
}

const NAMED: &[(&str, &str)] = &[
    ("ambient-context.0.1.0", "source-moved"),
    ("ansicolor.0.5", "source-moved"),
    ("bigstringaf.0.10.0", "checksum-added"),
    ("conf-c++.1.0", "constraints description extra-source build"),
    ("conf-mingw-w64-gcc-i686.1", "constraints description source-rewritten build"),
    ("conf-mingw-w64-gcc-x86_64.1", "constraints description source-rewritten build"),
    ("conf-mingw-w64-g++-i686.1", "constraints description extra-source build"),
    ("exenum.0.86", "constraints description source-moved"),
    ("tm-grammars.1.0.0", "constraints source-moved"),
    ("wol-eio.1.0", "source-moved"),
    ("riot.0.0.7", "constraints description source-moved"),
    ("avro.0.1", "build"),
    ("crunch.4.0.0", "build"),
    ("data-encoding.0.7.1", "build"),
    ("ppx_factory.0.2.0", "build"),
    ("vlt.0.2.4", "build"),
    ("lun.0.0.2", "description"),
    ("ocaml.5.0.1", "constraints description"),
    ("ocaml-compiler.5.3.0", "constraints description"),
    ("ocaml-system.5.1.1", "constraints description"),
    ("conf-aarch64-linux-gnu-gcc.1", "description"),
    ("ocaml-src.4.13.dev", "version-removed"),
    ("ocaml-variants.5.5.0+trunk", "version-removed"),
    ("ocaml-variants.5.0.0+options", "constraints description"),
    ("ocaml-manual.5.4.0", "constraints source-moved"),
];
