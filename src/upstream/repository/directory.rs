//! A repository that lies in a local directory.

use super::files::{Collector, FileKind, RawFile};
use super::{Fetched, RepositoryError, Revision};
use crate::digest::Sha256;
use crate::safe_url::SafeUrl;
use bytes::Bytes;
use sha2::Digest as _;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Reads `repo` and `packages/` of a directory.
#[derive(Debug)]
pub(super) struct DirectorySource {
    root: PathBuf,
}

impl DirectorySource {
    pub(super) fn new(url: &SafeUrl) -> Result<Self, RepositoryError> {
        match url.expose().to_file_path() {
            Ok(root) => Ok(Self { root }),
            Err(()) => Err(RepositoryError::UnusableUrl {
                url: Box::new(url.clone()),
                reason: "write a directory as file:///a/checkout",
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    pub(super) async fn fetch(&self, known: Option<&Revision>) -> Result<Fetched, RepositoryError> {
        let root = self.root.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let files = read(&root)?;
            let revision = revision_of(&files);
            Ok::<_, RepositoryError>((files, revision))
        });
        let (files, revision) = reading
            .await
            .map_err(io::Error::other)
            .map_err(RepositoryError::file(&self.root))??;
        if known == Some(&revision) {
            return Ok(Fetched::Unchanged);
        }
        Ok(Fetched::Files { files, revision })
    }
}

/// Reads `repo` and everything below `packages/` of a directory, in the order of the paths.
///
/// # Errors
/// When something can't be read, or there is more than a repository may hold.
pub fn read(root: &Path) -> Result<Vec<RawFile>, RepositoryError> {
    let mut collector = Collector::new(root.display().to_string());
    // Asked for in any case, so that a directory that isn't there is an error that says so.
    let root_entries = fs::read_dir(root).map_err(RepositoryError::file(root))?;
    for entry in root_entries {
        let entry = entry.map_err(RepositoryError::file(root))?;
        let name = entry.file_name();
        if name == "repo" || name == "packages" {
            read_entry(&entry, name.as_bytes().to_vec(), 0, &mut collector)?;
        }
    }
    Ok(collector.finish())
}

fn read_entry(
    entry: &fs::DirEntry,
    path: Vec<u8>,
    depth: usize,
    collector: &mut Collector,
) -> Result<(), RepositoryError> {
    let place = entry.path();
    let kind = entry.file_type().map_err(RepositoryError::file(&place))?;
    if kind.is_dir() {
        if depth == MAX_DEPTH {
            return Err(collector.too_large(MAX_DEPTH as u64, "directories inside each other"));
        }
        for entry in fs::read_dir(&place).map_err(RepositoryError::file(&place))? {
            let entry = entry.map_err(RepositoryError::file(&place))?;
            let path = [&path[..], b"/", entry.file_name().as_bytes()].concat();
            read_entry(&entry, path, depth + 1, collector)?;
        }
        return Ok(());
    }
    let (kind, bytes) = if kind.is_symlink() {
        let target = fs::read_link(&place).map_err(RepositoryError::file(&place))?;
        (FileKind::Symlink, Bytes::copy_from_slice(target.as_os_str().as_bytes()))
    } else if kind.is_file() {
        // One byte more than permitted, so that the collector sees that it is too much.
        let bound = collector.remaining_size() + 1;
        let bytes = read_bounded(&place, bound).map_err(RepositoryError::file(&place))?;
        (FileKind::Regular, bytes)
    } else {
        // Pipes, sockets and devices are no files of a repository, and may never end.
        return Ok(());
    };
    collector.add(RawFile { path, kind, bytes })
}

fn read_bounded(path: &Path, bound: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// A hash over everything that the files are; each part is preceded by its length, so that no
/// two lists of files look alike.
fn revision_of(files: &[RawFile]) -> Revision {
    let mut hash = sha2::Sha256::new();
    for file in files {
        hash.update((file.path.len() as u64).to_be_bytes());
        hash.update(&file.path);
        hash.update([u8::from(file.kind == FileKind::Symlink)]);
        hash.update((file.bytes.len() as u64).to_be_bytes());
        hash.update(&file.bytes);
    }
    Revision(format!("sha256:{}", Sha256::from_bytes(hash.finalize().into())))
}

/// `packages/name/name.version/files/` needs 4; patches may lie in a few more.
const MAX_DEPTH: usize = 32;
