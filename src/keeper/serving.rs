//! From admitted files to what clients get: stronger checksums, and sources that point here.
//!
//! A pure function of what the ledger names and of where clients reach the mirror. Blocking.

use super::admit::{AdmitError, package_of, read_file};
use super::file_list::FileList;
use crate::config::Config;
use crate::opam::{ExtraSources, RepoPath, Rewrite, write_index};
use crate::store::blobs::Blobs;
use bytes::Bytes;
use std::borrow::Cow;

/// The indexes of one state of a repository.
#[derive(Clone, Debug)]
pub(super) struct Indexes {
    /// What clients get.
    pub index: Bytes,
    /// What opam 2.1 and older get where sources are rewritten: their extra sources stay.
    pub for_old_clients: Option<Bytes>,
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
        let repository = config.repository.get(position).filter(|it| it.rewrite_sources)?;
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

/// Builds what clients get of these files, given with stronger checksums already.
pub(super) fn indexes<'a>(
    files: impl Iterator<Item = (&'a RepoPath, Cow<'a, [u8]>)>,
    rewrite: Option<&Rewrite>,
) -> Result<Indexes, AdmitError> {
    let written = |files: &[(&RepoPath, Cow<'_, [u8]>)]| {
        let index = write_index(files.iter().map(|(path, bytes)| (*path, &bytes[..])));
        index.map(Bytes::from).map_err(|error| AdmitError::Index(error.to_string()))
    };
    let mut files: Vec<(&RepoPath, Cow<'_, [u8]>)> = files.collect();
    let Some(rewrite) = rewrite else {
        return Ok(Indexes { index: written(&files)?, for_old_clients: None });
    };
    let mut old = Vec::new();
    for (place, (path, bytes)) in files.iter_mut().enumerate() {
        let Some(package) = package_of(path) else { continue };
        let rewritten = |extra| rewrite.apply(&package, bytes, extra).map(Vec::from);
        let (new, as_declared) =
            (rewritten(ExtraSources::Rewritten), rewritten(ExtraSources::AsDeclared));
        if new != as_declared {
            old.push((place, as_declared.unwrap_or_else(|| bytes.to_vec())));
        }
        if let Some(new) = new {
            *bytes = Cow::Owned(new);
        }
    }
    let index = written(&files)?;
    if old.is_empty() {
        return Ok(Indexes { for_old_clients: Some(index.clone()), index });
    }
    for (place, bytes) in old {
        if let Some((_, file)) = files.get_mut(place) {
            *file = Cow::Owned(bytes);
        }
    }
    Ok(Indexes { index, for_old_clients: Some(written(&files)?) })
}

/// The same, from the blobs of an admitted snapshot.
///
/// # Errors
/// When a blob is missing or damaged.
pub(super) fn indexes_of_lists(
    blobs: &Blobs,
    admitted: &FileList,
    strengthened: &FileList,
    rewrite: Option<&Rewrite>,
) -> Result<Indexes, AdmitError> {
    let mut files = Vec::with_capacity(admitted.0.len());
    for (path, name) in &admitted.0 {
        let name = strengthened.0.get(path).unwrap_or(name);
        files.push((path, Cow::Owned(read_file(blobs, name)?)));
    }
    indexes(files.into_iter(), rewrite)
}
