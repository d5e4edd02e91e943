//! The packages that a project or a switch needs, out of the files that say so.

use super::syntax::{OpamFile, RelOp, Value, ValueKind};
use crate::package_pattern::PackagePattern;
use std::collections::BTreeSet;
use thiserror::Error;

/// What a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The packages, each as `name.version`; in a plain list also names and patterns.
    pub packages: BTreeSet<PackagePattern>,
    /// Packages that come from somewhere else than a repository: pinned ones, as the file names
    /// them.
    pub pinned: BTreeSet<String>,
}

/// Why a file can't be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WantedError {
    /// An opam file that leaves versions open.
    #[error(
        "it does not say which version of {0}: write a lock file with opam lock, and name that"
    )]
    NotLocked(String),
    /// A word of a list that is no package.
    #[error("line {line}: \"{word}\" is no package: write name.version, one a line")]
    NoPackage {
        /// Counted from 1.
        line: usize,
        /// The word, shortened.
        word: String,
    },
    /// An opam file that is neither locked nor exported.
    #[error(
        "it has neither depends, as a lock file has, nor installed, as opam switch export writes"
    )]
    NeitherLockNorExport,
    /// Nothing in it names a package.
    #[error("it names no package")]
    Empty,
    /// It is no text.
    #[error("it is no UTF-8 text")]
    NoText,
}

impl Wanted {
    /// Longest file that is read, in bytes.
    pub const MAX_SIZE: usize = 4 << 20;

    /// Reads a lock file (`opam lock`), an export (`opam switch export`), or a plain list: one
    /// package or pattern a line, blank lines and what follows a `#` aside.
    ///
    /// # Errors
    /// When it is none of them, or names no package.
    pub fn read(bytes: &[u8]) -> Result<Self, WantedError> {
        let wanted = match OpamFile::parse(bytes) {
            Ok(file) if !file.items().is_empty() => Self::of_opam_file(&file)?,
            _ => Self::of_list(bytes)?,
        };
        match wanted.packages.is_empty() && wanted.pinned.is_empty() {
            true => Err(WantedError::Empty),
            false => Ok(wanted),
        }
    }

    fn of_opam_file(file: &OpamFile) -> Result<Self, WantedError> {
        match (file.field("installed"), file.field("depends")) {
            (Some(installed), _) => Ok(Self::of_export(file, &installed.value)),
            (None, Some(depends)) => Self::of_lock(file, &depends.value),
            (None, None) => Err(WantedError::NeitherLockNorExport),
        }
    }

    fn of_export(file: &OpamFile, installed: &Value) -> Self {
        let pinned: BTreeSet<String> =
            file.field("pinned").map(|field| texts(&field.value)).unwrap_or_default();
        let packages =
            texts(installed).difference(&pinned).filter_map(|it| it.parse().ok()).collect();
        Self { packages, pinned }
    }

    fn of_lock(file: &OpamFile, depends: &Value) -> Result<Self, WantedError> {
        // A list of pairs: the package, and where it comes from.
        let pairs = file.field("pin-depends").map(|field| elements(&field.value));
        let first = |pair: &Value| elements(pair).first().and_then(text);
        let mut pinned = BTreeSet::new();
        for value in pairs.unwrap_or_default() {
            // One pair alone may go without the outer brackets.
            pinned.extend(first(value).filter(|text| !text.contains("://")));
        }
        let mut packages = BTreeSet::new();
        for value in elements(depends) {
            add_dependency(value, &mut packages)?;
        }
        packages.retain(|package: &PackagePattern| !pinned.contains(package.as_str()));
        Ok(Self { packages, pinned })
    }

    fn of_list(bytes: &[u8]) -> Result<Self, WantedError> {
        let text = std::str::from_utf8(bytes).map_err(|_| WantedError::NoText)?;
        let mut packages = BTreeSet::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default();
            for word in text.split_whitespace() {
                let package = word.parse().map_err(|_| WantedError::NoPackage {
                    line,
                    word: word.chars().take(MAX_WORD).collect(),
                })?;
                packages.insert(package);
            }
        }
        Ok(Self { packages, pinned: BTreeSet::new() })
    }
}

