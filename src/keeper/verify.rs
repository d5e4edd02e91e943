//! Checks the store against itself: every signature, tile, entry and blob, without trusting the
//! catalog and without the lock, so that it also runs beside a server.

use super::file_list::FileList;
use crate::digest::Sha256;
use crate::ledger::edge::Edge;
use crate::ledger::entry::{Entry, Strength};
use crate::ledger::note::Verifier;
use crate::ledger::tile::{Level, TilePath};
use crate::store::blobs::{self, BlobError, Blobs};
use crate::store::layout::Layout;
use crate::store::log::{LogError, LogReader};
use crate::store::medium::{Directory, HEAD, LedgerMedium, has_lost_its_head};
use crate::store::owner;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(test)]
mod tests;

/// What was checked, and everything that is wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many ledger entries were checked.
    pub entries: u64,
    /// How many blobs were hashed.
    pub blobs: u64,
    /// How many bytes that was.
    pub bytes: u64,
    /// What is wrong; empty when all is well.
    pub problems: Vec<Problem>,
    /// The blobs that are missing, or hold other bytes than their name says.
    #[serde(skip)]
    pub damaged: Vec<Sha256>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file or entry.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
}

/// How far a check has come.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many blobs are to be hashed.
    Blobs(u64),
    /// One blob of so many bytes was hashed.
    Blob(u64),
}

/// Checks the store at `layout`; `tell` hears how it goes.
pub fn verify(layout: &Layout, tell: &(dyn Fn(Step) + Sync)) -> Report {
    let mut report = Report::default();
    let mut wanted = Wanted::default();
    if has_lost_its_head(&layout.ledger()) {
        report.problem("ledger/checkpoint", "missing, although there are entries");
    }
    match any_reader(layout) {
        Ok(reader) => verify_ledger(&reader, &mut report, &mut wanted),
        Err(problem) => report.problem("keys/ledger.pub", problem),
    }
    let blobs = Blobs::at(layout.clone());
    verify_lists(&blobs, &mut report, &mut wanted);
    verify_blobs(layout, &blobs, &wanted, &mut report, tell);
    report.problems.sort();
    report.problems.dedup();
    report
}

/// Reads the ledger of a store that this process need not own.
///
/// # Errors
/// One sentence, when there is no ledger or its public key can't be read.
pub fn reader(layout: &Layout) -> Result<LogReader, String> {
    if has_lost_its_head(&layout.ledger()) {
        let checkpoint = layout.ledger().join(HEAD);
        return Err(format!(
            "{} is missing, although there are entries: restore it from a backup",
            checkpoint.display()
        ));
    }
    any_reader(layout)
}

/// The same, whether or not the ledger has its checkpoint.
fn any_reader(layout: &Layout) -> Result<LogReader, String> {
    let path = layout.ledger_public_key();
    let vkey = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if layout.ledger().exists() => {
            format!("{} is missing: restore it from a backup", path.display())
        }
        std::io::ErrorKind::NotFound => format!(
            "{} holds no opam-keep store: start one with opam-keep serve, or name another with \
             --store or store.path",
            layout.root().display()
        ),
        _ => format!("{}: {error}{}", path.display(), owner::advice(&error, layout)),
    })?;
    let verifier: Verifier =
        vkey.trim().parse().map_err(|error| format!("{}: {error}", path.display()))?;
    let medium: Arc<dyn LedgerMedium> = Arc::new(Directory::at(&layout.ledger()));
    Ok(LogReader::new(medium, verifier))
}

impl Report {
    fn problem(&mut self, subject: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(Problem { subject: subject.into(), problem: problem.into() });
    }
}

/// The blobs that entries name, each with the entry and, for pins, the size.
#[derive(Default)]
struct Wanted {
    blobs: BTreeMap<Sha256, (String, Option<u64>)>,
    lists: Vec<(u64, Sha256)>,
}

