//! Which edit is of which kind.

use super::*;

/// Both ways: what an edit does is undone by one of the same kind.
fn assert_both_ways(before: &str, after: &str, expected: &str) {
    assert_eq!(kinds(before, after), expected, "{before} to {after}");
    assert_eq!(kinds(after, before), expected, "{after} to {before}");
}

#[test]
fn what_decides_whether_and_with_what_it_installs_is_constraints() {
    for (before, after) in [
        ("", "depends: [\"a\"]"),
        ("depends: [\"a\"]", "depends: [\"a\" {>= \"1\"}]"),
        ("depends: [\"a\" {>= \"1\"}]", "depends: [\"a\" {> \"1\"}]"),
        ("depends: [\"a\" {build}]", "depends: [\"a\" {!build}]"),
        ("depends: [\"a\" | \"b\"]", "depends: [\"a\" & \"b\"]"),
        ("depends: [\"a\" | \"b\" & \"c\"]", "depends: [(\"a\" | \"b\") & \"c\"]"),
        ("", "depopts: \"a\""),
        ("", "conflicts: \"a\""),
        ("", "conflict-class: \"a\""),
        ("", "available: false"),
        ("available: os = \"linux\"", "available: os != \"linux\""),
        ("", "flags: avoid-version"),
        ("flags: deprecated", "flags: [deprecated plugin]"),
        ("", "features: x {\"a\"} {\"doc\"}"),
        ("", "depexts: [\"libx\"] {os = \"linux\"}"),
        ("", "ocaml-version: [>= \"4\"]"),
        ("", "os: \"linux\""),
        ("", "x-locked: \"locked\""),
    ] {
        assert_both_ways(before, after, "constraints");
    }
}

#[test]
fn a_tag_that_opam_takes_for_a_flag_is_constraints() {
    assert_both_ways("tags: \"a\"", "tags: [\"a\" \"flags:deprecated\"]", "constraints");
    assert_eq!(kinds("flags: deprecated", "tags: [\"flags:deprecated\"]"), "");
    assert_both_ways("tags: \"flag:x\"", "", "description");
}

#[test]
fn what_only_people_read_is_description() {
    for field in [
        "synopsis: \"a\"",
        "description: \"a\"",
        "maintainer: \"a\"",
        "authors: [\"a\" \"b\"]",
        "license: \"a\"",
        "tags: \"a\"",
        "homepage: \"a\"",
        "doc: \"a\"",
        "bug-reports: \"a\"",
        "dev-repo: \"git+https://a\"",
        "messages: \"a\" {os = \"linux\"}",
        "post-messages: [\"a\" {failure}]",
        "x-maintenance-intent: [\"(any)\"]",
        "x-a: {",
        "name: \"other\"",
        "version: \"2\"",
    ] {
        let field = field.strip_suffix('{').map_or(field.to_owned(), |x| format!("{x}b {{c}}"));
        assert_both_ways("", &field, "description");
    }
    assert_both_ways("dev-repo: \"git+https://a\"", "dev-repo: \"git+https://b\"", "description");
    assert_both_ways("description: \"a b\"", "description: \"a  b\"", "description");
    assert_both_ways("x-a: \"\\255\"", "x-a: \"\\254\"", "description");
}

#[test]
fn what_runs_is_build() {
    for field in [
        "build: make",
        "install: [[make \"install\"]]",
        "remove: [\"rm\" \"-rf\" \"/\"]",
        "run-test: [make \"test\"] {with-test}",
        "build-test: [make]",
        "build-doc: [make]",
        "substs: \"a\"",
        "build-env: [A = \"b\"]",
        "setenv: [[A += \"b\"] [C =: \"d\"]]",
        "pin-depends: [\"a.1\" \"git+https://a\"]",
        "x-env-path-rewrite: [[A false]]",
    ] {
        assert_both_ways("", field, "build");
    }
    assert_both_ways("build: [make {a}]", "build: [make] {a}", "build");
    assert_both_ways("build: [make \"a\" \"b\"]", "build: [make \"a b\"]", "build");
    assert_both_ways("build: [make]", "build: [\"make\"]", "build");
    assert_both_ways("setenv: A += \"b\"", "setenv: A =+ \"b\"", "build");
}

