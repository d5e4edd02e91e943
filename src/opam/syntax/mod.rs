//! The opam file format, losslessly (opam-file-format 2.1: `opamLexer.mll`,
//! `opamBaseParser.mly`).
//!
//! A file is parsed into values that remember where they stand. The bytes themselves are kept,
//! so a file prints back byte for byte, comments, blanks and bytes that are no UTF-8 included,
//! and an edit replaces just the bytes of what it edits.

mod edit;
mod error;
mod lexer;
mod parser;
mod string;
mod value;

#[cfg(test)]
mod tests;

pub use error::SyntaxError;
pub use string::quoted;
pub use value::{EnvOp, Field, Item, PrefixOp, RelOp, Section, Span, Text, Value, ValueKind};

use bytes::Bytes;

/// The largest file that is parsed, in bytes; the largest real opam file has 24 KB.
pub const MAX_FILE_SIZE: usize = 1 << 20;

/// How deeply brackets, sections and prefix operators nest; real files reach 6.
pub const MAX_DEPTH: usize = 64;

/// A parsed opam file, or any other file of the same syntax, such as `repo`.
#[derive(Clone, Debug)]
pub struct OpamFile {
    source: Bytes,
    items: Vec<Item>,
}

impl OpamFile {
    /// Parses a copy of `source`; see [`Self::parse_bytes`].
    pub fn parse(source: &[u8]) -> Result<Self, SyntaxError> {
        if source.len() > MAX_FILE_SIZE {
            return Err(SyntaxError::too_large());
        }
        Self::parse_bytes(Bytes::copy_from_slice(source))
    }

    /// Parses a whole file, as opam 2.1 and later do.
    ///
    /// `opam-version` above 2.0 must be the first item and the only one of its name. A file of a
    /// format newer than 2.1 is parsed by the same grammar, as formats rarely differ in that;
    /// where it fails the error says that the file is of a newer format. opam itself goes on
    /// without the file's contents then, so there is nothing here that a client could use.
    pub fn parse_bytes(source: Bytes) -> Result<Self, SyntaxError> {
        if source.len() > MAX_FILE_SIZE {
            return Err(SyntaxError::too_large());
        }
        let items = parser::parse(&source)?;
        Ok(Self { source, items })
    }

    /// The file's bytes, exactly as they were parsed or as the edits left them.
    pub fn to_bytes(&self) -> Bytes {
        self.source.clone()
    }

    /// The items at the top level, in the file's order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The first field of this name at the top level.
    pub fn field(&self, name: &str) -> Option<&Field> {
        value::fields(&self.items, name).next()
    }

    /// Every field of this name at the top level; opam allows one.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &Field> {
        value::fields(&self.items, name)
    }

    /// Every section of this kind at the top level.
    pub fn sections(&self, kind: &str) -> impl Iterator<Item = &Section> {
        self.items.iter().filter_map(move |item| match item {
            Item::Section(section) if section.kind == *kind => Some(section),
            _ => None,
        })
    }
}
