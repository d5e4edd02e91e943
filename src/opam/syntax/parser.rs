//! Tokens into items and values.
//!
//! Binding, tightest first: comparisons and updates of two atoms, postfix braces, prefix `!` and
//! `?`, `&`, `|`.

use super::MAX_DEPTH;
use super::error::SyntaxError;
use super::lexer::{Lexer, Token};
use super::value::{Field, Item, Section, Span, Text, Value, ValueKind};
use bytes::Bytes;

const OPAM_VERSION: &str = "opam-version";
/// The newest format whose grammar this is.
const NEWEST_FORMAT: Format = Format { major: 2, minor: 1 };
/// From this format on `opam-version` must be unique.
const UNIQUE_SINCE: Format = Format { major: 2, minor: 1 };
/// The newest format whose `opam-version` may stand anywhere.
const ANYWHERE_UNTIL: Format = Format { major: 2, minor: 0 };

/// Parses a whole file.
pub(super) fn parse(source: &Bytes) -> Result<Vec<Item>, SyntaxError> {
    parse_items(source).map_err(|mut error| {
        if leading_format(source).is_some_and(|format| format > NEWEST_FORMAT) {
            error.message.push_str("; the file is of a format newer than opam-version 2.1");
        }
        error
    })
}

fn parse_items(source: &Bytes) -> Result<Vec<Item>, SyntaxError> {
    let mut parser = Parser::new(source)?;
    let items = parser.items()?;
    match parser.token {
        Token::End => {}
        _ => return Err(parser.unexpected("a field or a section")),
    }
    check_opam_version(source, &items)?;
    Ok(items)
}

/// The format that the file's first item declares, if that is readable.
fn leading_format(source: &Bytes) -> Option<Format> {
    let mut lexer = Lexer::new(source);
    let mut next = || lexer.next().ok().map(|(token, _)| token);
    match (next()?, next()?, next()?) {
        (Token::Ident(name), Token::Colon, Token::String(version)) if name == *OPAM_VERSION => {
            Some(Format::of(&version))
        }
        _ => None,
    }
}

/// `opam-version` above 2.0 must come first, and from 2.1 on only once.
fn check_opam_version(source: &[u8], items: &[Item]) -> Result<(), SyntaxError> {
    let declared = |item: &Item| match item {
        Item::Field(Field {
            name, value: Value { kind: ValueKind::String(version), .. }, ..
        }) if *name == *OPAM_VERSION => Some(Format::of(version)),
        _ => None,
    };
    let unique = items.first().and_then(declared).is_some_and(|format| format >= UNIQUE_SINCE);
    for item in items.iter().skip(1) {
        let message = match declared(item) {
            Some(_) if unique => "opam-version can't be declared twice",
            Some(format) if format > ANYWHERE_UNTIL => "opam-version must be the first field",
            _ => continue,
        };
        return Err(SyntaxError::at(source, item.span().start, message));
    }
    Ok(())
}

/// A version of the format; what can't be read counts as the oldest, as in opam.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Format {
    major: u32,
    minor: u32,
}

