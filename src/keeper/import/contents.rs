//! All that a bundle has, read once from its beginning to its end.

use super::{ImportError, LastImport};
use crate::bundle::{BundleError, BundleReader, Extent, Manifest, Member, MemberPath};
use crate::digest::Sha256;
use crate::keeper::export::lists_of;
use crate::keeper::file_list::FileList;
use crate::ledger::entry::{Action, Decision, DivergenceKind, Entry, Pin, Snapshot};
use crate::ledger::note::Verifier;
use crate::store::blobs::Blobs;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

/// What a bundle has, once all of it was checked.
pub struct Contents {
    pub(super) manifest: Manifest,
    pub(super) checkpoint: Vec<u8>,
    /// What the other ledger pins, and is at hand here.
    pub(super) pins: Vec<Pin>,
    /// The newest snapshot of each repository.
    pub(super) snapshots: Vec<Snapshot>,
    /// How many of its archives were not selected.
    pub(super) left_out: u64,
    pub(super) twice: Twice,
}

/// What the other ledger says of URLs that gave one thing first and another later.
///
/// Its writer tells of each pin that is not to its URL's first bytes, unless someone accepted these.
#[derive(Default)]
pub(super) struct Twice {
    /// The edits that it tells of.
    edits: HashSet<u64>,
    /// Those that someone accepted.
    accepted: HashSet<u64>,
    /// What it tells of URLs that gave other bytes than the first ones.
    changed: HashMap<u64, (String, Sha256)>,
    /// Those of them of which nobody accepted that the bytes are others.
    told: HashMap<(String, Sha256), HashSet<u64>>,
    /// The bytes that each URL is pinned to, the first ones first.
    pinned: HashMap<String, Vec<Sha256>>,
}

impl Twice {
    fn take_in(&mut self, index: u64, entry: &Entry) {
        match entry {
            Entry::Divergence(edit) if edit.what == DivergenceKind::Edited => {
                self.edits.insert(index);
            }
            Entry::Divergence(changed) if changed.what == DivergenceKind::Changed => {
                let bytes = changed.observed.map(|observed| observed.sha256);
                if let Some(bytes) = bytes {
                    let what = (changed.url.clone(), bytes);
                    self.told.entry(what.clone()).or_default().insert(index);
                    self.changed.insert(index, what);
                }
            }
            Entry::Decision(Decision { action: Action::Accept, divergence, .. })
                if self.edits.contains(divergence) =>
            {
                self.accepted.insert(*divergence);
            }
            Entry::Decision(Decision { divergence, with: Some(accepted), .. }) => {
                if let Some(changed) = self.changed.get(divergence)
                    && self.accepted.contains(accepted)
                {
                    self.told.entry(changed.clone()).or_default().remove(divergence);
                }
            }
            Entry::Pin(pin) => {
                let pinned = self.pinned.entry(pin.url.clone()).or_default();
                if !pinned.contains(&pin.sha256) {
                    pinned.push(pin.sha256);
                }
            }
            _ => {}
        }
    }

    /// The bytes that a URL was pinned to first there.
    pub(super) fn first(&self, url: &str) -> Option<Sha256> {
        self.pinned.get(url)?.first().copied()
    }

    /// Whether a URL was pinned to both there, and nobody has to look into it.
    pub(super) fn has_accepted(&self, url: &str, both: [Sha256; 2]) -> bool {
        let pinned = self.pinned.get(url);
        both.iter().all(|bytes| {
            pinned.is_some_and(|pinned| pinned.contains(bytes)) && !self.is_told(url, bytes)
        })
    }

    /// Whether the other ledger tells of these bytes, and nobody accepted them.
    pub(super) fn is_told(&self, url: &str, bytes: &Sha256) -> bool {
        self.told.get(&(url.to_owned(), *bytes)).is_some_and(|told| !told.is_empty())
    }
}

/// Whether a bundle's blobs are kept as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The bundle is only checked.
    Nothing,
    /// They are kept.
    Blobs,
}

