//! A git work tree that tests commit to.

use crate::repo::Repo;
use crate::run::{Run, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A git repository with a work tree, whose branch is `main`.
#[derive(Clone, Debug)]
pub struct Checkout {
    directory: PathBuf,
}

impl Checkout {
    /// Makes one in `directory`, without any commit.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let checkout = Self { directory: directory.into() };
        std::fs::create_dir_all(&checkout.directory).expect("a directory can be made");
        checkout.git(&["init", "--quiet"]).ok();
        checkout
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same as text.
    pub fn path(&self) -> String {
        self.directory.display().to_string()
    }

    /// Writes a file, whose directories are made.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .and_then(|()| std::fs::write(path, bytes))
            .expect("a file can be written");
    }

    /// Removes a file or directory.
    pub fn remove(&self, path: &str) {
        self.git(&["rm", "-r", "--quiet", "--", path]).ok();
    }

    /// Writes the files of `repo` beside what is there, and commits them.
    pub fn publish(&self, repo: &Repo) -> String {
        repo.write(&self.directory);
        self.commit("Change packages")
    }

    /// Commits everything, and says the commit's name.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]).ok();
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]).ok();
        self.git(&["rev-parse", "HEAD"]).ok().trim().to_owned()
    }

    /// The same as [`Checkout::publish`] at a time of long ago, or whenever.
    pub fn publish_at(&self, repo: &Repo, time: &str) -> String {
        repo.write(&self.directory);
        self.commit_at("Change packages", time)
    }

    /// The same as [`Checkout::commit`] at a time.
    pub fn commit_at(&self, message: &str, time: &str) -> String {
        self.git(&["add", "--all"]).ok();
        let commit = ["commit", "--quiet", "--allow-empty", "--message", message];
        self.git_at(&commit, time).ok();
        self.git(&["rev-parse", "HEAD"]).ok().trim().to_owned()
    }

    /// Runs git in it, which takes this time for the present.
    pub fn git_at(&self, arguments: &[&str], time: &str) -> Run {
        let mut git = self.command(arguments);
        git.env("GIT_COMMITTER_DATE", time).env("GIT_AUTHOR_DATE", time);
        run(&mut git, Duration::from_secs(60))
    }

    /// Runs git in it.
    pub fn git(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments), Duration::from_secs(60))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=world", "-c", "user.email=world@example.org"]);
        git.args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]);
        git.args(arguments).current_dir(&self.directory);
        git
    }
}
