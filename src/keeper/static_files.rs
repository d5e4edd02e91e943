//! A mirror as plain files, for a web server that knows nothing of opam-keep.
//!
//! Paths and bytes are those that the server gives. It reads the ledger and the blobs as they are
//! on disk, with or without a server; what is written is a pure function of them. Blocking.

use super::admit::{self, AdmitError, Declarations};
use super::file_list::{FileList, FileListError};
use super::serving::{self, File, Place};
use crate::config::Config;
use crate::digest::Sha256;
use crate::ledger::entry::{Entry, Pin, Snapshot};
use crate::opam::{Checksum, ExtraSources, Rewrite};
use crate::store::blobs::{BlobError, Blobs};
use crate::store::log::{LogError, LogReader};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// Every file of a mirror, by its path.
pub struct StaticFiles {
    /// Archives, which are written before what names them.
    pub archives: BTreeMap<String, Sha256>,
    /// What names archives, in the order in which it is written; an index comes after all that it
    /// is about.
    pub metadata: Vec<(String, Bytes)>,
    /// How many archives the repositories declare that are not kept.
    pub missing: u64,
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct What {
    /// Where clients reach the files; without it, rewritten sources point to the server.
    pub site: Option<String>,
    /// Whether the repositories are written file by file as well, as dune reads them.
    pub unpacked: bool,
}

/// Why a mirror can't be written as files.
#[derive(Debug, Error)]
pub enum StaticError {
    /// Nothing was ever admitted of a repository.
    #[error("repository {0} has no snapshot yet: opam-keep refresh asks upstream for one")]
    NoSnapshot(String),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A blob is missing or damaged.
    #[error("{0}: opam-keep verify tells more")]
    Blob(#[from] BlobError),
    /// A list of files can't be read.
    #[error(transparent)]
    List(#[from] FileListError),
    /// The metadata can't be read or written.
    #[error(transparent)]
    Metadata(#[from] AdmitError),
}

impl StaticFiles {
    /// The files of all repositories, of which the first is at the root too.
    ///
    /// # Errors
    /// When one of them can't be served.
    pub fn of(
        log: &LogReader,
        blobs: &Blobs,
        config: &Config,
        what: &What,
    ) -> Result<Self, StaticError> {
        let kept = Kept::read(log)?;
        let mut files = Self { archives: BTreeMap::new(), metadata: Vec::new(), missing: 0 };
        for (checksum, blob) in &kept.by_checksum {
            files.archives.insert(cache_path("", checksum), *blob);
        }
        // What a client takes for the sign that there is something new comes last.
        for (position, repository) in config.repository.iter().enumerate().rev() {
            let name = repository.name.as_str();
            let snapshot = kept.snapshots.get(name);
            let snapshot = snapshot.ok_or_else(|| StaticError::NoSnapshot(name.to_owned()))?;
            let list = read_list(blobs, &snapshot.admitted)?;
            let declarations = Declarations::of_list(blobs, &list)?;
            let rewrite =
                Place::of(config, position, what.site.as_deref()).map(|place| place.now());
            let strengthened = snapshot.strengthened.as_ref().map(|name| read_list(blobs, name));
            let metadata =
                serving::read_files(blobs, &list, &strengthened.transpose()?.unwrap_or_default())?;
            let index = match &snapshot.index {
                Some(index) => Bytes::from(blobs.read(index, MAX_INDEX)?),
                None => serving::indexes(&metadata, rewrite.as_ref(), None)?.index.bytes,
            };
            let repo = match list.0.get(&admit::repo_path()) {
                Some(repo) => Bytes::from(blobs.read(repo, MAX_INDEX)?),
                None => Bytes::new(),
            };
            // One repository alone needs no second place, which an object store would double.
            let below = (config.repository.len() > 1).then(|| format!("{name}/"));
            let root = (position == 0).then(String::new);
            for prefix in below.into_iter().chain(root) {
                files.add_archives(&prefix, &declarations, &kept, rewrite.is_some());
                if what.unpacked {
                    files.add_packages(&prefix, &metadata, rewrite.as_ref());
                }
                files.metadata.push((format!("{prefix}repo"), repo.clone()));
                files.metadata.push((format!("{prefix}index.tar.gz"), index.clone()));
            }
            let is_kept = |archive: &&_| kept.find(archive).is_some();
            let archives = declarations.archives();
            files.missing += (archives.len() - archives.values().filter(is_kept).count()) as u64;
        }
        Ok(files)
    }

    /// Every path, with the SHA-256 of what is there.
    pub fn names(&self) -> BTreeMap<String, Sha256> {
        let metadata = self.metadata.iter().map(|(path, bytes)| (path.clone(), Sha256::of(bytes)));
        let archives = self.archives.iter().map(|(path, name)| (path.clone(), *name));
        archives.chain(metadata).collect()
    }

    /// A repository file by file, as its index has it.
    fn add_packages(&mut self, prefix: &str, files: &[File<'_>], rewrite: Option<&Rewrite>) {
        let files = serving::as_served(files, rewrite, ExtraSources::Rewritten);
        for File { path, bytes, .. } in files {
            // The index has no empty files either.
            if path.as_str().starts_with("packages/") && !bytes.is_empty() {
                self.metadata.push((format!("{prefix}{path}"), bytes.into_owned().into()));
            }
        }
    }

    /// What one repository declares, below its own place, as clients look for it there.
    fn add_archives(
        &mut self,
        prefix: &str,
        declarations: &Declarations,
        kept: &Kept,
        is_rewritten: bool,
    ) {
        for archive in declarations.archives().values() {
            for checksum in &archive.checksums {
                if let Some(blob) = kept.by_checksum.get(checksum) {
                    self.archives.insert(cache_path(prefix, checksum), *blob);
                }
            }
        }
        // Only rewritten sources lead there.
        for name in declarations.named().keys().filter(|_| is_rewritten) {
            let Some(archive) = declarations.of_name(name) else { continue };
            if let Some(blob) = kept.find(&archive) {
                let url = archive.urls.first().map_or("", String::as_str);
                let path = Rewrite::path(name, url);
                self.archives.insert(format!("{prefix}{path}"), blob);
            }
        }
    }
}

/// What the ledger says is kept.
struct Kept {
    by_checksum: HashMap<Checksum, Sha256>,
    /// With the ledger index of the pin.
    by_url: HashMap<String, (u64, Sha256)>,
    snapshots: HashMap<String, Snapshot>,
}

impl Kept {
    /// The first pin stands, by checksum and by URL, as in the catalog.
    fn read(log: &LogReader) -> Result<Self, LogError> {
        let mut kept =
            Self { by_checksum: HashMap::new(), by_url: HashMap::new(), snapshots: HashMap::new() };
        for entry in log.entries(0, log.size()?) {
            let (index, entry) = entry?;
            match entry {
                Entry::Pin(Pin { url, md5, sha256, sha512, .. }) => {
                    for checksum in
                        [Checksum::Md5(md5), Checksum::Sha256(sha256), Checksum::Sha512(sha512)]
                    {
                        kept.by_checksum.entry(checksum).or_insert(sha256);
                    }
                    kept.by_url.entry(url).or_insert((index, sha256));
                }
                Entry::Snapshot(snapshot) if snapshot.past.is_none() => {
                    kept.snapshots.insert(snapshot.repository.clone(), snapshot);
                }
                _ => {}
            }
        }
        Ok(kept)
    }

    /// The blob of a declared archive: the one that all its checksums lead to or, without any, the
    /// first that one of its URLs was pinned to.
    fn find(&self, archive: &crate::store::catalog::DeclaredArchive) -> Option<Sha256> {
        let mut blobs = archive.checksums.iter().map(|checksum| self.by_checksum.get(checksum));
        match blobs.next() {
            Some(first) => blobs.all(|blob| blob == first).then_some(*first?),
            None => {
                let pins = archive.urls.iter().filter_map(|url| self.by_url.get(url));
                pins.min().map(|(_, sha256)| *sha256)
            }
        }
    }
}

fn read_list(blobs: &Blobs, name: &Sha256) -> Result<FileList, StaticError> {
    Ok(FileList::parse(&blobs.read(name, FileList::MAX_SIZE)?)?)
}

fn cache_path(prefix: &str, checksum: &Checksum) -> String {
    let hex = checksum.hex();
    format!("{prefix}cache/{}/{}/{hex}", checksum.kind(), &hex[..2])
}

/// Longest index that is read back, in bytes.
const MAX_INDEX: u64 = 1 << 30;
