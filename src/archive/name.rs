//! Names of entries: data from strangers, never paths of ours.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};

/// The name of an entry or the target of a hard link, printable.
///
/// An ordinary name is written without `.` and empty components. One that would lead out of the
/// folder that it is unpacked in is kept as it was and flagged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryName {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    flag: Option<NameFlag>,
}

/// Why a name is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameFlag {
    /// It begins at the root.
    Absolute,
    /// It has a `..` in it.
    LeadsOut,
}

impl EntryName {
    /// Of the bytes in an archive; the caller bounds their length.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let flag = if bytes.starts_with(b"/") {
            Some(NameFlag::Absolute)
        } else if components(bytes).any(|component| component == b"..") {
            Some(NameFlag::LeadsOut)
        } else {
            None
        };
        let path = match flag {
            Some(_) => printable(bytes, usize::MAX),
            None => {
                let plain: Vec<&[u8]> = components(bytes).filter(|it| *it != b".").collect();
                printable(&plain.join(&b'/'), usize::MAX)
            }
        };
        Self { path, flag }
    }

    /// The printable text; distinct names have distinct ones. Empty for the archive's own root, or
    /// the content of a file that is no archive.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Why it is not to be trusted, if so.
    pub fn flag(&self) -> Option<NameFlag> {
        self.flag
    }

    /// Below the folder `top`, where it is there and can be trusted.
    pub(super) fn below(&self, top: Option<&str>) -> &str {
        match (self.flag, top) {
            (None, Some(top)) => match self.path.strip_prefix(top) {
                Some("") => "",
                Some(rest) => rest.strip_prefix('/').unwrap_or(&self.path),
                None => &self.path,
            },
            _ => &self.path,
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Bytes from outside as text that is safe on a terminal and in a page of text: what isn't UTF-8,
/// controls, and characters that reorder or hide others come as escapes, and so does the
/// backslash, so that distinct bytes stay distinct. Ends with `…` after `longest` characters.
pub fn printable(bytes: &[u8], longest: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(longest));
    let mut written = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if written == longest {
                text.push('…');
                return text;
            }
            written += 1;
            push_printable(&mut text, character);
        }
        for byte in chunk.invalid() {
            if written == longest {
                text.push('…');
                return text;
            }
            written += 1;
            push(&mut text, format_args!("\\x{byte:02x}"));
        }
    }
    text
}

/// Appends one character as [`printable`] has it.
fn push_printable(text: &mut String, character: char) {
    match character {
        '\\' => text.push_str("\\\\"),
        _ if is_deceptive(character) => push(text, format_args!("{}", character.escape_default())),
        _ => text.push(character),
    }
}

/// Whether a terminal or page would do something else than show the character.
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Appends to a text, which never fails.
pub(super) fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}

fn components(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_lose_dots_and_slashes_and_others_are_flagged() {
        for (name, path, flag) in [
            ("./a//b/./c", "a/b/c", None),
            ("a/", "a", None),
            ("./", "", None),
            ("a..b/..c", "a..b/..c", None),
            ("/etc/passwd", "/etc/passwd", Some(NameFlag::Absolute)),
            ("a/../../b", "a/../../b", Some(NameFlag::LeadsOut)),
            ("..", "..", Some(NameFlag::LeadsOut)),
        ] {
            let entry = EntryName::new(name.as_bytes());
            assert_eq!((entry.as_str(), entry.flag()), (path, flag), "{name}");
        }
    }

    #[test]
    fn names_are_printable_and_stay_distinct() {
        assert_eq!(printable(b"a\x1b[31m\xff\\n\n", 99), "a\\u{1b}[31m\\xff\\\\n\\n");
        assert_eq!(printable("a\u{202e}é".as_bytes(), 99), "a\\u{202e}é");
        assert_eq!(printable(b"abcdef", 3), "abc…");
    }

    #[test]
    fn a_name_below_a_folder_is_named_from_there() {
        let name = EntryName::new(b"foo-1.0/src/a.ml");
        assert_eq!(name.below(Some("foo-1.0")), "src/a.ml");
        assert_eq!(name.below(Some("foo")), "foo-1.0/src/a.ml");
        assert_eq!(name.below(None), "foo-1.0/src/a.ml");
        assert_eq!(EntryName::new(b"foo-1.0/").below(Some("foo-1.0")), "");
    }

    proptest! {
        #[test]
        fn no_bytes_print_anything_deceptive(bytes: Vec<u8>) {
            let printed = printable(&bytes, usize::MAX);
            prop_assert!(!printed.chars().any(is_deceptive));
        }
    }
}
