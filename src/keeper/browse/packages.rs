//! All packages of a repository as it is served, to be searched and listed.

use super::{BrowseError, PAGE, off_the_reactor, to_its_end};
use crate::digest::Sha256;
use crate::keeper::file_list::FileList;
use crate::keeper::opam_files::opam_files;
use crate::keeper::{Keeper, admit};
use crate::opam::{
    Dependency, OpamFile, Package, PackageName, PackageVersion, dependencies, text_of,
};
use crate::store::blobs::Blobs;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// All packages of one state of a repository.
pub struct Packages {
    state: Sha256,
    /// Each version's opam file.
    versions: BTreeMap<PackageName, BTreeMap<PackageVersion, Sha256>>,
    synopses: HashMap<PackageName, String>,
    /// Who depends on a package, by its newest version.
    needed_by: HashMap<PackageName, Vec<(Package, Dependency)>>,
}

/// The packages that a search found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Found {
    /// Those of this page, the best first.
    pub packages: Vec<PackageHit>,
    /// How many there are on all pages.
    pub total: usize,
}

/// One package that was found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PackageHit {
    /// The repository.
    pub repository: String,
    /// Its name.
    pub name: String,
    /// What the newest version says it is.
    pub synopsis: Option<String>,
    /// The newest version, in opam's order.
    pub newest: String,
    /// How many versions it has.
    pub versions: usize,
}

/// A package with all its versions.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PackageDetails {
    /// The repository.
    pub repository: String,
    /// Its name.
    pub name: String,
    /// What the newest version says it is.
    pub synopsis: Option<String>,
    /// The versions, the newest first, in opam's order.
    pub versions: Vec<VersionRow>,
}

/// One version in a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VersionRow {
    /// The version.
    pub version: String,
    /// How much the declared checksums of its main archive prove: `strong`, `weak` or `none`; no
    /// value where it has no archive.
    pub strength: Option<String>,
    /// The ledger entry that pins its main archive, if it was fetched.
    pub pin: Option<u64>,
}

/// The packages that were read last, by repository; one at a time reads them.
#[derive(Default)]
pub(super) struct Known {
    by_repository: Mutex<HashMap<String, Arc<Packages>>>,
    /// Held by what reads, whoever still waits for that.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Known {
    fn of(&self, repository: &str, state: Sha256) -> Option<Arc<Packages>> {
        let known = self.by_repository.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(repository).filter(|it| it.state == state).cloned()
    }

    fn keep(&self, repository: String, packages: &Arc<Packages>) {
        let mut known = self.by_repository.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(repository, Arc::clone(packages));
    }
}

impl Keeper {
    /// The packages of a repository as it is served now. What has begun to read them goes on, for
    /// the next one who asks, when nobody waits for it.
    ///
    /// # Errors
    /// When there is no such repository or nothing is served of it yet, and when it can't be read.
    pub async fn packages(
        self: &Arc<Self>,
        repository: &str,
    ) -> Result<Arc<Packages>, BrowseError> {
        let Some(served) = self.named_repository(repository)?.served() else {
            let sentence = format!("nothing of {repository} is served yet");
            return Err(BrowseError::NotFound(sentence));
        };
        let state = served.snapshot.admitted;
        let known = &self.browsed.packages;
        if let Some(packages) = known.of(repository, state) {
            return Ok(packages);
        }
        let alone = Arc::clone(&known.reading).lock_owned().await;
        if let Some(packages) = known.of(repository, state) {
            return Ok(packages);
        }
        let (keeper, repository) = (Arc::clone(self), repository.to_owned());
        to_its_end(async move {
            let _alone = alone;
            let store = keeper.store.clone();
            let read = off_the_reactor(move || Packages::read(store.blobs(), state)).await?;
            let packages = Arc::new(read);
            keeper.browsed.packages.keep(repository, &packages);
            Ok(packages)
        })
        .await
    }

