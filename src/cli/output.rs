//! How commands print: JSON for machines, aligned text for people, colour only on a terminal.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => anstream::println!("{text}"),
        Err(error) => failure(&error.to_string(), false),
    }
}

/// A number with its noun.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

/// Prints why a command ended early.
pub(super) fn failure(sentence: &str, as_json: bool) {
    if as_json {
        anstream::eprintln!("{}", serde_json::json!({ "error": sentence }));
    } else {
        anstream::eprintln!("{BAD}opam-keep:{BAD:#} {sentence}");
    }
}

/// For what is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// For headings.
pub(super) const HEADING: Style = Style::new().bold();