impl Contents {
    /// Refuses a bundle that has snapshots, and none of a repository that is configured.
    ///
    /// # Errors
    /// [`ImportError::NoRepository`].
    pub fn is_for(&self, is_configured: impl Fn(&str) -> bool) -> Result<(), ImportError> {
        let mut names = self.snapshots.iter().map(|snapshot| snapshot.repository.as_str());
        match self.snapshots.first() {
            Some(first) if !names.any(is_configured) => {
                Err(ImportError::NoRepository(first.repository.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Reads all of a bundle and says what is in it. With `keep`, its blobs are kept on the way.
/// Blocking; `tell` hears of every member's size.
///
/// # Errors
/// Whatever is wrong with it; the ledger was not touched then.
pub fn read(
    source: impl Read,
    key: &Verifier,
    last: Option<&LastImport>,
    blobs: &Blobs,
    keep: Keep,
    mut tell: impl FnMut(u64),
) -> Result<Contents, ImportError> {
    let mut bundle = BundleReader::open(source, key)?;
    let manifest = bundle.manifest().clone();
    let had = last.map_or(0, |last| last.import.size);
    if manifest.from.size() > had {
        return Err(ImportError::Gap { had, from: manifest.from.size() });
    }
    if manifest.size < had {
        return Err(ImportError::Older { had, size: manifest.size });
    }
    bundle.watch(had);
    let (mut pins, mut snapshots) = (Vec::new(), BTreeMap::new());
    let mut twice = Twice::default();
    while let Some(leaves) = bundle.read_entries()? {
        tell(leaves.iter().map(|(_, leaf)| leaf.len() as u64 + 2).sum());
        for (index, leaf) in leaves {
            let entry = Entry::from_leaf(&leaf);
            let entry = entry.map_err(|source| ImportError::Entry { index, source })?;
            twice.take_in(index, &entry);
            match entry {
                Entry::Pin(pin) => pins.push(pin),
                Entry::Snapshot(snapshot) if snapshot.past.is_none() => {
                    drop(snapshots.insert(snapshot.repository.clone(), snapshot));
                }
                _ => {}
            }
        }
    }
    if let Some(last) = last
        && bundle.watched() != Some(last.import.root)
    {
        return Err(ImportError::Rewritten { had, entry: last.entry });
    }
    let wanted: HashSet<Sha256> = snapshots.values().flat_map(lists_of).collect();
    let mut kept = Kept { blobs, keep, wanted, lists: HashMap::new(), small: Vec::new(), held: 0 };
    let mut brought = HashSet::new();
    while let Some(member) = bundle.left().first().copied() {
        if let MemberPath::Blob(name) = member.path {
            brought.insert(name);
        }
        kept.read(&mut bundle, member)?;
        tell(member.size);
    }
    let checkpoint = bundle.checkpoint().to_vec();
    bundle.end()?;
    kept.flush()?;
    let is_here = |name: &Sha256| brought.contains(name) || blobs.size(name).is_ok();
    let all = pins.len();
    match manifest.extent {
        Extent::All => {
            if let Some(pin) = pins.iter().find(|pin| !is_here(&pin.sha256)) {
                return Err(ImportError::Incomplete(format!("the archive {}", pin.sha256)));
            }
        }
        Extent::Selected => pins.retain(|pin| is_here(&pin.sha256)),
    }
    for snapshot in snapshots.values() {
        kept.check(snapshot, is_here)?;
    }
    let left_out = (all - pins.len()) as u64;
    let snapshots = snapshots.into_values().collect();
    Ok(Contents { manifest, checkpoint, pins, snapshots, left_out, twice })
}

/// The blobs of a bundle on their way into the store.
struct Kept<'a> {
    blobs: &'a Blobs,
    keep: Keep,
    /// The lists of files whose bytes are looked at.
    wanted: HashSet<Sha256>,
    lists: HashMap<Sha256, FileList>,
    /// Small blobs wait, to be made durable together.
    small: Vec<(Sha256, Vec<u8>)>,
    held: u64,
}

impl Kept<'_> {
    fn read<R: Read>(
        &mut self,
        bundle: &mut BundleReader<R>,
        member: Member,
    ) -> Result<(), ImportError> {
        if member.size <= SMALL || self.wanted.contains(&member.sha256) {
            if member.size > FileList::MAX_SIZE {
                return Err(BundleError::TooLarge("a snapshot's list of files").into());
            }
            let mut bytes = Vec::new();
            bundle.read(|chunk| {
                bytes.extend_from_slice(chunk);
                Ok(())
            })?;
            return self.take(member, bytes);
        }
        let mut writer = match self.keep {
            Keep::Nothing => None,
            Keep::Blobs => Some(self.blobs.writer()?),
        };
        bundle.read(|chunk| writer.as_mut().map_or(Ok(()), |writer| writer.write(chunk)))?;
        if let Some(writer) = writer {
            self.blobs.keep(writer.finish())?;
        }
        Ok(())
    }

    fn take(&mut self, member: Member, bytes: Vec<u8>) -> Result<(), ImportError> {
        if self.wanted.contains(&member.sha256) {
            let list =
                FileList::parse(&bytes).map_err(|error| BundleError::Form(error.to_string()));
            self.lists.insert(member.sha256, list?);
        }
        if let (Keep::Blobs, MemberPath::Blob(name)) = (self.keep, member.path) {
            self.held += member.size;
            self.small.push((name, bytes));
            if self.held > HELD {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.held = 0;
        let small = std::mem::take(&mut self.small);
        self.blobs.put_all(small.iter().map(|(name, bytes)| (*name, &bytes[..])))?;
        Ok(())
    }

    /// Whether all that a snapshot names is here.
    fn check(
        &self,
        snapshot: &Snapshot,
        is_here: impl Fn(&Sha256) -> bool,
    ) -> Result<(), ImportError> {
        for name in lists_of(snapshot) {
            let list = self.lists.get(&name);
            let list = list.ok_or_else(|| ImportError::Incomplete(format!("the list {name}")))?;
            if let Some((path, _)) = list.0.iter().find(|(_, name)| !is_here(name)) {
                return Err(ImportError::Incomplete(format!("the file {path}")));
            }
        }
        match snapshot.index.filter(|name| !is_here(name)) {
            Some(name) => Err(ImportError::Incomplete(format!("the index {name}"))),
            None => Ok(()),
        }
    }
}

/// Up to so many bytes, blobs are kept many at a time.
const SMALL: u64 = 1 << 20;
/// So many bytes of them wait at most.
const HELD: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn bytes_are_told_of_until_all_that_tells_of_them_was_accepted() {
        let bytes = Sha256::of(b"other bytes");
        let divergence = |what: &str| {
            let divergence = serde_json::json!({
                "at": "2026-01-01T00:00:00Z", "repository": "default", "what": what,
                "url": "https://a.example/", "from": "https://a.example/", "detail": "",
                "observed": { "sha256": bytes.to_string(), "size": 11 },
            });
            Entry::Divergence(serde_json::from_value(divergence).unwrap())
        };
        let decision = |divergence, action, with| {
            let (at, by, why) = (Timestamp::UNIX_EPOCH, "someone".to_owned(), None);
            Entry::Decision(Decision { at, divergence, action, by, why, with })
        };
        let mut twice = Twice::default();
        for (index, entry) in (1..).zip([
            divergence("changed"),
            divergence("changed"),
            divergence("edited"),
            decision(1, Action::Acknowledge, None),
            decision(1, Action::Acknowledge, Some(3)),
            decision(3, Action::Accept, None),
            decision(1, Action::Acknowledge, Some(3)),
        ]) {
            twice.take_in(index, &entry);
            assert!(twice.is_told("https://a.example/", &bytes), "{index}");
        }
        twice.take_in(8, &decision(2, Action::Acknowledge, Some(3)));
        assert!(!twice.is_told("https://a.example/", &bytes));
    }
}