    /// Searches one repository, or all of them.
    ///
    /// # Errors
    /// As [`Keeper::packages`]; of all repositories those that serve nothing are passed over.
    pub async fn search(
        self: &Arc<Self>,
        repository: Option<&str>,
        query: &str,
        page: usize,
    ) -> Result<Found, BrowseError> {
        let mut searched = Vec::new();
        match repository {
            Some(name) => searched.push((name.to_owned(), self.packages(name).await?)),
            None => {
                for name in self.repositories.iter().map(|it| it.name()) {
                    match self.packages(name).await {
                        Ok(packages) => searched.push((name.to_owned(), packages)),
                        Err(BrowseError::NotFound(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let query = query.to_owned();
        off_the_reactor(move || {
            let hits = searched.iter().flat_map(|(name, packages)| packages.search(name, &query));
            let mut hits: Vec<_> = hits.collect();
            // A stable sort: of equally good ones the first repository's come first.
            hits.sort_by_key(|(rank, _)| *rank);
            let total = hits.len();
            let packages = hits.into_iter().skip(page.saturating_mul(PAGE)).take(PAGE);
            Ok(Found { packages: packages.map(|(_, hit)| hit).collect(), total })
        })
        .await
    }

    /// A package and its versions.
    ///
    /// # Errors
    /// When there is no such package.
    pub async fn package(
        self: &Arc<Self>,
        repository: &str,
        name: &PackageName,
    ) -> Result<PackageDetails, BrowseError> {
        let packages = self.packages(repository).await?;
        let Some(versions) = packages.versions.get(name) else {
            return Err(BrowseError::NotFound(format!("{repository} has no package {name}")));
        };
        let versions: Vec<PackageVersion> = versions.keys().rev().cloned().collect();
        let synopsis = packages.synopses.get(name).cloned();
        let (keeper, repository, name) = (Arc::clone(self), repository.to_owned(), name.clone());
        off_the_reactor(move || {
            let row = |version| keeper.version_row(&repository, &name, version);
            let versions = versions.into_iter().map(row).collect::<Result<_, _>>()?;
            let name = name.as_str().to_owned();
            Ok(PackageDetails { repository, name, synopsis, versions })
        })
        .await
    }

    fn version_row(
        &self,
        repository: &str,
        name: &PackageName,
        version: PackageVersion,
    ) -> Result<VersionRow, BrowseError> {
        let package = Package { name: name.clone(), version };
        let text = package.to_string();
        let archive = self.store.lookup(|catalog| catalog.named_archive(repository, &text))?;
        let pin = archive.as_ref().and_then(|it| self.kept_archive(it)).map(|kept| kept.entry);
        let strength = archive.map(|it| {
            let declared = crate::opam::DeclaredChecksums::new(it.checksums);
            super::version::strength_name(declared.strength()).to_owned()
        });
        Ok(VersionRow { version: package.version.as_str().to_owned(), strength, pin })
    }
}

impl Packages {
    /// Reads the opam file of each package's newest version.
    fn read(blobs: &Blobs, state: Sha256) -> Result<Self, BrowseError> {
        let list = blobs.read(&state, FileList::MAX_SIZE)?;
        let list = FileList::parse(&list).map_err(|error| BrowseError::Store(error.to_string()))?;
        let mut packages = Self {
            state,
            versions: BTreeMap::new(),
            synopses: HashMap::new(),
            needed_by: HashMap::new(),
        };
        for (Package { name, version }, _, opam) in opam_files(&list) {
            packages.versions.entry(name).or_default().insert(version, *opam);
        }
        let (mut synopses, mut needed_by) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (name, versions) in &packages.versions {
            let Some((version, opam)) = versions.last_key_value() else { continue };
            // One file that can't be read leaves one line of the lists empty.
            let bytes = admit::read_file(blobs, opam);
            let Some(file) = bytes.ok().and_then(|it| OpamFile::parse(&it).ok()) else { continue };
            if let Some(synopsis) = text_of(&file, "synopsis") {
                synopses.insert(name.clone(), synopsis);
            }
            let package = Package { name: name.clone(), version: version.clone() };
            for dependency in dependencies(&file) {
                let needed = needed_by.entry(dependency.name.clone()).or_default();
                needed.push((package.clone(), dependency));
            }
        }
        (packages.synopses, packages.needed_by) = (synopses, needed_by);
        Ok(packages)
    }

    /// The opam file of a version.
    pub(super) fn opam(&self, package: &Package) -> Option<Sha256> {
        self.versions.get(&package.name)?.get(&package.version).copied()
    }

    /// The newest version of a package.
    pub(super) fn newest(&self, name: &PackageName) -> Option<&PackageVersion> {
        self.versions.get(name)?.last_key_value().map(|(version, _)| version)
    }

    /// Whose newest versions depend on a package.
    pub(super) fn needed_by(&self, name: &PackageName) -> &[(Package, Dependency)] {
        self.needed_by.get(name).map_or(&[], Vec::as_slice)
    }

    /// What has every word of the query in its name or synopsis; without any word, everything.
    ///
    /// The name itself comes first, then names that begin with the query, then those that have it
    /// in them, then the rest, each by opam's order of names.
    fn search(&self, repository: &str, query: &str) -> Vec<(Rank, PackageHit)> {
        let query: String = query.trim().to_lowercase().chars().take(MAX_QUERY).collect();
        // Whoever knows the version has it in one piece with the name.
        let version = query.parse::<Package>().ok().filter(|it| self.opam(it).is_some());
        let query = version.map_or(query, |package| package.name.as_str().to_lowercase());
        let words: Vec<&str> = query.split_whitespace().take(MAX_WORDS).collect();
        let mut hits = Vec::new();
        for (name, versions) in &self.versions {
            let synopsis = self.synopses.get(name);
            let lower = name.as_str().to_ascii_lowercase();
            let text = synopsis.map(|it| it.to_lowercase()).unwrap_or_default();
            if !words.iter().all(|word| lower.contains(word) || text.contains(word)) {
                continue;
            }
            let Some((newest, _)) = versions.last_key_value() else { continue };
            let rank = match words[..] {
                [] => Rank::Exact,
                [word] if lower == word => Rank::Exact,
                [word] if lower.starts_with(word) => Rank::Beginning,
                _ if words.iter().all(|word| lower.contains(word)) => Rank::Name,
                _ => Rank::Synopsis,
            };
            let hit = PackageHit {
                repository: repository.to_owned(),
                name: name.as_str().to_owned(),
                synopsis: synopsis.cloned(),
                newest: newest.as_str().to_owned(),
                versions: versions.len(),
            };
            hits.push((rank, hit));
        }
        hits.sort_by_key(|(rank, _)| *rank);
        hits
    }
}

/// How well a package fits a query.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Exact,
    Beginning,
    Name,
    Synopsis,
}

/// Longest query that is looked at, in characters.
const MAX_QUERY: usize = 200;
const MAX_WORDS: usize = 8;
