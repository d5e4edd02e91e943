//! What an opam file holds: items and values, each with its place in the file.

use bytes::Bytes;
use std::fmt;
use std::ops::Range;

/// A range of byte offsets in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The offset of the first byte.
    pub start: usize,
    /// The offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The same range for indexing.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// An identifier or a decoded string; a string may hold any bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(Bytes);

impl Text {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The decoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// One item of a file or of a section.
#[derive(Clone, Debug)]
pub enum Item {
    /// `name: value`
    Field(Field),
    /// `kind { … }` or `kind "label" { … }`
    Section(Section),
}

impl Item {
    /// Where the item stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Field(field) => field.span,
            Self::Section(section) => section.span,
        }
    }
}

/// `name: value`
#[derive(Clone, Debug)]
pub struct Field {
    /// The name before the colon.
    pub name: Text,
    /// What the field says.
    pub value: Value,
    /// From the name to the end of the value.
    pub span: Span,
}

/// `kind { … }` or `kind "label" { … }`
#[derive(Clone, Debug)]
pub struct Section {
    /// What it is a section of, such as `url`.
    pub kind: Text,
    /// The string between the kind and the brace.
    pub label: Option<Text>,
    /// What stands between the braces.
    pub items: Vec<Item>,
    /// From the kind to the closing brace.
    pub span: Span,
}

impl Section {
    /// Every field of this name.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &Field> {
        fields(&self.items, name)
    }
}

pub(super) fn fields<'a>(items: &'a [Item], name: &str) -> impl Iterator<Item = &'a Field> {
    items.iter().filter_map(move |item| match item {
        Item::Field(field) if field.name == *name => Some(field),
        _ => None,
    })
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it stands.
    pub span: Span,
}

/// What a value is.
///
/// Operators that opam's grammar nests to the left (`&`, `|` and the postfix braces) are flat
/// lists here, so that a long chain is no deep tree.
#[derive(Clone, Debug)]
pub enum ValueKind {
    /// `true` or `false`
    Bool(bool),
    /// A number; opam's have 63 bits.
    Int(i64),
    /// A bare word, with the package it belongs to before a `:`.
    Ident(Text),
    /// A string, decoded.
    String(Text),
    /// `[ … ]`
    List(Vec<Value>),
    /// `( … )`
    Group(Vec<Value>),
    /// `value { … } { … }`
    Option {
        /// What stands before the braces.
        value: Box<Value>,
        /// What stands in each pair of braces; at least one.
        options: Vec<Vec<Value>>,
    },
    /// `!value` or `?value`
    Prefix(PrefixOp, Box<Value>),
    /// `value & value & …`, at least two.
    And(Vec<Value>),
    /// `value | value | …`, at least two.
    Or(Vec<Value>),
    /// `atom >= atom`
    Relation(RelOp, Box<[Value; 2]>),
    /// `>= atom`
    Constraint(RelOp, Box<Value>),
    /// `atom += atom`
    EnvUpdate(EnvOp, Box<[Value; 2]>),
}

/// A prefix operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixOp {
    /// `!`
    Not,
    /// `?`
    Defined,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`, and `~`, which opam reads as the same
    GreaterOrEqual,
}

/// An update of an environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvOp {
    /// `+=`
    PlusEqual,
    /// `=+`
    EqualPlus,
    /// `=+=`
    EqualPlusEqual,
    /// `:=`
    ColonEqual,
    /// `=:`
    EqualColon,
}
