//! The grammar and the edits, case by case, at random, and over a real repository.

use super::*;
use proptest::prelude::*;

/// The value of the field `x` of a file that holds nothing else.
fn value_of(rendered: &str) -> ValueKind {
    let file = OpamFile::parse(format!("x: {rendered}").as_bytes());
    file.unwrap_or_else(|error| panic!("{rendered}: {error}"))
        .field("x")
        .unwrap()
        .value
        .kind
        .clone()
}

fn string_of(rendered: &str) -> Vec<u8> {
    match value_of(rendered) {
        ValueKind::String(text) => text.as_bytes().to_vec(),
        other => panic!("{rendered}: {other:?}"),
    }
}

/// A value in brackets of its own kind, so that its shape shows.
fn shape(kind: &ValueKind) -> String {
    let all = |values: &[Value], between: &str| {
        values.iter().map(|value| shape(&value.kind)).collect::<Vec<_>>().join(between)
    };
    match kind {
        ValueKind::Bool(value) => value.to_string(),
        ValueKind::Int(value) => value.to_string(),
        ValueKind::Ident(name) => name.to_string(),
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::List(values) => format!("[{}]", all(values, " ")),
        ValueKind::Group(values) => format!("({})", all(values, " ")),
        ValueKind::Option { value, options } => options
            .iter()
            .fold(shape(&value.kind), |text, option| format!("{text}{{{}}}", all(option, " "))),
        ValueKind::Prefix(operator, value) => format!("{operator:?}<{}>", shape(&value.kind)),
        ValueKind::And(values) => format!("and<{}>", all(values, " ")),
        ValueKind::Or(values) => format!("or<{}>", all(values, " ")),
        ValueKind::Relation(operator, pair) => format!("{operator:?}<{}>", all(&pair[..], " ")),
        ValueKind::Constraint(operator, value) => format!("{operator:?}<{}>", shape(&value.kind)),
        ValueKind::EnvUpdate(operator, pair) => format!("{operator:?}<{}>", all(&pair[..], " ")),
    }
}

