//! One version of a package: its archives, its opam file, and how that came to be.

use super::{BrowseError, off_the_reactor};
use crate::archive::{self, Limits};
use crate::keeper::divergences::Recorded;
use crate::keeper::{Keeper, Missing, admit};
use crate::ledger::entry::{Entry, Pin};
use crate::opam::{
    ArchiveSource, OpamFile, Package, Role, Strength, archive_sources, dependencies, source_name,
    text_of,
};
use crate::store::catalog::{DeclaredArchive, FileEdit, Kept};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// Everything that is known of a version.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VersionDetails {
    /// The repository.
    pub repository: String,
    /// The package's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// What it is, in its own words.
    pub synopsis: Option<String>,
    /// Its license, in its own words.
    pub license: Option<String>,
    /// Its home page, in its own words; whatever URL that is.
    pub homepage: Option<String>,
    /// Whether upstream says otherwise than what is served, because the policy holds an edit.
    pub held: bool,
    /// The opam file as it was admitted; what is no UTF-8 in it is replaced.
    pub opam: String,
    /// Its archives, the main one first.
    pub archives: Vec<ArchiveDetails>,
    /// What it depends on, each as its opam file writes it.
    pub depends: Vec<Dependent>,
    /// The packages whose newest version depends on it and lets this version in, at most 500.
    pub needed_by: Vec<Dependent>,
    /// How its files changed since the first snapshot, the newest first, at most 50.
    pub edits: Vec<EditDetails>,
    /// What upstream did about it, the newest first, at most 50.
    pub divergences: Vec<Recorded>,
}

/// One archive of a version.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ArchiveDetails {
    /// What it is for: `main`, or the path of an extra source.
    pub role: String,
    /// Where it is declared to be, mirrors included.
    pub urls: Vec<String>,
    /// The declared checksums, as opam writes them.
    pub checksums: Vec<String>,
    /// How much they prove: `strong`, `weak` or `none`.
    pub strength: String,
    /// What is pinned of it; none until it was fetched.
    pub pin: Option<PinDetails>,
    /// Why it could not be had, where it is not pinned and someone asked for it not long ago.
    pub problem: Option<String>,
}

/// What the ledger has of an archive.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PinDetails {
    /// The ledger entry.
    pub entry: u64,
    /// The path under which this mirror serves it.
    pub path: String,
    /// What the entry says.
    pub pin: Pin,
}

/// One package that depends on another.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Dependent {
    /// Which one.
    pub name: String,
    /// Its newest version, where it is known here.
    pub version: Option<String>,
    /// The dependency as the opam file writes it.
    pub text: String,
}

/// What a snapshot changed of a version.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EditDetails {
    /// The snapshot's ledger entry.
    pub entry: u64,
    /// When it was admitted.
    pub at: Timestamp,
    /// The change as a unified diff.
    pub diff: String,
}

