//! How commands print: JSON for machines, text for people that is wrapped to their terminal and
//! coloured only there.

use crate::archive::{is_deceptive, printable};
use anstyle::{AnsiColor, Style};
use indicatif::{HumanDuration, ProgressBar, ProgressFinish, ProgressState};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;
use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSeparator, WordSplitter, core};

/// Prints a line, as `println!` does, wrapped to the terminal; where that fails the command ends.
macro_rules! say {
    () => { $crate::cli::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}
pub(super) use say;

/// Prints a line to standard output, or ends the process in one sentence.
pub(super) fn line(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    match width_of(&io::stdout()) {
        Some(width) => verbatim(&wrapped(&harmless(&text), width)),
        None => verbatim(&text),
    }
}

/// Text that someone else wrote at will as part of one line, escaped as explanations are.
pub(super) fn escaped(text: &str) -> String {
    printable(text.as_bytes(), usize::MAX)
}

/// Prints a line as it is, however long: what is pasted elsewhere, or compared.
pub(super) fn verbatim(text: &str) {
    put(&harmless(text));
}

/// Writes a line to standard output, or ends the process in one sentence.
fn put(text: &str) {
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
        Ok(text) => put(&json_escaped(&text)),
        Err(error) => failure(&error.to_string(), false),
    }
}

/// Shows on a terminal that something goes on that may take seconds, until it is dropped.
pub(super) fn spinner(what: &'static str) -> ProgressBar {
    // indicatif draws nothing where standard error is no terminal.
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner.with_finish(ProgressFinish::AndClear)
}

/// How long something with a bar will take, once there is something to tell it by.
pub(super) fn left(state: &ProgressState, text: &mut dyn fmt::Write) {
    if state.pos() > 0 && state.elapsed() >= SPEED_KNOWN {
        // It is drawn again soon.
        let _written = write!(text, ", {} left", HumanDuration(state.eta()));
    }
}

/// A number with its noun.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

/// Prints to standard error what goes with a command's output without being it.
pub(super) fn aside(text: &str) {
    anstream::eprintln!("{}", harmless(text));
}

/// Prints why a command ended early.
pub(super) fn failure(sentence: &str, as_json: bool) {
    if as_json {
        let text = serde_json::json!({ "error": sentence }).to_string();
        anstream::eprintln!("{}", json_escaped(&text));
        return;
    }
    let text = format!("{BAD}opam-keep:{BAD:#} {}", harmless(sentence));
    match width_of(&io::stderr()) {
        Some(width) => anstream::eprintln!("{}", wrapped(&text, width)),
        None => anstream::eprintln!("{text}"),
    }
}

/// A text of ours in which nothing that others wrote moves a cursor or hides other text, whatever
/// it came through: what would is escaped, but for line breaks, tabs and colours.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return text.into();
    }
    let mut harmless = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        match character {
            '\n' | '\t' => harmless.push(character),
            '\u{1b}' if is_colour(&text[at..]) => harmless.push(character),
            _ if is_deceptive(character) => harmless.extend(character.escape_default()),
            _ => harmless.push(character),
        }
    }
    harmless.into()
}

/// Whether a text begins with an escape that does nothing but colour what follows.
fn is_colour(text: &str) -> bool {
    let parameters = text.strip_prefix("\u{1b}[").unwrap_or_default();
    parameters.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
}

/// The same JSON without anything that a terminal would do something else with than show it.
fn json_escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(is_deceptive) {
        return json.into();
    }
    // Only strings have such characters in them.
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match is_deceptive(character) {
            true => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                write!(escaped, "\\u{unit:04x}").expect("a String takes everything");
            }),
            false => escaped.push(character),
        }
    }
    escaped.into()
}

/// How many columns people see; none where nobody looks.
fn width_of(stream: &(impl io::IsTerminal + AsFd)) -> Option<usize> {
    let is_seen = stream.is_terminal();
    let (Width(width), _) = is_seen.then(|| terminal_size_of(stream)).flatten()?;
    Some(usize::from(width).max(MIN_WIDTH))
}

/// Each line of a text in as many as it needs, the later ones below where its value begins.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        if core::display_width(line) <= width {
            lines.push(line.to_owned());
            continue;
        }
        let (label, value) = line.split_at(value_of(line));
        let below = " ".repeat(core::display_width(label));
        let options = Options::new(width)
            .initial_indent(label)
            .subsequent_indent(&below)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation);
        lines.extend(textwrap::wrap(value, options).into_iter().map(|line| line.into_owned()));
    }
    lines.join("\n")
}

/// Where the value of a line begins: after its label and two spaces or more, or else its margin.
fn value_of(line: &str) -> usize {
    let margin = line.len() - line.trim_start_matches(' ').len();
    let Some(gap) = line[margin..].find("  ").map(|gap| margin + gap) else {
        return margin;
    };
    let value = gap + line[gap..].len() - line[gap..].trim_start_matches(' ').len();
    if core::display_width(&line[..value]) <= MAX_LABEL { value } else { margin }
}

/// Before that a speed says nothing.
const SPEED_KNOWN: Duration = Duration::from_secs(3);
/// Nobody reads what is wrapped to less.
const MIN_WIDTH: usize = 40;
/// No label is as wide as this.
const MAX_LABEL: usize = 24;
/// For what is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// For headings.
pub(super) const HEADING: Style = Style::new().bold();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_came_through_it_moves_no_cursor() {
        let coloured = format!("{BAD}bad{BAD:#}\tone\ntwo \\ é");
        assert_eq!(harmless(&coloured), coloured);
        assert_eq!(harmless("a\u{1b}[2J\u{9b}3\u{202e}\r"), "a\\u{1b}[2J\\u{9b}3\\u{202e}\\r");
        for cut in ["\u{1b}", "\u{1b}[", "\u{1b}[31", "\u{1b}[3é", "\u{1b}]0;m"] {
            assert!(!harmless(cut).contains('\u{1b}'), "{cut:?}");
        }
        assert_eq!(escaped("one\ntwo\u{1b}[31m"), "one\\ntwo\\u{1b}[31m");
    }

    #[test]
    fn json_says_the_same_without_moving_a_cursor() {
        let value = serde_json::json!(["\u{1b}\u{202e}\u{9b}\u{7f}\u{e0001}é\n"]);
        let text = value.to_string();
        let escaped = json_escaped(&text);
        assert!(!escaped.contains(is_deceptive), "{escaped:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        for line in ["", "  a  b", "0123456789 0123456789 0123456789 01234567"] {
            assert_eq!(wrapped(line, 41), line);
        }
    }

    #[test]
    fn a_value_goes_on_below_where_it_began() {
        let line = "  policy       held: what was there before is served";
        assert_eq!(
            wrapped(line, 40),
            "  policy       held: what was there\n               before is served"
        );
        let sentence = "    one two three four five six seven eight";
        assert_eq!(wrapped(sentence, 40), "    one two three four five six seven\n    eight");
    }

    #[test]
    fn colours_take_no_room_and_long_words_stay_whole() {
        let line = format!("{BAD}bad{BAD:#}  one two three four five six seven eight");
        assert!(wrapped(&line, 40).ends_with(" seven\n     eight"), "{}", wrapped(&line, 40));
        let url = format!("https://{}/", "a".repeat(60));
        assert_eq!(wrapped(&format!("asked  {url} now"), 40), format!("asked  {url}\n       now"));
    }
}
