//! A package repository's files, validated.

mod entries;
mod error;
mod extended;
mod gzip;
mod header;
mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod world;

pub use error::TreeError;

use super::package::Package;
use super::path::{RepoPath, ancestors};
use super::repo_file::leads_away;
use bytes::Bytes;
use entries::Entries;
use rayon::slice::ParallelSliceMut as _;
use std::collections::{BTreeMap, BTreeSet, HashSet, btree_map};
use std::ops::Bound;

/// How much a repository may hold before it is refused; about six times the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// All bytes of the inflated tar archive, or of all files together.
    pub inflated_bytes: usize,
    /// Files and directories together.
    pub entries: usize,
    /// The bytes of one file.
    pub file_size: usize,
    /// The components of one path; real ones have up to six.
    pub depth: usize,
}

impl TreeLimits {
    /// For what was admitted before.
    pub const NONE: Self = Self {
        inflated_bytes: usize::MAX,
        entries: usize::MAX,
        file_size: usize::MAX,
        depth: usize::MAX,
    };
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { inflated_bytes: 400 << 20, entries: 400_000, file_size: 16 << 20, depth: 16 }
    }
}

/// The files of a repository that opam reads: `repo` and what lies in the directories of versions.
///
/// Every path is safe, no path is both a file and a directory, and no version of a package is there
/// twice. No file is empty, but in a repository whose index is served as it came.
#[derive(Clone, Debug)]
pub struct Tree {
    files: BTreeMap<RepoPath, Bytes>,
    /// Sorted by package.
    versions: Vec<(Package, RepoPath)>,
}

impl Tree {
    /// Reads the `index.tar.gz` of an upstream repository.
    ///
    /// Refused as a whole: anything but regular files and directories, what readers of tar
    /// understand differently, names that are unsafe or come twice, a repository that is not at the
    /// root, and an index without `repo` or without any package. Other things at the root (`version`, `urls.txt`, …)
    /// are ignored. Empty files are left out, as opam up to 2.3 can't update them.
    ///
    /// The contents are slices of one buffer, which lives as long as any of them.
    pub fn from_index(gz: &[u8], limits: &TreeLimits) -> Result<Self, TreeError> {
        Self::from_entries(read::read_index(gz, limits)?, EmptyFiles::LeftOut)?.with_repo_file()
    }

    /// Reads an `index.tar.gz` that clients get as it came: with its empty files.
    ///
    /// Beyond that, an index is refused in which only some versions of opam find a version or only
    /// some file systems two files, and one that has clients go elsewhere or read something else than
    /// its packages.
    pub fn from_verbatim_index(gz: &[u8], limits: &TreeLimits) -> Result<Self, TreeError> {
        let entries = read::read_index(gz, limits)?;
        entries.check_agreement()?;
        if let Some(name) = &entries.beside {
            return Err(TreeError::Beside { name: name.clone() });
        }
        entries.check_spellings(&find_versions(entries.files.iter().map(|(path, _)| path))?)?;
        let tree = Self::from_entries(entries, EmptyFiles::Kept)?.with_repo_file()?;
        match tree.repo_file().and_then(|file| leads_away(file)) {
            Some(why) => Err(TreeError::LeadsAway { why }),
            None => Ok(tree),
        }
    }

    /// The paths of all files of an index that is served as it came, also of those that opam does not
    /// read.
    ///
    /// # Errors
    /// As [`Tree::from_verbatim_index`].
    pub fn paths_of_index(gz: &[u8]) -> Result<BTreeSet<RepoPath>, TreeError> {
        let entries = read::read_index(gz, &TreeLimits::NONE)?;
        Ok(entries.files.into_iter().map(|(path, _)| path).collect())
    }

    /// A tree out of files that were collected elsewhere, from git or a directory, by the same
    /// rules; only `repo` may be missing, as it may in such a repository, and empty files are kept.
    pub fn from_files(
        files: impl IntoIterator<Item = (RepoPath, Bytes)>,
        limits: &TreeLimits,
    ) -> Result<Self, TreeError> {
        let mut entries = Entries::new(limits);
        for (path, content) in files {
            entries.add_file(path, content.len(), content)?;
        }
        Self::from_entries(entries, EmptyFiles::Kept)
    }

