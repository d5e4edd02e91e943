//! How commands print: JSON for machines, aligned text for people, colour only on a terminal.

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write as _};

/// Prints a line, as `println!` does; where that fails the command ends.
macro_rules! say {
    () => { $crate::cli::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}
pub(super) use say;

/// Prints a line to standard output, or ends the process in one sentence.
pub(super) fn line(text: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(anstream::stdout().lock(), "{text}") {
        // Whoever reads no further, as `head` does, has what they wanted.
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        failure(&format!("standard output can't be written: {error}"), false);
        std::process::exit(1);
    }
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => say!("{text}"),
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
