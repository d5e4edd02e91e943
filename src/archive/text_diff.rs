//! The lines in which two texts differ, within a bound.

use super::name::{is_deceptive, push};
use imara_diff::{Algorithm, Diff, InternedInput, Token, sources::byte_lines};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What is known of the lines of a changed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "diff", rename_all = "kebab-case")]
pub enum TextDiff {
    /// All hunks of a unified diff, without the two lines that name the files. Characters that
    /// would do something else than show are escaped.
    Whole {
        /// The hunks.
        hunks: String,
    },
    /// The first hunks; there was no room for more.
    Cut {
        /// The hunks, the last one broken off.
        hunks: String,
    },
    /// The lines were not compared: there is too much text.
    TooMuch,
    /// A side is no text.
    Binary,
    /// There are no lines to compare: links, or a mode.
    NoContent,
}

impl TextDiff {
    /// Compares two texts and takes what it costs from the room.
    pub(super) fn of(was: &[u8], is: &[u8], room: &mut Room) -> Self {
        if room.bytes == 0 {
            return Self::TooMuch;
        }
        let input = InternedInput::new(byte_lines(was), byte_lines(is));
        // The library has shortcuts for texts that are hard to compare, but stays quadratic.
        match room.steps.checked_sub(steps(&input.before, &input.after)) {
            Some(left) => room.steps = left,
            None => return Self::TooMuch,
        }
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_lines(&input);
        let mut printer = Printer { input: &input, hunks: String::new(), room: room.bytes };
        let changes: Vec<(Range<u32>, Range<u32>)> =
            diff.hunks().map(|hunk| (hunk.before, hunk.after)).collect();
        let joined = |a: &(Range<u32>, _), b: &(Range<u32>, _)| b.0.start - a.0.end <= 2 * CONTEXT;
        let whole =
            changes.chunk_by(joined).all(|hunk: &[(Range<u32>, Range<u32>)]| printer.hunk(hunk));
        let hunks = printer.hunks;
        room.bytes = room.bytes.saturating_sub(hunks.len());
        if whole { Self::Whole { hunks } } else { Self::Cut { hunks } }
    }

    /// The hunks, if lines were compared.
    pub fn hunks(&self) -> Option<&str> {
        match self {
            Self::Whole { hunks } | Self::Cut { hunks } => Some(hunks),
            Self::TooMuch | Self::Binary | Self::NoContent => None,
        }
    }
}

/// What is left for comparing texts.
pub(super) struct Room {
    /// The bytes of hunks; a text may go a line beyond.
    pub(super) bytes: usize,
    /// The pairs of lines that may be put side by side.
    pub(super) steps: u64,
}

/// How many pairs of lines there are without those at the beginning and the end that are alike.
fn steps(was: &[Token], is: &[Token]) -> u64 {
    let alike = |pairs: &mut dyn Iterator<Item = (&Token, &Token)>| {
        pairs.take_while(|(was, is)| was == is).count()
    };
    let leading = alike(&mut was.iter().zip(is));
    let (was, is) = (&was[leading..], &is[leading..]);
    let trailing = alike(&mut was.iter().rev().zip(is.iter().rev()));
    (was.len() - trailing) as u64 * (is.len() - trailing) as u64
}

struct Printer<'i, 't> {
    input: &'i InternedInput<&'t [u8]>,
    hunks: String,
    room: usize,
}

impl Printer<'_, '_> {
    /// Writes changes that are close to each other; false when the room is used up.
    fn hunk(&mut self, changes: &[(Range<u32>, Range<u32>)]) -> bool {
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return true };
        let leading = first.0.start.min(CONTEXT);
        // Both texts have as many lines after the last change.
        let trailing = (self.input.before.len() as u32 - last.0.end).min(CONTEXT);
        let before = first.0.start - leading..last.0.end + trailing;
        let after = first.1.start - leading..last.1.end + trailing;
        let header = format!("@@ -{} +{} @@\n", Position(&before), Position(&after));
        self.hunks.push_str(&header);
        let mut at = before.start;
        for (removed, added) in changes {
            if !(self.lines(' ', at..removed.start, true)
                && self.lines('-', removed.clone(), true)
                && self.lines('+', added.clone(), false))
            {
                return false;
            }
            at = removed.end;
        }
        self.lines(' ', at..before.end, true)
    }

    fn lines(&mut self, sign: char, range: Range<u32>, before: bool) -> bool {
        let input = self.input;
        let tokens = if before { &input.before } else { &input.after };
        for at in range {
            if self.hunks.len() >= self.room {
                return false;
            }
            self.hunks.push(sign);
            push_line(&mut self.hunks, input.interner[tokens[at as usize]]);
        }
        true
    }
}

