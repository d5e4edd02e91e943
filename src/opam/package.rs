//! Names, versions and packages, by opam's own rules (`opamPackage.ml`).

use super::index::fits_index;
use super::path::{RepoPath, folded};
use super::version_order;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name or version, in bytes: what fits a path component on every file system.
const MAX_LEN: usize = 255;

/// A package's name: letters, digits, `-`, `_` and `+`, with at least one letter.
///
/// Sorted as opam sorts: without regard to case first.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PackageName(Arc<str>);

impl PackageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+".contains(&byte);
        let valid = text.len() <= MAX_LEN
            && text.bytes().all(allowed)
            && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        if valid { Ok(Self(text.into())) } else { Err(PackageError::Name) }
    }
}

impl Ord for PackageName {
    fn cmp(&self, other: &Self) -> Ordering {
        let lower = |byte: u8| byte.to_ascii_lowercase();
        let (left, right) = (self.0.bytes().map(lower), other.0.bytes().map(lower));
        left.cmp(right).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for PackageName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A package's version: letters, digits, `-`, `_`, `+`, `.` and `~`; never empty.
///
/// Sorted in opam's order of versions. Different texts that are equal in it, such as `1.0` and
/// `1.00`, are different versions here as they are different directories there; their texts
/// break the tie, so that the order is total and agrees with equality.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PackageVersion(Arc<str>);

impl PackageVersion {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageVersion {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.~".contains(&byte);
        let valid = (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if valid { Ok(Self(text.into())) } else { Err(PackageError::Version) }
    }
}

impl Ord for PackageVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        version_order::compare(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for PackageVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One version of one package, written `name.version`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Package {
    /// The package's name.
    pub name: PackageName,
    /// The version.
    pub version: PackageVersion,
}

impl Package {
    /// One text for all that some clients take for one another: opam where its order holds their
    /// versions for equal, and file systems where nothing but case or, on Windows, dots at the end
    /// differ.
    pub fn likeness(&self) -> String {
        let name = self.name.as_str().to_ascii_lowercase();
        let version = self.version.as_str().to_ascii_lowercase();
        format!("{name} {}", version_order::normal(version.trim_end_matches('.')))
    }
}

impl Package {
    /// Where files of this version's, named by their path below its directory, lie in a repository
    /// that opam's own tools write, or directly in `packages` where no index holds one of these paths;
    /// `None` if these are no paths. A directory called `opam` would hide all others from opam before 2.6.
    pub fn in_place<'a>(
        &self,
        below: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<Vec<RepoPath>> {
        let directly = format!("packages/{self}");
        let within = |directory: &str| {
            let paths = below.clone().map(|below| format!("{directory}/{below}").parse().ok());
            paths.collect::<Option<Vec<RepoPath>>>()
        };
        let place = within(&self.directory()).filter(|paths| paths.iter().all(fits_index));
        place.or_else(|| within(&directly))
    }

    /// The directory that opam's own tools have for it.
    pub fn directory(&self) -> String {
        match folded(self.name.as_str()) == "opam" {
            true => format!("packages/{self}"),
            false => format!("packages/{}/{self}", self.name),
        }
    }
}

impl FromStr for Package {
    type Err = PackageError;

    /// Splits at the first dot: names have none.
    fn from_str(text: &str) -> Result<Self, PackageError> {
        let (name, version) = text.split_once('.').ok_or(PackageError::NoDot)?;
        Ok(Self { name: name.parse()?, version: version.parse()? })
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.version)
    }
}

/// Text that is no package name, version or `name.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Not a name.
    #[error(
        "a package name has up to 255 letters, digits, '-', '_' or '+', and at least one letter"
    )]
    Name,
    /// Not a version.
    #[error("a version has 1 to 255 letters, digits, '-', '_', '+', '.' or '~'")]
    Version,
    /// No dot between name and version.
    #[error("a package is written name.version")]
    NoDot,
}

macro_rules! text_traits {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

text_traits!(PackageName, PackageVersion, Package);

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_split_at_the_first_dot() {
        let package: Package = "zed.3.2.0~rc1-1".parse().unwrap();
        assert_eq!(package.name.as_str(), "zed");
        assert_eq!(package.version.as_str(), "3.2.0~rc1-1");
        assert_eq!(package.to_string(), "zed.3.2.0~rc1-1");
        for text in ["", "zed", "zed.", ".1", "1.2", "a b.1", "a/b.1", "a.1/2", "é.1", "a.1\n"] {
            assert!(text.parse::<Package>().is_err(), "{text:?}");
        }
        for name in ["0install", "_a", "base-num+x", "C"] {
            assert!(name.parse::<PackageName>().is_ok(), "{name}");
        }
        assert!("a".repeat(256).parse::<PackageName>().is_err());
    }

    #[test]
    fn equal_only_if_the_texts_are_and_in_opams_order() {
        let version = |text: &str| text.parse::<PackageVersion>().unwrap();
        assert!(version("1.9") < version("1.10"));
        assert!(version("1.0~beta") < version("1.0"));
        assert_ne!(version("1.0").cmp(&version("1.00")), Ordering::Equal);
        assert_ne!(version("1.0"), version("1.00"));
        let name = |text: &str| text.parse::<PackageName>().unwrap();
        assert!(name("abc") < name("Abd") && name("Abc") < name("abc"));
    }
}
