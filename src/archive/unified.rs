//! The differences of all files as one text for a person, in the form of a unified diff.

use super::changes::{Change, Content, State};
use super::entry::EntryKind;
use super::explanation::Explanation;
use super::limits::Limits;
use super::name::{printable, push};
use super::text_diff::{Room, TextDiff};
use crate::digest::Sha256;

impl Explanation {
    /// The differences as a unified diff; none where files were not compared. It is as safe to
    /// show as the names and hunks in it, and bounded as they are.
    pub fn unified_diff(&self) -> Option<String> {
        self.content().map(Content::unified_diff)
    }
}

/// How one file differs, in the same form; without one side, it is only on the other.
pub fn file_diff(path: &str, was: Option<&[u8]>, is: Option<&[u8]>, limits: &Limits) -> String {
    let state = |bytes: &[u8]| {
        let (size, sha256) = (bytes.len() as u64, Sha256::of(bytes));
        State { kind: EntryKind::File { size, sha256, text: true }, mode: None }
    };
    let mut room = Room { bytes: limits.diff_bytes, steps: limits.diff_steps };
    let lines = TextDiff::of(was.unwrap_or_default(), is.unwrap_or_default(), &mut room);
    let path = printable(path.as_bytes(), usize::MAX);
    let change = Change { path, was: was.map(state), is: is.map(state), lines };
    let mut text = String::new();
    push_change(&mut text, &change);
    text
}

impl Content {
    /// The differences as a unified diff; files that are no texts have a line that describes them.
    pub fn unified_diff(&self) -> String {
        let mut text = String::new();
        self.changes.iter().for_each(|change| push_change(&mut text, change));
        let left_out = self.differences().saturating_sub(self.changes.len());
        if left_out > 0 {
            push(&mut text, format_args!("And {left_out} more files.\n"));
        }
        text
    }
}

fn push_change(text: &mut String, change: &Change) {
    let path = if change.path.is_empty() { "the file" } else { &change.path };
    match (&change.was, &change.is) {
        (Some(was), Some(is)) => {
            push(text, format_args!("Changed {path}\n  was {was}\n  is {is}\n"));
        }
        (None, Some(is)) => push(text, format_args!("Added {path}\n  is {is}\n")),
        (Some(was), None) => push(text, format_args!("Removed {path}\n  was {was}\n")),
        (None, None) => {}
    }
    match &change.lines {
        TextDiff::Binary | TextDiff::NoContent => {}
        TextDiff::TooMuch => text.push_str("  (too much text to compare its lines)\n"),
        TextDiff::Whole { hunks } => {
            push_names(text, change);
            text.push_str(hunks);
        }
        TextDiff::Cut { hunks } => {
            push_names(text, change);
            text.push_str(hunks);
            text.push_str("  (cut here: more lines differ)\n");
        }
    }
}

fn push_names(text: &mut String, change: &Change) {
    let separator = if change.path.is_empty() { "" } else { "/" };
    match change.was {
        Some(_) => push(text, format_args!("--- pinned{separator}{}\n", change.path)),
        None => text.push_str("--- /dev/null\n"),
    }
    match change.is {
        Some(_) => push(text, format_args!("+++ observed{separator}{}\n", change.path)),
        None => text.push_str("+++ /dev/null\n"),
    }
}
