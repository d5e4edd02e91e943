//! Packages by name or version, as a person writes them: with `*` for any text.

use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A package name or `name.version`, in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PackagePattern(String);

/// Text that can't stand for any package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("name {EXPECTED}")]
pub struct PackagePatternError;

impl PackagePattern {
    /// Whether it stands for the package, given as `name.version`.
    pub fn matches(&self, package: &str) -> bool {
        let name = package.split_once('.').map_or(package, |(name, _)| name);
        stands_for(&self.0, name) || stands_for(&self.0, package)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a `*`.
    pub fn has_star(&self) -> bool {
        self.0.contains('*')
    }
}

impl FromStr for PackagePattern {
    type Err = PackagePatternError;

    fn from_str(text: &str) -> Result<Self, PackagePatternError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_+.~*".contains(c);
        match (1..=MAX_LENGTH).contains(&text.len()) && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(PackagePatternError),
        }
    }
}

impl fmt::Display for PackagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PackagePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|PackagePatternError| {
            serde::de::Error::invalid_value(Unexpected::Str(&text), &EXPECTED)
        })
    }
}

/// Whether `pattern`, in which `*` stands for any text, stands for `text`.
fn stands_for(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

const EXPECTED: &str = "a package pattern such as \"dune\", \"mirage-*\" or \"dune.3.*\"";
/// Twice what a name or version may have.
const MAX_LENGTH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, stands) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*c", "ac", true),
            ("a*bc", "abc", true),
            ("ab*bc", "abc", false),
            ("a*d", "abc", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(stands_for(pattern, text), stands, "{pattern} {text}");
        }
    }

    #[test]
    fn a_name_stands_for_all_of_its_versions() {
        let matches = |pattern: &str| {
            let pattern: PackagePattern = pattern.parse().unwrap();
            pattern.matches("dune.3.17.2")
        };
        assert!(["dune", "dune.3.17.2", "dune.3.*", "du*", "*.2"].into_iter().all(matches));
        assert!(!["dun", "dune.3.17", "dune.", "ne*"].into_iter().any(matches));
    }

    #[test]
    fn what_no_package_is_called_is_refused() {
        for text in ["", "a b", "a/b", "é", &"a".repeat(600)] {
            assert_eq!(text.parse::<PackagePattern>(), Err(PackagePatternError), "{text}");
        }
    }
}
