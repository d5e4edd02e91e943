//! Bytes into tokens; blanks and comments in between are passed over.

use super::error::SyntaxError;
use super::string;
use super::value::{EnvOp, PrefixOp, RelOp, Span, Text};
use bytes::Bytes;

/// One token.
pub(super) enum Token {
    Ident(Text),
    String(Text),
    Bool(bool),
    Int(i64),
    Colon,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    OpenParen,
    CloseParen,
    And,
    Or,
    Prefix(PrefixOp),
    Rel(RelOp),
    Env(EnvOp),
    End,
}

impl Token {
    /// What a person calls it.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Ident(_) => "an identifier",
            Self::String(_) => "a string",
            Self::Bool(_) => "'true' or 'false'",
            Self::Int(_) => "a number",
            Self::Colon => "':'",
            Self::OpenBrace => "'{'",
            Self::CloseBrace => "'}'",
            Self::OpenBracket => "'['",
            Self::CloseBracket => "']'",
            Self::OpenParen => "'('",
            Self::CloseParen => "')'",
            Self::And => "'&'",
            Self::Or => "'|'",
            Self::Prefix(PrefixOp::Not) => "'!'",
            Self::Prefix(PrefixOp::Defined) => "'?'",
            Self::Rel(_) => "a comparison",
            Self::Env(_) => "an update operator",
            Self::End => "the end of the file",
        }
    }
}