    fn from_entries(mut entries: Entries<Bytes>, empty: EmptyFiles) -> Result<Self, TreeError> {
        // In an index they are nearly sorted.
        entries.files.par_sort_by(|(one, _), (other, _)| one.cmp(other));
        if let Some(pair) = entries.files.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(TreeError::Duplicate { name: pair[0].0.to_string() });
        }
        let is_kept = |content: &Bytes| empty == EmptyFiles::Kept || !content.is_empty();
        let (checked, versions) = rayon::join(
            || entries.check_names(),
            || find_versions(entries.files.iter().filter(|it| is_kept(&it.1)).map(|it| &it.0)),
        );
        checked?;
        let versions = versions?;
        let Entries { files, outside, .. } = entries;
        let directories = directories(&versions);
        let is_read = |(path, content): &_| is_kept(content) && is_read(path, &directories);
        let files = files.into_iter().filter(is_read).collect();
        match outside {
            _ if !versions.is_empty() => Ok(Self { files, versions }),
            Some(top) => Err(TreeError::MisRooted { top }),
            None => Err(TreeError::Empty),
        }
    }

    fn with_repo_file(self) -> Result<Self, TreeError> {
        match self.repo_file() {
            Some(file) if !file.is_empty() => Ok(self),
            _ => Err(TreeError::NoRepoFile),
        }
    }

    /// The same tree without some of its files and all empty ones, and with others.
    ///
    /// # Errors
    /// When the two are no tree together.
    pub fn changed(
        &self,
        without: &BTreeSet<&RepoPath>,
        with: impl IntoIterator<Item = (RepoPath, Bytes)>,
    ) -> Result<Self, TreeError> {
        let mut files = self.files.clone();
        files.retain(|path, _| !without.contains(path));
        for (path, content) in with {
            let is_file = |directory| files.contains_key::<str>(directory);
            if path.ancestors().any(is_file) || below(&files, &path).next().is_some() {
                return Err(TreeError::FileAndDirectory { name: path.to_string() });
            }
            match files.entry(path) {
                btree_map::Entry::Vacant(entry) => drop(entry.insert(content)),
                btree_map::Entry::Occupied(entry) => {
                    return Err(TreeError::Duplicate { name: entry.key().to_string() });
                }
            }
        }
        files.retain(|_, content| !content.is_empty());
        let versions = find_versions(files.keys())?;
        let directories = directories(&versions);
        files.retain(|path, _| is_read(path, &directories));
        if versions.is_empty() { Err(TreeError::Empty) } else { Ok(Self { files, versions }) }
    }

    /// The same with each version where opam's own tools put it. No version then lies inside another
    /// one, and none where a file of another one's was: opam up to 2.5 does not follow where a file
    /// becomes a directory.
    pub fn in_place(self) -> Self {
        let is_in_place = |(package, at): (&Package, &RepoPath)| at.as_str() == package.directory();
        if self.versions().all(is_in_place) {
            return self;
        }
        let mut files: BTreeMap<RepoPath, Bytes> = self
            .files
            .get_key_value(REPO)
            .map(|(path, it)| (path.clone(), it.clone()))
            .into_iter()
            .collect();
        let mut versions = Vec::with_capacity(self.versions.len());
        for (package, directory) in &self.versions {
            let start = directory.as_str().len() + "/".len();
            let found = || below(&self.files, directory);
            if is_in_place((package, directory)) {
                versions.push((package.clone(), directory.clone()));
                files.extend(found().map(|(path, bytes)| (path.clone(), bytes.clone())));
                continue;
            }
            let names: Vec<&str> =
                found().filter_map(|(path, _)| path.as_str().get(start..)).collect();
            // Directly in `packages`, each path is as short as it was, or shorter.
            let Some(paths) = package.in_place(names.iter().copied()) else { continue };
            let opam = names.iter().zip(&paths).find(|(name, _)| **name == OPAM);
            let at = opam.and_then(|(_, path)| path.parent());
            versions.extend(at.map(|at| (package.clone(), at)));
            files.extend(paths.into_iter().zip(found().map(|(_, bytes)| bytes.clone())));
        }
        Self { files, versions }
    }

    /// All files, sorted by path.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&RepoPath, &Bytes)> {
        self.files.iter()
    }

    /// The bytes of one file.
    pub fn file(&self, path: &str) -> Option<&Bytes> {
        self.files.get(path)
    }

    /// The `repo` file.
    pub fn repo_file(&self) -> Option<&Bytes> {
        self.file(REPO)
    }

    /// Every version of every package with its directory, in opam's order.
    ///
    /// As opam finds them: a directory at any depth under `packages/` that holds a file `opam`
    /// and is named `<name>.<version>`; nothing is looked for below it. Nor below a directory that
    /// is called `opam`: it would hide from opam up to 2.5 all that lies beside it.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = (&Package, &RepoPath)> {
        self.versions.iter().map(|(package, directory)| (package, directory))
    }

    /// The directory of one version.
    pub fn directory(&self, package: &Package) -> Option<&RepoPath> {
        let at = self.versions.binary_search_by(|(other, _)| other.cmp(package)).ok()?;
        self.versions.get(at).map(|(_, directory)| directory)
    }

    /// The opam file of one version.
    pub fn opam_file(&self, package: &Package) -> Option<&Bytes> {
        self.file(&format!("{}/{OPAM}", self.directory(package)?))
    }

    /// All files below the directory of one version, sorted by path, the opam file among them.
    pub fn version_files(&self, package: &Package) -> impl Iterator<Item = (&RepoPath, &Bytes)> {
        self.directory(package).into_iter().flat_map(|directory| below(&self.files, directory))
    }
}