/// Where a hunk is and how many lines it has, as diff writes it.
struct Position<'r>(&'r Range<u32>);

impl std::fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Range { start, end } = self.0;
        match end - start {
            0 => write!(f, "{start},0"),
            1 => write!(f, "{}", start + 1),
            count => write!(f, "{},{count}", start + 1),
        }
    }
}

fn push_line(text: &mut String, line: &[u8]) {
    let (line, ended) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
    let shown = &line[..line.len().min(LONGEST_LINE)];
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push('\t'),
                _ if is_deceptive(character) => {
                    push(text, format_args!("{}", character.escape_default()));
                }
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| push(text, format_args!("\\x{byte:02x}")));
    }
    if shown.len() < line.len() {
        push(text, format_args!("… ({} more bytes)", line.len() - shown.len()));
    }
    text.push('\n');
    if !ended {
        text.push_str("\\ No newline at end of file\n");
    }
}

/// Lines shown around a change.
const CONTEXT: u32 = 3;

/// The bytes of a line that are shown.
const LONGEST_LINE: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn diff(was: &[u8], is: &[u8], bytes: usize) -> TextDiff {
        TextDiff::of(was, is, &mut Room { bytes, steps: 1_000_000_000 })
    }

    #[test]
    fn hunks_are_those_of_a_unified_diff() {
        let was = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
        let is = was.replace("b\n", "B\n").replace("l\n", "l\nm");
        let expected = "@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n\
                        \\ No newline at end of file\n";
        let found = diff(was.as_bytes(), is.as_bytes(), 9999);
        assert_eq!(found, TextDiff::Whole { hunks: expected.to_owned() });
        let added = diff(b"", b"a\n", 9999);
        assert_eq!(added.hunks(), Some("@@ -0,0 +1 @@\n+a\n"));
    }

    #[test]
    fn a_diff_is_cut_at_its_room() {
        let was: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let found = diff(was.as_bytes(), b"", 1000);
        assert!(matches!(&found, TextDiff::Cut { hunks } if hunks.len() < 1100), "{found:?}");
        let long = diff(&b"x".repeat(1 << 20), b"", 1000);
        assert!(long.hunks().is_some_and(|hunks| hunks.len() < 3000));
    }

    #[test]
    fn nothing_in_a_diff_steers_a_terminal() {
        let found = diff(b"", "\u{1b}[2J\t\u{202e}\r\n".as_bytes(), 999);
        assert_eq!(found.hunks(), Some("@@ -0,0 +1 @@\n+\\u{1b}[2J\t\\u{202e}\\r\n"));
        assert_eq!(diff(b"", b"\xff\n", 99).hunks(), Some("@@ -0,0 +1 @@\n+\\xff\n"));
    }

    #[test]
    fn texts_that_are_hard_to_compare_do_not_take_long() {
        let random = |seed: u64, lines: usize| -> Vec<u8> {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                [b'a' + (state >> 60) as u8, b'\n']
            };
            (0..lines).flat_map(|_| next()).collect()
        };
        let alternating = (b"a\nb\n".repeat(15_800), b"b\na\nc\n".repeat(10_500));
        for (was, is) in [alternating, (random(1, 31_600), random(2, 31_600))] {
            let start = std::time::Instant::now();
            assert!(diff(&was, &is, 9999).hunks().is_some());
            println!("hard texts: {:?}", start.elapsed());
            assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        }
        assert_eq!(diff(&random(1, 40_000), &random(2, 40_000), 9999), TextDiff::TooMuch);
        let long = random(1, 500_000);
        let longer = [&long[..250_000], b"one more\n", &long[250_000..]].concat();
        assert!(diff(&long, &longer, 9999).hunks().is_some(), "a small change to a long text");
    }

    proptest! {
        #[test]
        fn no_texts_panic(was in "[ab\n]{0,60}", is in "[ab\n]{0,60}", room in 1..200_usize) {
            let found = diff(was.as_bytes(), is.as_bytes(), room);
            let hunks = found.hunks().unwrap();
            prop_assert_eq!(hunks.is_empty(), was == is);
        }
    }
}