impl Wanted {
    fn blob(&mut self, name: Sha256, index: u64, size: Option<u64>) {
        let by = self.blobs.entry(name).or_insert_with(|| (format!("entry {index}"), size));
        by.1 = by.1.or(size);
    }
}

/// Builds the tree again from its entries and holds every tile against it.
fn verify_ledger(reader: &LogReader, report: &mut Report, wanted: &mut Wanted) {
    let checkpoint = match reader.checkpoint() {
        Ok(Some((checkpoint, _))) => checkpoint,
        Ok(None) => return,
        Err(error) => return report.log_problem(&error),
    };
    let mut edge = Edge::default();
    let mut pins = HashMap::new();
    let mut batch = Vec::new();
    for leaf in reader.leaves_as_they_are(0, checkpoint.size) {
        let (index, leaf) = match leaf {
            Ok(leaf) => leaf,
            Err(error) => return report.log_problem(&error),
        };
        match Entry::from_leaf(&leaf) {
            Ok(entry) => note(&entry, index, &mut pins, report, wanted),
            Err(error) => report.problem(format!("ledger entry {index}"), error.to_string()),
        }
        report.entries += 1;
        batch.push(leaf);
        if (index + 1) % 256 == 0 || index + 1 == checkpoint.size {
            match edge.grow(&batch) {
                Ok(growth) => {
                    for (path, bytes) in growth.tiles {
                        verify_tile(reader, &path, &bytes, checkpoint.size, report);
                    }
                    edge = growth.edge;
                }
                Err(error) => report.problem(format!("ledger entry {index}"), error.to_string()),
            }
            batch.clear();
        }
    }
    let is_of_entries = |it: &Problem| it.subject.starts_with("ledger/tile/entries/");
    if edge.root() != checkpoint.root && !report.problems.iter().any(is_of_entries) {
        report.problem(
            "ledger/checkpoint",
            format!("the {} entries do not add up to its root hash", checkpoint.size),
        );
    }
}

impl Report {
    fn log_problem(&mut self, error: &LogError) {
        match error {
            LogError::Io { path, source } => {
                self.problem(format!("ledger/{path}"), source.to_string())
            }
            LogError::Missing(path) => self.problem(format!("ledger/{path}"), "missing"),
            LogError::Damaged { path, problem } => self.problem(format!("ledger/{path}"), problem),
            other => self.problem("ledger", other.to_string()),
        }
    }
}

fn verify_tile(
    reader: &LogReader,
    path: &TilePath,
    expected: &[u8],
    size: u64,
    report: &mut Report,
) {
    // A partial tile on the way to a wider one need not be there any more.
    if !path.is_full() && path.wider(size).as_ref() != Some(path) {
        return;
    }
    match reader.tile_as_it_is(path) {
        Ok(Some(found)) if found == expected => {}
        // Which of the two is wrong, the head knows.
        Ok(Some(_)) => match reader.tile(&bundle_under(path)) {
            Err(error) if path.level() == Level::Hashes(0) => report.log_problem(&error),
            _ => {
                report.problem(format!("ledger/{path}"), "does not hold the hashes of its entries")
            }
        },
        Ok(None) => report.problem(format!("ledger/{path}"), "missing"),
        Err(error) => report.log_problem(&error),
    }
}

/// The entries of which a tile of the lowest level has the hashes.
fn bundle_under(path: &TilePath) -> TilePath {
    TilePath::new(Level::Entries, path.index(), path.width())
}