#[test]
fn what_this_program_does_not_know_is_build() {
    for unknown in [
        "pre-build: [make]",
        "hooks { run: \"x\" }",
        "x-hooks { run: \"x\" }",
        "X-upper: \"x\"",
        "depend: \"a\"",
        "archive: \"https://a\"",
    ] {
        assert_both_ways("", unknown, "build");
    }
    assert_both_ways("new: \"a\"", "new: \"b\"", "build");
    assert_both_ways("x-a: 1 x-a { b: 1 }", "x-a: 1 x-a { b: 2 }", "build");
    assert_both_ways(
        "url { src: \"https://a\" }",
        "url { src: \"https://a\" run: \"x\" }",
        "build",
    );
}

#[test]
fn another_format_is_build() {
    let of = |format: &str| VersionFiles::new(Bytes::from(format!("opam-version: \"{format}\"")));
    assert_eq!(names(&between(&of("1.2"), &of("2.0"))), "build");
    // opam 2.1 reads nothing of a repository with one of these.
    assert_eq!(names(&between(&of("2.0"), &of("2.1"))), "build unreadable");
}

#[test]
fn patches_are_of_a_kind_of_their_own() {
    assert_both_ways("", "patches: [\"a.patch\"]", "patches");
    assert_both_ways("patches: \"a\"", "patches: \"a\" {os = \"linux\"}", "patches");
    assert_both_ways("patches: [\"a\" \"b\"]", "patches: [\"b\" \"a\"]", "patches");
}

const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";

#[test]
fn files_beside_the_opam_file_are_files() {
    let with = |path: &str, content: &'static str| {
        let mut files = version("");
        files.insert(path.parse().unwrap(), Bytes::from_static(content.as_bytes()));
        files
    };
    for path in ["files/a.patch", "a", "descr", "files/opam.x", "url.x"] {
        for (before, after) in [
            (version(""), with(path, "a")),
            (with(path, "a"), with(path, "b")),
            (with(path, "a"), version("")),
            (with(path, "a"), with("moved", "a")),
        ] {
            assert_eq!(names(&between(&before, &after)), "files", "{path}");
        }
    }
    let change = &between(&with("files/a", "a"), &with("files/a", "bc"))[0];
    let before = change.before.as_deref().unwrap();
    assert!(before.starts_with("\"files/a\": sha256=ca978112ca1bbdca"), "{before}");
    assert!(change.after.as_deref().unwrap().ends_with(" (2 bytes)"));
    let other = MD5.replace('9', "8");
    for after in [
        String::new(),
        format!("extra-files: [\"a\" \"md5={other}\"]"),
        format!("extra-files: [[\"a\" \"{MD5}\"] [\"b\" \"{MD5}\"]]"),
    ] {
        assert_both_ways(&format!("extra-files: [[\"a\" \"md5={MD5}\"]]"), &after, "files");
    }
}

#[test]
fn what_does_not_parse_is_unreadable_and_says_where() {
    let good = version("depends: \"a\"");
    for bad in ["depends: [", "depends", "\u{feff}", "depends: \"a\" }"] {
        let changes = between(&good, &version(bad));
        assert_eq!(names(&changes), "unreadable", "{bad}");
        assert_eq!(changes[0].before, None);
        assert!(changes[0].after.as_deref().unwrap().starts_with("line 2, column "));
        assert!(between(&version(bad), &version(bad)).is_empty());
        assert_eq!(names(&between(&version(bad), &version("y {"))), "unreadable");
        // Nothing of what it says could be used before.
        assert_eq!(names(&between(&version(bad), &good)), "constraints build");
    }
}

