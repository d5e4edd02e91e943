//! The two states of an edited version side by side: the lines of its files, and its archives where
//! both are kept.

use super::admit::public_url;
use super::divergences::{ExplainError, Pinned, compare};
use super::file_list::FileList;
use super::opam_files::opam_files;
use crate::archive::{self, Explanation, Limits};
use crate::digest::{Digests, Sha256};
use crate::ledger::entry::Divergence;
use crate::opam::syntax::OpamFile;
use crate::opam::{ArchiveSource, Checksum, RepoPath, Strength, archive_sources};
use crate::store::blobs::{BlobError, Blobs};
use std::collections::BTreeSet;

/// The files of a version on either side.
pub(super) struct Sides {
    pub before: FileList,
    pub after: FileList,
}

/// How the files of an edited version differ, as a unified diff; `None` where the divergence has
/// no two states of a version.
///
/// # Errors
/// When a blob can't be read.
pub fn files_diff(blobs: &Blobs, divergence: &Divergence) -> Result<Option<String>, ExplainError> {
    let Some(Sides { before, after }) = sides(blobs, divergence)? else { return Ok(None) };
    let paths: BTreeSet<&RepoPath> = before.0.keys().chain(after.0.keys()).collect();
    let mut text = String::new();
    for path in paths {
        let (was, is) = (before.0.get(path), after.0.get(path));
        if was == is {
            continue;
        }
        let read = |name: Option<&Sha256>| name.map(|name| blobs.read(name, MAX_FILE)).transpose();
        let (was, is) = (read(was)?, read(is)?);
        let limits = Limits::default();
        text.push_str(&archive::file_diff(path.as_str(), was.as_deref(), is.as_deref(), &limits));
    }
    Ok(Some(text))
}

/// Why the main archive of an edited version is not the one from before; `None` where they are the
/// same, or not both kept.
///
/// # Errors
/// When the ledger or a blob can't be read.
pub(super) fn explain(
    pinned: &Pinned<'_>,
    blobs: &Blobs,
    divergence: &Divergence,
) -> Result<Option<Explanation>, ExplainError> {
    let Some(Sides { before, after }) = sides(blobs, divergence)? else { return Ok(None) };
    let (was, is) = (main_archive(blobs, &before)?, main_archive(blobs, &after)?);
    let (was, is) = (kept(pinned, blobs, &was)?, kept(pinned, blobs, &is)?);
    match (was, is) {
        (Some(was), Some(is)) if was != is => compare(blobs, &was, &is),
        _ => Ok(None),
    }
}

/// The URLs of an archive of these hashes that an edit declares and that was not declared before it;
/// `None` where there is none.
///
/// # Errors
/// When a blob can't be read.
pub(super) fn brings(
    blobs: &Blobs,
    divergence: &Divergence,
    archive: &Digests,
) -> Result<Option<Vec<String>>, ExplainError> {
    let Some(Sides { before, after }) = sides(blobs, divergence)? else { return Ok(None) };
    let matches = |checksum: &Checksum| checksum.matches(archive);
    if archives(blobs, &before)?.iter().any(|it| it.checksums.as_slice().iter().any(matches)) {
        return Ok(None);
    }
    let mut urls = Vec::new();
    for it in archives(blobs, &after)? {
        // An md5 that fits proves nothing, neither alone nor beside a stronger one that does not.
        let is_strong = it.checksums.strength() == Strength::Strong;
        if is_strong && it.checksums.as_slice().iter().all(matches) {
            urls.extend(it.urls.iter().filter_map(|url| public_url(url)));
        }
    }
    Ok(Some(urls).filter(|urls| !urls.is_empty()))
}

/// The files on either side; `None` where a divergence is of no version's.
pub(super) fn sides(blobs: &Blobs, divergence: &Divergence) -> Result<Option<Sides>, ExplainError> {
    if divergence.edits.is_empty() {
        return Ok(None);
    }
    let list =
        |name: Option<Sha256>| name.map_or(Ok(FileList::default()), |name| read_list(blobs, &name));
    let before = divergence.expected.iter().find_map(|text| match text.parse() {
        Ok(Checksum::Sha256(name)) => Some(name),
        _ => None,
    });
    let after = divergence.observed.map(|observed| observed.sha256);
    Ok(Some(Sides { before: list(before)?, after: list(after)? }))
}

pub(super) fn read_list(blobs: &Blobs, name: &Sha256) -> Result<FileList, ExplainError> {
    let bytes = blobs.read(name, FileList::MAX_SIZE)?;
    FileList::parse(&bytes).map_err(|error| ExplainError::Io(std::io::Error::other(error)))
}

/// The checksums that the opam file in a list declares of the main archive.
fn main_archive(blobs: &Blobs, files: &FileList) -> Result<Vec<Checksum>, BlobError> {
    // The main one comes first.
    let main = archives(blobs, files)?.into_iter().next();
    Ok(main.map(|main| main.checksums.as_slice().to_vec()).unwrap_or_default())
}

/// The archives that the opam file in a version's list declares.
fn archives(blobs: &Blobs, files: &FileList) -> Result<Vec<ArchiveSource>, BlobError> {
    let Some((_, _, name)) = opam_files(files).next() else { return Ok(Vec::new()) };
    let bytes = blobs.read(name, MAX_FILE)?;
    let sources = OpamFile::parse(&bytes).ok().and_then(|file| archive_sources(&file).ok());
    Ok(sources.unwrap_or_default())
}

/// The blob that one of the checksums names, if it is kept.
fn kept(
    pinned: &Pinned<'_>,
    blobs: &Blobs,
    checksums: &[Checksum],
) -> Result<Option<Sha256>, ExplainError> {
    if let Some(pinned) = pinned(checksums)? {
        return Ok(Some(pinned));
    }
    // Rechecks keep as evidence what nobody accepted yet.
    let names = checksums.iter().filter_map(|checksum| match checksum {
        Checksum::Sha256(name) => Some(*name),
        _ => None,
    });
    Ok(names.into_iter().find(|name| blobs.open(name).is_ok()))
}

/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;