fn note(
    entry: &Entry,
    index: u64,
    pins: &mut HashMap<String, (u64, Sha256)>,
    report: &mut Report,
    wanted: &mut Wanted,
) {
    match entry {
        Entry::Pin(pin) => {
            wanted.blob(pin.sha256, index, Some(pin.size));
            let (first, sha256) = pins.entry(pin.url.clone()).or_insert((index, pin.sha256));
            if *sha256 != pin.sha256 && pin.strength != Strength::Strong {
                report.problem(
                    format!("ledger entry {index}"),
                    format!("pins {} to other bytes than entry {first}, and no strong checksum vouches for them", pin.url),
                );
            }
        }
        Entry::Snapshot(snapshot) => {
            wanted.lists.push((index, snapshot.files));
            if snapshot.admitted != snapshot.files {
                wanted.lists.push((index, snapshot.admitted));
            }
            let others = [snapshot.strengthened, snapshot.departed];
            wanted.lists.extend(others.into_iter().flatten().map(|list| (index, list)));
            if let Some(name) = snapshot.index {
                wanted.blob(name, index, None);
            }
        }
        Entry::Divergence(divergence) => {
            if let Some(name) = divergence.evidence {
                wanted.blob(name, index, None);
            }
        }
        Entry::History(history) => wanted.blob(history.list, index, None),
        Entry::Key(_)
        | Entry::Decision(_)
        | Entry::Import(_)
        | Entry::Recheck(_)
        | Entry::Other(_) => {}
    }
}

/// Notes the blobs that snapshots' lists of files name.
fn verify_lists(blobs: &Blobs, report: &mut Report, wanted: &mut Wanted) {
    for (index, name) in std::mem::take(&mut wanted.lists) {
        wanted.blob(name, index, None);
        let list = blobs.read(&name, FileList::MAX_SIZE).map(|bytes| FileList::parse(&bytes));
        match list {
            Ok(Ok(list)) => list.0.values().for_each(|name| wanted.blob(*name, index, None)),
            Ok(Err(error)) => report.problem(format!("blob {name}"), error.to_string()),
            // Told below, with all other blobs.
            Err(_) => {}
        }
    }
}

/// Hashes every blob that is wanted or there, on all cores.
fn verify_blobs(
    layout: &Layout,
    blobs: &Blobs,
    wanted: &Wanted,
    report: &mut Report,
    tell: &(dyn Fn(Step) + Sync),
) {
    let mut names: Vec<Sha256> = wanted.blobs.keys().copied().collect();
    names.extend(
        present(layout, report).into_iter().filter(|name| !wanted.blobs.contains_key(name)),
    );
    tell(Step::Blobs(names.len() as u64));
    let next = AtomicUsize::new(0);
    let shared = Mutex::new(&mut *report);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = check_blob(blobs, name, wanted.blobs.get(name));
                    let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    report.blobs += 1;
                    match checked {
                        Ok(size) => {
                            report.bytes += size;
                            drop(report);
                            tell(Step::Blob(size));
                        }
                        Err(problem) => {
                            let path = layout.blob(name);
                            let path = path.strip_prefix(layout.root()).unwrap_or(&path);
                            report.problem(path.display().to_string(), problem);
                            report.damaged.push(*name);
                        }
                    }
                }
            });
        }
    });
}

fn check_blob(
    blobs: &Blobs,
    name: &Sha256,
    wanted: Option<&(String, Option<u64>)>,
) -> Result<u64, String> {
    let by = wanted.map_or("no entry", |(by, _)| by);
    let size = match blobs.sha256(name) {
        Ok((found, size)) if found == *name => size,
        Ok((found, _)) => return Err(format!("its bytes hash to {found}; named by {by}")),
        Err(BlobError::Missing(_)) => return Err(format!("missing; named by {by}")),
        Err(error) => return Err(error.to_string()),
    };
    match wanted {
        Some((_, Some(expected))) if *expected != size => {
            Err(format!("is {size} bytes long and pinned as {expected} by {by}"))
        }
        _ => Ok(size),
    }
}

/// The names of all blobs that are there.
fn present(layout: &Layout, report: &mut Report) -> Vec<Sha256> {
    let mut names = Vec::new();
    for path in blobs::files(layout) {
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        match name {
            Some(name) if layout.blob(&name) == path => names.push(name),
            _ => report.problem(path.display().to_string(), "is no blob; nothing put it there"),
        }
    }
    names
}
