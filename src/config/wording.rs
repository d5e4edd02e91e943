//! What the TOML parser says, in the words of those who write mirror.toml.

/// A message of the parser as one sentence.
pub(super) fn of(message: &str) -> String {
    let message = message.replace('\n', ", ");
    IN_WORDS.iter().fold(message, |message, (theirs, ours)| message.replace(theirs, ours))
}

/// What the parser calls things, and what mirror.toml's readers call them.
const IN_WORDS: [(&str, &str); 16] = [
    ("invalid integer, expected nothing", "write it in quotes"),
    ("invalid float, expected nothing", "write it in quotes"),
    (
        "invalid type: map, expected a sequence",
        "wrong brackets: [[repository]], [[policy.override]] and [[alert.…]] have two, all other \
         sections have one",
    ),
    ("expected a sequence", "expected a list in brackets"),
    ("expected a nonzero usize", "expected a whole number, 1 or more"),
    ("expected a nonzero u32", "expected a whole number, 1 or more"),
    ("expected usize", "expected a whole number"),
    ("expected u64", "expected a whole number"),
    ("expected path string", "expected a path in quotes"),
    ("expected a string", "expected text in quotes"),
    ("expected a boolean", "expected true or false"),
    ("expected a map", "expected { \"KEY\" = \"VALUE\" }"),
    ("expected struct TlsFiles", "expected { cert = \"FILE\", key = \"FILE\" }"),
    ("expected struct ", "expected keys of the section "),
    ("missing field", "there is no"),
    ("unknown field", "there is no key"),
];
