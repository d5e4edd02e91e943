//! Archives in a directory, as opam lays out its caches: `<kind>/<first two digits>/<digits>`.

use super::file_chunks;
use super::named_file::problem;
use crate::opam::{Checksum, ChecksumKind};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use url::Url;

/// The archives of one directory.
#[derive(Debug, Default)]
pub(super) struct Offers {
    sha512: Vec<Offer>,
    sha256: Vec<Offer>,
    md5: Vec<Offer>,
}

/// One file, by the name that it has.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub checksum: Checksum,
    pub path: PathBuf,
}

impl Offers {
    /// Lists a directory; files that are named otherwise than opam does are no archives.
    ///
    /// # Errors
    /// One sentence: there is no such directory, or it is no cache.
    pub(super) fn read(directory: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| problem(directory, &error);
        let directory = directory.canonicalize().map_err(failed)?;
        let mut offers = Self::default();
        let mut is_cache = false;
        for kind in [ChecksumKind::Sha512, ChecksumKind::Sha256, ChecksumKind::Md5] {
            let folder = directory.join(kind.to_string());
            is_cache |= folder.is_dir();
            for place in entries(&folder).map_err(failed)? {
                for path in entries(&place).map_err(failed)? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    let checksum = Checksum::from_hex(kind, name).ok();
                    // Links lead to where a cache keeps the file under another name.
                    let is_inside =
                        || path.canonicalize().is_ok_and(|it| it.starts_with(&directory));
                    if let Some(checksum) = checksum.filter(|_| path.is_file() && is_inside()) {
                        offers.of_mut(kind).push(Offer { checksum, path });
                    }
                }
            }
        }
        match is_cache {
            true => Ok(offers),
            false => Err(format!(
                "{} is no cache of archives: it has none of md5, sha256 and sha512 in it, as \
                 ~/.opam/download-cache and what opam admin cache writes have",
                directory.display()
            )),
        }
    }

    /// The files that are named by a checksum of one kind.
    pub(super) fn of(&self, kind: ChecksumKind) -> &[Offer] {
        match kind {
            ChecksumKind::Sha512 => &self.sha512,
            ChecksumKind::Sha256 => &self.sha256,
            ChecksumKind::Md5 => &self.md5,
        }
    }

    fn of_mut(&mut self, kind: ChecksumKind) -> &mut Vec<Offer> {
        match kind {
            ChecksumKind::Sha512 => &mut self.sha512,
            ChecksumKind::Sha256 => &mut self.sha256,
            ChecksumKind::Md5 => &mut self.md5,
        }
    }
}

impl Offer {
    /// Where it is, and its bytes as they are read.
    ///
    /// # Errors
    /// When it can't be opened.
    pub(super) fn open(&self) -> io::Result<(Url, mpsc::Receiver<io::Result<Bytes>>)> {
        let file = File::open(&self.path)?;
        Ok((origin(&self.path)?, file_chunks::chunks(file, |_| {})))
    }
}

/// A file as a URL.
fn origin(path: &Path) -> io::Result<Url> {
    Url::from_file_path(path).map_err(|()| io::Error::other("it has no absolute path"))
}

/// What a directory has, sorted; nothing when it is not there.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match std::fs::read_dir(directory) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        listed => listed?,
    };
    let mut paths = Vec::new();
    for entry in listed {
        paths.push(entry?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}
