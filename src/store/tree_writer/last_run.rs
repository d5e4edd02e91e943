//! What the last run left in a directory: the files that it lists, and its work if it was killed.

use super::{TreeError, failed};
use crate::digest::Sha256;
use crate::store::regular;
use std::collections::BTreeMap;
use std::fs::{DirEntry, File};
use std::io::{self, Read as _};
use std::path::Path;

/// What the last run says that it wrote, if there was one; what killed ones left behind goes then.
pub(super) fn left_by_the_last_run(
    root: &Path,
    update: bool,
) -> Result<BTreeMap<String, Sha256>, TreeError> {
    let marker = root.join(MARKER);
    match regular::open(&marker) {
        Ok(_) if !update => return Err(TreeError::Present(root.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match has_only_leftovers(root).map_err(failed(root))? {
                true => Ok(BTreeMap::new()),
                false => Err(TreeError::Foreign(root.to_owned())),
            };
        }
        Err(error) => return Err(failed(&marker)(error)),
    }
    let before = sums_at(root)?;
    remove_leftovers(root).map_err(failed(root))?;
    Ok(before)
}

/// What the last run says that it wrote.
pub(super) fn sums_at(root: &Path) -> Result<BTreeMap<String, Sha256>, TreeError> {
    let sums = root.join(SUMS);
    match regular::open(&sums) {
        Ok(file) => read_sums(&sums, file),
        // The first run was killed as early as that.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(failed(&sums)(error)),
    }
}

/// Removes what runs left behind that were killed; only where one of them wrote the marker, as
/// anyone may have such a name.
fn remove_leftovers(root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if is_leftover(&entry)? {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether nothing is there but what a first run left behind that was killed; it stays until the
/// next one finds the marker.
fn has_only_leftovers(root: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(root)? {
        if !is_leftover(&entry?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_leftover(entry: &DirEntry) -> io::Result<bool> {
    Ok(entry.file_name().to_string_lossy().starts_with(WORK) && entry.file_type()?.is_dir())
}

/// The list of files, as it is written.
pub(super) fn sums_of(files: &BTreeMap<String, Sha256>) -> Vec<u8> {
    let lines = files.iter().map(|(path, name)| format!("{name}  {path}\n"));
    lines.collect::<String>().into_bytes()
}

fn read_sums(path: &Path, file: File) -> Result<BTreeMap<String, Sha256>, TreeError> {
    let damaged = || TreeError::Sums(path.to_owned());
    let mut text = String::new();
    file.take(MAX_SUMS).read_to_string(&mut text).map_err(|_| damaged())?;
    let mut files = BTreeMap::new();
    for line in text.lines() {
        let (name, file) = line.split_once("  ").ok_or_else(damaged)?;
        // It decides what is removed, so it names nothing outside.
        let is_below = file.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let name = name.parse().ok().filter(|_| is_below).ok_or_else(damaged)?;
        files.insert(file.to_owned(), name);
    }
    Ok(files)
}

/// Says that a directory is an export: a list of sums may be anyone's.
pub(super) const MARKER: &str = ".opam-keep-export";
pub(super) const MARKER_TEXT: &[u8] =
    b"opam-keep export --static wrote this directory; --update goes by SHA256SUMS.\n";
pub(super) const SUMS: &str = "SHA256SUMS";
pub(super) const WORK: &str = ".opam-keep-work-";
/// Longest list that is read, in bytes.
const MAX_SUMS: u64 = 1 << 30;
