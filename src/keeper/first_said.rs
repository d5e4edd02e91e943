//! What each URL was first said to give, by a repository's own history: seeded into the ledger, and
//! held against what is pinned later.

use super::admit::public_url;
use super::{AdmitError, Keeper};
use crate::clock::Clock;
use crate::digest::Digests;
use crate::ledger::entry::{Entry, History};
use crate::opam::syntax::OpamFile;
use crate::opam::{Checksum, Package, archive_sources};
use crate::store::catalog::{FirstDeclared, IndexError};
use crate::store::{AppendError, Appended, Store};
use std::collections::BTreeMap;
use std::io;
use thiserror::Error;

/// The first declaration of every URL of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstSaid {
    by_url: BTreeMap<String, FirstDeclared>,
}

/// Why a history can't be seeded.
#[derive(Debug, Error)]
pub enum SeedError {
    /// What is to be seeded was not written by this program.
    #[error("line {0} of what the history first said can't be read")]
    Malformed(usize),
    /// It can't be kept.
    #[error("it can't be kept: {0}")]
    Keep(#[from] io::Error),
    /// It can't be written to the ledger.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The catalog can't take it in.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It can't be read back.
    #[error(transparent)]
    Blob(#[from] AdmitError),
}

impl FirstSaid {
    /// Longest text that is read, in bytes.
    pub const MAX_SIZE: u64 = 64 << 20;

    /// Takes in what a version says as it is published: its opam file, and the `url` file beside
    /// it, as opam before 2.0 had it. What was said of a URL before stands.
    ///
    /// A file that can't be read says nothing.
    pub fn add(&mut self, package: &Package, commit: &str, opam: &[u8], url: Option<&[u8]>) {
        let url = url.map(|url| [b"\nurl {\n", url, b"\n}\n"].concat()).unwrap_or_default();
        let Ok(file) = OpamFile::parse(&[opam, &url].concat()) else { return };
        for source in archive_sources(&file).unwrap_or_default() {
            let checksums = source.checksums.as_slice();
            let urls = source.urls.iter().filter_map(|url| public_url(url));
            for url in urls.filter(|_| !checksums.is_empty()) {
                let first = || FirstDeclared {
                    checksums: checksums.to_vec(),
                    package: package.to_string(),
                    commit: commit.to_owned(),
                };
                self.by_url.entry(url).or_insert_with(first);
            }
        }
    }

    /// How many URLs there are.
    pub fn len(&self) -> usize {
        self.by_url.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_url.is_empty()
    }

    /// One line a URL, sorted: the URL, its checksums with commas between them, the package and
    /// the commit, with blanks between them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let line = |(url, first): (&String, &FirstDeclared)| {
            let FirstDeclared { checksums, package, commit } = first;
            let checksums: Vec<String> = checksums.iter().map(Checksum::to_string).collect();
            format!("{url} {} {package} {commit}\n", checksums.join(","))
        };
        self.by_url.iter().map(line).collect::<String>().into_bytes()
    }

    /// Reads what [`FirstSaid::to_bytes`] writes.
    ///
    /// # Errors
    /// The number of the first line that is anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, SeedError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SeedError::Malformed(1))?;
        let mut by_url = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let malformed = || SeedError::Malformed(number);
            let words: Vec<&str> = line.split(' ').collect();
            let [url, checksums, package, commit] = words[..] else { return Err(malformed()) };
            let checksums: Result<_, _> = checksums.split(',').map(str::parse).collect();
            let package: Package = package.parse().map_err(|_| malformed())?;
            let first = FirstDeclared {
                checksums: checksums.map_err(|_| malformed())?,
                package: package.to_string(),
                commit: commit.to_owned(),
            };
            if line.len() > MAX_LINE || by_url.insert(url.to_owned(), first).is_some() {
                return Err(malformed());
            }
        }
        Ok(Self { by_url })
    }
}

