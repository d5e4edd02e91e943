//! The differences of all files as one text for a person, in the form of a unified diff.

use super::changes::{Change, Content};
use super::explanation::Explanation;
use super::name::push;
use super::text_diff::TextDiff;

impl Explanation {
    /// The differences as a unified diff; none where files were not compared. It is as safe to
    /// show as the names and hunks in it, and bounded as they are.
    pub fn unified_diff(&self) -> Option<String> {
        self.content().map(Content::unified_diff)
    }
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
