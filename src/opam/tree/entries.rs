//! What an archive or a directory lists, collected within limits and checked as a whole.

use super::{PACKAGES, REPO, TreeError, TreeLimits, directories, is_named_like_a_version};
use crate::opam::package::Package;
use crate::opam::path::{RepoPath, ancestors, folded};
use std::collections::{HashMap, HashSet};

/// What was found so far, within the limits.
pub(super) struct Entries<C> {
    pub(super) limits: TreeLimits,
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) files: Vec<(RepoPath, C)>,
    pub(super) directories: Vec<RepoPath>,
    /// A directory at the root that holds a repository itself.
    pub(super) outside: Option<String>,
    /// Something at the root that some clients take for packages, or for what the repository says.
    pub(super) beside: Option<String>,
}

impl<C> Entries<C> {
    pub(super) fn new(limits: &TreeLimits) -> Self {
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

    pub(super) fn add_file(
        &mut self,
        path: RepoPath,
        size: usize,
        content: C,
    ) -> Result<(), TreeError> {
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
        self.check_depth(&path)?;
        self.files.push((path, content));
        Ok(())
    }

    pub(super) fn add_directory(&mut self, path: RepoPath) -> Result<(), TreeError> {
        self.count_one()?;
        if self.is_kept(&path) {
            self.check_depth(&path)?;
            self.directories.push(path);
        }
        Ok(())
    }

    fn check_depth(&self, path: &RepoPath) -> Result<(), TreeError> {
        let limit = self.limits.depth;
        match path.components().count() > limit {
            false => Ok(()),
            true => Err(TreeError::TooDeep { name: path.to_string(), limit }),
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

    pub(super) fn map<D>(self, content: impl Fn(C) -> D) -> Entries<D> {
        let Self { limits, count, bytes, files, directories, outside, beside } = self;
        let files = files.into_iter().map(|(path, it)| (path, content(it))).collect();
        Entries { limits, count, bytes, files, directories, outside, beside }
    }

    /// Refuses what some versions of opam take for a package's version and others don't: up to 2.5
    /// they look no further where anything is called `opam`, 2.6 takes all opam files there are.
    pub(super) fn check_agreement(&self) -> Result<(), TreeError> {
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
    /// case counts for nothing, and what is one file there although it is two.
    pub(super) fn check_spellings(
        &self,
        versions: &[(Package, RepoPath)],
    ) -> Result<(), TreeError> {
        let refuse = |path: &str, over: &str| {
            let [one, other] = [path, over].map(str::to_owned);
            Err(TreeError::Spellings { one, other })
        };
        let mut by_folded: HashMap<String, &str> = HashMap::new();
        for directory in versions.iter().map(|(_, directory)| directory.as_str()) {
            if let Some(other) = by_folded.insert(folded(directory), directory) {
                return refuse(directory, other);
            }
        }
        let above: HashSet<&str> = by_folded.keys().flat_map(|it| ancestors(it)).collect();
        for (folded, directory) in &by_folded {
            if let Some(outer) = ancestors(folded).find_map(|it| by_folded.get(it)) {
                return refuse(directory, outer);
            }
        }
        let owned = directories(versions);
        let is_owned = |path: &str| ancestors(path).any(|it| owned.contains(it));
        let files = || self.files.iter().map(|(path, _)| (path.as_str(), true));
        let directories = self.directories.iter().map(|path| (path.as_str(), false));
        let mut inside: HashMap<String, &str> = HashMap::new();
        for (path, _) in files().filter(|(path, _)| is_owned(path)) {
            if let Some(other) = inside.insert(folded(path), path) {
                return refuse(path, other);
            }
        }
        for (folded, path) in &inside {
            if let Some(file) = ancestors(folded).find_map(|it| inside.get(it)) {
                return refuse(path, file);
            }
        }
        for (path, is_file) in files().chain(directories) {
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
    pub(super) fn check_names(&self) -> Result<(), TreeError> {
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