/// Reads tokens one after the other.
pub(super) struct Lexer<'a> {
    /// What identifiers and strings are slices of.
    source: &'a Bytes,
    /// The same bytes.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a Bytes) -> Self {
        Self { source, bytes: source, at: 0 }
    }

    /// The next token and its place; [`Token::End`] again and again after the last one.
    pub(super) fn next(&mut self) -> Result<(Token, Span), SyntaxError> {
        self.skip_blanks()?;
        let start = self.at;
        let (token, end) = match self.bytes.get(start) {
            None => (Token::End, start),
            Some(b'"') => self.string(start)?,
            Some(byte) if is_word(*byte) => self.word(start)?,
            Some(_) => self.symbol(start)?,
        };
        self.at = end;
        Ok((token, Span { start, end }))
    }

    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError::at(self.bytes, offset, message)
    }

    fn skip_blanks(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.bytes[self.at..] {
                [b' ' | b'\t' | b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                [b'#', ..] => {
                    let rest = &self.bytes[self.at..];
                    self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                }
                [b'(', b'*', ..] => self.skip_block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// Block comments nest, and quotes mean nothing in them.
    fn skip_block_comment(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.bytes[self.at..] {
                [b'(', b'*', ..] => {
                    depth += 1;
                    self.at += 2;
                }
                [b'*', b')', ..] => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                [_, ..] => self.at += 1,
                [] => return Err(self.error(start, "this comment has no end")),
            }
        }
    }

    fn string(&self, start: usize) -> Result<(Token, usize), SyntaxError> {
        match string::read(self.source, start) {
            Ok((content, end)) => Ok((Token::String(Text::new(content)), end)),
            Err(bad) => Err(self.error(bad.offset, bad.message)),
        }
    }

    /// An identifier, a number or a boolean, whichever is longest; at the same length a number or
    /// a boolean.
    fn word(&self, start: usize) -> Result<(Token, usize), SyntaxError> {
        let rest = &self.bytes[start..];
        let (ident, int) = (ident_length(rest), int_length(rest));
        if ident == 0 && int == 0 {
            return Err(self.error(start, "this is neither an identifier nor a number"));
        }
        if int >= ident {
            let number = integer(&rest[..int])
                .ok_or_else(|| self.error(start, "this number can't be read"))?;
            return Ok((Token::Int(number), start + int));
        }
        let token = match &rest[..ident] {
            b"true" => Token::Bool(true),
            b"false" => Token::Bool(false),
            _ => Token::Ident(Text::new(self.source.slice(start..start + ident))),
        };
        Ok((token, start + ident))
    }

    fn symbol(&self, start: usize) -> Result<(Token, usize), SyntaxError> {
        let (token, length) = match self.bytes[start..] {
            [b'=', b'+', b'=', ..] => (Token::Env(EnvOp::EqualPlusEqual), 3),
            [b'=', b':', b'=', ..] => {
                return Err(self.error(start, "'=:=' is no operator"));
            }
            [b'=', b'+', ..] => (Token::Env(EnvOp::EqualPlus), 2),
            [b'=', b':', ..] => (Token::Env(EnvOp::EqualColon), 2),
            [b'+', b'=', ..] => (Token::Env(EnvOp::PlusEqual), 2),
            [b':', b'=', ..] => (Token::Env(EnvOp::ColonEqual), 2),
            [b'!', b'=', ..] => (Token::Rel(RelOp::NotEqual), 2),
            [b'<', b'=', ..] => (Token::Rel(RelOp::LessOrEqual), 2),
            [b'>', b'=', ..] => (Token::Rel(RelOp::GreaterOrEqual), 2),
            [b'=', ..] => (Token::Rel(RelOp::Equal), 1),
            [b'<', ..] => (Token::Rel(RelOp::Less), 1),
            [b'>', ..] => (Token::Rel(RelOp::Greater), 1),
            [b'~', ..] => (Token::Rel(RelOp::GreaterOrEqual), 1),
            [b'!', ..] => (Token::Prefix(PrefixOp::Not), 1),
            [b'?', ..] => (Token::Prefix(PrefixOp::Defined), 1),
            [b':', ..] => (Token::Colon, 1),
            [b'{', ..] => (Token::OpenBrace, 1),
            [b'}', ..] => (Token::CloseBrace, 1),
            [b'[', ..] => (Token::OpenBracket, 1),
            [b']', ..] => (Token::CloseBracket, 1),
            [b'(', ..] => (Token::OpenParen, 1),
            [b')', ..] => (Token::CloseParen, 1),
            [b'&', ..] => (Token::And, 1),
            [b'|', ..] => (Token::Or, 1),
            [b'\r', ..] => return Err(self.error(start, "a carriage return stands alone here")),
            _ => return Err(self.error(start, "this character means nothing here")),
        };
        Ok((token, start + length))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The length of the identifier that `rest` starts with: parts joined by `+`, then at most one
/// `:` and a part with a letter.
fn ident_length(rest: &[u8]) -> usize {
    let mut length = part_length(rest);
    if length == 0 {
        return 0;
    }
    while let Some(after) = rest[length..].strip_prefix(b"+") {
        match part_length(after) {
            0 => break,
            part => length += 1 + part,
        }
    }
    match rest[length..].strip_prefix(b":").map(lettered_length) {
        Some(part) if part > 0 => length + 1 + part,
        _ => length,
    }
}

/// The length of a part: word characters with at least one letter among them, or a single `_`.
fn part_length(rest: &[u8]) -> usize {
    match lettered_length(rest) {
        0 if rest.starts_with(b"_") => 1,
        length => length,
    }
}

/// The length of the word that `rest` starts with, if it has a letter.
fn lettered_length(rest: &[u8]) -> usize {
    let length = rest.iter().take_while(|byte| is_word(**byte)).count();
    if rest[..length].iter().any(u8::is_ascii_alphabetic) { length } else { 0 }
}

/// The length of the number that `rest` starts with: `-?[0-9_]+`.
fn int_length(rest: &[u8]) -> usize {
    let sign = usize::from(rest.starts_with(b"-"));
    match rest[sign..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count() {
        0 => 0,
        digits => sign + digits,
    }
}

/// A number as OCaml reads it: a digit first, underscores anywhere after it, 63 bits.
fn integer(text: &[u8]) -> Option<i64> {
    const SMALLEST: i64 = -(1 << 62);
    const LARGEST: i64 = (1 << 62) - 1;
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    let value = digits.iter().filter(|byte| **byte != b'_').try_fold(0_i64, |value, digit| {
        value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))
    })?;
    // Summed up negative, as the smallest number has no positive twin.
    let value = if negative { value } else { value.checked_neg()? };
    (SMALLEST..=LARGEST).contains(&value).then_some(value)
}
