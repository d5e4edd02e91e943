//! What is another form of the same, and therefore no edit.

use super::*;
use crate::opam::syntax::{Item, OpamFile};
use crate::opam::tree::world;
use proptest::prelude::*;

#[test]
fn another_form_of_the_same_is_no_edit() {
    let hash = "ab".repeat(16);
    for (before, after) in [
        ("license: \"a\" doc: \"b\"", "# c\ndoc: [ \"b\" ]\n(* c *)\r\nlicense:\n  [\"a\"]"),
        ("description: \"a\nb\"", "description: \"\"\"\n a\nb\n\"\"\""),
        ("description: \"a\"", "description: \"\\097\""),
        ("description: \"\" synopsis: \"\"", ""),
        ("author: \"a\"", "authors: [\"a\"]"),
        ("depends: []", ""),
        ("depends: \"a\"", "depends: [(\"a\")]"),
        ("depends: [\"a\" & \"b\" & \"c\"]", "depends: [\"a\" (\"b\" & \"c\")]"),
        ("depends: [\"a\" | \"b\" | \"c\"]", "depends: [\"a\" | (\"b\" | \"c\")]"),
        ("depends: [\"a\" {> \"1\" & build}]", "depends: [\"a\" {(> \"1\") & (build)}]"),
        ("depends: [\"a\" {>= \"1\"}]", "depends: [\"a\" {~ \"1\"}]"),
        ("flags: [conf plugin]", "flags: [plugin conf conf]"),
        ("conflict-class: [\"a\" \"b\"]", "conflict-class: [\"b\" \"a\"]"),
        ("available: true", ""),
        ("available: [os = \"linux\"]", "available: (os = \"linux\")"),
        ("build: make", "build: [[make]]"),
        ("build: [\"a\" {b & c}]", "build: [[\"a\" {b & (c)}]]"),
        ("build: [[make] {a}]", "build: [make] {a}"),
        ("build: []", ""),
        ("setenv: A = \"b\"", "setenv: [[A = \"b\"]]"),
        ("patches: \"a\" {b}", "patches: [\"a\" {(b)}]"),
        ("messages: \"a \" {b}", "messages: [\" a\" {b}]"),
        ("pin-depends: [\"a.1\" \"b\"]", "pin-depends: [[\"a.1\" \"b\"]]"),
        (
            "x-a: 1 extra-source \"b\" { src: \"b\" } extra-source \"a\" { src: \"a\" }",
            "extra-source \"./a\" { src: \"a\" } extra-source \"b\" { src: \"b\" } x-a: 1",
        ),
        ("new { a: 1 b: 2 }", "new { b: 2 a: 1 }"),
        ("name: \"a\" version: \"1\"", ""),
    ] {
        assert_eq!(kinds(before, after), "", "{before} to {after}");
        assert_eq!(kinds(after, before), "", "{after} to {before}");
    }
    for field in ["src", "archive", "http"] {
        for checksum in [format!("\"{hash}\""), format!("[\"MD5={}\"]", hash.to_uppercase())] {
            let before = format!("url {{ src: \"https://a\" checksum: \"md5={hash}\" }}");
            let after =
                format!("url {{ checksum: {checksum} mirrors: [] {field}: \"https://a\" }}");
            assert_eq!(kinds(&before, &after), "");
        }
    }
    let (one, other) = (format!("\"md5={hash}\""), format!("\"sha256={}\"", "c".repeat(64)));
    let url = |rest: &str| format!("url {{ src: \"https://a\" checksum: [{rest}] }}");
    assert_eq!(kinds(&url(&format!("{one} {other}")), &url(&format!("{other} {one}"))), "");
    for (field, url) in [("git", "https://a"), ("git", "git://a"), ("hg", "https://a")] {
        let full = if url.starts_with(field) { url.to_owned() } else { format!("{field}+{url}") };
        let after = format!("url {{ {field}: \"{url}\" }}");
        assert_eq!(kinds(&format!("url {{ src: \"{full}\" }}"), &after), "");
    }
    let pairs = |first: &str, second: &str| {
        format!("extra-files: [[\"{first}\" \"{hash}\"] [\"{second}\" \"md5={hash}\"]]")
    };
    assert_eq!(kinds(&pairs("a", "b"), &pairs("b", "a")), "");
}

