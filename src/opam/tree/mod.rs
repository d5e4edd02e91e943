//! A package repository's files, validated.

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
use super::path::{RepoPath, ancestors, folded};
use super::repo_file::leads_away;
use bytes::Bytes;
use rayon::slice::ParallelSliceMut as _;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, btree_map};
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
}

impl TreeLimits {
    /// For what was admitted before.
    pub const NONE: Self =
        Self { inflated_bytes: usize::MAX, entries: usize::MAX, file_size: usize::MAX };
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { inflated_bytes: 400 << 20, entries: 400_000, file_size: 16 << 20 }
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
    /// understand differently, unsafe names, duplicates, a repository that is not at the root, one
    /// without `repo` or without any package. Other things at the root (`version`, `urls.txt`, …)
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

/// Most directories that one file may lie in, and itself; real ones lie in up to five.
const MAX_DEPTH: usize = 16;
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

/// What was found so far, within the limits.
struct Entries<C> {
    limits: TreeLimits,
    count: usize,
    bytes: usize,
    files: Vec<(RepoPath, C)>,
    directories: Vec<RepoPath>,
    /// A directory at the root that holds a repository itself.
    outside: Option<String>,
    /// Something at the root that some clients take for packages, or for what the repository says.
    beside: Option<String>,
}

impl<C> Entries<C> {
    fn new(limits: &TreeLimits) -> Self {
        Self {
            limits: *limits,
            count: 0,
            bytes: 0,
            files: Vec::new(),
            directories: Vec::new(),
            outside: None,
            beside: None,
        }
    }

    fn add_file(&mut self, path: RepoPath, size: usize, content: C) -> Result<(), TreeError> {
        self.count_one()?;
        if size > self.limits.file_size {
            let limit = self.limits.file_size;
            return Err(TreeError::FileTooLarge { name: path.to_string(), limit });
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.inflated_bytes {
            return Err(TreeError::TooLarge { limit: self.limits.inflated_bytes });
        }
        if !self.is_kept(&path) {
            return Ok(());
        }
        Self::check_depth(&path)?;
        self.files.push((path, content));
        Ok(())
    }

    fn add_directory(&mut self, path: RepoPath) -> Result<(), TreeError> {
        self.count_one()?;
        if self.is_kept(&path) {
            Self::check_depth(&path)?;
            self.directories.push(path);
        }
        Ok(())
    }

    fn check_depth(path: &RepoPath) -> Result<(), TreeError> {
        match path.components().nth(MAX_DEPTH) {
            None => Ok(()),
            Some(_) => Err(TreeError::TooDeep { name: path.to_string(), limit: MAX_DEPTH }),
        }
    }

    fn count_one(&mut self) -> Result<(), TreeError> {
        self.count += 1;
        let limit = self.limits.entries;
        if self.count > limit { Err(TreeError::TooManyEntries { limit }) } else { Ok(()) }
    }

    /// Whether opam reads the path; notes where a repository lies that it won't find.
    fn is_kept(&mut self, path: &RepoPath) -> bool {
        let mut components = path.components();
        let (top, next) = (components.next(), components.next());
        let is_other = |top: &&str| {
            let is_alike = [REPO, PACKAGES].contains(&&*folded(top));
            is_alike && !(*top == PACKAGES || *top == REPO && next.is_none())
        };
        if let Some(top) = top.filter(is_other) {
            self.beside.get_or_insert_with(|| top.to_owned());
        }
        match (top, next) {
            (Some(REPO), None) | (Some(PACKAGES), _) => true,
            (Some(top), Some(PACKAGES)) => {
                self.outside.get_or_insert_with(|| top.to_owned());
                false
            }
            _ => false,
        }
    }

    fn map<D>(self, content: impl Fn(C) -> D) -> Entries<D> {
        let Self { limits, count, bytes, files, directories, outside, beside } = self;
        let files = files.into_iter().map(|(path, it)| (path, content(it))).collect();
        Entries { limits, count, bytes, files, directories, outside, beside }
    }

    /// Refuses what some versions of opam take for a package's version and others don't: up to 2.5
    /// they look no further where anything is called `opam`, 2.6 takes all opam files there are.
    fn check_agreement(&self) -> Result<(), TreeError> {
        let files = || self.files.iter().map(|(path, _)| path.as_str());
        let named = self.directories.iter().map(RepoPath::as_str).chain(files());
        let implied = named.clone().filter_map(|path| Some(path.split_once("/opam/")?.0));
        let no_further: HashSet<&str> =
            named.filter_map(|path| path.strip_suffix("/opam")).chain(implied).collect();
        let opam_files = files().filter_map(|path| path.strip_suffix("/opam"));
        for directory in opam_files.filter(|directory| is_named_like_a_version(directory)) {
            if let Some(outer) = ancestors(directory).find(|outer| no_further.contains(outer)) {
                let [directory, outer] = [directory, outer].map(str::to_owned);
                return Err(TreeError::Disputed { directory, outer });
            }
        }
        Ok(())
    }

    /// Refuses what lies in the directory of one of these versions, or in the way of it, only where
    /// case counts for nothing.
    fn check_spellings(&self, versions: &[(Package, RepoPath)]) -> Result<(), TreeError> {
        let by_folded: HashMap<String, &str> =
            versions.iter().map(|(_, it)| (folded(it.as_str()), it.as_str())).collect();
        let above: HashSet<&str> = by_folded.keys().flat_map(|it| ancestors(it)).collect();
        let refuse = |path: &str, over: &str| {
            let [one, other] = [path, over].map(str::to_owned);
            Err(TreeError::Spellings { one, other })
        };
        for (folded, directory) in &by_folded {
            if let Some(outer) = ancestors(folded).find_map(|it| by_folded.get(it)) {
                return refuse(directory, outer);
            }
        }
        let owned = directories(versions);
        let is_owned = |path: &str| ancestors(path).any(|it| owned.contains(it));
        let files = self.files.iter().map(|(path, _)| (path.as_str(), true));
        let directories = self.directories.iter().map(|path| (path.as_str(), false));
        for (path, is_file) in files.chain(directories) {
            if is_owned(path) || owned.contains(path) {
                continue;
            }
            let folded = folded(path);
            let inside = std::iter::once(&*folded).chain(ancestors(&folded));
            if let Some(directory) = inside.into_iter().find_map(|it| by_folded.get(it)) {
                return refuse(path, directory);
            }
            if is_file && above.contains(&*folded) {
                return refuse(path, "the directory of a version");
            }
        }
        Ok(())
    }

    /// Refuses a path that is both a file and a directory, named or implied.
    fn check_names(&self) -> Result<(), TreeError> {
        let mut directories = HashSet::new();
        // Once a directory is known, so are the ones above it.
        for directory in &self.directories {
            let outwards = std::iter::once(directory.as_str()).chain(directory.ancestors());
            outwards.take_while(|directory| directories.insert(*directory)).for_each(drop);
        }
        for (file, _) in &self.files {
            file.ancestors().take_while(|directory| directories.insert(*directory)).for_each(drop);
        }
        directories.insert(PACKAGES);
        let both = |path: &&RepoPath| directories.contains(path.as_str());
        match self.files.iter().map(|(path, _)| path).find(both) {
            None => Ok(()),
            Some(path) => Err(TreeError::FileAndDirectory { name: path.to_string() }),
        }
    }
}