impl Format {
    fn of(version: &Text) -> Self {
        let number = |text: &str| {
            let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            text[..digits].parse().ok()
        };
        let parts = version.as_str().and_then(|version| version.split_once('.'));
        match parts.map(|(major, minor)| (major.parse().ok(), number(minor))) {
            Some((Some(major), Some(minor))) => Self { major, minor },
            _ => Self { major: 0, minor: 0 },
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    span: Span,
    /// The end of the last token taken.
    end: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a Bytes) -> Result<Self, SyntaxError> {
        let mut lexer = Lexer::new(source);
        let (token, span) = lexer.next()?;
        Ok(Self { lexer, token, span, end: 0, depth: 0 })
    }

    /// Goes on to the next token.
    fn advance(&mut self) -> Result<(), SyntaxError> {
        let (next, span) = self.lexer.next()?;
        self.end = self.span.end;
        self.span = span;
        self.token = next;
        Ok(())
    }

    /// The current token by value; [`Self::advance`] or putting it back must follow.
    fn take_out(&mut self) -> Token {
        std::mem::replace(&mut self.token, Token::End)
    }

    fn unexpected(&self, expected: &str) -> SyntaxError {
        let message = format!("expected {expected}, found {}", self.token.describe());
        self.lexer.error(self.span.start, message)
    }

    fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("this nests more than {MAX_DEPTH} levels deep");
            return Err(self.lexer.error(self.span.start, message));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn items(&mut self) -> Result<Vec<Item>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.take_out() {
                Token::Ident(name) => items.push(self.item(name)?),
                other => {
                    self.token = other;
                    return Ok(items);
                }
            }
        }
    }

    /// A field or a section, from its name that was just taken out.
    fn item(&mut self, name: Text) -> Result<Item, SyntaxError> {
        let start = self.span.start;
        self.advance()?;
        if matches!(self.token, Token::Colon) {
            self.advance()?;
            let value = self.value()?;
            return Ok(Item::Field(Field { name, value, span: self.span_from(start) }));
        }
        let label = self.label()?;
        let expected = if label.is_some() { "'{'" } else { "':', '{' or a label" };
        if !matches!(self.token, Token::OpenBrace) {
            return Err(self.unexpected(expected));
        }
        self.enter()?;
        self.advance()?;
        let items = self.items()?;
        if !matches!(self.token, Token::CloseBrace) {
            return Err(self.unexpected("a field, a section or '}'"));
        }
        self.advance()?;
        self.leave();
        Ok(Item::Section(Section { kind: name, label, items, span: self.span_from(start) }))
    }

    fn label(&mut self) -> Result<Option<Text>, SyntaxError> {
        match self.take_out() {
            Token::String(label) => {
                self.advance()?;
                Ok(Some(label))
            }
            other => {
                self.token = other;
                Ok(None)
            }
        }
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start, end: self.end }
    }

    fn value_from(&self, start: usize, kind: ValueKind) -> Value {
        Value { kind, span: self.span_from(start) }
    }

    /// `a & b | c & d`
    fn value(&mut self) -> Result<Value, SyntaxError> {
        let start = self.span.start;
        let first = self.conjunction()?;
        if !matches!(self.token, Token::Or) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while matches!(self.token, Token::Or) {
            self.advance()?;
            operands.push(self.conjunction()?);
        }
        Ok(self.value_from(start, ValueKind::Or(operands)))
    }

    /// `a & b`
    fn conjunction(&mut self) -> Result<Value, SyntaxError> {
        let start = self.span.start;
        let first = self.prefixed()?;
        if !matches!(self.token, Token::And) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while matches!(self.token, Token::And) {
            self.advance()?;
            operands.push(self.prefixed()?);
        }
        Ok(self.value_from(start, ValueKind::And(operands)))
    }

    /// `!a {b}`
    fn prefixed(&mut self) -> Result<Value, SyntaxError> {
        let Token::Prefix(operator) = self.token else {
            return self.with_options();
        };
        let start = self.span.start;
        self.enter()?;
        self.advance()?;
        let operand = self.prefixed()?;
        self.leave();
        Ok(self.value_from(start, ValueKind::Prefix(operator, Box::new(operand))))
    }

    /// `a {b} {c}`
    fn with_options(&mut self) -> Result<Value, SyntaxError> {
        let start = self.span.start;
        let value = self.primary()?;
        let mut options = Vec::new();
        while matches!(self.token, Token::OpenBrace) {
            options.push(self.values(|token| matches!(token, Token::CloseBrace))?);
        }
        if options.is_empty() {
            return Ok(value);
        }
        Ok(self.value_from(start, ValueKind::Option { value: Box::new(value), options }))
    }

    /// An atom, two of them around an operator, one behind a comparison, or something in brackets.
    fn primary(&mut self) -> Result<Value, SyntaxError> {
        let start = self.span.start;
        match self.token {
            Token::OpenBracket => {
                let values = self.values(|token| matches!(token, Token::CloseBracket))?;
                return Ok(self.value_from(start, ValueKind::List(values)));
            }
            Token::OpenParen => {
                let values = self.values(|token| matches!(token, Token::CloseParen))?;
                return Ok(self.value_from(start, ValueKind::Group(values)));
            }
            Token::Rel(operator) => {
                self.advance()?;
                let operand = self.atom()?;
                let kind = ValueKind::Constraint(operator, Box::new(operand));
                return Ok(self.value_from(start, kind));
            }
            _ => {}
        }
        let left = self.atom()?;
        let kind = match self.token {
            Token::Rel(operator) => {
                self.advance()?;
                ValueKind::Relation(operator, Box::new([left, self.atom()?]))
            }
            Token::Env(operator) => {
                self.advance()?;
                ValueKind::EnvUpdate(operator, Box::new([left, self.atom()?]))
            }
            _ => return Ok(left),
        };
        Ok(self.value_from(start, kind))
    }

    /// Values one after the other, from the opening bracket at hand to the closing one.
    fn values(&mut self, is_close: fn(&Token) -> bool) -> Result<Vec<Value>, SyntaxError> {
        self.enter()?;
        self.advance()?;
        let mut values = Vec::new();
        while !is_close(&self.token) {
            values.push(self.value()?);
        }
        self.advance()?;
        self.leave();
        Ok(values)
    }

    fn atom(&mut self) -> Result<Value, SyntaxError> {
        let start = self.span.start;
        let kind = match self.take_out() {
            Token::Ident(name) => ValueKind::Ident(name),
            Token::String(text) => ValueKind::String(text),
            Token::Bool(value) => ValueKind::Bool(value),
            Token::Int(value) => ValueKind::Int(value),
            other => {
                self.token = other;
                return Err(self.unexpected("a value"));
            }
        };
        self.advance()?;
        Ok(self.value_from(start, kind))
    }
}
