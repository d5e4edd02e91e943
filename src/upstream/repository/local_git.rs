//! A git repository on this machine: its revisions, its files and its first-parent history, read
//! with the git program. Nothing in it is changed and nothing is fetched.

use super::files::Collector;
use super::git_program::one_line;
use super::git_tree::{Listing, collect_blobs, is_object_name};
use super::{RawFile, RepositoryError};
use bytes::Bytes;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use thiserror::Error;

mod history;

use history::History;
pub use history::{Commit, FileChange};

/// A git repository on this machine, bare or with a work tree.
#[derive(Clone, Debug)]
pub struct LocalGit {
    directory: PathBuf,
}

/// The name of a git object: SHA-1 or SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName(Box<str>);

/// Why a git repository can't be read.
#[derive(Debug, Error)]
pub enum LocalGitError {
    /// There is no git program.
    #[error("the git program is missing: install git")]
    Missing,
    /// The git program could not be run or read from.
    #[error("git {step} in {}: {source}", .directory.display())]
    Io {
        /// The repository.
        directory: PathBuf,
        /// The git command.
        step: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The git program gave an error.
    #[error("{}: git {step} failed: {reason}", .directory.display())]
    Failed {
        /// The repository.
        directory: PathBuf,
        /// The git command.
        step: &'static str,
        /// What git said, on one line.
        reason: String,
    },
    /// There is no such revision.
    #[error(
        "{} has no revision {revision:?}: name a branch, a tag or a commit{}",
        .directory.display(),
        unshallow(*.is_shallow)
    )]
    NoSuchRevision {
        /// The repository.
        directory: PathBuf,
        /// What was asked for.
        revision: String,
        /// Whether older commits may be missing.
        is_shallow: bool,
    },
    /// Two commits have no ancestor in common.
    #[error(
        "{}: {one} and {other} have no commit in common{}",
        .directory.display(),
        unshallow(*.is_shallow)
    )]
    NothingInCommon {
        /// The repository.
        directory: PathBuf,
        /// The one commit.
        one: String,
        /// The other.
        other: String,
        /// Whether older commits may be missing.
        is_shallow: bool,
    },
    /// The git program printed what this program can't read.
    #[error("{}: git {step} printed something unexpected", .directory.display())]
    Unreadable {
        /// The repository.
        directory: PathBuf,
        /// The git command.
        step: &'static str,
    },
    /// An object is not there, as in a partial clone, or is no file.
    #[error("{}: {object} is no file that is there: use a clone with all objects", .directory.display())]
    NoSuchFile {
        /// The repository.
        directory: PathBuf,
        /// The object.
        object: String,
    },
    /// There is more than anyone honest has.
    #[error(transparent)]
    Files(#[from] RepositoryError),
}

/// What helps where older commits may be missing.
fn unshallow(is_shallow: bool) -> &'static str {
    if is_shallow { "; the clone is shallow: git fetch --unshallow gets what is older" } else { "" }
}

impl LocalGit {
    /// The repository in, or around, `directory`.
    ///
    /// # Errors
    /// There is none, or git refuses it.
    pub fn open(directory: &Path) -> Result<Self, LocalGitError> {
        let git = Self { directory: directory.to_owned() };
        git.run("rev-parse", &["--git-dir"])?;
        Ok(git)
    }

    /// The commit that a revision means.
    ///
    /// # Errors
    /// It means none.
    pub fn commit(&self, revision: &str) -> Result<String, LocalGitError> {
        let peeled = format!("{revision}^{{commit}}");
        let found = self.run("rev-parse", &["--verify", "--quiet", "--end-of-options", &peeled]);
        let found = found.ok().and_then(|output| String::from_utf8(output).ok());
        let found = found.map(|text| text.trim().to_owned()).filter(|text| is_object_name(text));
        found.ok_or_else(|| LocalGitError::NoSuchRevision {
            directory: self.directory.clone(),
            revision: revision.to_owned(),
            is_shallow: self.may_be_shallow(),
        })
    }

