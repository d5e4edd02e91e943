//! Strings: finding their end, decoding their escapes, and writing them.

use bytes::Bytes;

/// Why a string can't be read, and at which byte offset.
pub(super) struct BadString {
    pub(super) offset: usize,
    pub(super) message: &'static str,
}

/// Reads the string whose opening quotes stand at `start`; gives its decoded bytes and the offset
/// after its closing quotes.
pub(super) fn read(source: &Bytes, start: usize) -> Result<(Bytes, usize), BadString> {
    let triple = source[start..].starts_with(b"\"\"\"");
    let quotes: &[u8] = if triple { b"\"\"\"" } else { b"\"" };
    let mut reader = Reader { source, at: start + quotes.len(), copied: start + quotes.len() };
    let mut decoded: Option<Vec<u8>> = None;
    loop {
        let rest = &source[reader.at..];
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\r'));
        reader.at += plain.unwrap_or(rest.len());
        match source.get(reader.at) {
            None => return Err(BadString { offset: start, message: "this string has no end" }),
            Some(b'"') if source[reader.at..].starts_with(quotes) => break,
            Some(b'\\') => {
                let escape = reader.at;
                let decoded = decoded.get_or_insert_default();
                decoded.extend_from_slice(reader.pending());
                reader.at += 1;
                decoded.extend(reader.escape().ok_or(BadString {
                    offset: escape,
                    message: "this is no escape sequence that opam knows",
                })?);
                reader.copied = reader.at;
            }
            Some(b'\r') if source.get(reader.at + 1) == Some(&b'\n') => {
                decoded.get_or_insert_default().extend_from_slice(reader.pending());
                reader.at += 1;
                reader.copied = reader.at;
            }
            Some(_) => reader.at += 1,
        }
    }
    let content = match decoded {
        None => source.slice(reader.copied..reader.at),
        Some(mut decoded) => {
            decoded.extend_from_slice(reader.pending());
            decoded.into()
        }
    };
    Ok((content, reader.at + quotes.len()))
}

struct Reader<'a> {
    source: &'a [u8],
    at: usize,
    copied: usize,
}

impl<'a> Reader<'a> {
    /// What was passed since the last escape.
    fn pending(&self) -> &'a [u8] {
        &self.source[self.copied..self.at]
    }

    /// Decodes the escape after a backslash: a byte, nothing for an escaped end of line, or `None`
    /// for what opam refuses.
    fn escape(&mut self) -> Option<Option<u8>> {
        let rest = &self.source[self.at..];
        let (length, byte) = match *rest {
            [b'\n', ..] => return Some(self.skip_line(1)),
            [b'\r', b'\n', ..] => return Some(self.skip_line(2)),
            [byte @ (b'\\' | b'"' | b'\'' | b' '), ..] => (1, byte),
            [b'n', ..] => (1, b'\n'),
            [b'r', ..] => (1, b'\r'),
            [b't', ..] => (1, b'\t'),
            [b'b', ..] => (1, 0x08),
            [b'x', high, low, ..] => (3, number(&[high, low], 16)?),
            [a, b, c, ..] => (3, number(&[a, b, c], 10)?),
            _ => return None,
        };
        self.at += length;
        Some(Some(byte))
    }

    /// Passes an escaped end of line and the blanks that start the next one.
    fn skip_line(&mut self, end_of_line: usize) -> Option<u8> {
        self.at += end_of_line;
        let blanks = self.source[self.at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
        self.at += blanks.count();
        None
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let value = digits
        .iter()
        .try_fold(0, |value, digit| Some(value * radix + char::from(*digit).to_digit(radix)?))?;
    u8::try_from(value).ok()
}

/// `text` as a string of an opam file.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // A raw CR before LF would be read as the end of a line.
            '\r' => quoted.push_str("\\r"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
