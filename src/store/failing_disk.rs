//! A disk that fails at a step of a test's choosing: the step does not happen, or it happens and is
//! called failed, or the power goes, and with it what was not durable.

use super::durable::Step;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod parts;
mod tests;

/// What happens at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and has no effect.
    NotDone,
    /// It fails and has its effect all the same.
    Done,
    /// The same, and later the power goes, and takes what was not durable.
    DoneAndLost,
    /// The power goes before it; of what was not durable by then, this is lost.
    PowerLoss(Lost),
}

/// What a power loss takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Everything that was not durable.
    All,
    /// Every other name.
    Some,
    /// Nothing, as when the process alone is killed.
    Nothing,
}

/// Fails the steps below one directory until it is dropped.
pub(super) struct FailingDisk {
    root: PathBuf,
}

struct Disk {
    root: PathBuf,
    fault: Fault,
    at: usize,
    steps: usize,
    has_power: bool,
    /// Files whose bytes are not durable.
    dirty: HashSet<PathBuf>,
    /// Names that are not durable, in their order, with what the name stood for before.
    named: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Files whose names are durable and whose bytes are not.
    hollow: HashSet<PathBuf>,
    /// Directories whose names are not durable.
    created: Vec<PathBuf>,
}

static DISKS: Mutex<Vec<Disk>> = Mutex::new(Vec::new());

impl FailingDisk {
    /// Fails step number `at`, counted from 1, of those that follow below `root`.
    pub(super) fn new(root: &Path, at: usize, fault: Fault) -> Self {
        disks().push(Disk {
            root: root.to_owned(),
            fault,
            at,
            steps: 0,
            has_power: true,
            dirty: HashSet::new(),
            named: Vec::new(),
            hollow: HashSet::new(),
            created: Vec::new(),
        });
        Self { root: root.to_owned() }
    }

    /// Whether the step came.
    pub(super) fn has_failed(&self) -> bool {
        disks().iter().any(|disk| disk.root == self.root && disk.steps >= disk.at)
    }

    /// Makes the disk well again; what a power loss takes is gone then.
    pub(super) fn mend(self) {
        let Some(disk) = take(&self.root) else { return };
        match disk.fault {
            Fault::NotDone | Fault::Done => {}
            Fault::DoneAndLost => disk.lose(Lost::All),
            Fault::PowerLoss(lost) => disk.lose(lost),
        }
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        take(&self.root);
    }
}

/// Does a step, unless this is the one that fails.
pub(super) fn step<T>(step: Step<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut disks = disks();
    let below = |disk: &&mut Disk| path_of(step).starts_with(&disk.root);
    let Some(disk) = disks.iter_mut().find(below) else {
        drop(disks);
        return work();
    };
    disk.steps += 1;
    let failed = || Err(io::Error::other(format!("{step:?} was made to fail")));
    match disk.fault {
        _ if !disk.has_power => failed(),
        Fault::NotDone if disk.steps == disk.at => failed(),
        Fault::PowerLoss(_) if disk.steps == disk.at => {
            disk.has_power = false;
            failed()
        }
        fault => {
            let before = disk.before(step);
            let done = work()?;
            disk.note(step, before);
            let fails = matches!(fault, Fault::Done | Fault::DoneAndLost);
            if fails && disk.steps == disk.at { failed() } else { Ok(done) }
        }
    }
}

impl Disk {
    /// What a name stands for.
    fn before(&self, step: Step<'_>) -> Option<Vec<u8>> {
        match step {
            Step::Name(_, path) | Step::Remove(path) => fs::read(path).ok(),
            _ => None,
        }
    }

    fn note(&mut self, step: Step<'_>, before: Option<Vec<u8>>) {
        match step {
            Step::Write(path) => drop(self.dirty.insert(path.to_owned())),
            Step::SyncFile(path) => drop(self.dirty.remove(path)),
            Step::Name(from, to) => {
                if self.dirty.remove(from) {
                    self.dirty.insert(to.to_owned());
                }
                self.named.push((to.to_owned(), before));
            }
            Step::Remove(path) => {
                self.dirty.remove(path);
                self.named.push((path.to_owned(), before));
            }
            Step::CreateDirectory(path) => self.created.push(path.to_owned()),
            Step::SyncDirectory(directory) => {
                let is_here = |path: &Path| path.parent() == Some(directory);
                let hollow = self.named.iter().map(|(path, _)| path).filter(|it| is_here(it));
                self.hollow.extend(hollow.filter(|it| self.dirty.contains(*it)).cloned());
                self.named.retain(|(path, _)| !is_here(path));
                self.created.retain(|path| !is_here(path));
            }
            Step::SyncFileSystem(_) => {
                self.dirty.clear();
                self.named.clear();
                self.hollow.clear();
                self.created.clear();
            }
        }
    }

    fn lose(self, lost: Lost) {
        if lost == Lost::Nothing {
            return;
        }
        if lost == Lost::All {
            self.created.iter().rev().for_each(|path| drop(fs::remove_dir_all(path)));
        }
        for (number, (path, before)) in self.named.into_iter().enumerate().rev() {
            if lost == Lost::Some && number % 2 == 0 {
                // A name that outlives bytes which were not durable is one of nothing.
                if self.dirty.contains(&path) {
                    refill(&path, b"");
                }
                continue;
            }
            match before {
                Some(bytes) => refill(&path, &bytes),
                None => drop(fs::remove_file(&path)),
            }
        }
        for path in self.hollow.iter().filter(|path| self.dirty.contains(*path)) {
            refill(path, b"");
        }
    }
}

/// Gives a name other bytes, and leaves those that it had to whatever else is called so; unless a
/// directory that was not lost has the name, or a file that of its directory.
fn refill(path: &Path, bytes: &[u8]) {
    let directory = path.parent().unwrap_or(path);
    if path.is_dir() || fs::create_dir_all(directory).is_err() {
        return;
    }
    drop(fs::remove_file(path));
    fs::write(path, bytes).unwrap();
}

fn path_of(step: Step<'_>) -> &Path {
    match step {
        Step::Write(path)
        | Step::SyncFile(path)
        | Step::Name(_, path)
        | Step::Remove(path)
        | Step::SyncDirectory(path)
        | Step::SyncFileSystem(path)
        | Step::CreateDirectory(path) => path,
    }
}

fn disks() -> MutexGuard<'static, Vec<Disk>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(root: &Path) -> Option<Disk> {
    let mut disks = disks();
    let place = disks.iter().position(|disk| disk.root == root)?;
    Some(disks.remove(place))
}
