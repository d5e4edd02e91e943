//! How commands print: JSON for machines, text for people that is wrapped to their terminal and
//! coloured only there.

use anstyle::{AnsiColor, Style};
use indicatif::{HumanDuration, ProgressBar, ProgressFinish, ProgressState};
use serde::Serialize;
use std::fmt;
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
        Some(width) => verbatim(&wrapped(&text, width)),
        None => verbatim(&text),
    }
}

/// Prints a line as it is, however long: what is pasted elsewhere, or compared.
pub(super) fn verbatim(text: &str) {
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
        Ok(text) => verbatim(&text),
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

/// Prints why a command ended early.
pub(super) fn failure(sentence: &str, as_json: bool) {
    if as_json {
        anstream::eprintln!("{}", serde_json::json!({ "error": sentence }));
        return;
    }
    let text = format!("{BAD}opam-keep:{BAD:#} {sentence}");
    match width_of(&io::stderr()) {
        Some(width) => anstream::eprintln!("{}", wrapped(&text, width)),
        None => anstream::eprintln!("{text}"),
    }
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