impl Keeper {
    /// A version of a package.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn version(
        self: &Arc<Self>,
        repository: &str,
        package: &Package,
    ) -> Result<VersionDetails, BrowseError> {
        let packages = self.packages(repository).await?;
        let Some(opam) = packages.opam(package) else {
            return Err(BrowseError::NotFound(format!("{repository} has no {package}")));
        };
        let same = self.named_repository(repository)?;
        let (keeper, repository, package) =
            (Arc::clone(self), repository.to_owned(), package.clone());
        off_the_reactor(move || {
            let needed_by = packages.needed_by(&package.name).iter();
            let needed_by = needed_by.filter(|(_, it)| it.lets_in(&package.version));
            let needed_by = needed_by.take(MAX_DEPENDENTS).map(|(by, dependency)| Dependent {
                name: by.name.as_str().to_owned(),
                version: Some(by.version.as_str().to_owned()),
                text: dependency.text.clone(),
            });
            let needed_by = needed_by.collect();
            let held = same.health().exceptions.held;
            let bytes = admit::read_file(keeper.store.blobs(), &opam)?;
            let name = package.to_string();
            let file = OpamFile::parse(&bytes).ok();
            let text = |field| file.as_ref().and_then(|file| text_of(file, field));
            let depends = file.as_ref().map(dependencies).unwrap_or_default();
            let depends = depends.into_iter().map(|it| Dependent {
                version: packages.newest(&it.name).map(|it| it.as_str().to_owned()),
                name: it.name.as_str().to_owned(),
                text: it.text,
            });
            let sources = file.as_ref().and_then(|file| archive_sources(file).ok());
            let archives = sources.into_iter().flatten();
            let archives = archives.map(|it| keeper.archive_details(&repository, &package, it));
            Ok(VersionDetails {
                name: package.name.as_str().to_owned(),
                version: package.version.as_str().to_owned(),
                synopsis: text("synopsis"),
                license: text("license"),
                homepage: text("homepage"),
                held: held.contains(&name),
                opam: String::from_utf8_lossy(&bytes).into_owned(),
                archives: archives.collect::<Result<_, _>>()?,
                depends: depends.collect(),
                needed_by,
                edits: keeper.edits_of(&repository, &name)?,
                divergences: keeper.divergences_of(&repository, &name)?,
                repository,
            })
        })
        .await
    }

    fn archive_details(
        &self,
        repository: &str,
        package: &Package,
        source: ArchiveSource,
    ) -> Result<ArchiveDetails, BrowseError> {
        let name = source_name(package, &source.role);
        let declared = self.store.lookup(|catalog| catalog.named_archive(repository, &name))?;
        let kept = declared.as_ref().and_then(|it| self.kept_archive(it));
        let problem = match (&declared, kept) {
            (Some(declared), None) => self.last_failure(repository, declared)?,
            (None, _) | (_, Some(_)) => None,
        };
        let pin = match kept {
            Some(Kept { entry, sha256, .. }) => match self.entry(entry)? {
                Entry::Pin(pin) => {
                    let hex = sha256.to_string();
                    let prefix = hex.get(..2).unwrap_or_default();
                    let path = format!("/{repository}/cache/sha256/{prefix}/{hex}");
                    Some(PinDetails { entry, path, pin })
                }
                _ => None,
            },
            None => None,
        };
        Ok(ArchiveDetails {
            role: match &source.role {
                Role::Main => "main".to_owned(),
                Role::Extra(path) => path.to_string(),
            },
            checksums: source.checksums.as_slice().iter().map(ToString::to_string).collect(),
            strength: strength_name(source.checksums.strength()).to_owned(),
            urls: source.urls,
            pin,
            problem: problem.map(|missing| missing.to_string()),
        })
    }

    /// Why an archive could not be had when someone asked for it, by its name or a checksum.
    fn last_failure(
        &self,
        repository: &str,
        declared: &DeclaredArchive,
    ) -> Result<Option<Missing>, BrowseError> {
        let mut ways = vec![vec![declared.clone()]];
        for checksum in &declared.checksums {
            ways.push(self.store.lookup(|catalog| catalog.declared(repository, checksum))?);
        }
        let mut ways = ways.iter();
        Ok(ways.find_map(|archives| self.fills.failure(self, repository, archives)))
    }

    fn edits_of(&self, repository: &str, package: &str) -> Result<Vec<EditDetails>, BrowseError> {
        let edits = self.store.lookup(|catalog| catalog.edits(repository, package))?;
        let newest = edits.into_iter().rev().take(MAX_EDITS);
        let told = newest.map(|(entry, files)| {
            let (at, diff) = (self.entry(entry)?.at(), self.files_diff(&files)?);
            Ok(EditDetails { entry, at, diff })
        });
        told.collect()
    }

    pub(super) fn files_diff(&self, files: &[FileEdit]) -> Result<String, BrowseError> {
        let (blobs, limits) = (self.store.blobs(), Limits::default());
        let read = |name: Option<_>| name.map(|name| admit::read_file(blobs, &name)).transpose();
        let mut text = String::new();
        for FileEdit { path, before, after } in files {
            let (before, after) = (read(*before)?, read(*after)?);
            let diff = archive::file_diff(path, before.as_deref(), after.as_deref(), &limits);
            text.push_str(&diff);
        }
        Ok(text)
    }
}

/// The word for a strength, as the ledger has it.
pub(super) fn strength_name(strength: Strength) -> &'static str {
    match strength {
        Strength::Strong => "strong",
        Strength::Weak => "weak",
        Strength::None => "none",
    }
}

const MAX_DEPENDENTS: usize = 500;
const MAX_EDITS: usize = 50;
