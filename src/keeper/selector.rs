//! Which archives a person means: of the whole repository, of package patterns, or of exactly
//! these versions.

use super::Keeper;
use super::admit::{AdmitError, Declarations};
use super::file_list::FileList;
use super::opam_files::opam_files;
use super::refresh::RefreshError;
use super::repository::{blocking, read_list};
use crate::digest::Sha256;
use crate::opam::{Checksum, Package};
use crate::package_pattern::PackagePattern;
use crate::store::blobs::Blobs;
use crate::store::catalog::DeclaredArchive;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use thiserror::Error;

/// What a person selects among all that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The repository; all of them without one.
    pub repository: Option<String>,
    /// Of its packages.
    pub packages: Packages,
}

/// Which packages are selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packages {
    /// Every one.
    All,
    /// Those that one of these stands for.
    Named(BTreeSet<PackagePattern>),
}

/// What a selector comes to.
#[derive(Default)]
pub struct Selected {
    /// How many package versions are selected.
    pub versions: u64,
    /// Their archives.
    pub archives: Vec<SelectedArchive>,
    /// What was named, and stands for no version that is served.
    pub unknown: Vec<String>,
}

/// One archive, in all the ways in which the selected versions of one repository declare it.
pub struct SelectedArchive {
    /// The repository that declares it.
    pub repository: String,
    /// The declarations; at least one. Those of one archive have a checksum in common.
    pub declared: Vec<DeclaredArchive>,
}

/// Why nothing can be selected.
#[derive(Debug, Error)]
pub enum SelectError {
    /// There is no such repository.
    #[error("{0}")]
    NoRepository(String),
    /// Nothing is served of a repository yet.
    #[error("repository {name} has no snapshot yet: {reason}")]
    NoSnapshot {
        /// The repository.
        name: String,
        /// Why upstream gave none.
        reason: String,
    },
    /// What is served can't be read.
    #[error(transparent)]
    Read(#[from] RefreshError),
}

impl Keeper {
    /// The archives that a selector means, as the metadata that is served now declares them.
    ///
    /// # Errors
    /// When it names no repository, one that nothing is served of, or the store fails.
    pub async fn selected(&self, selector: Selector) -> Result<Selected, SelectError> {
        let mut lists = Vec::new();
        for repository in self.in_scope(selector.repository.as_deref())? {
            let name = repository.name();
            let served = repository.served().ok_or_else(|| SelectError::NoSnapshot {
                name: name.to_owned(),
                reason: "opam-keep refresh asks upstream for one".to_owned(),
            })?;
            lists.push((name.to_owned(), served.snapshot.admitted));
        }
        let store = self.store.clone();
        let selected = blocking(move || -> Result<_, RefreshError> {
            let read = |(name, admitted)| Ok((name, read_list(&store, &admitted)?));
            let lists: Result<Vec<_>, RefreshError> = lists.into_iter().map(read).collect();
            Ok(select(store.blobs(), lists?, selector.packages)?)
        });
        Ok(selected.await??)
    }

    pub(super) fn in_scope(
        &self,
        name: Option<&str>,
    ) -> Result<&[std::sync::Arc<super::Repository>], SelectError> {
        let Some(name) = name else { return Ok(self.repositories()) };
        let found = self.repository(name).map(std::slice::from_ref);
        found.ok_or_else(|| SelectError::NoRepository(self.no_repository(name)))
    }
}

/// The archives that packages have, as these lists of what repositories serve declare them.
///
/// # Errors
/// When the metadata can't be read.
pub(super) fn select(
    blobs: &Blobs,
    lists: Vec<(String, FileList)>,
    packages: Packages,
) -> Result<Selected, AdmitError> {
    let mut matcher = Matcher::new(packages);
    let mut selected = Selected::default();
    for (name, list) in lists {
        let versions = matcher.filter(&list);
        selected.versions += versions.len() as u64;
        let declarations = Declarations::of_versions(blobs, versions.into_iter())?;
        selected.archives.extend(grouped(&name, declarations.into_archives()));
    }
    selected.unknown = matcher.unused();
    Ok(selected)
}

/// Finds the versions that are meant, and remembers which patterns stood for one.
enum Matcher {
    All,
    Named { exact: HashSet<String>, with_star: Vec<PackagePattern>, used: HashSet<String> },
}

impl Matcher {
    fn new(packages: Packages) -> Self {
        let Packages::Named(patterns) = packages else { return Self::All };
        let (with_star, exact): (Vec<_>, Vec<_>) =
            patterns.into_iter().partition(PackagePattern::has_star);
        let exact = exact.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        Self::Named { exact, with_star, used: HashSet::new() }
    }

