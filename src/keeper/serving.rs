//! From admitted files to what clients get: stronger checksums, and sources that point here.
//!
//! A pure function of what the ledger names and of where clients reach the mirror. Blocking.

use super::admit::{AdmitError, read_file};
use super::file_list::FileList;
use super::opam_files::OpamDirectories;
use super::served::{Served, ServedIndex};
use crate::config::Config;
use crate::digest::Sha256;
use crate::opam::{
    Blocks, ExtraSources, IndexFile, Package, RepoPath, Rewrite, Unreadable, write_index,
};
use crate::store::blobs::Blobs;
use rayon::iter::Either;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashSet;

/// The indexes of one state of a repository.
#[derive(Clone, Debug)]
pub(super) struct Indexes {
    /// What clients get.
    pub index: ServedIndex,
    /// What opam 2.1 and older get where sources are rewritten: their extra sources stay.
    pub for_old_clients: Option<ServedIndex>,
}

/// Where a repository's rewritten sources point.
#[derive(Clone, Debug)]
pub(super) struct Place {
    site: String,
    /// The first repository is at the root.
    name: Option<String>,
}

impl Place {
    /// The place of the repository that comes at `position` in mirror.toml, if its sources are to
    /// be rewritten; `site` is where clients reach the mirror.
    pub(super) fn of(config: &Config, position: usize, site: Option<&str>) -> Option<Self> {
        let repository =
            config.repository.get(position).filter(|it| *it.rewrite_sources.get_ref())?;
        let public = config.server.public_url.as_ref().map(ToString::to_string);
        let site = site.map(str::to_owned).or(public)?;
        let name = (position > 0).then(|| repository.name.to_string());
        Some(Self { site: site.trim_end_matches('/').to_owned(), name })
    }

    /// For the current state.
    pub(super) fn now(&self) -> Rewrite {
        self.below(&self.site)
    }

    /// For a state that is reached at a point in the past, as it is written in a path.
    pub(super) fn at(&self, point: &str) -> Rewrite {
        self.below(&format!("{}/at/{point}", self.site))
    }

    fn below(&self, site: &str) -> Rewrite {
        match &self.name {
            Some(name) => Rewrite::new(&format!("{site}/{name}")),
            None => Rewrite::new(site),
        }
    }
}

/// A file of a repository.
pub(super) struct File<'a> {
    pub path: &'a RepoPath,
    /// The SHA-256 of its bytes.
    pub name: Sha256,
    pub bytes: Cow<'a, [u8]>,
}

/// Builds the indexes of these files, given with stronger checksums already; of what is served in
/// place of `previous`, most may be the same.
pub(super) fn indexes(
    files: &[File<'_>],
    rewrite: Option<&Rewrite>,
    previous: Option<&Served>,
) -> Result<Indexes, AdmitError> {
    let written = |extra, before: Option<&ServedIndex>| {
        let files = as_served(files, rewrite, extra);
        let files =
            files.iter().map(|File { path, name, bytes }| IndexFile::named(path, *name, bytes));
        let none = Blocks::default();
        write_index(files, before.map_or(&none, |index| &index.blocks))
            .map(|(bytes, blocks)| ServedIndex { blocks, ..bytes.into() })
            .map_err(|error| AdmitError::Index(error.to_string()))
    };
    let index = written(ExtraSources::Rewritten, previous.map(|served| &served.index))?;
    let old = previous.and_then(|served| served.index_for_old_clients.as_ref());
    let for_old_clients = rewrite.map(|_| written(ExtraSources::AsDeclared, old)).transpose()?;
    Ok(Indexes { index, for_old_clients })
}

/// These files with sources that point where they should; without those whose sources can't.
pub(super) fn as_served<'a>(
    files: &'a [File<'a>],
    rewrite: Option<&Rewrite>,
    extra: ExtraSources,
) -> Vec<File<'a>> {
    let as_it_is = |&File { path, name, ref bytes }: &'a File<'a>| File {
        path,
        name,
        bytes: Cow::Borrowed(&bytes[..]),
    };
    let Some(rewrite) = rewrite else { return files.iter().map(as_it_is).collect() };
    let directories = OpamDirectories::among(files.iter().map(|file| file.path));
    let rewritten = |file: &'a File<'a>| {
        let File { path, ref bytes, .. } = *file;
        let rewritten = match directories.package_of(path) {
            Some(package) => rewrite.apply(&package, bytes, extra),
            None if names_a_source(path) => Err(Unreadable),
            None => Ok(None),
        };
        match rewritten {
            Ok(Some(bytes)) => {
                let bytes: Vec<u8> = bytes.into();
                Ok(File { path, name: Sha256::of(&bytes), bytes: bytes.into() })
            }
            Ok(None) => Ok(as_it_is(file)),
            // It lies below `packages`, so there is a directory.
            Err(Unreadable) => Err(path.parent().unwrap_or_else(|| path.clone())),
        }
    };
    let (mut served, left_out): (Vec<_>, HashSet<_>) =
        files.par_iter().partition_map(|file| match rewritten(file) {
            Ok(file) => Either::Left(file),
            Err(directory) => Either::Right(directory),
        });
    let is_left_out = |file: &File<'_>| file.path.ancestors().any(|above| left_out.contains(above));
    served.retain(|file| !is_left_out(file));
    served
}

/// Whether it is a file `url` beside an opam file, which clients still read (opam 1.2).
pub(super) fn names_a_source(path: &RepoPath) -> bool {
    let directory = path.parent().filter(|_| path.file_name() == "url");
    directory.is_some_and(|directory| directory.file_name().parse::<Package>().is_ok())
}

/// The files of an admitted snapshot, with stronger checksums.
///
/// # Errors
/// When a blob is missing or damaged.
pub(super) fn read_files<'a>(
    blobs: &Blobs,
    admitted: &'a FileList,
    strengthened: &FileList,
) -> Result<Vec<File<'a>>, AdmitError> {
    let read = |(path, name)| {
        let name = *strengthened.0.get(path).unwrap_or(name);
        Ok(File { path, name, bytes: Cow::Owned(read_file(blobs, &name)?) })
    };
    admitted.0.iter().map(read).collect()
}
