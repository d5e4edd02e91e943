//! What comes instead of an archive: a web page, an error in JSON or XML, or nothing.

use super::name::printable;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a file without a container looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "document", rename_all = "kebab-case")]
pub enum Document {
    /// Nothing.
    Empty,
    /// A web page: a login, a captcha, an error.
    Html {
        /// Its title, printable.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        title: Option<String>,
    },
    /// JSON.
    Json {
        /// What it says in `message`, `error`, `title` or `detail`, printable.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
    },
    /// XML, as object stores put their errors.
    Xml {
        /// What it says in its first `Message`, `message` or `title`, printable.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
    },
    /// Other text.
    Text {
        /// The first line that is not blank, printable.
        first_line: String,
    },
    /// Bytes of no format known here.
    Binary,
}

impl Document {
    /// By the first bytes of a file.
    pub(super) fn recognise(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Empty;
        }
        let Some(text) = as_text(head) else { return Self::Binary };
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let start = text.get(..text.floor_char_boundary(LOOKED_AT)).unwrap_or_default();
        let start = start.to_ascii_lowercase();
        if is_html(&start) {
            Self::Html { title: element(text, "title") }
        } else if start.starts_with("<?xml") || looks_like_element(&start) {
            let names = ["Message", "title", "Code"];
            Self::Xml { message: names.iter().find_map(|name| element(text, name)) }
        } else if start.starts_with(['{', '[']) && is_json(text) {
            Self::Json { message: json_message(text) }
        } else {
            let line = text.lines().next().unwrap_or_default();
            Self::Text { first_line: printable(line.trim_end().as_bytes(), LONGEST_TITLE) }
        }
    }

    /// Whether it is of a kind that servers answer with when they have no archive to give.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Empty | Self::Html { .. } | Self::Json { .. } | Self::Xml { .. })
    }

    /// Whether both are of the same kind, whatever they say.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Document {
    /// With its article.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, said) = match self {
            Self::Empty => return f.write_str("nothing at all"),
            Self::Binary => return f.write_str("bytes of no known format"),
            Self::Html { title } => ("an HTML page, titled", title.as_deref()),
            Self::Json { message } => ("a JSON document, which says", message.as_deref()),
            Self::Xml { message } => ("an XML document, which says", message.as_deref()),
            Self::Text { first_line } => ("text, which begins with", Some(first_line.as_str())),
        };
        match said {
            Some(said) => write!(f, "{what} \"{said}\""),
            None => f.write_str(what.split(',').next().unwrap_or(what)),
        }
    }
}

/// The text, if it is one; an incomplete character at the end is left out, as the head may cut one.
fn as_text(head: &[u8]) -> Option<&str> {
    if head.contains(&0) {
        return None;
    }
    match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Whether the lower-case text begins as a web page does, be it after comments or an XML prologue.
fn is_html(start: &str) -> bool {
    let mut rest = start;
    loop {
        rest = rest.trim_start();
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|at| at + 3)
        } else if rest.starts_with("<?xml") {
            rest.find("?>").map(|at| at + 2)
        } else {
            break;
        };
        match end {
            Some(end) => rest = &rest[end..],
            None => return false,
        }
    }
    HTML_STARTS.iter().any(|tag| rest.starts_with(tag))
}

fn looks_like_element(start: &str) -> bool {
    let name = start.strip_prefix('<').unwrap_or_default();
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.contains("</")
}

/// The text of the first such element, as one line.
fn element(text: &str, name: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let open = format!("<{name}");
    let at = lower.match_indices(&open).map(|(at, _)| at + open.len()).find(|at| {
        lower[*at..].starts_with(|next: char| next == '>' || next.is_ascii_whitespace())
    })?;
    let start = at + lower[at..].find('>')? + 1;
    let length = lower[start..].find("</").unwrap_or(lower.len() - start);
    let words: Vec<&str> =
        text[start..start + length].split_whitespace().take(LONGEST_TITLE).collect();
    let line = unescape(&words.join(" "));
    (!line.is_empty()).then(|| printable(line.as_bytes(), LONGEST_TITLE))
}

fn unescape(text: &str) -> String {
    // The ampersand comes last, so that nothing is unescaped twice.
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Whether it is JSON as far as it goes.
fn is_json(text: &str) -> bool {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => true,
        Err(error) => error.is_eof(),
    }
}

fn json_message(text: &str) -> Option<String> {
    let serde_json::Value::Object(object) = serde_json::from_str(text).ok()? else { return None };
    let said = ["message", "error", "title", "detail"].iter().find_map(|key| object.get(*key))?;
    let said = said.as_str().or_else(|| said.get("message")?.as_str())?;
    Some(printable(said.as_bytes(), LONGEST_TITLE))
}

const HTML_STARTS: [&str; 7] =
    ["<!doctype html", "<html", "<head", "<body", "<title", "<script", "<meta"];

/// How much of a document decides what it is.
const LOOKED_AT: usize = 4096;

/// The characters of a title or message that are kept.
const LONGEST_TITLE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_are_told_apart_and_say_what_they_say() {
        for (text, said) in [
            ("", "nothing at all"),
            (
                "<!DOCTYPE html>\n<html><head><TITLE lang=en>\n Sign in &amp; go</title>",
                "an HTML page, titled \"Sign in & go\"",
            ),
            ("\u{feff}<?xml version='1.0'?><!-- x --><html><body>", "an HTML page"),
            (
                "<?xml version='1.0'?>\n<Error><Code>NoSuchKey</Code><Message>No key</Message></Error>",
                "an XML document, which says \"No key\"",
            ),
            (
                "<Error><Code>AccessDenied</Code></Error>",
                "an XML document, which says \"AccessDenied\"",
            ),
            ("{\"message\": \"Not Found\"}", "a JSON document, which says \"Not Found\""),
            ("{\"error\": {\"message\": \"gone\"}}", "a JSON document, which says \"gone\""),
            ("[1, 2", "a JSON document"),
            ("[flake]\nx = 1", "text, which begins with \"[flake]\""),
            ("\n404: Not \u{1b}Found\n", "text, which begins with \"404: Not \\u{1b}Found\""),
            ("a\0b", "bytes of no known format"),
        ] {
            assert_eq!(Document::recognise(text.as_bytes()).to_string(), said, "{text}");
        }
        assert_eq!(Document::recognise(b"\xff\xfe\xfd"), Document::Binary);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[<>{}a-zé&; =\"!\\-\\[\\]]{0,80}") {
            let _ = Document::recognise(&bytes).to_string();
            let _ = Document::recognise(text.as_bytes()).to_string();
            let page = format!("<title{text}");
            let _ = Document::recognise(page.as_bytes()).to_string();
        }
    }
}
