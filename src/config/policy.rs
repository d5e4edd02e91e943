//! The `[policy]` section: what happens to edits of published versions and to archives that
//! little vouches for.

use super::value::Text;
use crate::package_pattern::PackagePattern;
use serde::de::{DeserializeSeed, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use toml::Spanned;

/// The `[policy]` section.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Archives that only an md5 vouches for.
    pub weak_checksum: ChecksumPolicy,
    /// Archives that no checksum vouches for.
    pub no_checksum: ChecksumPolicy,
    /// The most of a repository's versions that may vanish at once.
    max_removed: Percent,
    rules: Rules,
    overrides: Vec<Override>,
}

/// What happens to one kind of edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// It is served.
    Allow,
    /// It is served, and recorded as a divergence.
    Warn,
    /// What was admitted before is served on, until someone accepts the edit.
    Hold,
}

/// What happens at the first fetch of an archive with a weak or missing checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumPolicy {
    /// Pinned and served; the pin says how little vouched for it.
    Allow,
    /// The same, and a warning in the log.
    Warn,
    /// Neither pinned nor served.
    Refuse,
}

/// A share of a hundred, written `"10%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

/// Rules by kind of edit, as [`KINDS`] names them.
type Rules = BTreeMap<&'static str, Rule>;

/// One `[[policy.override]]`: other rules for some repositories or packages.
#[derive(Clone, Debug, Default)]
struct Override {
    /// The repository that it holds for; any without one.
    repository: Option<Spanned<String>>,
    /// The packages that it holds for; any without a pattern.
    packages: Vec<PackagePattern>,
    rules: Rules,
}

impl Policy {
    /// What happens to edits of `kind`, which is one of [`KINDS`], in `name.version` of
    /// `repository`: the last override that says something about it decides.
    pub fn rule(&self, repository: &str, package: &str, kind: &str) -> Rule {
        let key = kind.replace('-', "_");
        let holds = |it: &&Override| it.holds_for(repository, package);
        let overrides = self.overrides.iter().rev().filter(holds);
        let said = overrides.map(|it| &it.rules).chain([&self.rules]);
        // What nobody knows is held.
        said.filter_map(|rules| rules.get(&*key)).next().copied().unwrap_or(Rule::Hold)
    }

    /// Whether so many of a repository's versions that vanish at once hold it as a whole.
    pub fn is_gutted(&self, removed: u64, versions: u64) -> bool {
        // One version that goes is nobody's attack, however small the repository is.
        removed > 1 && self.max_removed.is_exceeded_by(removed, versions)
    }

    /// The repositories that overrides are for, each with its place.
    pub(super) fn named_repositories(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.overrides.iter().filter_map(|it| it.repository.as_ref())
    }

    /// Whether an override is for a repository of this name.
    pub fn names(&self, repository: &str) -> bool {
        self.named_repositories().any(|name| name.get_ref() == repository)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            weak_checksum: ChecksumPolicy::Warn,
            no_checksum: ChecksumPolicy::Warn,
            max_removed: Percent(10),
            rules: KINDS.into_iter().collect(),
            overrides: Vec::new(),
        }
    }
}

impl Percent {
    /// Whether `part` is more than this share of `whole`.
    fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        part.saturating_mul(100) > whole.saturating_mul(u64::from(self.0))
    }
}

impl FromStr for Percent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = text.strip_suffix('%').ok_or(())?.trim_end();
        number.parse().ok().filter(|percent| *percent <= 100).map(Self).ok_or(())
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a share from \"0%\" to \"100%\"";
        let text = deserializer.deserialize_str(Text(EXPECTED))?;
        text.parse().map_err(|()| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
    }
}

impl Override {
    fn holds_for(&self, repository: &str, package: &str) -> bool {
        self.repository.as_ref().is_none_or(|name| name.get_ref() == repository)
            && (self.packages.is_empty() || self.packages.iter().any(|it| it.matches(package)))
    }
}