/// Of the real files every so many are tried: all of them take minutes.
const EVERY: usize = 4;

/// The items of a file in the opposite order, each on its own lines and with a comment.
fn turned_around(file: &OpamFile) -> VersionFiles {
    let source = file.to_bytes();
    let mut turned = Vec::new();
    for item in file.items().iter().rev() {
        turned.extend_from_slice(b"# comment\n\t");
        turned.extend_from_slice(&source[item.span().range()]);
        turned.extend_from_slice(b"(* \" *)\r\n");
    }
    VersionFiles::new(turned.into())
}

/// The file as it is compared, a field a line.
fn in_its_one_form(file: &OpamFile) -> Option<VersionFiles> {
    let mut printed = String::new();
    for item in file.items() {
        match item {
            Item::Field(field) => {
                let text = canonical::canonical(&field.value);
                // Not all that is made printable is opam's syntax too.
                if text.contains("\\u{") {
                    return None;
                }
                printed.push_str(&format!("{}: {text}\n", field.name));
            }
            Item::Section(section) => {
                printed.push_str(std::str::from_utf8(&file.to_bytes()[section.span.range()]).ok()?);
            }
        }
    }
    Some(VersionFiles::new(printed.into()))
}

#[test]
fn no_real_file_differs_from_itself_in_another_form() {
    if let Some((name, tree)) = world::snapshots().pop() {
        let mut printed = 0;
        for (package, _) in tree.versions().step_by(EVERY) {
            let before = VersionFiles::of(&tree, package).unwrap();
            let file = OpamFile::parse(before.opam()).unwrap();
            let edit = Edit::between(package, Some(&before), Some(&turned_around(&file)));
            assert_eq!(edit, None, "{package}");
            if let Some(after) = in_its_one_form(&file) {
                printed += 1;
                assert_eq!(Edit::between(package, Some(&before), Some(&after)), None, "{package}");
            }
        }
        println!("{name}: {printed} files printed anew");
        assert!(printed > 4_000);
    }
}

/// The file without one of its items.
fn without(file: &OpamFile, item: &Item) -> VersionFiles {
    let (source, span) = (file.to_bytes(), item.span());
    VersionFiles::new([&source[..span.start], &source[span.end..]].concat().into())
}

/// The file with another letter or digit in an item; none where that may stand in a comment.
fn misspelt(file: &OpamFile, item: &Item) -> Option<VersionFiles> {
    let (mut source, span) = (file.to_bytes().to_vec(), item.span());
    let text = &mut source[span.start..span.end];
    let middle = text.len() / 2;
    let letter = text[middle..].iter_mut().find(|byte| byte.is_ascii_alphanumeric())?;
    *letter = if *letter == b'7' { b'8' } else { b'7' };
    let has_comment = text.contains(&b'#') || text.windows(2).any(|pair| pair == b"(*");
    (!has_comment).then(|| VersionFiles::new(source.into()))
}

#[test]
fn a_real_file_with_an_item_less_or_a_letter_changed_is_edited() {
    let Some((_, tree)) = world::snapshots().pop() else { return };
    for (package, _) in tree.versions().step_by(4 * EVERY) {
        let before = VersionFiles::of(&tree, package).unwrap();
        let file = OpamFile::parse(before.opam()).unwrap();
        for item in file.items() {
            let said = String::from_utf8_lossy(&file.to_bytes()[item.span().range()]).into_owned();
            let edited = |after| Edit::between(package, Some(&before), Some(&after)).is_some();
            let says_nothing = said == "description: \"\n\"";
            assert!(edited(without(&file, item)) || says_nothing, "{package}: without {said}");
            assert!(misspelt(&file, item).is_none_or(edited), "{package}: {said}");
        }
    }
}

