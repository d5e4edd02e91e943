//! Archives that someone accepted with edits that bring them: nobody has to be told of their bytes.

use super::divergences::{self, Deciding, ExplainError};
use super::refresh::RefreshError;
use super::repository::blocking;
use super::{Keeper, edited};
use crate::digest::Digests;
use crate::ledger::entry::{Action, DivergenceKind, DivergenceState, Entry, Pin};
use crate::store::Store;
use crate::store::catalog::{DeclaredArchive, IndexError};
use std::collections::BTreeSet;

/// An archive that accepted edits bring.
pub(super) struct AcceptedBytes {
    repository: String,
    archive: Digests,
    /// Whose edits were accepted, as `name.version`.
    packages: BTreeSet<String>,
    /// The URLs that those edits declare for it.
    urls: BTreeSet<String>,
    /// The ledger index of the edit that was accepted last.
    last: u64,
    /// Who accepted that.
    by: String,
}

impl AcceptedBytes {
    /// What was accepted of an archive for any of these packages.
    fn find<'a>(
        store: &Store,
        repository: &str,
        archive: &Digests,
        packages: impl IntoIterator<Item = &'a String>,
    ) -> Result<Option<Self>, ExplainError> {
        let packages: BTreeSet<&String> = packages.into_iter().collect();
        let mut found: Option<(u64, Self)> = None;
        for package in packages {
            let about = store.lookup(|catalog| catalog.divergences_about(repository, package))?;
            for edit in about {
                let decided = store.lookup(|catalog| catalog.decided(edit.index))?;
                let Some((DivergenceState::Accepted, decision)) = decided else { continue };
                let Some(urls) = brought(store, edit.index, archive)? else { continue };
                let (latest, accepted) = found.get_or_insert_with(|| {
                    let (repository, archive) = (repository.to_owned(), *archive);
                    let (packages, urls) = (BTreeSet::new(), BTreeSet::new());
                    let by = String::new();
                    (0, Self { repository, archive, packages, urls, last: edit.index, by })
                });
                accepted.packages.insert(package.clone());
                accepted.urls.extend(urls);
                if decision >= *latest {
                    (*latest, accepted.last) = (decision, edit.index);
                }
            }
        }
        let Some((decision, mut accepted)) = found else { return Ok(None) };
        if let Some(Entry::Decision(decision)) = entry(store, decision)? {
            accepted.by = decision.by;
        }
        Ok(Some(accepted))
    }

    /// Whether it was accepted for all of these, and for whoever else declares a URL for other bytes
    /// in any of the `served` repositories; where there are more than are named, it was not.
    fn covers(
        &self,
        store: &Store,
        served: &[String],
        url: &str,
        packages: &[String],
    ) -> Result<bool, IndexError> {
        let mut users: BTreeSet<String> = packages.iter().cloned().collect();
        for repository in served {
            match others_at(store, repository, url, &self.archive)? {
                Some(others) if *repository == self.repository => users.extend(others),
                Some(others) if others.is_empty() => {}
                _ => return Ok(false),
            }
        }
        Ok(!users.is_empty()
            && users.len() < DeclaredArchive::MAX_PACKAGES
            && users.is_subset(&self.packages))
    }

    /// The divergences that tell of these bytes, at a URL and for packages that they were accepted
    /// for, and that nobody had decided about when the ledger had `since` entries.
    fn told(
        &self,
        store: &Store,
        served: &[String],
        since: u64,
    ) -> Result<BTreeSet<u64>, ExplainError> {
        let mut found = BTreeSet::new();
        for package in &self.packages {
            let repository = &self.repository;
            let about = store.lookup(|catalog| catalog.divergences_about(repository, package))?;
            for told in about.iter().filter(|it| it.observed == Some(self.archive.sha256)) {
                let decided = store.lookup(|catalog| catalog.decided(told.index))?;
                if decided.is_some_and(|(_, decision)| decision < since) {
                    continue;
                }
                if let Some(Entry::Divergence(divergence)) = entry(store, told.index)?
                    && divergence.what == DivergenceKind::Changed
                    && self.urls.contains(divergence.src.as_ref().unwrap_or(&divergence.url))
                    && self.covers(store, served, &divergence.url, &divergence.packages)?
                {
                    found.insert(told.index);
                }
            }
        }
        Ok(found)
    }
}

