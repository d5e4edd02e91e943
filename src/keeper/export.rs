//! What goes into a bundle: ledger entries, the newest snapshots, and the archives that the entries
//! pin.
//!
//! It reads the ledger and the blobs as they are on disk, with or without a server, and changes
//! nothing. Blocking.

use super::AdmitError;
use super::file_list::{FileList, FileListError};
use super::selector::{self, Packages, Selected, SelectedArchive};
use crate::bundle::{BundleError, BundleWriter, Extent, Manifest, Member, MemberPath};
use crate::digest::Sha256;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::entry::{Entry, EntryError, Pin, Snapshot};
use crate::ledger::frontier::Frontier;
use crate::ledger::merkle::leaf_hash;
use crate::ledger::note::Signer;
use crate::ledger::tile::encode_bundle;
use crate::opam::Checksum;
use crate::store::blobs::{BlobError, Blobs};
use crate::store::log::{LogError, LogReader};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};
use thiserror::Error;

/// What is to be exported.
#[derive(Clone, Debug)]
pub struct Export {
    /// What the other side has already: the ledger's first entries.
    pub since: Since,
    /// Of this repository only.
    pub repository: Option<String>,
    /// The archives of these packages.
    pub packages: Packages,
}

/// What the other side has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// So many entries.
    Size(u64),
    /// The entries under a checkpoint that it was given.
    Checkpoint(Checkpoint),
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The entries: from this index.
    pub from: u64,
    /// Up to this one.
    pub size: u64,
    /// How many archives there are.
    pub archives: u64,
    /// What was named, and stands for no version that is served.
    pub unknown: Vec<String>,
}

/// What happens while a bundle is written.
pub enum Step {
    /// So many bytes of members will be written.
    Bytes(u64),
    /// So many more were.
    Written(u64),
}