    /// The versions that are meant, with the blobs of their opam files.
    fn filter(&mut self, list: &FileList) -> Vec<(Package, Sha256)> {
        opam_files(list)
            .filter(|(package, _, _)| self.matches(package.name.as_str(), &package.to_string()))
            .map(|(package, _, name)| (package, *name))
            .collect()
    }

    fn matches(&mut self, name: &str, package: &str) -> bool {
        let Self::Named { exact, with_star, used } = self else { return true };
        let mut is_meant = false;
        for text in [name, package] {
            if exact.contains(text) {
                used.insert(text.to_owned());
                is_meant = true;
            }
        }
        for pattern in with_star.iter().filter(|pattern| pattern.matches(package)) {
            used.insert(pattern.to_string());
            is_meant = true;
        }
        is_meant
    }

    fn unused(self) -> Vec<String> {
        let Self::Named { exact, with_star, used } = self else { return Vec::new() };
        let all = exact.into_iter().chain(with_star.iter().map(PackagePattern::to_string));
        let mut unused: Vec<String> = all.filter(|pattern| !used.contains(pattern)).collect();
        unused.sort_unstable();
        unused
    }
}

/// Puts together what has a checksum in common, so that it is fetched once.
fn grouped(
    repository: &str,
    archives: impl IntoIterator<Item = DeclaredArchive>,
) -> Vec<SelectedArchive> {
    let mut groups: Vec<SelectedArchive> = Vec::new();
    let mut group_of: HashMap<Checksum, usize> = HashMap::new();
    for archive in archives {
        let known = archive.checksums.iter().find_map(|checksum| group_of.get(checksum).copied());
        let place = known.unwrap_or(groups.len());
        for checksum in &archive.checksums {
            group_of.entry(*checksum).or_insert(place);
        }
        match groups.get_mut(place) {
            Some(group) => group.declared.push(archive),
            None => groups.push(SelectedArchive {
                repository: repository.to_owned(),
                declared: vec![archive],
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(patterns: &[&str], packages: &[&str]) -> (Vec<String>, Vec<String>) {
        let patterns = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let mut matcher = Matcher::new(Packages::Named(patterns));
        let path = |package: &&str| {
            let name = package.split('.').next().unwrap_or_default();
            format!("packages/{name}/{package}/opam").parse().unwrap()
        };
        let empty = crate::digest::Sha256::of(b"");
        let list = packages.iter().map(|package| (path(package), empty)).collect();
        let found = matcher.filter(&list);
        let found = found.into_iter().map(|(package, _)| package.to_string()).collect();
        (found, matcher.unused())
    }

    #[test]
    fn what_is_named_is_found_and_what_is_not_there_is_told() {
        let packages = ["dune.3.1", "dune.3.2", "fmt.1", "fmtlib.1", "zarith.1"];
        let (found, unknown) = matched(&["dune.3.2", "fmt", "zar*", "no*", "gone.1"], &packages);
        assert_eq!(found, ["dune.3.2", "fmt.1", "zarith.1"]);
        assert_eq!(unknown, ["gone.1", "no*"]);
    }

    #[test]
    fn an_archive_that_two_declare_is_one() {
        let archive = |url: &str, sums: &[&[u8]]| DeclaredArchive {
            packages: Vec::new(),
            urls: vec![url.to_owned()],
            checksums: sums
                .iter()
                .map(|it| Checksum::Sha256(crate::digest::Sha256::of(it)))
                .collect(),
        };
        let archives = vec![archive("a", &[b"1"]), archive("b", &[b"1"]), archive("c", &[])];
        let groups = grouped("default", archives);
        let sizes: Vec<usize> = groups.iter().map(|group| group.declared.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
