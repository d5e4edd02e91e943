//! From what upstream said to what is served: a snapshot's files, archives and index.
//!
//! Pure but for reading and writing blobs; blocking, so it runs off the reactor.

use super::file_list::FileList;
use super::opam_files::opam_files;
use super::served::Served;
use super::serving::{self, File, Indexes};
use super::state::State;
use super::stronger::Stronger;
use super::version_sources::{NamedArchive, VersionSources};
use crate::config::Mode;
use crate::digest::Sha256;
use crate::opam::Checksum;
use crate::opam::Package;
use crate::opam::fits_index;
use crate::opam::rewrite_repo_file;
use crate::opam::syntax::OpamFile;
use crate::opam::{ExtraSources, RepoPath, Rewrite, Tree};
use crate::opam::{Role, archive_sources};
use crate::store::blobs::{BlobError, Blobs};
use crate::store::catalog::DeclaredArchive;
use bytes::Bytes;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use thiserror::Error;
use url::Url;

/// What is served of a repository's metadata, and what is not.
pub(super) struct Admission {
    /// Upstream's files.
    pub files: FileList,
    /// The files that are served.
    pub admitted: FileList,
    /// Those of them that gain checksums before they are served, as they are served.
    pub strengthened: FileList,
    /// The `repo` file that is served.
    pub repo: Bytes,
    /// Upstream's own `repo` file.
    pub upstream_repo: Option<Bytes>,
    /// How many package versions are served.
    pub versions: u64,
    /// Versions that upstream has and that are not served, each with the reason.
    pub refused: Vec<(String, String)>,
}

/// How a state is made into what is served.
pub(super) struct Making<'a> {
    /// What its versions declare, in their order.
    pub sources: &'a [VersionSources],
    /// Its files.
    pub files: FileList,
    /// What pins add to it.
    pub stronger: &'a Stronger,
    /// Whether versions that stay weak are left out.
    pub refuses_weak: bool,
    /// Where sources point.
    pub rewrite: Option<&'a Rewrite>,
    /// Where the pages of its packages are.
    pub browse: Option<&'a str>,
}

/// The archives of a set of opam files.
#[derive(Default)]
pub(super) struct Declarations {
    archives: BTreeMap<Sha256, DeclaredArchive>,
    /// By what a mirror calls them.
    named: BTreeMap<String, Sha256>,
}

/// Why a snapshot can't be built or rebuilt.
#[derive(Debug, Error)]
pub enum AdmitError {
    /// A blob of the snapshot can't be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The served index can't be written.
    #[error("the index can't be written: {0}")]
    Index(String),
    /// There is nothing to begin with.
    #[error(
        "nothing of it is served yet, as each of its versions is held: opam-keep divergences --all \
         lists them, and each is served once it is accepted"
    )]
    AllHeld,
    /// The same, with why one of its versions is left out.
    #[error("nothing of it is served, as each of its versions is left out: {0}")]
    AllLeftOut(String),
    /// What upstream has now and the held versions can't be in one repository.
    #[error("held versions don't fit into upstream's repository: {0}")]
    Held(String),
    /// A list of files can't be read back.
    #[error(transparent)]
    List(#[from] super::file_list::FileListError),
}

impl Admission {
    /// Admits all of `tree` but the versions that no client should see.
    ///
    /// `upstream` is the state as it came, of which `tree` may hold some versions back.
    pub(super) fn of(upstream: &State, tree: &Tree, making: Making<'_>) -> Self {
        let Making { sources, stronger, refuses_weak, rewrite, browse, .. } = making;
        let mut admitted = making.files;
        let too_long = too_long(tree);
        let mut refused = Vec::new();
        let mut refused_directories = HashSet::new();
        for ((package, directory), sources) in tree.versions().zip(sources) {
            let reason = if refuses_weak && stronger.weak.contains(package) {
                WEAK.to_owned()
            } else if rewrite.is_some_and(|rewrite| !is_rewritten(tree, package, rewrite)) {
                NOT_REWRITTEN.to_owned()
            } else if let Some(path) = too_long.get(directory.as_str()) {
                format!("the path \"{path}\" is too long for an index")
            } else if let VersionSources::Refused(reason) = sources {
                reason.clone()
            } else {
                continue;
            };
            refused.push((package.to_string(), reason));
            refused_directories.insert(directory.as_str());
        }
        let repo = rewrite_repo_file(tree.repo_file().map(|bytes| &bytes[..]), browse);
        let served = |path: &RepoPath| {
            fits_index(path) && !path.ancestors().any(|above| refused_directories.contains(above))
        };
        if !(refused.is_empty() && too_long.is_empty()) {
            admitted.0.retain(|path, _| served(path));
        }
        let repo_path = repo_path();
        admitted.0.insert(repo_path, Sha256::of(&repo));
        let mut strengthened = stronger.list();
        strengthened.0.retain(|path, _| served(path));
        Self {
            files: upstream.files.clone(),
            strengthened,
            repo,
            upstream_repo: upstream.tree.repo_file().cloned(),
            versions: (tree.versions().len() - refused.len()) as u64,
            refused,
            admitted,
        }
    }

