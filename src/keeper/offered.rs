//! Archives that someone brings: taken when metadata declares them and every declared checksum
//! holds, as when a source gave them.

use super::attempt::hash_all;
use super::fill::Fill;
use super::refresh::RefreshError;
use super::repository::blocking;
use super::{Keeper, Missing};
use crate::opam::Checksum;
use crate::store::catalog::{DeclaredArchive, IndexError, Kept};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::mpsc;
use url::Url;

/// What there is to say of an offered checksum before its bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interest {
    /// It is declared and not kept.
    Wanted,
    /// It is kept already.
    Kept,
    /// No metadata that is served declares it.
    Undeclared,
}

/// An offered archive that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The packages that use it, as `name.version`.
    pub packages: Vec<String>,
    /// The ledger entry that pins it.
    pub entry: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Why offered bytes are not taken.
#[derive(Debug, Error)]
pub enum OfferError {
    /// They are not what their name says.
    #[error("its bytes do not have the {0} that it is named by")]
    Misnamed(Checksum),
    /// They are not what the metadata declares.
    #[error("{package} declares another {kinds} beside this checksum")]
    Contradicted {
        /// A package that declares it.
        package: String,
        /// The kinds of checksums that do not hold.
        kinds: String,
    },
    /// No metadata that is served declares them.
    #[error("no package declares it")]
    Undeclared,
    /// There are more than an archive may have.
    #[error("it is longer than upstream.max_archive_size")]
    TooLarge,
    /// They can't be read to their end.
    #[error("it can't be read: {0}")]
    Unread(io::Error),
    /// The policy, or the store, does not let them in.
    #[error("{0}")]
    NotPinned(Missing),
    /// The catalog can't say what is declared.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The metadata that is served can't be read.
    #[error(transparent)]
    Metadata(#[from] RefreshError),
    /// They can't be written.
    #[error("it can't be kept: {0}")]
    Io(#[from] io::Error),
}

impl Keeper {
    /// Whether each of these checksums is wanted, in their order.
    ///
    /// # Errors
    /// When nothing is known of what is declared.
    pub async fn interest(
        self: &Arc<Self>,
        offered: Vec<Checksum>,
    ) -> Result<Vec<Interest>, OfferError> {
        for repository in &self.repositories {
            repository.ensure_declared(&self.store).await?;
        }
        let keeper = Arc::clone(self);
        let judged = blocking(move || {
            let interest = |checksum: &Checksum| -> Result<Interest, OfferError> {
                let declared = keeper.declared_anywhere(checksum)?;
                let is_kept = |(_, archive): &(_, _)| keeper.kept_archive(archive).is_some();
                Ok(match declared.is_empty() {
                    true => Interest::Undeclared,
                    false if declared.iter().all(is_kept) => Interest::Kept,
                    false => Interest::Wanted,
                })
            };
            offered.iter().map(interest).collect()
        });
        judged.await?
    }

    /// Takes the bytes of `checksum` that come in `chunks`, as found at `origin`.
    ///
    /// # Errors
    /// When they are not the bytes of a declared archive; nothing is kept then.
    pub async fn take_offered(
        self: &Arc<Self>,
        checksum: Checksum,
        origin: Url,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<Taken, OfferError> {
        let declared = self.declared_anywhere(&checksum)?;
        if declared.is_empty() {
            return Err(OfferError::Undeclared);
        }
        let hashed = self.write(chunks).await?;
        let digests = *hashed.digests();
        if !checksum.matches(&digests) {
            return Err(OfferError::Misnamed(checksum));
        }
        let wrong = |archive: &DeclaredArchive| -> Vec<String> {
            let wrong = archive.checksums.iter().filter(|checksum| !checksum.matches(&digests));
            wrong.map(|checksum| checksum.kind().to_string()).collect()
        };
        let sound = declared.iter().find(|(_, archive)| wrong(archive).is_empty());
        let Some((repository, archive)) = sound else {
            let (package, kinds) =
                declared.first().map_or_else(Default::default, |(_, archive)| {
                    (archive.packages.join(" "), wrong(archive).join(" and "))
                });
            return Err(OfferError::Contradicted { package, kinds });
        };
        let pinned = Fill::of_offer(self, repository).pin_offered(archive, &origin, hashed).await;
        let Kept { entry, size, .. } = pinned.map_err(OfferError::NotPinned)?;
        Ok(Taken { packages: archive.packages.clone(), entry, size })
    }

    /// Everything that is declared under a checksum, each with its repository.
    fn declared_anywhere(
        &self,
        checksum: &Checksum,
    ) -> Result<Vec<(String, DeclaredArchive)>, IndexError> {
        let mut found = Vec::new();
        for repository in &self.repositories {
            let name = repository.name();
            let archives = self.store.lookup(|catalog| catalog.declared(name, checksum))?;
            found.extend(archives.into_iter().map(|archive| (name.to_owned(), archive)));
        }
        Ok(found)
    }

    async fn write(
        &self,
        mut chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<crate::store::blobs::Hashed, OfferError> {
        let store = self.store.clone();
        let writer = blocking(move || store.blobs().writer()).await??;
        let (sender, inbox) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (written, _) = tokio::sync::watch::channel(0);
        let hashing = tokio::task::spawn_blocking(move || hash_all(writer, inbox, &written));
        let mut size = 0;
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.map_err(OfferError::Unread)?;
            size += chunk.len() as u64;
            if size > self.max_archive_size {
                return Err(OfferError::TooLarge);
            }
            if sender.send(chunk).await.is_err() {
                // The writer ended early; its own error is told below.
                break;
            }
        }
        drop(sender);
        Ok(hashing.await.map_err(io::Error::other)??)
    }
}

const CHUNKS_IN_FLIGHT: usize = 16;
