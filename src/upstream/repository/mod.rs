//! Where a repository's metadata comes from: an `index.tar.gz` over HTTP, a git repository or a
//! directory.
//!
//! A source fetches one state of the repository as a whole, or says that it is the one already
//! known. It bounds what it fetches and unpacks nothing; what the files mean, and whether their
//! paths are any good, is for others to judge.

mod directory;
mod error;
mod files;
mod git;
mod git_history;
mod git_program;
mod git_reference;
mod git_tree;
mod http;
mod local_git;
#[cfg(test)]
mod tests;
mod watch;

pub use directory::read as read_directory;
pub use error::RepositoryError;
pub use files::{FileKind, RawFile};
pub use git_history::{GitHistory, PastCommit};
pub use local_git::{Commit, FileChange, LocalGit, LocalGitError, ObjectName, Objects};
pub use watch::Watch;

use super::Client;
use crate::config;
use bytes::Bytes;
use directory::DirectorySource;
use git::GitSource;
use http::HttpSource;
use std::fmt;
use std::path::Path;

/// A configured repository's upstream.
#[derive(Debug)]
pub struct RepositorySource(Kind);

#[derive(Debug)]
enum Kind {
    Http(HttpSource),
    Git(Box<GitSource>),
    Directory(DirectorySource),
}

/// Which state of a repository it is, in a form that only its source understands: printable
/// ASCII, at most [`MAX_REVISION_LENGTH`] long, the same text for the same state.
///
/// Whoever keeps one may hand it back as text, also after a restart or a change of upstream: a
/// text that means nothing here is only a state that isn't known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// Nothing changed since the known revision.
    Unchanged,
    /// An `index.tar.gz`, exactly as upstream sent it.
    Index {
        /// The file's bytes.
        bytes: Bytes,
        /// Which state it is.
        revision: Revision,
    },
    /// The files themselves: `repo` and everything below `packages/`, in the order of their
    /// paths.
    Files {
        /// The files.
        files: Vec<RawFile>,
        /// Which state they are.
        revision: Revision,
    },
}

impl RepositorySource {
    /// The source that `repository.upstream` names.
    ///
    /// `directory` is for the source alone, to keep what makes its next fetch cheaper; it may
    /// be emptied whenever the source isn't in use.
    ///
    /// # Errors
    /// The URL can't be a source.
    pub fn new(
        repository: &config::Repository,
        client: &Client,
        directory: &Path,
    ) -> Result<Self, RepositoryError> {
        let url = repository.upstream.get_ref();
        let kind = match url.expose().scheme() {
            "https" | "http" => Kind::Http(HttpSource::new(url, client)?),
            "git+https" | "git+file" => {
                Kind::Git(Box::new(GitSource::new(url, client.reach(), directory)?))
            }
            "file" => Kind::Directory(DirectorySource::new(url)?),
            _ => {
                return Err(RepositoryError::UnusableUrl {
                    url: Box::new(url.clone()),
                    reason: "an upstream is https://…, git+https://…, git+file://… or \
                             file:///a/checkout",
                });
            }
        };
        Ok(Self(kind))
    }

    /// Fetches the repository, unless it still is in the state `known`.
    ///
    /// # Errors
    /// What failed on what; nothing of a failed fetch remains.
    pub async fn fetch(&self, known: Option<&Revision>) -> Result<Fetched, RepositoryError> {
        match &self.0 {
            Kind::Http(source) => source.fetch(known).await,
            Kind::Git(source) => source.fetch(known).await,
            Kind::Directory(source) => source.fetch(known).await,
        }
    }

    /// Whether it lies on this machine, so that it can be asked without a network.
    pub fn is_local(&self) -> bool {
        match &self.0 {
            Kind::Http(_) => false,
            Kind::Git(source) => source.is_local(),
            Kind::Directory(_) => true,
        }
    }

    /// What was there before, where that can be known: in git.
    pub fn history(&self) -> Option<GitHistory<'_>> {
        match &self.0 {
            Kind::Git(source) => Some(GitHistory::new(source)),
            Kind::Http(_) | Kind::Directory(_) => None,
        }
    }

    /// Watches for changes, where that is possible: in a directory. Elsewhere asking now and
    /// then is all there is.
    pub fn watch(&self) -> Option<Watch> {
        match &self.0 {
            Kind::Directory(source) => Some(Watch::start(source.path())),
            Kind::Http(_) | Kind::Git(_) => None,
        }
    }
}

impl Revision {
    /// A revision from its text, as [`Revision::as_str`] once gave it.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The revision as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest text of a [`Revision`] that a source gives.
pub const MAX_REVISION_LENGTH: usize = 256;