    /// Admits a tree as it came, with every version.
    pub(super) fn verbatim(upstream: &State, tree: &Tree, admitted: FileList) -> Self {
        Self {
            admitted,
            files: upstream.files.clone(),
            strengthened: FileList::default(),
            repo: tree.repo_file().cloned().unwrap_or_default(),
            upstream_repo: upstream.tree.repo_file().cloned(),
            versions: tree.versions().len() as u64,
            refused: Vec::new(),
        }
    }

    /// The indexes of what is admitted of `tree`; of what is served in place of `previous`, most may
    /// be the same.
    ///
    /// # Errors
    /// When the index can't be written.
    pub(super) fn indexes(
        &self,
        tree: &Tree,
        stronger: &Stronger,
        rewrite: Option<&Rewrite>,
        previous: Option<&Served>,
    ) -> Result<Indexes, AdmitError> {
        let repo_path = repo_path();
        // Both are sorted by path.
        let (mut contents, mut served) = (tree.files(), Vec::with_capacity(self.admitted.0.len()));
        for (path, name) in self.admitted.0.iter().filter(|(path, _)| **path != repo_path) {
            let Some((_, bytes)) = contents.find(|(other, _)| *other == path) else { break };
            let stronger = self.strengthened.0.get(path).zip(stronger.files.get(path));
            let (name, bytes) = stronger.unwrap_or((name, bytes));
            served.push(File { path, name: *name, bytes: Cow::Borrowed(&bytes[..]) });
        }
        let (name, bytes) = (Sha256::of(&self.repo), Cow::Borrowed(&self.repo[..]));
        served.push(File { path: &repo_path, name, bytes });
        serving::indexes(&served, rewrite, previous)
    }

    /// How the snapshot's index came to be, in the ledger's words.
    pub(super) fn mode_name(mode: Mode) -> &'static str {
        match mode {
            Mode::Managed => "managed",
            Mode::Verbatim => "verbatim",
        }
    }
}

/// The directories below which there is a path that no index can hold, each with the first one.
fn too_long(tree: &Tree) -> HashMap<&str, &RepoPath> {
    let mut directories = HashMap::new();
    for (path, _) in tree.files().filter(|(path, _)| !fits_index(path)) {
        for directory in path.ancestors() {
            directories.entry(directory).or_insert(path);
        }
    }
    directories
}

/// Whether all that clients could take for a source of a version's leads to the mirror.
fn is_rewritten(tree: &Tree, package: &Package, rewrite: &Rewrite) -> bool {
    let readable = tree
        .opam_file(package)
        .is_none_or(|opam| rewrite.apply(package, opam, ExtraSources::Rewritten).is_ok());
    readable && !tree.version_files(package).any(|(path, _)| serving::names_a_source(path))
}

impl FromIterator<(RepoPath, Sha256)> for FileList {
    fn from_iter<T: IntoIterator<Item = (RepoPath, Sha256)>>(files: T) -> Self {
        Self(files.into_iter().collect())
    }
}

impl Declarations {
    /// What the versions of a tree declare, but for those that are not served.
    pub(super) fn of_tree(tree: &Tree, refused: &[(String, String)]) -> Self {
        let refused: HashSet<&str> = refused.iter().map(|(package, _)| package.as_str()).collect();
        let mut declarations = Self::default();
        let sources = VersionSources::of_tree(tree, |_, _| false);
        for ((package, _), sources) in tree.versions().zip(sources) {
            if refused.is_empty() || !refused.contains(package.to_string().as_str()) {
                declarations.add(package, &sources);
            }
        }
        declarations
    }

    /// Takes in the archives of one version.
    fn add(&mut self, package: &Package, sources: &VersionSources) {
        let VersionSources::Declared { archives, .. } = sources else { return };
        let name = package.to_string();
        for NamedArchive { name: called, id, archive } in archives {
            self.named.entry(called.clone()).or_insert(*id);
            let packages =
                &mut self.archives.entry(*id).or_insert_with(|| archive.clone()).packages;
            if packages.len() < DeclaredArchive::MAX_PACKAGES
                && packages.last().is_none_or(|last| *last != name)
            {
                packages.push(name.clone());
            }
        }
    }

