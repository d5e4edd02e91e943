//! How times, sizes and diffs are written on a page.

use crate::archive::is_deceptive;
use jiff::Timestamp;
use std::fmt;

/// A time, with how long ago that is.
#[derive(Clone)]
pub(super) struct Moment {
    /// For machines.
    pub iso: String,
    /// For people: the minute, in UTC.
    pub text: String,
    /// How long ago.
    pub ago: String,
}

impl Moment {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let text = at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        Self { iso: at.to_string(), text, ago: ago(at, now) }
    }
}

/// How long ago, in the largest whole unit.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// A page in which nothing that others wrote hides or reorders other text: what would is escaped.
pub(super) fn harmless(html: String) -> String {
    let is_ours = |c: char| !is_deceptive(c) || matches!(c, '\n' | '\t');
    if html.chars().all(is_ours) {
        return html;
    }
    let mut harmless = String::with_capacity(html.len());
    for character in html.chars() {
        match is_ours(character) {
            true => harmless.push(character),
            false => harmless.extend(character.escape_default()),
        }
    }
    harmless
}

/// A number of bytes, in the largest binary unit that leaves a whole part.
pub(super) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} bytes");
    }
    let mut size = count as f64 / 1_024.0;
    let mut unit = 0;
    while size >= 1_024.0 && unit + 1 < units.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// A count with its digits in groups of three.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// One line of a unified diff.
pub(super) struct DiffLine {
    pub kind: LineKind,
    pub text: String,
}

/// What a line of a diff says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    Added,
    Removed,
    Heading,
    Same,
}

impl fmt::Display for LineKind {
    /// The line's class.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Heading => "heading",
            Self::Same => "same",
        })
    }
}

/// The lines of a unified diff, as many as a page takes; and how many more there are.
pub(super) fn diff_lines(diff: &str) -> (Vec<DiffLine>, usize) {
    let line = |line: &str| {
        let kind = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'@', b'@', ..] => LineKind::Heading,
            [b'+', ..] => LineKind::Added,
            [b'-', ..] => LineKind::Removed,
            _ => LineKind::Same,
        };
        DiffLine { kind, text: line.to_owned() }
    };
    let more = diff.lines().count().saturating_sub(MAX_LINES);
    (diff.lines().take(MAX_LINES).map(line).collect(), more)
}

const MAX_LINES: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_whole_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, expected) in
            [(0, "just now"), (60, "1 minute ago"), (7_300, "2 hours ago"), (200_000, "2 days ago")]
        {
            let then = Timestamp::from_second(1_000_000 - seconds).unwrap();
            assert_eq!(ago(then, now), expected);
        }
    }

    #[test]
    fn sizes_and_counts_are_easy_to_read() {
        for (count, expected) in
            [(0, "0 bytes"), (1_023, "1023 bytes"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(123), "123");
    }

    #[test]
    fn the_lines_of_a_diff_are_told_apart() {
        let (lines, more) = diff_lines("--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n z\n");
        let kinds: Vec<LineKind> = lines.iter().map(|line| line.kind).collect();
        use LineKind::{Added, Heading, Removed, Same};
        assert_eq!(kinds, [Heading, Heading, Heading, Removed, Added, Same]);
        assert_eq!(more, 0);
        assert_eq!(diff_lines(&"+\n".repeat(MAX_LINES + 3)).1, 3);
    }
}
