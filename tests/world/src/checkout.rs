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

    /// Runs git in it.
    pub fn git(&self, arguments: &[&str]) -> Run {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=world", "-c", "user.email=world@example.org"]);
        git.args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]);
        git.args(arguments).current_dir(&self.directory);
        run(&mut git, Duration::from_secs(60))
    }
}