fn error_of(source: &[u8]) -> String {
    match OpamFile::parse(source) {
        Ok(file) => panic!("parsed: {:?}", file.items()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn operators_bind_as_in_opam() {
    for (rendered, expected) in [
        (r#""a" | "b" {>= "1"} & "c""#, r#"or<"a" and<"b"{GreaterOrEqual<"1">} "c">>"#),
        ("!a & b", "and<Not<a> b>"),
        ("!a {b} {c}", "Not<a{b}{c}>"),
        ("?_:x & z", "and<Defined<_:x> z>"),
        ("! ? a = b", "Not<Defined<Equal<a b>>>"),
        ("[a = b != c]", "[Equal<a b> NotEqual<c>]"),
        ("[a b:c 1 -2 true]", "[a b:c 1 -2 true]"),
        ("(a | b) & c", "and<(or<a b>) c>"),
        ("a | b | c & d & e", "or<a b and<c d e>>"),
        (r#"[PATH += "x"] "#, r#"[PlusEqual<PATH "x">]"#),
        (
            "[a := b c =+ d e =: f g =+= h]",
            "[ColonEqual<a b> EqualPlus<c d> EqualColon<e f> EqualPlusEqual<g h>]",
        ),
        ("a ~ 1", "GreaterOrEqual<a 1>"),
        ("= a {b}", "Equal<a>{b}"),
        ("[]", "[]"),
        ("()", "()"),
        ("a {}", "a{}"),
        ("a+b+_:c-d", "a+b+_:c-d"),
        ("falsey", "falsey"),
        ("1_000", "1000"),
        ("-4611686018427387904", "-4611686018427387904"),
    ] {
        assert_eq!(shape(&value_of(rendered)), expected, "{rendered}");
    }
}

#[test]
fn strings_decode_as_in_opam() {
    for (rendered, decoded) in [
        (r#""""#, &b""[..]),
        (r#""""a"b""c\"""""#, br#"a"b""c""#),
        (r#""""""""#, b""),
        (r#""\\\"\'\ \n\r\t\b\065\xfF""#, b"\\\"' \n\r\t\x08A\xff"),
        ("\"a\\\n \t b\\\r\nc\"", b"abc"),
        ("\"a\r\nb\rc\n\"", b"a\nb\rc\n"),
        ("\"# (* \u{e9}\"", "# (* é".as_bytes()),
    ] {
        assert_eq!(string_of(rendered), decoded, "{rendered}");
    }
    for rendered in [r#""\q""#, r#""\256""#, r#""\12""#, r#""\xg0""#, "\"\\\r\"", "\"", "\"\"\"\""]
    {
        error_of(format!("x: {rendered}").as_bytes());
    }
    for text in ["", "a\"b\\c", "\r\n", "é\0"] {
        assert_eq!(string_of(&quoted(text)), text.as_bytes());
    }
}

#[test]
fn comments_and_blanks_are_passed_over_and_kept() {
    let source = b"# one \xff\r# still\nx: 1 (* (* \" *) *)\r\n\ty: (*)*) 2 # end";
    let file = OpamFile::parse(source).unwrap();
    assert_eq!(shape(&file.field("x").unwrap().value.kind), "1");
    assert_eq!(shape(&file.field("y").unwrap().value.kind), "2");
    assert_eq!(file.to_bytes(), &source[..]);
    assert_eq!(error_of(b"x: 1\n(* (* *)"), "line 2, column 1: this comment has no end");
    assert!(OpamFile::parse(b"").unwrap().items().is_empty());
}

#[test]
fn sections_nest_and_may_have_a_label() {
    let file = OpamFile::parse(b"url { src: \"a\" } extra-source \"b\" { c { d: e } }").unwrap();
    let url = file.sections("url").next().unwrap();
    assert_eq!(url.fields("src").count(), 1);
    assert!(url.label.is_none());
    let extra = file.sections("extra-source").next().unwrap();
    assert!(extra.label.as_ref().is_some_and(|label| *label == *"b"));
    assert_eq!(&file.to_bytes()[extra.span.range()], b"extra-source \"b\" { c { d: e } }");
}

#[test]
fn what_opam_refuses_is_refused_with_its_place() {
    for (source, error) in [
        (
            "flags:conf",
            "line 1, column 11: expected ':', '{' or a label, found the end of the file",
        ),
        ("x: 1\n\n  y 2", "line 3, column 5: expected ':', '{' or a label, found a number"),
        ("x: a\rb", "line 1, column 5: a carriage return stands alone here"),
        ("x: 1.0", "line 1, column 5: this character means nothing here"),
        ("x:= 1", "line 1, column 2: expected ':', '{' or a label, found an update operator"),
        ("x: a =:= b", "line 1, column 6: '=:=' is no operator"),
        ("x: _", "line 1, column 4: this number can't be read"),
        ("x: _1", "line 1, column 4: this number can't be read"),
        ("x: 4611686018427387904", "line 1, column 4: this number can't be read"),
        ("x: -", "line 1, column 4: this is neither an identifier nor a number"),
        ("x: (a = b) = c", "line 1, column 12: expected a field or a section, found a comparison"),
        ("x: [a", "line 1, column 6: expected a value, found the end of the file"),
        ("x { y: 1 ]", "line 1, column 10: expected a field, a section or '}', found ']'"),
        ("}", "line 1, column 1: expected a field or a section, found '}'"),
        ("\u{feff}x: 1", "line 1, column 1: this character means nothing here"),
        ("x: \0", "line 1, column 4: this character means nothing here"),
    ] {
        assert_eq!(error_of(source.as_bytes()), error, "{source:?}");
    }
}

#[test]
fn a_newer_opam_version_comes_first_and_once() {
    for good in [
        "x: 1 opam-version: \"2.0\"",
        "opam-version: \"2.1\" x: 1",
        "opam-version: \"2.9.1\" x: 1",
        "opam-version: \"2.0\" opam-version: \"2.0\"",
    ] {
        assert!(OpamFile::parse(good.as_bytes()).is_ok(), "{good}");
    }
    assert!(error_of(b"x: 1 opam-version: \"2.1\"").ends_with("must be the first field"));
    assert!(error_of(b"opam-version: \"2.1\" opam-version: \"2.0\"").ends_with("twice"));
    let newer = "; the file is of a format newer than opam-version 2.1";
    assert!(error_of(b"opam-version: \"2.2\" x: $").ends_with(newer));
    assert!(!error_of(b"opam-version: \"2.1\" x: $").ends_with(newer));
}

#[test]
fn size_and_depth_are_bounded() {
    for (open, close) in [("[", "]"), ("(", ")"), ("a {", "}"), ("!", "a")] {
        let nested = |depth| format!("x: {}{}", open.repeat(depth), close.repeat(depth));
        let deep = error_of(nested(100_000).as_bytes());
        assert!(deep.ends_with("this nests more than 64 levels deep"), "{open}: {deep}");
    }
    assert!(OpamFile::parse(format!("{}{}", "a {".repeat(64), "}".repeat(64)).as_bytes()).is_ok());
    error_of("a {".repeat(65).as_bytes());
    assert!(
        OpamFile::parse(format!("x: {}a{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok()
    );
    assert!(error_of(&vec![b' '; MAX_FILE_SIZE + 1]).contains("larger than 1048576 bytes"));
    // A long chain is flat, so that neither parsing nor dropping it is deep.
    for operator in [" & ", " | "] {
        let chain = format!("x: {}a", format!("a{operator}").repeat(MAX_FILE_SIZE / 4 - 2));
        assert!(OpamFile::parse(chain.as_bytes()).is_ok(), "{operator}");
    }
    let options = format!("x: a{}", "{}".repeat(MAX_FILE_SIZE / 2 - 4));
    assert!(OpamFile::parse(options.as_bytes()).is_ok());
}

#[test]
fn edits_leave_every_other_byte_alone() {
    let source = "# c\r\na: [ 1 ] # one\r\n  b: 2\t\r\na: 3\nd {a: 4}\n# no end";
    let mut file = OpamFile::parse(source.as_bytes()).unwrap();
    file.set_field("a", "\"new\"").unwrap();
    assert_eq!(file.to_bytes(), "# c\r\na: \"new\" # one\r\n  b: 2\t\r\nd {a: 4}\n# no end");
    assert!(file.remove_field("b").unwrap() && !file.remove_field("b").unwrap());
    assert_eq!(file.to_bytes(), "# c\r\na: \"new\" # one\r\nd {a: 4}\n# no end");
    file.set_field("e", "[\"f\"]").unwrap();
    assert_eq!(file.to_bytes(), "# c\r\na: \"new\" # one\r\nd {a: 4}\n# no end\ne: [\"f\"]\n");
    assert!(file.remove_field("a").unwrap());
    assert_eq!(file.to_bytes(), "# c\r\n # one\r\nd {a: 4}\n# no end\ne: [\"f\"]\n");
    assert_eq!(shape(&file.field("e").unwrap().value.kind), r#"["f"]"#);
}

#[test]
fn an_edit_that_says_something_else_is_refused() {
    let mut file = OpamFile::parse(b"a: 1 b: 2").unwrap();
    for value in ["", "1 c: 2", "1 # x", "[", "1 b", "\"", "1 {"] {
        assert!(file.set_field("a", value).is_err(), "{value}");
        assert!(file.append_field("z", value).is_err(), "{value}");
    }
    assert!(file.append_field("z: 1 y", "2").is_err());
    assert_eq!(file.to_bytes(), "a: 1 b: 2");
}

#[test]
fn every_opam_file_of_a_real_repository_parses_and_prints_back() {
    for (name, tree) in crate::opam::tree::world::snapshots() {
        let opam = |package| tree.opam_file(package).unwrap();
        let sources: Vec<_> =
            tree.versions().map(|(package, _)| (package, opam(package))).collect();
        let start = std::time::Instant::now();
        for (package, source) in &sources {
            let file = OpamFile::parse(source).unwrap_or_else(|error| panic!("{package}: {error}"));
            assert_eq!(file.to_bytes(), source);
        }
        let parsed = sources.len();
        println!("{name}: {parsed} opam files in {:?}", start.elapsed());
        assert!(parsed > 17_000);
    }
}

/// Text that is made of the format's own words, so that much of it parses.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "a",
        "x:",
        ": ",
        "1",
        "-2",
        "true",
        "\"s\"",
        "\"\"\"t\"\"\"",
        "\"\\n\"",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "&",
        "|",
        "!",
        "?",
        "=",
        "!=",
        ">=",
        "~",
        "+=",
        ":=",
        "=+=",
        " ",
        "\n",
        "\r\n",
        "\r",
        "# c\n",
        "(* ",
        "*)",
        "\\",
        "_",
        "+",
        "opam-version: \"2.2\"",
        "\u{e9}",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_parses_prints_back(
        source in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        if let Ok(file) = OpamFile::parse(&source) {
            prop_assert_eq!(&file.to_bytes()[..], &source[..]);
        }
    }

    #[test]
    fn no_words_panic_and_what_parses_can_be_edited(source in fragments()) {
        if let Ok(mut file) = OpamFile::parse(&source) {
            prop_assert_eq!(&file.to_bytes()[..], &source[..]);
            let before = file.items().len();
            prop_assert!(file.remove_field("a").is_ok());
            prop_assert!(file.field("a").is_none() && file.items().len() <= before);
            prop_assert!(file.set_field("new", "\"value\"").is_ok());
            prop_assert!(file.remove_field("new").is_ok());
        }
    }
}
