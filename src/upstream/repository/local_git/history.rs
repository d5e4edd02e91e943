//! The first-parent history of a commit, as `git log` prints it.

use super::{LocalGit, LocalGitError, MAX_TOKEN, ObjectName, Running};
use crate::upstream::repository::git_tree::is_object_name;
use jiff::Timestamp;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::ChildStdout;

/// One commit and what it did to the files, compared with its first parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub id: String,
    /// When it was committed.
    pub date: Timestamp,
    /// The files that it changed.
    pub changes: Vec<FileChange>,
}

/// What a commit did to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The path from the repository's root; not always UTF-8.
    pub path: Vec<u8>,
    /// Its content's object from then on; none if it is gone.
    pub object: Option<ObjectName>,
}

/// A first-parent history on its way in; git ends with it.
#[derive(Debug)]
pub struct History {
    git: LocalGit,
    running: Running,
    stdout: BufReader<ChildStdout>,
    /// The head of the commit that comes next, read already.
    next: Option<(String, Timestamp)>,
}

impl History {
    /// What a `git log` of this repository prints.
    pub(super) fn new(git: LocalGit, running: Running, stdout: ChildStdout) -> Self {
        Self { git, running, stdout: BufReader::new(stdout), next: None }
    }

    fn read(&mut self) -> Result<Option<Commit>, LocalGitError> {
        let mut head = self.next.take();
        let mut changes = Vec::new();
        loop {
            let Some(token) = self.token()? else {
                self.finish()?;
                return Ok(head.map(|(id, date)| Commit { id, date, changes }));
            };
            match token.trim_ascii_start().split_first() {
                None => {}
                Some((1, text)) => {
                    let new = head_of(text).ok_or_else(|| self.git.unreadable("log"))?;
                    match head.replace(new) {
                        None => {}
                        Some((id, date)) => {
                            self.next = head;
                            return Ok(Some(Commit { id, date, changes }));
                        }
                    }
                }
                Some((b':', meta)) => {
                    let object = object_of(meta).ok_or_else(|| self.git.unreadable("log"))?;
                    let path = self.token()?.ok_or_else(|| self.git.unreadable("log"))?;
                    changes.extend(object.map(|object| FileChange { path, object }));
                    if changes.len() > MAX_CHANGES {
                        return Err(self.git.unreadable("log"));
                    }
                }
                Some(_) => return Err(self.git.unreadable("log")),
            }
        }
    }

    /// What comes up to the next NUL.
    fn token(&mut self) -> Result<Option<Vec<u8>>, LocalGitError> {
        let mut token = Vec::new();
        let read = (&mut self.stdout).take(MAX_TOKEN).read_until(0, &mut token);
        read.map_err(|error| self.git.io("log", error))?;
        match token.pop() {
            None => Ok(None),
            Some(0) => Ok(Some(token)),
            // It ends early, or never.
            Some(_) => match self.finish() {
                Ok(()) => Err(self.git.unreadable("log")),
                Err(error) => Err(error),
            },
        }
    }

    fn finish(&mut self) -> Result<(), LocalGitError> {
        let mut complaints = Vec::new();
        if let Some(stderr) = self.running.0.stderr.take() {
            // Without a reason it failed all the same.
            let _ = stderr.take(MAX_TOKEN).read_to_end(&mut complaints);
        }
        match self.running.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(self.git.failed("log", &complaints)),
            Err(error) => Err(self.git.io("log", error)),
        }
    }
}

impl Iterator for History {
    type Item = Result<Commit, LocalGitError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn head_of(text: &[u8]) -> Option<(String, Timestamp)> {
    let (id, seconds) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let date = Timestamp::from_second(seconds.trim().parse().ok()?).ok()?;
    is_object_name(id).then(|| (id.to_owned(), date))
}

/// Reads `100644 100644 OBJECT OBJECT M`, without the colon: the object from then on, none of
/// which where the file is gone; nothing at all for submodules.
fn object_of(meta: &[u8]) -> Option<Option<Option<ObjectName>>> {
    let mut words = std::str::from_utf8(meta).ok()?.split(' ');
    let (_, mode, _, object) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(match mode {
        "160000" => None,
        "000000" => Some(None),
        _ => Some(Some(ObjectName::parse(object)?)),
    })
}

/// Most files that one commit changes; the whole of the largest known repository has 43,000.
const MAX_CHANGES: usize = 1_000_000;