    /// Reads the archives again from the blobs of an admitted snapshot.
    ///
    /// # Errors
    /// When a blob is missing or damaged.
    pub(super) fn of_list(blobs: &Blobs, list: &FileList) -> Result<Self, AdmitError> {
        Self::of_versions(blobs, opam_files(list).map(|(package, _, name)| (package, *name)))
    }

    /// The same of some versions, by the blobs of their opam files.
    ///
    /// # Errors
    /// When a blob is missing or damaged.
    pub(super) fn of_versions(
        blobs: &Blobs,
        versions: impl Iterator<Item = (Package, Sha256)>,
    ) -> Result<Self, AdmitError> {
        let files: Vec<(Package, Sha256)> = versions.collect();
        let read = |(package, name): (Package, Sha256)| -> Result<_, BlobError> {
            let sources = VersionSources::of_file(&package, read_file(blobs, &name)?.into());
            Ok((package, sources))
        };
        let read: Vec<_> = files.into_par_iter().map(read).collect::<Result<_, _>>()?;
        let mut declarations = Self::default();
        for (package, sources) in read {
            declarations.add(&package, &sources);
        }
        Ok(declarations)
    }

    /// The archives by what tells them apart, see [`DeclaredArchive::id`].
    pub(super) fn archives(&self) -> &BTreeMap<Sha256, DeclaredArchive> {
        &self.archives
    }

    pub(super) fn into_archives(self) -> impl Iterator<Item = DeclaredArchive> {
        self.archives.into_values()
    }

    /// The archives by what a mirror calls them, see [`source_name`].
    pub(super) fn named(&self) -> &BTreeMap<String, Sha256> {
        &self.named
    }

    /// The archives that are declared under a checksum.
    pub(super) fn with(&self, checksum: &Checksum) -> Vec<DeclaredArchive> {
        let found = self.archives.values().filter(|it| it.checksums.contains(checksum));
        found.take(MAX_SAME).cloned().collect()
    }

    /// The archive of a name.
    pub(super) fn of_name(&self, name: &str) -> Option<DeclaredArchive> {
        self.archives.get(self.named.get(name)?).cloned()
    }

    /// About how many bytes of memory they take.
    pub(super) fn weight(&self) -> usize {
        let texts = |it: &DeclaredArchive| {
            let texts = it.packages.iter().chain(&it.urls).map(|text| text.len() + TEXT_OVERHEAD);
            texts.sum::<usize>() + it.checksums.len() * size_of::<Checksum>() + TEXT_OVERHEAD
        };
        let archives: usize = self.archives.values().map(texts).sum();
        archives + self.named.keys().map(|name| name.len() + 2 * TEXT_OVERHEAD).sum::<usize>()
    }
}

/// Reads one file of a snapshot.
pub(super) fn read_file(blobs: &Blobs, name: &Sha256) -> Result<Vec<u8>, BlobError> {
    blobs.read(name, MAX_FILE_SIZE)
}

/// The checksums of the archive that an opam file's `url` declares.
pub(super) fn main_checksums(opam: &[u8]) -> Vec<Checksum> {
    let file = OpamFile::parse(opam).ok();
    let sources = file.and_then(|file| archive_sources(&file).ok()).unwrap_or_default();
    let main = sources.into_iter().find(|source| source.role == Role::Main);
    main.map(|source| source.checksums.as_slice().to_vec()).unwrap_or_default()
}

/// Where the `repo` file lies.
pub(super) fn repo_path() -> RepoPath {
    "repo".parse().expect("repo is a path")
}

/// A declared URL as it is compared and pinned: normal form, no credentials, no fragment.
pub(super) fn public_url(url: &str) -> Option<String> {
    let url = crate::safe_url::SafeUrl::from(Url::parse(url).ok()?);
    matches!(url.expose().scheme(), "http" | "https").then(|| url.public().to_string())
}

/// Why a version is left out by policy.
pub(super) const WEAK: &str =
    "policy.weak_checksum: only an md5 vouches for it, and no pin confirms that";
const NOT_REWRITTEN: &str = "rewrite_sources: it can't be read, or has a file url of its own";
/// Most archives of one checksum that are looked at.
const MAX_SAME: usize = 64;
/// About what a text takes in memory beside its bytes.
const TEXT_OVERHEAD: usize = 40;
/// Longest file of a repository, in bytes.
const MAX_FILE_SIZE: u64 = 64 << 20;
