//! What a person wants rechecked.

use super::super::Keeper;
use crate::ledger::entry::Entry;
use crate::store::Store;
use crate::store::catalog::{IndexError, Last, Subject};
use crate::store::log::LogError;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use thiserror::Error;

/// What a person wants rechecked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// What is due by the schedule.
    Due,
    /// Everything.
    All,
    /// What was pinned for a package, as `name` or `name.version`, or is declared by it, or has this in
    /// its URL.
    About(String),
}

/// Why nothing can be rechecked.
#[derive(Debug, Error)]
pub enum SelectionError {
    /// Nothing is pinned that the selection could mean.
    #[error("nothing is pinned of {0}: name a package as name or name.version, or part of a URL")]
    Nothing(String),
    /// Nothing may be asked for.
    #[error("nothing is rechecked, because upstream.offline is set")]
    Offline,
    /// The catalog can't say.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The ledger can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The search was given up.
    #[error("the search was given up: {0}")]
    GivenUp(#[from] tokio::task::JoinError),
}

impl Keeper {
    /// The subjects that a selection means, the longest due first where the schedule decides.
    ///
    /// # Errors
    /// When it means nothing, or the store fails.
    pub async fn select(
        &self,
        selection: Selection,
    ) -> Result<Vec<(Subject, Last)>, SelectionError> {
        if self.is_offline {
            return Err(SelectionError::Offline);
        }
        let about = match selection {
            Selection::Due => return Ok(self.round(usize::MAX).await?.due),
            Selection::All => None,
            // What is pinned is known without what is declared.
            Selection::About(about) => Some((about, self.declaring().await.unwrap_or_default())),
        };
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || match about {
            None => Ok(store.lookup(|catalog| catalog.recheck_subjects(|_, _| true))?),
            Some((about, served)) => select_about(&store, &served, about),
        })
        .await?
    }
}

fn select_about(
    store: &Store,
    served: &[String],
    about: String,
) -> Result<Vec<(Subject, Last)>, SelectionError> {
    let log = store.log();
    let mut pins = HashSet::new();
    for entry in log.entries(0, log.size()?) {
        let (index, entry) = entry?;
        if let Entry::Pin(pin) = entry
            && pin.packages.iter().any(|package| is_named(package, &about))
        {
            pins.insert(index);
        }
    }
    let is_about = |package: &str| is_named(package, &about);
    let mut declared = HashSet::new();
    for repository in served {
        declared
            .extend(store.lookup(|catalog| catalog.declared_urls(repository, &about, is_about))?);
    }
    let part_of_url = about.contains(['/', ':', '.']);
    let wanted = |subject: &Subject, last: &Last| {
        pins.contains(&last.pin)
            || declared.contains(&subject.url)
            || part_of_url && subject.url.contains(&about)
    };
    let found = store.lookup(|catalog| catalog.recheck_subjects(wanted))?;
    if found.is_empty() { Err(SelectionError::Nothing(about)) } else { Ok(found) }
}

fn is_named(package: &str, about: &str) -> bool {
    package == about || package.split_once('.').is_some_and(|(name, _)| name == about)
}