/// Why nothing is exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The ledger is shorter than what the other side is said to have.
    #[error("the ledger has {size} entries, so there is nothing since entry {since}")]
    NotReached {
        /// What the other side is said to have.
        since: u64,
        /// What there is.
        size: u64,
    },
    /// The checkpoint is of another ledger, or this one was rewritten.
    #[error("the ledger never had this checkpoint: its first {0} entries have another root")]
    OtherLedger(u64),
    /// There is no ledger yet.
    #[error("the ledger has no entry yet")]
    Empty,
    /// Nothing was ever admitted, so there is nothing to export.
    #[error(
        "nothing is exported, because no repository has a snapshot yet: opam-keep refresh asks \
         upstream for one"
    )]
    NoSnapshot,
    /// Nothing of what was named is there.
    #[error("the repository has nothing of this: {0}")]
    NoneKnown(String),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry can't be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A blob is missing or damaged.
    #[error("{0}: opam-keep verify tells more")]
    Blob(#[from] BlobError),
    /// A snapshot's list can't be read.
    #[error(transparent)]
    List(#[from] FileListError),
    /// What is served can't be read.
    #[error(transparent)]
    Metadata(#[from] AdmitError),
    /// The bundle can't be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a bundle to `out`.
///
/// # Errors
/// Whatever keeps it from being whole; what was written by then is no bundle.
pub fn export(
    log: &LogReader,
    blobs: &Blobs,
    signer: &Signer,
    export: Export,
    out: impl Write,
    mut tell: impl FnMut(Step),
) -> Result<Exported, ExportError> {
    let (head, checkpoint) = log.checkpoint()?.ok_or(ExportError::Empty)?;
    let found = Found::read(log, &head, &export.since)?;
    if found.snapshots.is_empty() && found.before.is_empty() {
        return Err(ExportError::NoSnapshot);
    }
    let mut wanted: BTreeMap<Sha256, u64> = BTreeMap::new();
    let mut unknown = Vec::new();
    let pins = match export.packages {
        Packages::All => found.pins,
        packages @ Packages::Named(_) => {
            let snapshots = found.before.iter().chain(&found.snapshots);
            let current: BTreeMap<&String, &Snapshot> = snapshots.collect();
            let mut lists = Vec::new();
            for (name, snapshot) in current {
                if export.repository.as_ref().is_none_or(|only| only == name) {
                    lists.push((name.clone(), read_list(blobs, &snapshot.admitted)?));
                }
            }
            let selected = selector::select(blobs, lists, packages)?;
            unknown.clone_from(&selected.unknown);
            if selected.versions == 0 && !unknown.is_empty() {
                return Err(ExportError::NoneKnown(unknown.join(" ")));
            }
            let selected = Names::of(selected);
            found.pins.into_iter().filter(|pin| selected.has(pin)).collect()
        }
    };
    for pin in &pins {
        wanted.insert(pin.sha256, pin.size);
    }
    let archives = wanted.len() as u64;
    for snapshot in found.snapshots.values() {
        let before = found.before.get(&snapshot.repository);
        for name in metadata(blobs, snapshot, before)? {
            wanted.insert(name, blobs.size(&name)?);
        }
    }
    let extent = match archives == found.pinned {
        true => Extent::All,
        false => Extent::Selected,
    };
    let (from, size) = (found.from.size(), head.size);
    let mut members = entry_members(log, from, size)?;
    members.extend(wanted.iter().map(|(name, size)| Member {
        path: MemberPath::Blob(*name),
        sha256: *name,
        size: *size,
    }));
    tell(Step::Bytes(members.iter().map(|member| member.size).sum()));
    let manifest = Manifest {
        ledger: head.origin,
        from: found.from,
        size,
        root: head.root,
        list: Sha256::of(b""),
        extent,
    };
    let mut bundle = BundleWriter::begin(out, manifest, &checkpoint, members, signer)?;
    while let Some(Member { path, size: length, .. }) = bundle.next().copied() {
        match path {
            MemberPath::Entries(index) => {
                let bytes = entries(log, index, size)?;
                bundle.write(&mut &bytes[..])?;
            }
            MemberPath::Blob(name) => bundle.write(&mut blobs.open_to_hash(&name)?)?,
        }
        tell(Step::Written(length));
    }
    bundle.end()?;
    Ok(Exported { from, size, archives, unknown })
}

/// What the ledger says.
struct Found {
    /// The ledger as the other side has it.
    from: Frontier,
    /// The pins since then.
    pins: Vec<Pin>,
    /// How many different archives they pin.
    pinned: u64,
    /// The newest snapshot of each repository since then.
    snapshots: BTreeMap<String, Snapshot>,
    /// The newest one of each before.
    before: BTreeMap<String, Snapshot>,
}

impl Found {
    fn read(log: &LogReader, head: &Checkpoint, since: &Since) -> Result<Self, ExportError> {
        let from = match since {
            Since::Size(size) => *size,
            Since::Checkpoint(checkpoint) => checkpoint.size,
        };
        if from > head.size {
            return Err(ExportError::NotReached { since: from, size: head.size });
        }
        let mut found = Self {
            from: Frontier::default(),
            pins: Vec::new(),
            pinned: 0,
            snapshots: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        for leaf in log.leaves(0, head.size) {
            let (index, leaf) = leaf?;
            let is_new = index >= from;
            if !is_new {
                found.from.push(leaf_hash(&leaf));
            }
            match Entry::from_leaf(&leaf)? {
                Entry::Pin(pin) if is_new => found.pins.push(pin),
                // What was brought in from upstream's past is nobody's current state.
                Entry::Snapshot(snapshot) if snapshot.past.is_none() => {
                    let newest = if is_new { &mut found.snapshots } else { &mut found.before };
                    newest.insert(snapshot.repository.clone(), snapshot);
                }
                _ => {}
            }
        }
        if let Since::Checkpoint(checkpoint) = since
            && checkpoint.root != found.from.root()
        {
            return Err(ExportError::OtherLedger(from));
        }
        found.pinned = found.pins.iter().map(|pin| pin.sha256).collect::<HashSet<_>>().len() as u64;
        Ok(found)
    }
}

/// By what pins are known to be of selected archives.
struct Names {
    checksums: HashSet<Checksum>,
    /// Of archives without any checksum.
    urls: HashSet<String>,
}

impl Names {
    fn of(selected: Selected) -> Self {
        let mut names = Self { checksums: HashSet::new(), urls: HashSet::new() };
        for SelectedArchive { declared, .. } in selected.archives {
            for archive in declared {
                match archive.checksums.is_empty() {
                    true => names.urls.extend(archive.urls),
                    false => names.checksums.extend(archive.checksums),
                }
            }
        }
        names
    }

    fn has(&self, pin: &Pin) -> bool {
        let own =
            [Checksum::Md5(pin.md5), Checksum::Sha256(pin.sha256), Checksum::Sha512(pin.sha512)];
        own.iter().any(|checksum| self.checksums.contains(checksum))
            || std::iter::once(&pin.url).chain(&pin.src).any(|url| self.urls.contains(url))
    }
}

/// The blobs of a snapshot that one before it does not have.
fn metadata(
    blobs: &Blobs,
    snapshot: &Snapshot,
    before: Option<&Snapshot>,
) -> Result<BTreeSet<Sha256>, ExportError> {
    let all = |snapshot: &Snapshot| -> Result<BTreeSet<Sha256>, ExportError> {
        let mut names = BTreeSet::new();
        for list in lists_of(snapshot) {
            names.insert(list);
            names.extend(read_list(blobs, &list)?.0.into_values());
        }
        names.extend(snapshot.index);
        Ok(names)
    };
    let mut names = all(snapshot)?;
    if let Some(before) = before {
        let had = all(before)?;
        names.retain(|name| !had.contains(name));
        // The lists say what there is, so they are always there.
        names.extend(lists_of(snapshot));
    }
    Ok(names)
}

/// The lists of files that a bundle with a snapshot has.
pub(super) fn lists_of(snapshot: &Snapshot) -> impl Iterator<Item = Sha256> + use<> {
    [snapshot.files, snapshot.admitted].into_iter().chain(snapshot.strengthened)
}

fn read_list(blobs: &Blobs, name: &Sha256) -> Result<FileList, ExportError> {
    Ok(FileList::parse(&blobs.read(name, FileList::MAX_SIZE)?)?)
}

fn entry_members(log: &LogReader, from: u64, size: u64) -> Result<Vec<Member>, ExportError> {
    let starts = (from..size).step_by(ENTRIES as usize);
    let member = |index: u64| {
        let bytes = entries(log, index, size)?;
        let (path, sha256) = (MemberPath::Entries(index), Sha256::of(&bytes));
        Ok(Member { path, sha256, size: bytes.len() as u64 })
    };
    starts.map(member).collect()
}

/// The entries of one member, as a tlog-tiles bundle.
fn entries(log: &LogReader, from: u64, size: u64) -> Result<Vec<u8>, ExportError> {
    let leaves = log.leaves(from, size.min(from + ENTRIES));
    let leaves: Result<Vec<Vec<u8>>, LogError> =
        leaves.map(|leaf| leaf.map(|(_, leaf)| leaf)).collect();
    Ok(encode_bundle(&leaves?))
}

const ENTRIES: u64 = 256;
