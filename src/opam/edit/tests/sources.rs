//! What becomes of sources, and what it is called.

use super::*;

fn md5(digit: char) -> String {
    format!("\"md5={}\"", digit.to_string().repeat(32))
}

fn sha256(digit: char) -> String {
    format!("\"sha256={}\"", digit.to_string().repeat(64))
}

fn sha512(digit: char) -> String {
    format!("\"sha512={}\"", digit.to_string().repeat(128))
}

/// The body of a section with these URLs, the first as `src`, and these checksums.
fn body(urls: &[&str], checksums: &[String]) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    let mirrors = urls[1..].join(" ");
    format!("{{ src: {} mirrors: [{mirrors}] checksum: [{}] }}", urls[0], checksums.join(" "))
}

/// The kinds for the package's own source, having checked that an extra source is told alike.
fn moved(before: &str, after: &str) -> String {
    let main = kinds(&format!("url {before}"), &format!("url {after}"));
    let name = "extra-source \"x\"";
    let extra = kinds(&format!("{name} {before}"), &format!("{name} {after}"));
    assert_eq!(extra, main.replace("source-rewritten", "extra-source"), "{before} to {after}");
    main
}

const A: &str = "https://a/x.tgz";
const B: &str = "https://b/x.tgz";
const SWHID: &str = "https://swhid.opam.ocaml.org/swh:1:dir:0";

#[test]
fn a_checksum_more_is_checksum_added() {
    let none = body(&[A], &[]);
    let one = body(&[A], &[sha256('a')]);
    let two = body(&[A], &[sha256('a'), md5('b')]);
    for (before, after) in [(&none, &one), (&one, &two), (&none, &two)] {
        assert_eq!(moved(before, after), "checksum-added");
        assert_eq!(moved(after, before), "checksum-removed");
    }
    let three = body(&[A], &[md5('b'), sha512('c')]);
    assert_eq!(moved(&two, &three), "checksum-removed");
}

#[test]
fn another_place_is_source_moved_while_a_checksum_holds_it() {
    let checksums = [sha256('a'), md5('b')];
    let at = |urls: &[&str]| body(urls, &checksums);
    for (before, after) in [
        (at(&[A]), at(&[B])),
        (at(&[A]), at(&[A, B])),
        (at(&[A, B]), at(&[B, A])),
        (at(&[A, B]), at(&[A])),
        (at(&["http://a"]), at(&["https://a"])),
    ] {
        assert_eq!(moved(&before, &after), "source-moved");
    }
    let held = body(&[B], &[sha256('a'), sha512('c')]);
    assert_eq!(moved(&at(&[A]), &held), "checksum-removed source-moved");
    let more = body(&[B], &[sha256('a'), md5('b'), sha512('c')]);
    assert_eq!(moved(&at(&[A]), &more), "checksum-added source-moved");
}

#[test]
fn another_value_of_a_checksum_is_source_rewritten() {
    let before = body(&[A], &[sha256('a'), md5('b')]);
    for (checksums, expected) in [
        (vec![sha256('c'), md5('b')], "source-rewritten"),
        (vec![sha256('c'), md5('c')], "source-rewritten"),
        (vec![sha256('c'), md5('c'), sha512('c')], "source-rewritten"),
        (vec![sha256('a'), sha256('c'), md5('b')], "source-rewritten"),
        (vec![sha256('c')], "checksum-removed source-rewritten"),
    ] {
        for url in [A, B] {
            assert_eq!(moved(&before, &body(&[url], &checksums)), expected, "{checksums:?}");
        }
    }
}

#[test]
fn checksums_with_nothing_in_common_are_source_rewritten() {
    let (old, new) = (body(&[A], &[md5('a')]), body(&[A], &[sha512('a')]));
    assert_eq!(moved(&old, &new), "checksum-removed source-rewritten");
}

#[test]
fn another_place_that_no_checksum_holds_is_source_rewritten() {
    for (before, after, expected) in [
        (body(&[A], &[]), body(&[B], &[]), "source-rewritten"),
        (body(&[A], &[]), body(&[A, B], &[]), "source-rewritten"),
        (body(&[A, B], &[]), body(&[B, A], &[]), "source-rewritten"),
        (body(&[A, B], &[]), body(&[A], &[]), "source-rewritten"),
        (body(&[A], &[]), body(&[B], &[md5('a')]), "source-rewritten"),
        (body(&[A], &[md5('a')]), body(&[B], &[]), "checksum-removed source-rewritten"),
        (body(&["git+https://a#v1"], &[]), body(&["git+https://a#v2"], &[]), "source-rewritten"),
        // opam holds no checksum against what version control gives.
        (
            body(&["git+https://a#v1"], &[md5('a')]),
            body(&["git+https://a#v2"], &[md5('a')]),
            "source-rewritten",
        ),
        (body(&[A], &[md5('a')]), body(&[A, SWHID], &[md5('a')]), "source-rewritten"),
        (body(&[A, SWHID], &[md5('a')]), body(&[B, SWHID], &[md5('a')]), "source-moved"),
        (body(&[A, "git://a"], &[md5('a')]), body(&["git://a"], &[md5('a')]), "source-rewritten"),
        (body(&[A], &[md5('a')]), body(&["/tmp/a"], &[md5('a')]), "source-rewritten"),
    ] {
        assert_eq!(moved(&before, &after), expected, "{before} to {after}");
    }
}