/// A key of `[policy]` or of `[[policy.override]]`.
enum Key {
    Rule(&'static str),
    Other(&'static str),
}

/// Reads a key of a section that has these beside the rules.
struct KeyBeside(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for KeyBeside {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        let kind = KINDS.iter().find(|(kind, _)| *kind == text).map(|(kind, _)| Key::Rule(kind));
        let others = [POLICY_KEYS, OVERRIDE_KEYS].concat();
        let other = || others.into_iter().find(|key| *key == text).map(Key::Other);
        kind.or_else(other).ok_or_else(|| {
            let known = KINDS.iter().map(|(kind, _)| kind).chain(self.0);
            let known = known.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            D::Error::custom(format!("unknown field `{text}`, expected one of {known}"))
        })
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfPolicy;
        impl<'de> Visitor<'de> for OfPolicy {
            type Value = Policy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the section [policy]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Policy, A::Error> {
                let mut policy = Policy::default();
                while let Some(key) = map.next_key_seed(KeyBeside(POLICY_KEYS))? {
                    match key {
                        Key::Rule(kind) => drop(policy.rules.insert(kind, map.next_value()?)),
                        Key::Other("weak_checksum") => policy.weak_checksum = map.next_value()?,
                        Key::Other("no_checksum") => policy.no_checksum = map.next_value()?,
                        Key::Other("max_removed") => policy.max_removed = map.next_value()?,
                        Key::Other("override") => policy.overrides = map.next_value()?,
                        Key::Other(key) => return Err(misplaced(key, "[[policy.override]]")),
                    }
                }
                Ok(policy)
            }
        }
        deserializer.deserialize_map(OfPolicy)
    }
}

impl<'de> Deserialize<'de> for Override {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfOverride;
        impl<'de> Visitor<'de> for OfOverride {
            type Value = Override;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section [[policy.override]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Override, A::Error> {
                let mut found = Override::default();
                while let Some(key) = map.next_key_seed(KeyBeside(OVERRIDE_KEYS))? {
                    match key {
                        Key::Rule(kind) => drop(found.rules.insert(kind, map.next_value()?)),
                        Key::Other("repository") => found.repository = Some(map.next_value()?),
                        Key::Other("packages") => {
                            found.packages = map.next_value()?;
                            if found.packages.is_empty() {
                                return Err(A::Error::custom(
                                    "an override for no package holds for nothing: name some, or \
                                     leave packages out for all",
                                ));
                            }
                        }
                        Key::Other(key) => return Err(misplaced(key, "[policy]")),
                    }
                }
                match found.rules.is_empty() {
                    true => Err(A::Error::custom(
                        "an override without a rule changes nothing: add one, such as \
                         source_rewritten = \"allow\"",
                    )),
                    false => Ok(found),
                }
            }
        }
        deserializer.deserialize_map(OfOverride)
    }
}

fn misplaced<E: Error>(key: &str, section: &str) -> E {
    E::custom(format!("`{key}` belongs to {section}"))
}

/// The kinds of edits with what happens to them unless mirror.toml says otherwise: what a
/// maintainer does daily is served, and what changes code under a published version is held.
pub const KINDS: [(&str, Rule); 14] = [
    ("version_added", Rule::Allow),
    ("version_removed", Rule::Allow),
    ("version_alike", Rule::Hold),
    ("constraints", Rule::Allow),
    ("description", Rule::Allow),
    ("checksum_added", Rule::Allow),
    ("checksum_removed", Rule::Hold),
    ("source_moved", Rule::Allow),
    ("source_rewritten", Rule::Hold),
    ("extra_source", Rule::Hold),
    ("patches", Rule::Hold),
    ("build", Rule::Warn),
    ("files", Rule::Hold),
    ("unreadable", Rule::Hold),
];
/// What `[policy]` has beside the rules.
const POLICY_KEYS: &[&str] = &["max_removed", "weak_checksum", "no_checksum", "override"];
/// What `[[policy.override]]` has beside them.
const OVERRIDE_KEYS: &[&str] = &["repository", "packages"];

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_changes_code_is_held_unless_someone_says_otherwise() {
        let policy = policy("source_rewritten = \"warn\"\n").unwrap();
        assert_eq!(policy.rule("default", "a.1", "source-rewritten"), Rule::Warn);
        assert_eq!(policy.rule("default", "a.1", "patches"), Rule::Hold);
        assert_eq!(policy.rule("default", "a.1", "constraints"), Rule::Allow);
        assert_eq!(policy.rule("default", "a.1", "never-heard-of"), Rule::Hold);
    }

    #[test]
    fn the_last_override_that_says_something_decides() {
        let policy = policy(
            "[[override]]\npackages = [\"mirage-*\", \"dune.3.*\"]\nbuild = \"hold\"\n\
             files = \"allow\"\n[[override]]\nrepository = \"corp\"\nbuild = \"allow\"\n",
        )
        .unwrap();
        for (repository, package, kind, expected) in [
            ("default", "mirage-net.1", "build", Rule::Hold),
            ("corp", "mirage-net.1", "build", Rule::Allow),
            ("corp", "mirage-net.1", "files", Rule::Allow),
            ("default", "dune.3.1", "build", Rule::Hold),
            ("default", "dune.2.1", "build", Rule::Warn),
            ("default", "mirage.1", "files", Rule::Hold),
        ] {
            assert_eq!(policy.rule(repository, package, kind), expected, "{package} {kind}");
        }
    }

    #[test]
    fn mistakes_are_errors() {
        for (text, expected) in [
            ("source_rewriten = \"hold\"", "unknown field `source_rewriten`"),
            ("build = \"refuse\"", "unknown variant `refuse`"),
            ("max_removed = \"200%\"", "a share from"),
            ("max_removed = 10", "a share from"),
            ("packages = [\"a\"]", "belongs to [[policy.override]]"),
            ("[[override]]\nmax_removed = \"1%\"", "belongs to [policy]"),
            ("[[override]]\npackages = [\"a b\"]", "a package pattern"),
            ("[[override]]\npackages = [\"a\"]", "an override without a rule"),
            ("[[override]]\npackages = []\nbuild = \"allow\"", "an override for no package"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_answered_with_those_of_its_section() {
        for (text, has, has_not) in [
            ("buld = \"hold\"", POLICY_KEYS, OVERRIDE_KEYS),
            ("[[override]]\nbuld = \"hold\"", OVERRIDE_KEYS, POLICY_KEYS),
        ] {
            let error = policy(text).unwrap_err();
            let names = |key: &&str| error.contains(&format!("`{key}`"));
            assert!(error.contains("`build`"), "{error}");
            assert!(has.iter().all(names) && !has_not.iter().any(names), "{error}");
        }
    }

    #[test]
    fn shares_are_exceeded_only_beyond_them() {
        let ten: Percent = "10%".parse().unwrap();
        assert!(!ten.is_exceeded_by(10, 100) && ten.is_exceeded_by(11, 100));
        assert!(!ten.is_exceeded_by(0, 0) && ten.is_exceeded_by(1, 0));
    }
}
