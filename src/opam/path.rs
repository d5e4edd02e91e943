//! Paths inside a repository that can't lead out of it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest path, in bytes: what a ustar header can hold.
pub const MAX_PATH_LEN: usize = 256;

/// A relative path with `/` between its components, none of them empty, `.` or `..`.
///
/// It is UTF-8 without control characters and backslashes, and at most [`MAX_PATH_LEN`] bytes
/// long. Sorted by bytes, as an index is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Arc<str>);

impl RepoPath {
    /// A path as an archive or an opam file names it: one leading `./` is dropped.
    pub fn from_name(name: &[u8]) -> Result<Self, PathError> {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        std::str::from_utf8(name).map_err(|_| PathError::NotUtf8)?.parse()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// The directory that holds it; none for a path of one component.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The directories above it, innermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        ancestors(&self.0)
    }

    /// The path of `name` inside this directory.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        format!("{self}/{name}").parse()
    }
}

/// The directories above a path, innermost first.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |path| parent(path))
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// One text for all paths that some file systems take for the same: case counts for nothing (APFS,
/// NTFS), nor do dots and blanks at the end of a component (Windows) and what is not seen (HFS+).
pub(crate) fn folded(path: &str) -> String {
    let is_seen = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let mut folded = String::with_capacity(path.len());
    for (place, component) in path.split('/').enumerate() {
        if place > 0 {
            folded.push('/');
        }
        match component.is_ascii() {
            true => folded.extend(component.bytes().map(|it| char::from(it.to_ascii_lowercase()))),
            false => folded.extend(
                component
                    .chars()
                    .filter(is_seen)
                    .flat_map(char::to_uppercase)
                    .flat_map(char::to_lowercase),
            ),
        }
        folded.truncate(folded.trim_end_matches(['.', ' ']).len());
    }
    folded
}

impl FromStr for RepoPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > MAX_PATH_LEN {
            return Err(PathError::TooLong);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        let is_refused = match text.is_ascii() {
            true => text.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\'),
            false => text.contains(|c: char| c.is_control() || c == '\\'),
        };
        if is_refused {
            return Err(PathError::Character);
        }
        if text.split('/').any(|component| matches!(component, "" | "." | "..")) {
            return Err(PathError::Component);
        }
        Ok(Self(text.into()))
    }
}

impl Borrow<str> for RepoPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a name is no path inside a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// Starts with a `/`.
    #[error("it is absolute")]
    Absolute,
    /// An empty, `.` or `..` component.
    #[error("it has an empty, '.' or '..' component")]
    Component,
    /// A control character or a backslash.
    #[error("it has a control character or a backslash")]
    Character,
    /// Bytes that are not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Longer than [`MAX_PATH_LEN`].
    #[error("it is longer than {MAX_PATH_LEN} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trap_27_no_path_leads_out() {
        for (name, error) in [
            (&b""[..], PathError::Empty),
            (b"./", PathError::Empty),
            (b"/etc/passwd", PathError::Absolute),
            (b".//etc", PathError::Absolute),
            (b"..", PathError::Component),
            (b"a/../b", PathError::Component),
            (b"a/..", PathError::Component),
            (b"././a", PathError::Component),
            (b"a//b", PathError::Component),
            (b"a/", PathError::Component),
            (b"a\\..\\b", PathError::Character),
            (b"a\0b", PathError::Character),
            (b"a\nb", PathError::Character),
            (b"a\x7f", PathError::Character),
            ("a\u{85}".as_bytes(), PathError::Character),
            (b"a\xff", PathError::NotUtf8),
            (&[b'a'; 257], PathError::TooLong),
        ] {
            assert_eq!(RepoPath::from_name(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn ordinary_names_are_paths() {
        let path = RepoPath::from_name(b"./packages/a b/..a.1/opam").unwrap();
        assert_eq!(path.as_str(), "packages/a b/..a.1/opam");
        assert_eq!(path.file_name(), "opam");
        assert_eq!(path.parent().unwrap().as_str(), "packages/a b/..a.1");
        assert_eq!(path.components().count(), 4);
        assert_eq!(path.parent().unwrap().join("opam").unwrap(), path);
        assert!(path.join("../x").is_err());
        assert!(RepoPath::from_name(&[b'a'; 256]).is_ok());
        assert_eq!("repo".parse::<RepoPath>().unwrap().parent(), None);
    }

    proptest! {
        #[test]
        fn a_path_is_its_own_normal_form(name in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = RepoPath::from_name(&name) {
                let again: RepoPath = path.as_str().parse().unwrap();
                prop_assert_eq!(&again, &path);
                let inside = std::path::Path::new(path.as_str()).components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside);
            }
        }
    }
}
