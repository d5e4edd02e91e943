//! Two states of a repository compared, or one looked over, by the policy for published versions:
//! what a pull request should hear before a mirror does.

use super::admit::{AdmitError, main_checksums, read_file};
use super::file_list::FileList;
use super::opam_files::opam_files;
use super::{raw_files, served_tree, snapshots};
use crate::config::{Policy, Rule};
use crate::ledger::entry::Snapshot;
use crate::opam::{self, Change, Checksum, Edit, Finding, Package, Tree, TreeLimits};
use crate::store::blobs::Blobs;
use crate::store::log::LogReader;
use crate::upstream::repository::{LocalGit, read_directory};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// All that differs between two states.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The edits, by package.
    pub edits: Vec<Audited>,
    /// That too many versions are gone, if so.
    pub gutted: Option<Gutted>,
}

/// More versions are gone at once than the policy lets go: the whole state would be held.
#[derive(Clone, Debug, Serialize)]
pub struct Gutted {
    /// The repository.
    pub repository: String,
    /// What happens to it.
    pub rule: Rule,
    /// How many versions are gone.
    pub removed: u64,
    /// Of how many.
    pub versions: u64,
}

/// One version's edit, and what the policy says of it.
#[derive(Clone, Debug, Serialize)]
pub struct Audited {
    /// The version.
    pub package: Package,
    /// The strictest rule of all its changes.
    pub rule: Rule,
    /// What changed; at least one change.
    pub changes: Vec<AuditedChange>,
}

/// One change, and what the policy says of it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedChange {
    /// The change.
    #[serde(flatten)]
    pub change: Change,
    /// What happens to changes of this kind.
    pub rule: Rule,
}

/// Every edit from `old` to `new`, as if both were states of `repository`.
pub fn compare(old: &Tree, new: &Tree, policy: &Policy, repository: &str) -> Comparison {
    let audited = |Edit { package, changes }: Edit| {
        let name = package.to_string();
        let audited = |change: Change| AuditedChange {
            rule: policy.rule(repository, &name, &change.kind.to_string()),
            change,
        };
        let changes: Vec<AuditedChange> = changes.into_iter().map(audited).collect();
        let rule = changes.iter().map(|it| it.rule).max().unwrap_or(Rule::Allow);
        Audited { package, rule, changes }
    };
    let removed = old.versions().filter(|(package, _)| new.directory(package).is_none());
    let (removed, versions) = (removed.count() as u64, old.versions().len() as u64);
    let gutted = policy.is_gutted(removed, versions).then(|| Gutted {
        repository: repository.to_owned(),
        rule: Rule::Hold,
        removed,
        versions,
    });
    Comparison { edits: opam::edits(old, new).into_iter().map(audited).collect(), gutted }
}

impl Comparison {
    /// Whether the policy would serve all of it.
    pub fn is_let_through(&self) -> bool {
        self.gutted.is_none() && self.edits.iter().all(|it| it.rule != Rule::Hold)
    }
}

impl fmt::Display for Gutted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { removed, versions, .. } = self;
        write!(
            f,
            "{removed} of {versions} versions are gone at once, more than max_removed lets go"
        )
    }
}

/// Everything that is wrong with one state.
pub fn look_over(tree: &Tree) -> Vec<Finding> {
    opam::findings(tree)
}

/// A repository as it is served.
pub struct ServedState {
    /// Its files.
    pub tree: Tree,
    /// The versions whose checksums are not upstream's alone.
    pub strengthened: Vec<Strengthened>,
}

/// A version that upstream declares by md5 alone, and that is served with its pin's checksums too.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename = "strengthened")]
pub struct Strengthened {
    /// The version.
    pub package: Package,
    /// What upstream declares.
    pub declared: Vec<Checksum>,
    /// What was added.
    pub added: Vec<Checksum>,
}

/// Reads a repository as it is served now.
///
/// # Errors
/// One sentence.
pub fn read_served(
    log: &LogReader,
    blobs: &Blobs,
    repository: &str,
) -> Result<ServedState, String> {
    let all = snapshots::all(log).map_err(|error| error.to_string())?;
    let is_current =
        |snapshot: &Snapshot| snapshot.repository == repository && snapshot.past.is_none();
    let found = all.into_iter().map(|it| it.snapshot).rfind(is_current);
    let snapshot = found.ok_or_else(|| {
        format!("repository {repository} has no snapshot yet: opam-keep refresh asks for one")
    })?;
    as_served(blobs, &snapshot).map_err(|error| error.to_string())
}

fn as_served(blobs: &Blobs, snapshot: &Snapshot) -> Result<ServedState, AdmitError> {
    let read_list = |name| -> Result<FileList, AdmitError> {
        Ok(FileList::parse(&blobs.read(name, FileList::MAX_SIZE)?)?)
    };
    let mut files = read_list(&snapshot.admitted)?;
    let overlaid = snapshot.strengthened.as_ref().map(read_list).transpose()?.unwrap_or_default();
    let mut strengthened = Vec::new();
    for (package, path, name) in opam_files(&overlaid) {
        let before = files.0.insert(path.clone(), *name);
        let declared = before.map(|before| read_file(blobs, &before)).transpose()?;
        let declared = declared.map(|opam| main_checksums(&opam)).unwrap_or_default();
        let mut added = main_checksums(&read_file(blobs, name)?);
        added.retain(|checksum| !declared.contains(checksum));
        strengthened.push(Strengthened { package, declared, added });
    }
    Ok(ServedState { tree: served_tree::as_served(&files, blobs)?, strengthened })
}

/// Reads a repository as a commit has it.
///
/// # Errors
/// One sentence.
pub fn read_commit(git: &LocalGit, commit: &str) -> Result<Tree, String> {
    let files = git.files(commit).map_err(|error| error.to_string())?;
    raw_files::tree(files).map_err(|error| format!("commit {commit}: {error}"))
}

/// Reads a repository: a directory, or an `index.tar.gz`.
///
/// # Errors
/// One sentence.
pub fn read(path: &Path) -> Result<Tree, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if path.is_dir() {
        let files = read_directory(path).map_err(|error| error.to_string())?;
        return raw_files::tree(files).map_err(|error| failed(&error));
    }
    let index = std::fs::read(path).map_err(|error| {
        let advice =
            "name a checkout of a repository, its index.tar.gz, or with --git its revisions";
        format!("{}: {advice}", failed(&error))
    })?;
    Tree::from_index(&index, &TreeLimits::default()).map_err(|error| failed(&error))
}
