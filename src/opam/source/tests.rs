//! Sources as files declare them, and names that lead out.

use super::*;
use crate::digest::Digests;
use crate::opam::tree::world;
use crate::opam::{Checksum, Strength};

fn sources(source: &str) -> Result<Vec<ArchiveSource>, SourceError> {
    archive_sources(&OpamFile::parse(source.as_bytes()).unwrap())
}

const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";

#[test]
fn a_source_has_its_urls_and_checksums_in_the_files_order() {
    let found = sources(&format!(
        "extra-source \"./fix.patch\" {{ src: [\"http://d/e\"] checksum: \"{MD5}\" }}
         url {{ mirrors: [\"https://b/c\" \"ftp://x\" \"https://a/b\" \
              \"https://swhid.opam.ocaml.org/swh:1:dir:0\"]
           checksum: [\"md5={MD5}\" \"SHA256={}\"] src: \"https://a/b\" }}",
        "0".repeat(64)
    ))
    .unwrap();
    assert_eq!(found[0].role, Role::Main);
    assert_eq!(found[0].urls, ["https://a/b", "https://b/c"]);
    assert_eq!(found[0].checksums.as_slice().len(), 2);
    assert_eq!(found[0].checksums.first().unwrap().to_string(), format!("md5={MD5}"));
    assert_eq!(found[1].role, Role::Extra("fix.patch".parse().unwrap()));
    assert_eq!(found[1].checksums.strength(), Strength::Weak);
}

#[test]
fn old_spellings_are_sources_too() {
    for field in ["archive", "http", "src"] {
        let found = sources(&format!("url {{ {field}: \"http://a\" }}")).unwrap();
        assert_eq!(found[0].urls, ["http://a"], "{field}");
        assert_eq!(found[0].checksums.strength(), Strength::None);
    }
    let found = sources(&format!(
        "extra-sources: [[\"http://a/b.patch\" \"{MD5}\"] [\"http://c/d\" {{\"e\"}} \"{MD5}\"]]"
    ));
    let roles: Vec<_> = found.unwrap().into_iter().map(|source| source.role).collect();
    let extra = |name: &str| Role::Extra(name.parse().unwrap());
    assert_eq!(roles, [extra("b.patch"), extra("e")]);
    assert!(sources("extra-sources: []").unwrap().is_empty());
    assert!(sources("extra-sources: [\"http://a\"]").is_err());
}

#[test]
fn trap_8_what_is_no_archive_is_left_out() {
    for url in ["git+https://a/b", "git://a", "ssh://a", "ftp://a", "/local", "a.git", ""] {
        assert_eq!(sources(&format!("url {{ src: \"{url}\" mirrors: \"http://m\" }}")), Ok(vec![]));
    }
    for field in ["git", "hg", "darcs", "local"] {
        assert_eq!(sources(&format!("url {{ {field}: \"https://a\" }}")), Ok(vec![]));
    }
}

#[test]
fn trap_16_a_void_checksum_field_is_none_at_all() {
    for checksum in [
        "[\"sha256=00\"]",
        "\"sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709\"",
        "42",
        "[\"900150983cd24fb0d6963f7d28e17f72\" x]",
        "\"900150983cd24fb0d6963f7d28e17f72\" checksum: []",
    ] {
        let found = sources(&format!("url {{ src: \"http://a\" checksum: {checksum} }}")).unwrap();
        assert_eq!(found[0].checksums.strength(), Strength::None, "{checksum}");
        assert!(found[0].checksums.voided().is_some(), "{checksum}");
    }
}

#[test]
fn trap_27_unsafe_names_are_refused() {
    for name in ["../x", "/etc/passwd", "a/../../b", "", "..", "a\\\\b"] {
        for source in [
            format!("extra-source \"{name}\" {{ src: \"http://a\" }}"),
            format!("extra-source \"{name}\" {{ src: \"git://a\" }}"),
            format!("patches: [\"ok\" \"{name}\" {{os = \"linux\"}}]"),
            format!("patches: \"{name}\""),
            format!("extra-files: [[\"ok\" \"md5={MD5}\"] [\"{name}\" \"md5={MD5}\"]]"),
            format!("extra-files: [\"{name}\" \"md5={MD5}\"]"),
            format!("extra-sources: [[\"http://a\" {{\"{name}\"}} \"{MD5}\"]]"),
        ] {
            let error = sources(&source).unwrap_err();
            assert!(matches!(error, SourceError::UnsafePath { .. }), "{source}: {error}");
        }
    }
    let file = OpamFile::parse(b"patches: [\"b.patch\" {os = \"linux\"} \"a/c.patch\"]").unwrap();
    let names = patches(&file).unwrap();
    assert_eq!(names, ["b.patch".parse().unwrap(), "a/c.patch".parse().unwrap()]);
}

#[test]
fn more_than_any_real_file_has_is_refused() {
    let many = |text: &str, count: usize| text.repeat(count);
    for source in [
        many("extra-source \"a\" {src: \"http://a\"}", 257),
        format!("extra-sources: [{}]", many(&format!("[\"http://a/b\" \"{MD5}\"]"), 257)),
        format!(
            "url {{ src: \"http://a\" mirrors: [{}] }}",
            (0..64).map(|n| format!("\"http://b/{n}\"")).collect::<String>()
        ),
        format!("url {{ src: \"http://a\" checksum: [{}] }}", many(&format!("\"{MD5}\""), 33)),
    ] {
        assert!(matches!(sources(&source), Err(SourceError::TooMany { .. })), "{source}");
    }
    for source in [
        "url {} url {}".to_owned(),
        "url { src: 42 }".to_owned(),
        "url { src: \"http://a\" mirrors: [x] }".to_owned(),
        "extra-source { src: \"http://a\" }".to_owned(),
        format!("url {{ src: \"http://{}\" }}", "a".repeat(MAX_URL_LEN)),
        "url { src: \"http://a\\xff\" }".to_owned(),
    ] {
        assert!(sources(&source).is_err(), "{source}");
    }
}

#[test]
fn a_real_repository_declares_what_was_measured_in_it() {
    for (name, tree) in world::snapshots() {
        let (mut main, mut extra, mut mirrored, mut weak) = (0, 0, 0, 0);
        for (package, _) in tree.versions() {
            let file = OpamFile::parse(tree.opam_file(package).unwrap()).unwrap();
            let found = archive_sources(&file).unwrap_or_else(|e| panic!("{package}: {e}"));
            for source in found {
                assert_eq!(source.checksums.voided(), None, "{package}");
                let count = if source.role == Role::Main { &mut main } else { &mut extra };
                *count += 1;
                mirrored += usize::from(source.urls.len() > 1);
                weak += usize::from(source.checksums.strength() == Strength::Weak);
            }
        }
        println!("{name}: {main} main, {extra} extra, {mirrored} mirrored, {weak} weak");
        assert!(main > 17_000 && extra > 900 && mirrored > 480 && weak <= 10);
    }
}

#[test]
fn only_an_md5_that_holds_gains_stronger_checksums_behind_it() {
    let digests = Digests::of(b"abc");
    let (sha256, sha512) = (digests.sha256, digests.sha512);
    let strong = format!("\"sha256={sha256}\"");
    for (checksum, strengthened) in [
        (format!("\"{MD5}\""), format!("[\"{MD5}\" {strong} \"sha512={sha512}\"]")),
        (format!("[\"md5={MD5}\"]"), format!("[\"md5={MD5}\" {strong} \"sha512={sha512}\"]")),
        (
            format!("[\n    \"md5={MD5}\" # once\n  ]"),
            format!("[\n    \"md5={MD5}\"\n    {strong}\n    \"sha512={sha512}\" # once\n  ]"),
        ),
    ] {
        let opam = |checksum: &str| {
            format!("# kept\nurl {{\n  src: \"https://a/b\"\n  checksum: {checksum}\n}}\n")
        };
        let file = OpamFile::parse(opam(&checksum).as_bytes()).unwrap();
        let found = strengthen(&file, &digests).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), opam(&strengthened));
        let found = OpamFile::parse(&found).unwrap();
        assert_eq!(strengthen(&found, &digests), None, "once");
        assert_eq!(strengthen(&file, &Digests::of(b"other")), None, "other bytes");
    }
    let left_alone = [
        "",
        "url { src: \"https://a\" }",
        &format!("url {{ src: \"git+https://a\" checksum: \"{MD5}\" }}"),
        &format!("url {{ src: \"https://a\" checksum: [\"{MD5}\" \"sha1=00\"] }}"),
        &format!("extra-source \"a\" {{ src: \"https://a\" checksum: \"{MD5}\" }}"),
    ];
    for opam in left_alone {
        assert_eq!(
            strengthen(&OpamFile::parse(opam.as_bytes()).unwrap(), &digests),
            None,
            "{opam}"
        );
    }
}

#[test]
fn a_rewritten_file_names_the_mirror_alone() {
    let rewrite = Rewrite::new("https://keep/own");
    let package = "a.1~rc+2".parse().unwrap();
    let opam = format!(
        "synopsis: \"kept\" # kept
url {{
  src: \"https://x.example/a-1.tbz?token\"
  mirrors: [\"https://y.example/a.tbz\"]
  checksum: \"md5={MD5}\"
}}
extra-source \"dir/a b.patch\" {{ src: \"https://z.example/p\" checksum: \"md5={MD5}\" }}
extra-sources: [[\"http://a/b.patch\" \"{MD5}\"] [\"http://c/d\" {{\"e\"}} \"{MD5}\"]]
"
    );
    let rewritten = rewrite.apply(&package, opam.as_bytes(), ExtraSources::Rewritten);
    let rewritten = rewritten.unwrap().unwrap();
    let place = "https://keep/own/archive/a.1~rc+2";
    let name = |path: &str| {
        let name = source_name(&package, &Role::Extra(path.parse().unwrap()));
        name.strip_prefix("a.1~rc+2/").unwrap().to_owned()
    };
    let (extra, b, e) = (name("dir/a b.patch"), name("b.patch"), name("e"));
    let expected = format!(
        "synopsis: \"kept\" # kept
url {{
  src: \"{place}/a-1.tbz\"
  checksum: \"md5={MD5}\"
}}
extra-source \"dir/a b.patch\" {{ src: \"{place}/{extra}/p\" checksum: \"md5={MD5}\" }}
extra-sources: [[\"{place}/{b}/b.patch\" \"{MD5}\"] [\"{place}/{e}/d\" {{\"e\"}} \"{MD5}\"]]
"
    );
    assert_eq!(String::from_utf8_lossy(&rewritten), expected);
    let main_alone = rewrite.apply(&package, opam.as_bytes(), ExtraSources::AsDeclared);
    let main_alone = main_alone.unwrap().unwrap();
    let main_alone = String::from_utf8_lossy(&main_alone).into_owned();
    assert!(main_alone.contains(place) && main_alone.contains("https://z.example/p"));

    let apply = |opam: &str| rewrite.apply(&package, opam.as_bytes(), ExtraSources::Rewritten);
    let old = apply("url { archive: \"http://a/\" git: \"git://b\" src: \"git+https://c\" }");
    let old = old.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&old), format!("url {{ src: \"{place}/archive\"   }}"));
    for (name, kept) in [("..%2f..%2fetc", ".._2f.._2fetc"), ("a%00b.tgz", "a_00b.tgz")] {
        let found = apply(&format!("url {{ src: \"http://a/{name}\" }}")).unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&found), format!("url {{ src: \"{place}/{kept}\" }}"));
    }
    for opam in ["", "url { src: \"git+https://a\" }", "url { git: \"https://a\" }"] {
        assert_eq!(apply(opam), Ok(None), "{opam}");
    }
    let alone = apply("url { src: \"git+https://a\" mirrors: \"http://m\" }").unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&alone), "url { src: \"git+https://a\"  }");
    // What clients would fetch, and this does not know how to.
    for place in
        ["ftp://a/b", "curl://a", "wget://a", "HTTPS://a", "https://swhid.opam.ocaml.org/x"]
    {
        assert_eq!(apply(&format!("url {{ src: \"{place}\" }}")), Err(Unreadable), "{place}");
        let extra = format!("extra-sources: [[\"{place}\" {{\"x\"}} \"{MD5}\"]]");
        assert_eq!(apply(&extra), Err(Unreadable), "{place}");
    }
    let first_readable = apply("url { src: \"http://[bad/x\" mirrors: \"http://good/y.tgz\" }");
    let first_readable = first_readable.unwrap().unwrap();
    assert!(first_readable.windows(5).any(|window| window == b"y.tgz"));
    assert_eq!(apply("url {"), Err(Unreadable));
    // One below the other, and one that is called as all of them are.
    let below = apply(
        "extra-source \"a\" { src: \"http://a/a\" } extra-source \"a/b\" { src: \"http://a/b\" }",
    );
    assert!(below.is_ok() && name("a") != name("a/b"));
    let called = apply("url { src: \"http://a/extra-source\" }").unwrap().unwrap();
    assert!(String::from_utf8_lossy(&called).contains("/archive\""));
}

#[test]
fn an_extra_source_without_a_name_is_called_the_same_once_rewritten() {
    let (rewrite, package) = (Rewrite::new("https://keep"), "a.1".parse().unwrap());
    for end in ["b.patch", "b@2.patch", "b.patch?raw=1", "é", "extra-source", "a b"] {
        let opam = format!("extra-sources: [[\"https://host/{end}\" \"{MD5}\"]]");
        let before = archive_sources(&OpamFile::parse(opam.as_bytes()).unwrap()).unwrap();
        let apply = |opam: &[u8]| rewrite.apply(&package, opam, ExtraSources::Rewritten);
        let rewritten = apply(opam.as_bytes()).unwrap().unwrap();
        let after = archive_sources(&OpamFile::parse(&rewritten).unwrap()).unwrap();
        assert_eq!(before[0].role, after[0].role, "{end}");
        assert!(after[0].urls[0].starts_with("https://keep/archive/a.1/extra-source/"), "{end}");
        assert_eq!(apply(&rewritten).unwrap().unwrap(), rewritten, "{end}");
    }
}

#[test]
fn every_real_file_is_rewritten_and_strengthened_without_a_trace_left() {
    let (rewrite, digests) = (Rewrite::new("https://keep"), Digests::of(b"abc"));
    let strong = [Checksum::Sha256(digests.sha256), Checksum::Sha512(digests.sha512)];
    for (name, tree) in world::snapshots() {
        for (package, _) in tree.versions() {
            let opam = tree.opam_file(package).unwrap();
            let file = OpamFile::parse(opam).unwrap();
            let before = archive_sources(&file).unwrap();
            let Some(after) = rewrite.apply(package, opam, ExtraSources::Rewritten).unwrap() else {
                assert!(before.is_empty(), "{name}: {package}");
                continue;
            };
            let file = OpamFile::parse(&after).unwrap();
            let after = archive_sources(&file).unwrap();
            assert_eq!(before.len(), after.len(), "{name}: {package}");
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(before.role, after.role, "{name}: {package}");
                assert_eq!(before.checksums, after.checksums, "{name}: {package}");
                let start = format!("https://keep/archive/{}", source_name(package, &after.role));
                assert!(after.urls.len() == 1 && after.urls[0].starts_with(&start), "{package}");
            }
            // As if only an md5 of these bytes were declared.
            let Some(field) =
                file.sections("url").next().and_then(|it| it.fields("checksum").next())
            else {
                continue;
            };
            let text = file.to_bytes();
            let md5 = format!("[\n    \"md5={}\"\n  ]", digests.md5);
            let weak =
                [&text[..field.value.span.start], md5.as_bytes(), &text[field.value.span.end..]];
            let weak = OpamFile::parse(&weak.concat()).unwrap();
            let found = OpamFile::parse(&strengthen(&weak, &digests).unwrap()).unwrap();
            let found = archive_sources(&found).unwrap();
            let main = found.iter().find(|source| source.role == Role::Main).unwrap();
            assert_eq!(main.checksums.as_slice()[1..], strong, "{name}: {package}");
        }
    }
}