/// Writes what a history first said to the ledger, unless that is what was written last; says at
/// which index it is.
///
/// # Errors
/// When it can't be read, kept or written.
pub async fn seed(
    store: &Store,
    clock: &Clock,
    repository: String,
    commit: String,
    text: Vec<u8>,
) -> Result<u64, SeedError> {
    let (copy, of, name) = (store.clone(), repository.clone(), repository.clone());
    let (list, urls, last) = blocking(move || {
        let first = FirstSaid::parse(&text)?;
        let list = copy.blobs().put(&text)?;
        let last = copy.lookup(|catalog| catalog.history(&of))?;
        Ok((list, first.len() as u64, last))
    })
    .await?;
    if let Some((_, index)) = last.filter(|(last, _)| *last == list) {
        return Ok(index);
    }
    let history = History { at: clock.now(), repository, revision: commit, list, urls };
    let appended = store.append(Entry::History(history)).await?;
    let store = store.clone();
    blocking(move || take_in(&store, &name)).await?;
    Ok(match appended {
        Appended::New(index) | Appended::Known(index) => index,
        Appended::PinnedOtherwise(kept) => kept.entry,
    })
}

/// Makes the catalog know what a repository's history first said, if there is any and it doesn't.
///
/// # Errors
/// When what was seeded can't be read back.
fn take_in(store: &Store, repository: &str) -> Result<(), SeedError> {
    let history = store.lookup(|catalog| catalog.history(repository))?;
    let Some((list, _)) = history else { return Ok(()) };
    if store.lookup(|catalog| catalog.first_declared_state(repository))? == Some(list) {
        return Ok(());
    }
    let text = store.blobs().read(&list, FirstSaid::MAX_SIZE).map_err(AdmitError::from)?;
    let first = FirstSaid::parse(&text)?;
    Ok(store.lookup(|catalog| catalog.declare_first(repository, list, &first.by_url))?)
}

impl Keeper {
    /// What a repository's history first said of a URL, where that is not what these bytes are.
    pub(super) async fn contradicted(
        &self,
        repository: &str,
        urls: Vec<String>,
        digests: Digests,
    ) -> Option<FirstDeclared> {
        let (store, repository) = (self.store.clone(), repository.to_owned());
        let found = blocking(move || {
            take_in(&store, &repository)?;
            for url in urls {
                let first = store.lookup(|catalog| catalog.first_declared(&repository, &url))?;
                let wrong = |first: &FirstDeclared| {
                    first.checksums.iter().any(|checksum| !checksum.matches(&digests))
                };
                if let Some(first) = first.filter(wrong) {
                    return Ok(Some(first));
                }
            }
            Ok(None)
        });
        found.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what the history first said is not known");
            None
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SeedError> + Send + 'static,
) -> Result<T, SeedError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(SeedError::Keep(io::Error::other(error))))
}

/// Longest line that is taken, in bytes; the catalog's values stay small.
const MAX_LINE: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_first_stands_and_reads_back() {
        let opam = |sum: &str| {
            let sum = sum.repeat(16);
            format!("url {{ src: \"https://h.example/a\" checksum: \"md5={sum}\" }}").into_bytes()
        };
        let (one, two) = ("a.1".parse().unwrap(), "a.2".parse().unwrap());
        let mut first = FirstSaid::default();
        first.add(&one, "c1", &opam("ab"), None);
        first.add(&two, "c2", &opam("cd"), None);
        first.add(&two, "c2", b"opam-version: \"2.0\"", Some(b"src: \"https://h.example/b\""));
        let text = first.to_bytes();
        let expected = format!("https://h.example/a md5={} a.1 c1\n", "ab".repeat(16));
        assert_eq!(String::from_utf8_lossy(&text), expected);
        assert_eq!(FirstSaid::parse(&text).unwrap(), first);
        for wrong in ["x", "u md5=1 a.1 c", "u sha256= a.1 c"] {
            assert!(FirstSaid::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(FirstSaid::parse(&[&text[..], &text].concat()).is_err());
    }

    #[test]
    fn the_url_file_of_old_times_is_read() {
        let url = format!("archive: \"https://h.example/b\"\nchecksum: \"{}\"", "ab".repeat(16));
        let mut first = FirstSaid::default();
        first.add(&"a.1".parse().unwrap(), "c", b"opam-version: \"1\"", Some(url.as_bytes()));
        assert_eq!(first.len(), 1);
    }
}
