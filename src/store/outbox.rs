//! What waits to be told to one sink, on disk: one small file for each alert, and one that says
//! how far the ledger was looked through.
//!
//! This is no part of the ledger's truth, and no derived thing either: without it, sinks begin at
//! the ledger's present end.

use super::durable;
use super::layout::Layout;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The queue of one sink; cheap to clone.
///
/// Its owner is the one task that delivers to the sink. Others may add notices, each under a name
/// of its own, and read.
#[derive(Clone, Debug)]
pub struct Outbox {
    directory: PathBuf,
}

/// An alert that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What it is about.
    pub subject: Subject,
    /// The same in one line.
    pub title: String,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// When it will be tried again; at once without a time.
    #[serde(default)]
    pub next_at: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default)]
    pub problem: Option<String>,
}

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// An entry of the ledger, which says it all.
    Entry(u64),
    /// Something that is in no ledger: the alert itself, and the name that makes it this one.
    Notice(String, Value),
}

/// How a sink stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// The ledger's public key, as [`SinkState::cursor`] means nothing in another ledger.
    pub ledger: String,
    /// Every entry before this index was queued where it is told of at all.
    pub cursor: u64,
    /// How many attempts failed since one last succeeded.
    #[serde(default)]
    pub failures: u32,
    /// The sink is left alone until then.
    #[serde(default)]
    pub quiet_until: Option<Timestamp>,
    /// How many alerts the sink acknowledged.
    #[serde(default)]
    pub delivered: u64,
    /// How many alerts were given up because the sink refused them for days.
    #[serde(default)]
    pub given_up: u64,
    /// Why the last attempt failed, if it did.
    #[serde(default)]
    pub problem: Option<String>,
}

impl Waiting {
    /// An alert that nobody tried to deliver yet.
    pub fn new(subject: Subject, title: String, queued_at: Timestamp) -> Self {
        Self { subject, title, queued_at, attempts: 0, next_at: None, problem: None }
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        match &self.subject {
            // Zeroes in front, so that names sort as the ledger does.
            Subject::Entry(index) => format!("{ENTRY}{index:020}"),
            Subject::Notice(name, _) => format!("{NOTICE}{name}"),
        }
    }
}

impl Outbox {
    /// The queue of the sink `name`, which can be a file's name.
    pub fn at(layout: &Layout, name: &str) -> Self {
        Self { directory: layout.sinks().join(name) }
    }

    /// Makes the queue's directory and removes what a crash left in it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(&self) -> io::Result<()> {
        durable::create_directory(&self.directory)?;
        durable::remove_leftovers(&self.directory)
    }

    /// How the sink stands; `None` before it was ever queued for.
    ///
    /// # Errors
    /// When the file can't be read, or is damaged.
    pub fn state(&self) -> io::Result<Option<SinkState>> {
        read(&self.directory.join(STATE))
    }

    /// Notes how the sink stands; on disk when this returns.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn set_state(&self, state: &SinkState) -> io::Result<()> {
        write(&self.directory.join(STATE), state)
    }

    /// Queues an alert, or notes what became of an attempt; on disk when this returns.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn put(&self, waiting: &Waiting) -> io::Result<()> {
        write(&self.directory.join(waiting.file_name()), waiting)
    }

    /// Forgets the alert of this file name for good; on disk when this returns.
    ///
    /// # Errors
    /// Whatever the file system says; that it is not there is no error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        remove(&self.directory.join(name))
    }

    /// How many alerts wait.
    ///
    /// # Errors
    /// When the directory can't be listed; that it is not there is no error.
    pub fn count(&self) -> io::Result<usize> {
        Ok(names(&self.directory)?.iter().filter(|name| is_alert(name)).count())
    }

    /// Everything that waits, in the order of names; files that can't be read are left out, but
    /// those whose name says which entry they are about.
    ///
    /// # Errors
    /// When the directory can't be listed; that it is not there is no error.
    pub fn waiting(&self) -> io::Result<Vec<Waiting>> {
        let mut found = Vec::new();
        for name in names(&self.directory)? {
            if !is_alert(&name) || found.len() >= MAX_LISTED {
                continue;
            }
            match read(&self.directory.join(&name)) {
                Ok(waiting) => found.extend(waiting),
                Err(error) => {
                    let index = name.strip_prefix(ENTRY).and_then(|index| index.parse().ok());
                    tracing::error!(%error, name, "a queued alert can't be read");
                    let again = |index: u64| {
                        let title = format!("ledger entry {index}");
                        Waiting::new(Subject::Entry(index), title, Timestamp::now())
                    };
                    found.extend(index.map(again));
                }
            }
        }
        Ok(found)
    }
}

fn is_alert(name: &str) -> bool {
    name.starts_with(ENTRY) || name.starts_with(NOTICE)
}

/// The names of all files in `directory`, sorted; none when it is not there.
///
/// # Errors
/// Whatever the file system says.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // What another name than text has was not put there by opam-keep.
        names.extend(name.into_string().ok().filter(|name| !durable::is_temporary(name.as_ref())));
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a small JSON file; `None` when it is not there.
///
/// # Errors
/// When it can't be read, or holds something else.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match super::regular::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    })
}

/// Writes a small JSON file; on disk when this returns.
///
/// # Errors
/// Whatever the file system says.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    durable::write(path, &serde_json::to_vec(value)?, 0o600)
}

/// Removes a file for good.
///
/// # Errors
/// Whatever the file system says; that it is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match durable::remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    path.parent().map_or(Ok(()), durable::sync_directory)
}

const ENTRY: &str = "entry-";
const NOTICE: &str = "notice-";
const STATE: &str = "state";
/// Longest file, in bytes.
const MAX_FILE: u64 = 256 << 10;
/// Most files that are read; a sink's queue is kept well below.
const MAX_LISTED: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_there_again_after_a_start_and_gone_once_removed() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::at(&Layout::new(directory.path()), "sink");
        assert_eq!((outbox.waiting().unwrap(), outbox.state().unwrap()), (Vec::new(), None));
        outbox.create().unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let tenth = Waiting::new(Subject::Entry(10), "ten".to_owned(), at);
        let ninth =
            Waiting { attempts: 2, ..Waiting::new(Subject::Entry(9), "nine".to_owned(), at) };
        let notice = Subject::Notice("n".to_owned(), Value::from(1));
        let notice = Waiting::new(notice, "n".to_owned(), at);
        for waiting in [&tenth, &notice, &ninth] {
            outbox.put(waiting).unwrap();
        }
        let state = SinkState { cursor: 11, ..SinkState::default() };
        outbox.set_state(&state).unwrap();
        assert_eq!(outbox.waiting().unwrap(), [ninth.clone(), tenth.clone(), notice]);
        assert_eq!(outbox.count().unwrap(), 3);
        outbox.remove(&ninth.file_name()).unwrap();
        outbox.remove(&ninth.file_name()).unwrap();
        assert_eq!(outbox.waiting().unwrap()[0], tenth);
        assert_eq!(outbox.state().unwrap(), Some(state));
    }

    #[test]
    fn g4_a_damaged_file_loses_no_entry() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let outbox = Outbox::at(&layout, "sink");
        outbox.create().unwrap();
        let waiting = Waiting::new(Subject::Entry(7), "seven".to_owned(), Timestamp::UNIX_EPOCH);
        outbox.put(&waiting).unwrap();
        std::fs::write(layout.sinks().join("sink").join(waiting.file_name()), b"{").unwrap();
        assert_eq!(outbox.waiting().unwrap()[0].subject, Subject::Entry(7));
    }
}
