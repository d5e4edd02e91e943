//! What a git upstream had at a time: the first-parent history of a commit that is known, and the
//! files of the commits in it.
//!
//! A commit's history can't be changed without changing the commit's name, so whatever upstream
//! does later, the answer stays the same.

use super::git::{FETCH, GitSource, LOCAL, Local};
use super::git_program::Git;
use super::git_tree::is_object_name;
use super::{Fetched, RepositoryError, Revision};
use jiff::Timestamp;

/// A git upstream's history.
#[derive(Clone, Copy, Debug)]
pub struct GitHistory<'a> {
    source: &'a GitSource,
}

/// What a history had at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastCommit {
    /// This commit.
    Commit {
        /// Its name.
        revision: Revision,
        /// When it was committed.
        since: Timestamp,
        /// When the next one was committed; none if there is none.
        until: Option<Timestamp>,
    },
    /// Nothing yet: the history begins later.
    None {
        /// When it begins.
        begins: Timestamp,
    },
}

impl<'a> GitHistory<'a> {
    pub(super) fn new(source: &'a GitSource) -> Self {
        Self { source }
    }

    /// The commit of the first-parent history of `tip` that was committed last by `time`; of
    /// several with one time the newest.
    ///
    /// Fetches commits only when those of `tip` are not here yet.
    ///
    /// # Errors
    /// `tip` is no commit, upstream does not give it, or git fails.
    pub async fn find(
        &self,
        tip: &Revision,
        time: Timestamp,
    ) -> Result<PastCommit, RepositoryError> {
        let source = self.source;
        let _turn = source.history_turn().await;
        let (git, remote) = source.prepare(Local::History).await?;
        let failed = |step: &'static str, reason: String| RepositoryError::Git {
            url: git.url.clone(),
            step,
            reason,
        };
        if !is_object_name(tip.as_str()) {
            return Err(failed("fetch", format!("{tip} is no commit")));
        }
        if !has(&git, tip).await {
            let outcome = fetch(&git, &remote, tip).await;
            if outcome.is_err() {
                // Whatever is wrong with the local repository, the next fetch starts without it.
                let _ = tokio::fs::remove_dir_all(git.repository()).await;
            }
            outcome?;
        }
        let arguments = ["--first-parent", "--timestamp", REFERENCE];
        let output = git.run("rev-list", &arguments, Vec::new(), LOCAL).await?;
        let commits = String::from_utf8(output).ok().and_then(|text| parse(&text));
        let unexpected = || failed("rev-list", "it printed something unexpected".to_owned());
        commits.and_then(|commits| pick(&commits, time)).ok_or_else(unexpected)
    }

    /// The files of a commit.
    ///
    /// # Errors
    /// As [`super::RepositorySource::fetch`].
    pub async fn fetch(&self, commit: &Revision) -> Result<Fetched, RepositoryError> {
        self.source.fetch_commit(commit.as_str()).await
    }
}

/// One commit and its time.
type Dated = (Timestamp, String);

async fn has(git: &Git, tip: &Revision) -> bool {
    let known = git.run("rev-parse", &["--verify", "--quiet", REFERENCE], Vec::new(), LOCAL).await;
    known.is_ok_and(|output| output.trim_ascii() == tip.as_str().as_bytes())
}

async fn fetch(git: &Git, remote: &str, tip: &Revision) -> Result<(), RepositoryError> {
    let refspec = format!("+{tip}:{REFERENCE}");
    let arguments = [
        "--quiet",
        "--filter=tree:0",
        "--no-tags",
        "--update-shallow",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--",
        remote,
        &refspec,
    ];
    git.run("fetch", &arguments, Vec::new(), FETCH).await.map(|_| ())
}

/// Reads `seconds SP name LF` for each commit, the newest first.
fn parse(output: &str) -> Option<Vec<Dated>> {
    let lines = output.lines().map(|line| {
        let (seconds, name) = line.split_once(' ')?;
        let time = Timestamp::from_second(seconds.parse().ok()?).ok()?;
        is_object_name(name).then(|| (time, name.to_owned()))
    });
    lines.collect()
}

/// What a history, the newest first, had at `time`; none if it has no commit at all.
fn pick(commits: &[Dated], time: Timestamp) -> Option<PastCommit> {
    let begins = commits.iter().map(|(at, _)| *at).min()?;
    let mut last: Option<&Dated> = None;
    for commit in commits.iter().filter(|(at, _)| *at <= time) {
        if last.is_none_or(|last| commit.0 > last.0) {
            last = Some(commit);
        }
    }
    let Some((since, name)) = last else { return Some(PastCommit::None { begins }) };
    let until = commits.iter().map(|(at, _)| *at).filter(|at| *at > time).min();
    let revision = Revision::from_text(name.as_str());
    Some(PastCommit::Commit { revision, since: *since, until })
}

const REFERENCE: &str = "refs/opam-keep/tip";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_commit_by_a_time_is_picked_whatever_order_their_times_are_in() {
        let name = |number: u32| format!("{number:040x}");
        let text = format!(
            "40 {}\n10 {}\n30 {}\n30 {}\n20 {}\n",
            name(5),
            name(4),
            name(3),
            name(2),
            name(1)
        );
        let commits = parse(&text).unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let expected = |number: u32, since: i64, until: Option<i64>| PastCommit::Commit {
            revision: Revision::from_text(name(number)),
            since: at(since),
            until: until.map(at),
        };
        let pick = |second: i64| pick(&commits, at(second)).unwrap();
        assert_eq!(pick(9), PastCommit::None { begins: at(10) });
        assert_eq!(pick(10), expected(4, 10, Some(20)));
        assert_eq!(pick(29), expected(1, 20, Some(30)));
        assert_eq!(pick(30), expected(3, 30, Some(40)));
        assert_eq!(pick(99), expected(5, 40, None));
        assert_eq!(super::pick(&[], at(1)), None);
        for wrong in ["x", "1", "x y\n", "1 abc\n", "99999999999999999 1\n"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