impl Keeper {
    /// The pin at a ledger index.
    pub(super) async fn pin_at(&self, index: u64) -> Result<Pin, String> {
        let store = self.store.clone();
        let read = blocking(move || entry(&store, index));
        match read.await.map_err(|error| error.to_string())? {
            Ok(Some(Entry::Pin(pin))) => Ok(pin),
            Ok(_) => Err(format!("ledger entry {index} is no pin")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What was accepted of the bytes of a pin, if that was for all of `packages`, whose bytes were
    /// others before, and for whoever else declares its URL for other ones.
    pub(super) async fn accepted_bytes(
        &self,
        pin: &Pin,
        packages: &[String],
    ) -> Option<AcceptedBytes> {
        let (store, repository, archive) =
            (self.store.clone(), pin.repository.clone(), pin.digests());
        // Whoever can't tell tells once more.
        let served = self.declaring().await.ok()?;
        let (pin, packages) = (pin.clone(), packages.to_vec());
        let find = move || -> Result<Option<AcceptedBytes>, ExplainError> {
            let all = pin.packages.iter().chain(&packages);
            let found = AcceptedBytes::find(&store, &repository, &archive, all)?;
            let declared = pin.src.as_ref().unwrap_or(&pin.url);
            Ok(match found.filter(|found| found.urls.contains(declared)) {
                Some(found) if found.covers(&store, &served, &pin.url, &packages)? => Some(found),
                _ => None,
            })
        };
        blocking(find).await.ok()?.ok()?
    }

    /// Whether anyone declares the URL of a pin for other bytes; who can't tell says so too.
    pub(super) async fn has_others(&self, pin: &Pin) -> bool {
        let Ok(served) = self.declaring().await else { return true };
        let is_other = |repository: &String| {
            let others = others_at(&self.store, repository, &pin.url, &pin.digests());
            !others.is_ok_and(|others| others.is_some_and(|others| others.is_empty()))
        };
        served.iter().any(is_other)
    }

    /// Acknowledges the divergences that tell of accepted bytes; who accepted them knows of it. Says
    /// which nobody had decided about when the ledger had `since` entries.
    pub(super) async fn acknowledge_same(&self, accepted: AcceptedBytes, since: u64) -> Vec<u64> {
        let (last, by) = (accepted.last, accepted.by.clone());
        let stays_open = |error: String| {
            tracing::warn!(accepted = last, error, "divergences of the accepted bytes stay open");
        };
        let told = self.told(accepted, since).await.map_err(stays_open).unwrap_or_default();
        let why = Some(format!("its bytes were accepted with divergence {last}"));
        let deciding = Deciding { action: Action::Acknowledge, by, why, with: Some(last) };
        let told = told.into_iter().collect();
        let (noted, result) = divergences::decide(&self.store, &self.clock, told, &deciding).await;
        if let Err(error) = result {
            stays_open(error.to_string());
        }
        noted.into_iter().map(|noted| noted.id).collect()
    }

    /// The divergences that [`AcceptedBytes::told`] finds.
    async fn told(&self, accepted: AcceptedBytes, since: u64) -> Result<BTreeSet<u64>, String> {
        let served = self.declaring().await.map_err(|error| error.to_string())?;
        let store = self.store.clone();
        let told = blocking(move || accepted.told(&store, &served, since)).await;
        told.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// The repositories that are served; the catalog knows what they declare.
    pub(super) async fn declaring(&self) -> Result<Vec<String>, RefreshError> {
        let mut served = Vec::new();
        for repository in self.repositories.iter().filter(|it| it.served().is_some()) {
            repository.ensure_declared(&self.store).await?;
            served.push(repository.name().to_owned());
        }
        Ok(served)
    }
}

/// Who declares a URL for other bytes than these, if that can be told.
fn others_at(
    store: &Store,
    repository: &str,
    url: &str,
    archive: &Digests,
) -> Result<Option<BTreeSet<String>>, IndexError> {
    store.lookup(|catalog| catalog.others_at(repository, url, archive))
}

/// The URLs that an edit declares for an archive of these hashes, if it brings one.
fn brought(
    store: &Store,
    edit: u64,
    archive: &Digests,
) -> Result<Option<Vec<String>>, ExplainError> {
    match entry(store, edit)? {
        Some(Entry::Divergence(edit)) if edit.what == DivergenceKind::Edited => {
            // One that can't be read says nothing of the others.
            Ok(edited::brings(store.blobs(), &edit, archive).unwrap_or_default())
        }
        _ => Ok(None),
    }
}

fn entry(store: &Store, index: u64) -> Result<Option<Entry>, ExplainError> {
    let entry = store.log().entries(index, index.saturating_add(1)).next().transpose()?;
    Ok(entry.map(|(_, entry)| entry))
}