/// The files below a directory.
fn below<'a>(
    files: &'a BTreeMap<RepoPath, Bytes>,
    directory: &RepoPath,
) -> impl Iterator<Item = (&'a RepoPath, &'a Bytes)> + use<'a> {
    let prefix = format!("{directory}/");
    let start = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    let below = files.range::<str, _>(start);
    below.take_while(move |(path, _)| path.as_str().starts_with(&prefix))
}

const REPO: &str = "repo";
const PACKAGES: &str = "packages";
const OPAM: &str = "opam";

/// What becomes of files that have nothing in them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyFiles {
    LeftOut,
    Kept,
}

/// The directories of these versions.
fn directories(versions: &[(Package, RepoPath)]) -> HashSet<&str> {
    versions.iter().map(|(_, directory)| directory.as_str()).collect()
}

/// Whether a file is served: `repo`, and what lies in these directories of versions and is not the
/// opam file of yet another one.
fn is_read(path: &RepoPath, directories: &HashSet<&str>) -> bool {
    match path.as_str().strip_suffix("/opam") {
        Some(directory) if directories.contains(directory) => true,
        // opam 2.6 finds versions inside of others.
        Some(directory) if is_named_like_a_version(directory) => false,
        _ => path.as_str() == REPO || path.ancestors().any(|it| directories.contains(it)),
    }
}

fn is_named_like_a_version(directory: &str) -> bool {
    file_name(directory).parse::<Package>().is_ok()
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Every version of every package with its directory, among these paths of files; sorted by
/// package.
///
/// # Errors
/// [`TreeError::VersionTwice`].
fn find_versions<'a>(
    files: impl Iterator<Item = &'a RepoPath>,
) -> Result<Vec<(Package, RepoPath)>, TreeError> {
    let mut versions = Vec::new();
    // Files come sorted, yet `a/opam` comes after `a/b/opam`: the outer ones are known first only
    // once all are collected.
    let directories: Vec<&str> =
        files.filter_map(|path| path.as_str().strip_suffix("/opam")).collect();
    let named = directories.into_iter().filter(|directory| !directory.contains("/opam/"));
    let named = named.filter_map(|it| Some((it, file_name(it).parse().ok()?)));
    let named: Vec<(&str, Package)> = named.collect();
    let all: HashSet<&str> = named.iter().map(|(directory, _)| *directory).collect();
    for (directory, package) in named {
        let is_inside_another = ancestors(directory).any(|outer| all.contains(outer));
        if let (false, Ok(path)) = (is_inside_another, directory.parse()) {
            versions.push((package, path));
        }
    }
    // By path they are nearly sorted.
    versions.par_sort();
    match versions.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(versions),
        Some(pair) => Err(TreeError::VersionTwice {
            package: pair[0].0.to_string(),
            first: pair[0].1.to_string(),
            second: pair[1].1.to_string(),
        }),
    }
}
