//! Edits that replace the bytes of one field and leave every other byte alone.

use super::value::{Item, Span};
use super::{OpamFile, SyntaxError};

impl OpamFile {
    /// Gives the field at the top level a new value, written as it stands in a file.
    ///
    /// Where the field isn't there it is appended; where it is there several times only the first
    /// one stays. On an error (the name or the value is not exactly one, or the file would become
    /// too large) the file is unchanged.
    pub fn set_field(&mut self, name: &str, rendered: &str) -> Result<(), SyntaxError> {
        let Some(value) = self.field(name).map(|field| field.value.span) else {
            return self.append_field(name, rendered);
        };
        let again: Vec<Span> = self.fields(name).skip(1).map(|field| field.span).collect();
        let removals = again.iter().map(|span| (self.whole_lines(*span), ""));
        let edited = self.spliced([(value, rendered)].into_iter().chain(removals))?;
        *self = edited.if_said(name, rendered, self.items.len() - again.len())?;
        Ok(())
    }

    /// Adds a field on a line of its own at the end of the file.
    ///
    /// On an error, as for [`Self::set_field`], the file is unchanged.
    pub fn append_field(&mut self, name: &str, rendered: &str) -> Result<(), SyntaxError> {
        let end = self.source.len();
        let on_a_new_line = self.source.is_empty() || self.source.ends_with(b"\n");
        let line = format!("{}{name}: {rendered}\n", if on_a_new_line { "" } else { "\n" });
        let edited = self.spliced([(Span { start: end, end }, line.as_str())])?;
        *self = edited.if_said(name, rendered, self.items.len() + 1)?;
        Ok(())
    }

    /// Removes every field of this name from the top level, with its lines where it has them for
    /// itself; says whether there was one.
    pub fn remove_field(&mut self, name: &str) -> Result<bool, SyntaxError> {
        let removals = self.fields(name).map(|field| (self.whole_lines(field.span), ""));
        let edited = self.spliced(removals)?;
        let removed = edited.items.len() < self.items.len();
        *self = edited;
        Ok(removed)
    }

    /// The file with the bytes of each span replaced; the spans come in order.
    pub(in crate::opam) fn spliced<'a>(
        &self,
        edits: impl IntoIterator<Item = (Span, &'a str)>,
    ) -> Result<Self, SyntaxError> {
        let mut edited = Vec::with_capacity(self.source.len());
        let mut copied = 0;
        for (span, replacement) in edits {
            edited.extend_from_slice(&self.source[copied..span.start]);
            edited.extend_from_slice(replacement.as_bytes());
            copied = span.end;
        }
        edited.extend_from_slice(&self.source[copied..]);
        Self::parse_bytes(edited.into())
    }

    /// `span` with the rest of its lines, if nothing but blanks is there.
    pub(in crate::opam) fn whole_lines(&self, span: Span) -> Span {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let before = &self.source[..span.start];
        let after = &self.source[span.end..];
        let start = span.start - before.iter().rev().take_while(blank).count();
        let end = span.end + after.iter().take_while(blank).count();
        let starts_a_line = start == 0 || self.source[start - 1] == b'\n';
        let line_end = match self.source[end..] {
            [b'\n', ..] => Some(end + 1),
            [b'\r', b'\n', ..] => Some(end + 2),
            [] => Some(end),
            _ => None,
        };
        match line_end {
            Some(end) if starts_a_line => Span { start, end },
            _ => span,
        }
    }

    /// The file, if the edit said just what it meant to: one value, and no item more or less.
    fn if_said(self, name: &str, rendered: &str, items: usize) -> Result<Self, SyntaxError> {
        let said = self.items.iter().any(|item| match item {
            Item::Field(field) => {
                field.name == *name && self.source[field.value.span.range()] == *rendered.as_bytes()
            }
            Item::Section(_) => false,
        });
        if said && self.items.len() == items {
            return Ok(self);
        }
        let message = format!("the new value of the field '{name}' is not exactly one value");
        Err(SyntaxError { line: 1, column: 1, message })
    }
}