    /// The commit at which two commits parted.
    ///
    /// # Errors
    /// They have nothing in common.
    pub fn merge_base(&self, one: &str, other: &str) -> Result<String, LocalGitError> {
        match self.run("merge-base", &[one, other]) {
            Ok(found) => Ok(String::from_utf8_lossy(&found).trim().to_owned()),
            // It says nothing when there is none.
            Err(LocalGitError::Failed { reason, .. }) if reason.is_empty() => {
                Err(LocalGitError::NothingInCommon {
                    directory: self.directory.clone(),
                    one: one.to_owned(),
                    other: other.to_owned(),
                    is_shallow: self.may_be_shallow(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether commits are missing at the history's beginning.
    ///
    /// # Errors
    /// git fails.
    pub fn is_shallow(&self) -> Result<bool, LocalGitError> {
        Ok(self.run("rev-parse", &["--is-shallow-repository"])?.trim_ascii() == b"true")
    }

    fn may_be_shallow(&self) -> bool {
        self.is_shallow().unwrap_or(false)
    }

    /// How many commits a first-parent history has.
    ///
    /// # Errors
    /// git fails.
    pub fn count(&self, commit: &str) -> Result<u64, LocalGitError> {
        let count = self.run("rev-list", &["--count", "--first-parent", commit])?;
        let count = String::from_utf8_lossy(&count).trim().parse();
        count.map_err(|_| self.unreadable("rev-list"))
    }

    /// The package repository of a commit: its `repo` file and everything in `packages`.
    ///
    /// # Errors
    /// git fails, or there is more than anyone honest has.
    pub fn files(&self, commit: &str) -> Result<Vec<RawFile>, LocalGitError> {
        let place = self.directory.display().to_string();
        let mut listing = Listing::new(place.clone());
        let arguments = ["-r", "-t", "-z", "--full-tree", commit, "--", "repo", "packages"];
        self.read("ls-tree", &arguments, |piece| {
            listing.read(piece)?.map_err(|_| self.unreadable("ls-tree"))
        })?;
        let entries = listing.finish().map_err(|_| self.unreadable("ls-tree"))?;
        let names: String = entries.iter().map(|entry| format!("{}\n", entry.object)).collect();
        let mut collector = Collector::new(place);
        // Each file comes with its object's name, its kind and its size.
        let bound = collector.remaining_size() + names.len() as u64 * 2;
        let mut running = self.spawn("cat-file", &["--batch", "--buffer"])?;
        let (stdin, stdout) = (running.0.stdin.take(), running.0.stdout.take());
        let feed = std::thread::spawn(move || {
            // A child that stops reading says why on its other streams.
            stdin.map(|mut stdin| stdin.write_all(names.as_bytes()))
        });
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(bound).read_to_end(&mut output).map_err(|it| self.io("cat-file", it))?;
        }
        // What was not read is not wanted.
        drop(running);
        let _ = feed.join();
        let collected = collect_blobs(entries, output.into(), &mut collector)?;
        collected.map_err(|_| self.unreadable("cat-file"))?;
        Ok(collector.finish())
    }

    /// The first-parent history that ends with `commit`, the oldest first; a merge is what it
    /// brought into its first parent.
    ///
    /// # Errors
    /// git can't be run.
    pub fn history(&self, commit: &str) -> Result<History, LocalGitError> {
        let arguments = [
            "--first-parent",
            "--diff-merges=first-parent",
            "--reverse",
            "--raw",
            "-z",
            "--no-renames",
            "--no-abbrev",
            "--no-relative",
            "--no-show-signature",
            "--format=%x01%H %ct",
            commit,
            "--",
        ];
        let mut running = self.spawn("log", &arguments)?;
        let stdout = running.0.stdout.take().ok_or_else(|| self.unreadable("log"))?;
        Ok(History::new(self.clone(), running, stdout))
    }

    /// A way to read many objects, one after the other.
    ///
    /// # Errors
    /// git can't be run.
    pub fn objects(&self) -> Result<Objects, LocalGitError> {
        let mut running = self.spawn("cat-file", &["--batch"])?;
        match (running.0.stdin.take(), running.0.stdout.take().map(BufReader::new)) {
            (Some(stdin), Some(stdout)) => {
                Ok(Objects { git: self.clone(), _running: running, stdin, stdout })
            }
            _ => Err(self.unreadable("cat-file")),
        }
    }

    /// What a command prints that has little to say.
    fn run(&self, step: &'static str, arguments: &[&str]) -> Result<Vec<u8>, LocalGitError> {
        let mut output = Vec::new();
        self.read(step, arguments, |piece| {
            output.extend_from_slice(piece);
            let is_little = output.len() as u64 <= MAX_TOKEN;
            if is_little { Ok(()) } else { Err(self.unreadable(step)) }
        })?;
        Ok(output)
    }

    /// Hands out what a command prints as it comes; where `each` refuses it, git is stopped.
    fn read(
        &self,
        step: &'static str,
        arguments: &[&str],
        mut each: impl FnMut(&[u8]) -> Result<(), LocalGitError>,
    ) -> Result<(), LocalGitError> {
        let mut running = self.spawn(step, arguments)?;
        drop(running.0.stdin.take());
        let stderr = running.0.stderr.take();
        let complaints = std::thread::spawn(move || {
            let mut complaints = Vec::new();
            // Without a reason it failed all the same.
            let _ = stderr.map(|stderr| stderr.take(MAX_TOKEN).read_to_end(&mut complaints));
            complaints
        });
        let mut piece = vec![0; MAX_TOKEN as usize];
        while let Some(stdout) = running.0.stdout.as_mut() {
            match stdout.read(&mut piece).map_err(|error| self.io(step, error))? {
                0 => break,
                read => each(&piece[..read])?,
            }
        }
        let status = running.0.wait().map_err(|error| self.io(step, error))?;
        let complaints = complaints.join().unwrap_or_default();
        if status.success() { Ok(()) } else { Err(self.failed(step, &complaints)) }
    }

    fn spawn(&self, step: &'static str, arguments: &[&str]) -> Result<Running, LocalGitError> {
        let mut command = self.command(step, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Running).map_err(|error| self.not_run(step, error))
    }

    fn command(&self, step: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(["-c", "log.showRoot=true", "-c", "core.fsmonitor=false"])
            .arg("-C")
            .arg(&self.directory)
            .arg(step)
            .args(arguments)
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0");
        command
    }

    fn not_run(&self, step: &'static str, error: io::Error) -> LocalGitError {
        match error.kind() {
            io::ErrorKind::NotFound => LocalGitError::Missing,
            _ => self.io(step, error),
        }
    }

    fn io(&self, step: &'static str, source: io::Error) -> LocalGitError {
        LocalGitError::Io { directory: self.directory.clone(), step, source }
    }

    fn failed(&self, step: &'static str, complaints: &[u8]) -> LocalGitError {
        let reason = one_line(complaints);
        LocalGitError::Failed { directory: self.directory.clone(), step, reason }
    }

    fn unreadable(&self, step: &'static str) -> LocalGitError {
        LocalGitError::Unreadable { directory: self.directory.clone(), step }
    }
}

impl ObjectName {
    fn parse(text: &str) -> Option<Self> {
        is_object_name(text).then(|| Self(text.into()))
    }

    /// The name in hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads objects on demand; git ends with it.
#[derive(Debug)]
pub struct Objects {
    git: LocalGit,
    _running: Running,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Objects {
    /// A file's content.
    ///
    /// # Errors
    /// The object is not there, no file, or larger than anyone honest has.
    pub fn read(&mut self, object: &ObjectName) -> Result<Bytes, LocalGitError> {
        let name = object.as_str();
        let asked = self.stdin.write_all(format!("{name}\n").as_bytes());
        asked.map_err(|error| self.git.io("cat-file", error))?;
        let mut head = String::new();
        let read = (&mut self.stdout).take(MAX_TOKEN).read_line(&mut head);
        read.map_err(|error| self.git.io("cat-file", error))?;
        let size = head.trim_end().strip_prefix(name).and_then(|it| it.strip_prefix(" blob "));
        let size = size.and_then(|size| size.parse::<usize>().ok());
        let Some(size) = size.filter(|size| *size <= MAX_FILE) else {
            let directory = self.git.directory.clone();
            return Err(LocalGitError::NoSuchFile { directory, object: name.to_owned() });
        };
        let mut content = vec![0; size + 1];
        let read = self.stdout.read_exact(&mut content);
        read.map_err(|error| self.git.io("cat-file", error))?;
        content.truncate(size);
        Ok(content.into())
    }
}

/// git at work, which ends with this.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Longest path or line, in bytes.
const MAX_TOKEN: u64 = 64 << 10;
/// Largest file that is read.
const MAX_FILE: usize = 64 << 20;