/// Takes in `"name" {= "version" & …}`, and every part of a choice.
fn add_dependency(
    value: &Value,
    packages: &mut BTreeSet<PackagePattern>,
) -> Result<(), WantedError> {
    match &value.kind {
        ValueKind::Option { value, options } => {
            let Some(name) = text(value) else { return Ok(()) };
            let version = options.iter().flatten().find_map(exact_version);
            let version = version.ok_or_else(|| WantedError::NotLocked(name.clone()))?;
            packages.extend(format!("{name}.{version}").parse());
            Ok(())
        }
        ValueKind::String(_) => Err(WantedError::NotLocked(text(value).unwrap_or_default())),
        ValueKind::And(values)
        | ValueKind::Or(values)
        | ValueKind::Group(values)
        | ValueKind::List(values) => {
            values.iter().try_for_each(|value| add_dependency(value, packages))
        }
        _ => Ok(()),
    }
}

/// The version of `= "version"`, where it is required whatever else holds.
fn exact_version(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Constraint(RelOp::Equal, version) => text(version),
        ValueKind::And(values) => values.iter().find_map(exact_version),
        ValueKind::Group(values) => match &values[..] {
            [only] => exact_version(only),
            _ => None,
        },
        _ => None,
    }
}

/// The elements of a list; a value alone is a list of one, as in all of opam's files.
fn elements(value: &Value) -> &[Value] {
    match &value.kind {
        ValueKind::List(values) => values,
        _ => std::slice::from_ref(value),
    }
}

fn texts(value: &Value) -> BTreeSet<String> {
    elements(value).iter().filter_map(text).collect()
}

fn text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => text.as_str().map(str::to_owned),
        _ => None,
    }
}

/// So much of a word is repeated in an error, in characters.
const MAX_WORD: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let wanted = Wanted::read(text.as_bytes()).map_err(|error| error.to_string())?;
        let packages = wanted.packages.iter().map(PackagePattern::to_string).collect();
        Ok((packages, wanted.pinned.into_iter().collect()))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_lock_file_names_each_version() {
        let lock = r#"opam-version: "2.0"
name: "project"
depends: [
  "dune" {= "3.17.2"}
  "fmt" {= "0.9.0" & with-test}
  ("a" {(= "1")} | "b" {= "2"})
  "gone" {= "dev"}
]
pin-depends: ["gone.dev" "git+https://host.example/gone.git#abc"]"#;
        let expected = (names(&["a.1", "b.2", "dune.3.17.2", "fmt.0.9.0"]), names(&["gone.dev"]));
        assert_eq!(read(lock), Ok(expected));
        let two = r#"depends: "a" {= "1"}
pin-depends: [["a.1" "git+https://h.example/a"] ["b.2" "https://h.example/b.tgz"]]"#;
        assert_eq!(read(two), Ok((vec![], names(&["a.1", "b.2"]))));
    }

    #[test]
    fn an_export_names_what_is_installed() {
        let export = r#"opam-version: "2.0"
compiler: ["ocaml-base-compiler.5.2.0"]
roots: ["mine.1" "dune.3.17.2"]
installed: ["base-unix.base" "dune.3.17.2" "mine.1"]
pinned: "mine.1"
package "mine" { url { src: "git+file:///home/me/mine" } }"#;
        let expected = (names(&["base-unix.base", "dune.3.17.2"]), names(&["mine.1"]));
        assert_eq!(read(export), Ok(expected));
    }

    #[test]
    fn a_list_has_names_versions_and_patterns() {
        let list = "dune.3.17.2 fmt # the formatter\n\n  mirage-*\n";
        assert_eq!(read(list), Ok((names(&["dune.3.17.2", "fmt", "mirage-*"]), vec![])));
    }

    #[test]
    fn what_can_not_be_followed_says_why() {
        for (text, expected) in [
            ("depends: [\"dune\" {>= \"3.0\"}]", "which version of dune"),
            ("depends: [\"dune\" {= \"3.0\" | = \"3.1\"}]", "which version of dune"),
            ("depends: [\"dune\"]", "which version of dune"),
            ("opam-version: \"2.0\"\nsynopsis: \"x\"", "neither depends"),
            ("depends: []", "names no package"),
            ("", "names no package"),
            ("# nothing\n", "names no package"),
            ("dune\nhttps://x.example/y\n", "line 2: \"https://x.example/y\""),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(Wanted::read(b"\xff"), Err(WantedError::NoText));
    }
}