/// Tokens of a field's value; any two forms of one field are made of the same.
fn fields() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let words = prop::sample::select(vec!["\"a\"", "\"b\\n\"", "c", "d:e", "1", "true", "\"x.1\""]);
    let value = words.prop_map(|word| vec![word.to_owned()]).prop_recursive(3, 24, 4, |inner| {
        let all = prop::collection::vec(inner.clone(), 0..4).prop_map(|values| values.concat());
        let bracketed = |open: &'static str, close: &'static str| {
            move |mut tokens: Vec<String>| {
                tokens.insert(0, open.to_owned());
                tokens.push(close.to_owned());
                tokens
            }
        };
        let joined = |operator: &'static str| {
            move |(left, right): (Vec<String>, Vec<String>)| {
                [vec!["(".to_owned()], left, vec![operator.to_owned()], right, vec![")".to_owned()]]
                    .concat()
            }
        };
        prop_oneof![
            all.clone().prop_map(bracketed("[", "]")),
            all.prop_map(bracketed("\"a\" {", "}")),
            (inner.clone(), inner.clone()).prop_map(joined("&")),
            (inner.clone(), inner.clone()).prop_map(joined("|")),
            inner.prop_map(bracketed("!", "")),
        ]
    });
    let name = prop::sample::select(vec![
        "depends",
        "available",
        "flags",
        "build",
        "patches",
        "tags",
        "synopsis",
        "x-a",
        "new",
        "setenv",
        "features",
        "depexts",
        "description",
        "messages",
    ]);
    prop::collection::btree_map(name.prop_map(str::to_owned), value, 0..6)
        .prop_map(|fields| fields.into_iter().collect())
}

fn render(fields: &[(String, Vec<String>)], between: &str) -> String {
    let lines = fields.iter().map(|(name, tokens)| {
        format!("{name}{between}:{between}{}{between}", tokens.join(between))
    });
    lines.collect()
}

fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "depends",
        "build",
        "url {",
        "extra-source \"a\" {",
        "src",
        "mirrors",
        "checksum",
        ":",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "&",
        "|",
        "!",
        "=",
        ">=",
        "+=",
        "\"a\"",
        "\"https://a\"",
        "\"900150983cd24fb0d6963f7d28e17f72\"",
        "x-a",
        "flags",
        "tags",
        "\"flags:b\"",
        "1",
        " ",
        "\n",
        "patches",
        "extra-files",
        "opam-version: \"2.0\"",
        "available",
        "true",
        "\"\\255\"",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn blanks_comments_and_the_order_of_fields_are_no_edit(
        fields in fields(), blanks in "( |\t|\n|# c \"\n|\\(\\* c \" \\*\\)){1,6}"
    ) {
        let (before, mut turned) = (render(&fields, " "), fields);
        turned.reverse();
        let after = render(&turned, &format!("{blanks} "));
        prop_assert_eq!(kinds(&before, &after), "", "{} to {}", before, after);
    }

    #[test]
    fn no_bytes_panic_and_nothing_is_edited_into_itself(
        before in prop_oneof![fragments(), "\\PC{0,60}"], after in fragments(),
        url in prop::option::of(fragments())
    ) {
        let old = VersionFiles::new(before.into());
        let mut new = VersionFiles::new(after.into());
        if let Some(url) = url {
            new.insert("url".parse().unwrap(), url.into());
        }
        prop_assert_eq!(between(&old, &old.clone()), vec![]);
        for change in between(&old, &new) {
            for text in [change.before, change.after].into_iter().flatten() {
                prop_assert!(text.len() <= MAX_CHANGE_TEXT && !text.is_empty());
            }
        }
    }

    #[test]
    fn another_value_is_always_an_edit(fields in fields(), other in fields()) {
        let values = |fields: &[(String, Vec<String>)]| -> std::collections::BTreeMap<_, _> {
            let file = OpamFile::parse(render(fields, " ").as_bytes()).unwrap();
            let said = fields.iter().map(|(name, _)| {
                (name.clone(), canonical::canonical(&file.field(name).unwrap().value))
            });
            said.collect()
        };
        let (before, after) = (render(&fields, " "), render(&other, " "));
        let differ = |name: &str| {
            values(&fields).get(name) != values(&other).get(name)
        };
        // Fields whose values are compared just as they stand.
        if ["x-a", "new", "features", "depexts"].into_iter().any(differ) {
            prop_assert_ne!(kinds(&before, &after), "", "{} to {}", before, after);
        }
    }
}
