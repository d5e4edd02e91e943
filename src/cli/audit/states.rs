//! The states of a repository that are audited, and where they come from.

use crate::keeper::audit::{self, ServedState};
use crate::opam::{Package, Tree};
use crate::upstream::repository::LocalGit;
use std::path::Path;

/// What is audited.
pub(super) enum States {
    /// One state, looked over.
    One(Tree),
    /// What is served, looked over.
    Served(ServedState),
    /// Two of them, compared.
    Two(Tree, Tree),
}

impl States {
    /// Reads directories and index.tar.gz files, or the revisions of a clone.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn read(old: &Path, new: Option<&Path>, git: Option<&Path>) -> Result<Self, String> {
        match (git, new) {
            (Some(git), _) => {
                let revisions = old.to_str().ok_or("a revision is UTF-8 text")?;
                Self::of_revisions(git, revisions)
            }
            (None, Some(new)) => Ok(Self::Two(audit::read(old)?, audit::read(new)?)),
            (None, None) => match old.to_str() {
                Some(range) if range.contains("..") && !old.exists() => {
                    Err(format!("{range}: name the clone that has these revisions with --git"))
                }
                _ => Ok(Self::One(audit::read(old)?)),
            },
        }
    }

    fn of_revisions(directory: &Path, revisions: &str) -> Result<Self, String> {
        let git = LocalGit::open(directory).map_err(|error| error.to_string())?;
        let commit = |revision: &str| {
            // As git takes it, nothing stands for HEAD.
            let revision = if revision.is_empty() { "HEAD" } else { revision };
            git.commit(revision).map_err(|error| error.to_string())
        };
        let read = |commit: &str| audit::read_commit(&git, commit);
        if let Some((left, right)) = revisions.split_once("...") {
            let (left, right) = (commit(left)?, commit(right)?);
            let base = git.merge_base(&left, &right).map_err(|error| error.to_string())?;
            return Ok(Self::Two(read(&base)?, read(&right)?));
        }
        match revisions.split_once("..") {
            Some((left, right)) => Ok(Self::Two(read(&commit(left)?)?, read(&commit(right)?)?)),
            None => Ok(Self::One(read(&commit(revisions)?)?)),
        }
    }

    /// Where the opam file of a version lies, or lay if it is gone.
    pub(super) fn file_of(&self, package: &Package) -> String {
        let directory = match self {
            Self::One(tree) | Self::Served(ServedState { tree, .. }) => tree.directory(package),
            Self::Two(old, new) => new.directory(package).or_else(|| old.directory(package)),
        };
        directory.map_or_else(|| "repo".to_owned(), |directory| format!("{directory}/opam"))
    }
}