#[test]
fn a_source_that_comes_or_goes_is_source_rewritten_or_extra_source() {
    let source = body(&[A], &[sha256('a')]);
    assert_eq!(moved(&source, "{ }"), "checksum-removed source-rewritten unreadable");
    for section in ["url", "extra-source \"x\""] {
        let with = format!("{section} {source}");
        let kind = if section == "url" { "source-rewritten" } else { "extra-source" };
        assert_eq!(kinds("", &with), kind);
        assert_eq!(kinds(&with, ""), kind);
    }
    let renamed = format!("extra-source \"y\" {source}");
    assert_eq!(kinds(&format!("extra-source \"x\" {source}"), &renamed), "extra-source");
    let old = "extra-sources: [[\"https://a\" \"900150983cd24fb0d6963f7d28e17f72\"]]";
    assert_eq!(kinds("", old), "extra-source");
}

#[test]
fn another_part_of_the_archive_is_source_rewritten() {
    let source = format!("src: \"{A}\" checksum: {}", sha256('a'));
    let whole = format!("url {{ {source} }}");
    assert_eq!(kinds(&whole, &format!("url {{ {source} subpath: \"b\" }}")), "source-rewritten");
    assert_eq!(kinds(&whole, &format!("{whole} x-subpath: \"b\"")), "source-rewritten");
}

#[test]
fn a_checksum_field_that_clients_ignore_is_none_and_is_told() {
    let good = format!("url {{ src: \"{A}\" checksum: {} }}", sha256('a'));
    for void in [
        format!("[{} \"sha1=00\"]", sha256('a')),
        "[x]".to_owned(),
        format!("{0} checksum: {0}", sha256('a')),
    ] {
        let void = format!("url {{ src: \"{A}\" checksum: {void} }}");
        assert_eq!(kinds(&good, &void), "checksum-removed build unreadable", "{void}");
    }
    let void = |hash: &str| format!("url {{ src: \"{A}\" checksum: \"sha1={hash}\" }}");
    assert_eq!(kinds(&void("00"), &void("11")), "build unreadable");
}

#[test]
fn sections_that_opam_refuses_are_unreadable() {
    let source = body(&[A], &[sha256('a')]);
    for bad in [
        format!("url {source} url {source}"),
        format!("url \"label\" {source}"),
        format!("url {{ src: \"{A}\" checksum: {} src: x }}", sha256('a')),
        format!("url {{ src: [\"{A}\"] checksum: {} }}", sha256('a')),
        format!("url {{ src: \"{A}\" archive: \"{B}\" checksum: {} }}", sha256('a')),
        format!("url {{ src: \"{A}\" mirrors: x checksum: {} }}", sha256('a')),
        format!("url {{ src: \"{A}\" mirrors: [] mirrors: \"{B}\" }}"),
        format!("extra-source {source}"),
        format!("extra-source \"../x\" {source}"),
        format!("extra-source \"x\" {source} extra-source \"x\" {source}"),
    ] {
        assert!(kinds("", &bad).ends_with("unreadable"), "{bad}");
    }
}

#[test]
fn a_url_file_before_opam_2_is_the_source() {
    let with = |opam: &str, url: &str| {
        let mut files = version(opam);
        files.insert("url".parse().unwrap(), Bytes::from(url.to_owned()));
        files
    };
    let section = format!("url {{ src: \"{A}\" checksum: {} }}", md5('a'));
    let file = format!("archive: \"{A}\" checksum: \"{}\" # end", "a".repeat(32));
    let other = format!("archive: \"{A}\" checksum: \"{}\"", "b".repeat(32));
    assert_eq!(between(&with("", &file), &version(&section)), []);
    assert_eq!(names(&between(&with("", &file), &with("", &other))), "source-rewritten");
    // Beside a section opam ignores it.
    assert_eq!(names(&between(&with(&section, &file), &with(&section, &other))), "files");
    let number = format!("{file}\nx-a: 4611686018427387904");
    let kinds = names(&between(&with(&section, &file), &with(&section, &number)));
    assert_eq!(kinds, "files unreadable", "opam 2.6 reads it all the same");
    for broken in ["archive: ", "} build: [make] x {", "}"] {
        let kinds = names(&between(&with("", &file), &with("", broken)));
        assert_eq!(kinds, "source-rewritten files unreadable", "{broken}");
    }
}

#[test]
fn a_source_that_is_rewritten_is_told_whole_and_else_just_what_differs() {
    let before = version(&format!("url {}", body(&[A], &[sha256('a')])));
    let after = version(&format!("url {}", body(&[A], &[sha256('b')])));
    let change = between(&before, &after).remove(0);
    let told = |digit: char| {
        format!("url.src: \"{A}\"\nurl.checksum: [{}]", sha256(digit).replace('"', ""))
    };
    assert_eq!(change.before, Some(told('a')));
    assert_eq!(change.after, Some(told('b')));
    let after = version(&format!("url {}", body(&[A, B], &[sha256('a')])));
    let change = between(&before, &after).remove(0);
    assert_eq!((change.before, change.after), (None, Some(format!("url.mirrors: [\"{B}\"]"))));
}

#[test]
fn a_section_full_of_mirrors_is_compared_in_no_time() {
    let mirrors = |host: &str| {
        let all: String = (0..60_000).map(|number| format!("\"{host}{number}\"")).collect();
        version(&format!("url {{ src: \"https://a\" mirrors: [{all}] }}"))
    };
    let start = std::time::Instant::now();
    let changes = between(&mirrors("https://a"), &mirrors("https://b"));
    assert_eq!(names(&changes), "source-rewritten unreadable");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