#[test]
fn what_opam_refuses_is_unreadable_too() {
    for (bad, kind) in [
        ("depends: \"a b\"", "constraints"),
        ("depends: \"a\" {>= 1}", "constraints"),
        ("depends: a", "constraints"),
        ("depends: \"a\" {\"x\" {y}}", "constraints"),
        ("available: [a b]", "constraints"),
        ("available: >= \"1\"", "constraints"),
        ("flags: \"deprecated\"", "constraints"),
        ("conflict-class: a", "constraints"),
        ("build: [[make] \"install\"]", "build"),
        ("build: [[[make]]]", "build"),
        ("build: [make {>= \"1\"}]", "build"),
        ("build: true", "build"),
        ("setenv: [A \"b\"]", "build"),
        ("setenv: A < \"b\"", "build"),
        ("pin-depends: [\"a\" \"git+https://a\"]", "build"),
        ("substs: a", "build"),
        ("patches: [[\"a\"]]", "patches"),
        ("patches: \"../a\"", "patches"),
        ("extra-files: [\"a\" \"sha1=00\"]", "files"),
        ("extra-files: [[\"a\"]]", "files"),
        ("extra-files: []", "files"),
        ("setenv: []", "build"),
        ("synopsis: [\"a\"]", "description"),
        ("maintainer: a", "description"),
        ("tags: [a]", "description"),
        ("x-subpath: [\"a\"]", "source-rewritten"),
        ("synopsis: \"a\" synopsis: \"b\"", "description"),
        ("author: \"a\" authors: \"b\"", "description"),
        ("depends: \"a\" depends: \"b\"", "constraints"),
        ("opam-version: \"2.0\"", "build"),
    ] {
        let expected = format!("{kind} unreadable");
        assert_eq!(kinds("", bad), expected, "{bad}");
        assert_eq!(kinds(bad, ""), kind, "{bad}");
        // What stays refused is told with every other edit, and is none alone.
        assert_eq!(kinds(bad, &format!("{bad} # c")), "", "{bad}");
        let edited = kinds(bad, &format!("{bad} license: \"a\""));
        assert_eq!(edited, "description unreadable", "{bad}");
    }
    let nothing = VersionFiles::new(Bytes::from_static(b"# nothing"));
    assert_eq!(names(&between(&version(""), &nothing)), "build unreadable");
}

#[test]
fn what_opam_no_longer_refuses_is_an_edit() {
    for (before, after, expected) in [
        ("build: [] build: make", "build: make", "build"),
        ("flags: [] flags: conf", "flags: conf", "constraints"),
        ("license: (\"a\")", "license: \"a\"", "description"),
        ("url \"a\" { src: \"https://a\" }", "url { src: \"https://a\" }", "build"),
        ("url { mirrors: \"a\" }", "url { src: \"a\" }", "source-rewritten"),
        (
            "url { src: \"a\" mirrors: [] mirrors: \"b\" }",
            "url { src: \"a\" mirrors: \"b\" }",
            "build",
        ),
    ] {
        assert_eq!(kinds(before, after), expected, "{before}");
    }
}

