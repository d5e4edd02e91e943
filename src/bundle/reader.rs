//! Reading a bundle, in one pass, with every byte checked.

use super::BundleError;
use super::manifest::Manifest;
use super::member::{Member, MemberPath, read_list};
use super::tarball;
use super::writer::Hashing;
use crate::digest::Sha256;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::frontier::Frontier;
use crate::ledger::merkle::leaf_hash;
use crate::ledger::note::Verifier;
use crate::ledger::tile::decode_bundle;
use std::io::Read;

/// A ledger entry's bytes, after its index.
pub type Leaf = (u64, Vec<u8>);

/// A bundle that is being read; signature, head and list hold already.
pub struct BundleReader<R> {
    source: R,
    manifest: Manifest,
    checkpoint: Vec<u8>,
    left: std::vec::IntoIter<Member>,
    /// The ledger as far as its entries were read.
    ledger: Frontier,
    /// A size at which someone wants to know the ledger's root, and the root.
    watched: Option<(u64, Option<Sha256>)>,
}

impl<R: Read> BundleReader<R> {
    /// Reads a bundle's beginning, which `key` has signed.
    ///
    /// # Errors
    /// When it is no bundle, or not signed with the key.
    pub fn open(mut source: R, key: &Verifier) -> Result<Self, BundleError> {
        let note = read_whole(&mut source, "manifest", MAX_NOTE)?;
        let text = key.open(&note).map_err(|_| BundleError::Signature("its manifest"))?;
        let manifest: Manifest = text.parse()?;
        let checkpoint = read_whole(&mut source, "checkpoint", MAX_NOTE)?;
        let head = Checkpoint::open(&checkpoint, key);
        let head = head.map_err(|_| BundleError::Signature("its checkpoint"))?;
        if (head.size, head.root) != (manifest.size, manifest.root) {
            return Err(BundleError::Ledger);
        }
        let list = read_whole(&mut source, "list", MAX_LIST)?;
        let found = Sha256::of(&list);
        if found != manifest.list {
            return Err(BundleError::Damaged { path: "list".to_owned(), found });
        }
        let (left, ledger) = (read_list(&list)?.into_iter(), manifest.from.clone());
        Ok(Self { source, manifest, checkpoint, left, ledger, watched: None })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The ledger's signed head.
    pub fn checkpoint(&self) -> &[u8] {
        &self.checkpoint
    }

    /// The members that are still to come.
    pub fn left(&self) -> &[Member] {
        self.left.as_slice()
    }

    /// Reads the next member and gives its bytes to `take`, piece by piece, before they are known
    /// to be right; `None` at the end.
    ///
    /// # Errors
    /// When they are not the bytes that the list says, or `take` fails.
    pub fn read(
        &mut self,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Option<Member>, BundleError> {
        let Some(member) = self.left.next() else { return Ok(None) };
        let path = member.path.to_string();
        tarball::read_header(&mut self.source, &path, member.size)?;
        let (mut left, mut hashing) = (member.size, Hashing::default());
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let chunk = &mut buffer[..length];
            tarball::read_exact(&mut self.source, chunk, &path)?;
            hashing.take(chunk);
            take(chunk)?;
            left -= length as u64;
        }
        tarball::read_padding(&mut self.source, &path, member.size)?;
        match hashing.finish() {
            found if found == member.sha256 => Ok(Some(member)),
            found => Err(BundleError::Damaged { path, found }),
        }
    }

    /// Reads the next member whole, when it is ledger entries: each with its index.
    ///
    /// # Errors
    /// When they are damaged, or not those that come next.
    pub fn read_entries(&mut self) -> Result<Option<Vec<Leaf>>, BundleError> {
        let Some(Member { path: MemberPath::Entries(index), size, .. }) = self.left().first()
        else {
            return Ok(None);
        };
        let (index, size) = (*index, *size);
        if index != self.ledger.size() {
            return Err(BundleError::Ledger);
        }
        if size > MAX_ENTRIES {
            return Err(BundleError::TooLarge("a part of its ledger"));
        }
        let mut bytes = Vec::new();
        self.read(|chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        let leaves = decode_bundle(&bytes).map_err(|error| BundleError::Form(error.to_string()))?;
        for leaf in &leaves {
            self.ledger.push(leaf_hash(leaf));
            self.look();
        }
        Ok(Some((index..).zip(leaves).collect()))
    }

    /// Remembers the ledger's root at a size, once it is read so far.
    pub fn watch(&mut self, size: u64) {
        self.watched = Some((size, None));
        self.look();
    }

    /// The root at the size that was watched for; `None` if the entries did not go by it.
    pub fn watched(&self) -> Option<Sha256> {
        self.watched.and_then(|(_, root)| root)
    }

    fn look(&mut self) {
        if let Some((size, root)) = &mut self.watched
            && *size == self.ledger.size()
        {
            *root = Some(self.ledger.root());
        }
    }

    /// Reads the bundle's end, after which there is nothing.
    ///
    /// # Errors
    /// When there is something, or the entries did not lead to the signed head.
    pub fn end(mut self) -> Result<(), BundleError> {
        if let Some(member) = self.left.next() {
            return Err(BundleError::Form(format!("{} was not read", member.path)));
        }
        if (self.ledger.size(), self.ledger.root()) != (self.manifest.size, self.manifest.root) {
            return Err(BundleError::Ledger);
        }
        tarball::read_end(&mut self.source)
    }
}

fn read_whole(
    source: &mut impl Read,
    path: &'static str,
    limit: u64,
) -> Result<Vec<u8>, BundleError> {
    let size = tarball::read_size(source, path)?;
    if size > limit {
        return Err(BundleError::TooLarge(path));
    }
    let mut bytes = Vec::new();
    source.by_ref().take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(BundleError::Truncated(path.to_owned()));
    }
    tarball::read_padding(source, path, size)?;
    Ok(bytes)
}

const CHUNK: usize = 256 << 10;
/// Longest part of a ledger: 256 entries, each with its length.
const MAX_ENTRIES: u64 = 256 * ((64 << 10) + 2);
/// Longest list, in bytes: some two million members.
const MAX_LIST: u64 = 256 << 20;
/// Longest signed note, in bytes.
const MAX_NOTE: u64 = 64 << 10;
