//! What every version of a tree declares: its opam files, read once and by all cores.

use super::admit::public_url;
use crate::digest::Sha256;
use crate::opam::{ArchiveSource, OpamFile, Package, RepoPath, Tree, archive_sources, source_name};
use crate::store::catalog::DeclaredArchive;
use bytes::Bytes;
use rayon::prelude::*;

/// What one version's opam file declares.
pub(super) enum VersionSources {
    /// Nothing: there is none, or it can't be parsed; the clients that read it say why.
    Unreadable,
    /// The same as in what is served: none that is weak, and no reason to leave the version out.
    /// Not read again.
    AsServed,
    /// No client should see this version, for this reason.
    Refused(String),
    /// These sources, and those of them that a mirror can have.
    Declared { sources: Vec<ArchiveSource>, archives: Vec<NamedArchive> },
}

/// An archive, and what a mirror calls it.
pub(super) struct NamedArchive {
    pub name: String,
    pub id: Sha256,
    /// Without the packages that use it.
    pub archive: DeclaredArchive,
}

impl VersionSources {
    /// What each of a tree's versions declares, in their order, but for those that are as they are
    /// served.
    pub(super) fn of_tree(
        tree: &Tree,
        is_as_served: impl Fn(&Package, &RepoPath) -> bool + Sync,
    ) -> Vec<Self> {
        let versions: Vec<_> = tree.versions().collect();
        versions
            .into_par_iter()
            .map(|(package, directory)| {
                if is_as_served(package, directory) {
                    return Self::AsServed;
                }
                // A copy: the parts of a file share its memory, and all files that of the tree, so
                // that the cores would wait for each other at every one.
                let copy = |opam: &Bytes| Self::of_file(package, Bytes::copy_from_slice(opam));
                tree.opam_file(package).map_or(Self::Unreadable, copy)
            })
            .collect()
    }

    /// What an opam file declares of a package.
    pub(super) fn of_file(package: &Package, opam: Bytes) -> Self {
        let Ok(file) = OpamFile::parse_bytes(opam) else { return Self::Unreadable };
        let sources = match archive_sources(&file) {
            Ok(sources) => sources,
            Err(error) => return Self::Refused(error.to_string()),
        };
        let named = |source: &ArchiveSource| {
            let urls: Vec<String> = source.urls.iter().filter_map(|url| public_url(url)).collect();
            if urls.is_empty() {
                return None;
            }
            let checksums = source.checksums.as_slice().to_vec();
            let archive = DeclaredArchive { packages: Vec::new(), urls, checksums };
            let (name, id) = (source_name(package, &source.role), archive.id());
            Some(NamedArchive { name, id, archive })
        };
        let archives = sources.iter().filter_map(named).collect();
        Self::Declared { sources, archives }
    }
}