#[test]
fn a_version_comes_and_goes_as_a_whole() {
    let package: Package = "a.1".parse().unwrap();
    let files =
        version("synopsis: \"s\" url { src: \"https://a\" } extra-source \"b\" { src: \"c\" }");
    let added = Edit::between(&package, None, Some(&files)).unwrap();
    assert_eq!(names(&added.changes), "version-added");
    assert_eq!(added.changes[0].before, None);
    let said = "synopsis: \"s\"\nurl.src: \"https://a\"\nextra-source \"b\".src: \"c\"";
    assert_eq!(added.changes[0].after.as_deref(), Some(said));
    let removed = Edit::between(&package, Some(&files), None).unwrap();
    assert_eq!(names(&removed.changes), "version-removed");
    assert_eq!(removed.changes[0].before.as_deref(), Some(said));
    let broken = Edit::between(&package, None, Some(&version("build: x {"))).unwrap();
    assert_eq!(names(&broken.changes), "version-added unreadable");
    for (content, kinds) in
        [("", "version-added unreadable"), ("opam-version: \"2.0\"", "version-added")]
    {
        let mut nested = version("");
        nested.insert("files/opam".parse().unwrap(), Bytes::from_static(content.as_bytes()));
        let added = Edit::between(&package, None, Some(&nested)).unwrap();
        assert_eq!(names(&added.changes), kinds, "{content}");
    }
    assert_eq!(Edit::between(&package, None, None), None);
}

#[test]
fn an_edit_carries_every_kind_with_its_before_and_after() {
    let changes = between(
        &version("depends: \"a\" synopsis: \"b\" license: \"c\" build: make"),
        &version("build: make license: \"d\" depends: \"a\" {>= \"1\"} x-e: 1"),
    );
    assert_eq!(names(&changes), "constraints description");
    assert_eq!(changes[0].before.as_deref(), Some("depends: [\"a\"]"));
    assert_eq!(changes[0].after.as_deref(), Some("depends: [\"a\" {>= \"1\"}]"));
    assert_eq!(changes[1].before.as_deref(), Some("license: [\"c\"]\nsynopsis: \"b\""));
    assert_eq!(changes[1].after.as_deref(), Some("license: [\"d\"]\nx-e: 1"));
    let json = serde_json::to_string(&changes[0]).unwrap();
    assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), changes[0]);
}

#[test]
fn no_text_hides_what_it_says() {
    let changes = between(&version(""), &version("license: \"a\\b\u{202e}\\027[0m\\n\\255'\""));
    let shown = r#"license: ["a\u{8}\u{202e}\u{1b}[0m\n\xff'"]"#;
    assert_eq!(changes[0].after.as_deref(), Some(shown));
}

#[test]
fn edits_of_a_repository_come_in_opams_order_wherever_the_versions_lie() {
    let tree = |files: &[(&str, &'static str)]| {
        let files = files.iter().map(|(path, content)| {
            (format!("packages/{path}").parse().unwrap(), Bytes::from_static(content.as_bytes()))
        });
        Tree::from_files(files, &crate::opam::TreeLimits::default()).unwrap()
    };
    const OPAM: &str = "opam-version: \"2.0\"";
    const OTHER: &str = "opam-version: \"2.0\" license: \"x\"";
    let before = tree(&[
        ("moved/moved.1/opam", OPAM),
        ("moved/moved.1/files/a", "a"),
        ("a/a.9/opam", OPAM),
        ("a/a.10/opam", OPAM),
        ("same/same.1/opam", OPAM),
        ("z/z.1/opam", OPAM),
    ]);
    let after = tree(&[
        ("moved.1/opam", OPAM),
        ("moved.1/files/a", "a"),
        ("a/a.9/opam", OTHER),
        ("a/a.10/opam", OPAM),
        ("a/a.10/files/x", "x"),
        ("same/same.1/opam", "opam-version:\"2.0\""),
        ("B/B.1/opam", OPAM),
        ("a/a.09/opam", OTHER),
        ("a/a.010/opam", OPAM),
        ("Z/Z.1/opam", OTHER),
    ]);
    let told: Vec<String> = edits(&before, &after)
        .iter()
        .map(|edit| format!("{} {}", edit.package, names(&edit.changes)))
        .collect();
    let expected = [
        "a.09 version-added version-alike",
        "a.9 description",
        "a.010 version-added version-alike",
        "a.10 files",
        "B.1 version-added",
        "Z.1 version-added version-alike",
        "z.1 version-removed version-alike",
    ];
    assert_eq!(told, expected);
    assert!(edits(&before, &before).is_empty());
}
