//! Why a repository's metadata could not be fetched.

use super::super::{FetchError, ResolveError};
use crate::safe_url::SafeUrl;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// What failed, on what.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// The configured URL can't be a source.
    #[error("{url}: {reason}")]
    UnusableUrl {
        /// The URL.
        url: Box<SafeUrl>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An HTTP source gave an error.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It lies on another machine, and `upstream.offline` is set.
    #[error("{url}: nothing is asked of other machines, because upstream.offline is set")]
    Offline {
        /// The repository.
        url: Box<SafeUrl>,
    },
    /// A git source's host has no address that may be dialled.
    #[error("{url}: {source}")]
    Resolve {
        /// The repository.
        url: Box<SafeUrl>,
        /// What is wrong with the host.
        source: ResolveError,
    },
    /// There is no git program.
    #[error("the git program is missing: install git, or use an https:// upstream")]
    GitMissing,
    /// The git program can't be bound to the address that was checked.
    #[error("git {found} is too old for git+https upstreams: install 2.37 or newer")]
    GitTooOld {
        /// What it calls itself.
        found: String,
    },
    /// The git program gave an error.
    #[error("{url}: git {step} failed: {reason}")]
    Git {
        /// The repository.
        url: Box<SafeUrl>,
        /// The git command.
        step: &'static str,
        /// What git said, on one line.
        reason: String,
    },
    /// The git program took too long and was stopped.
    #[error("{url}: git {step} was stopped after {}", humantime::format_duration(*.bound))]
    GitTimedOut {
        /// The repository.
        url: Box<SafeUrl>,
        /// The git command.
        step: &'static str,
        /// How long it had.
        bound: Duration,
    },
    /// The git repository has no such branch, tag or commit.
    #[error("{url}: there is no branch or tag named {name}")]
    NoSuchReference {
        /// The repository.
        url: Box<SafeUrl>,
        /// What was asked for.
        name: String,
    },
    /// There is more than anyone honest has.
    #[error("{place}: more than {limit} {what}")]
    TooLarge {
        /// The repository.
        place: String,
        /// How many are permitted.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// A file or directory can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl RepositoryError {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
