//! Indexes as they were last built, so that a start need not build them again.

use super::served::{Served, ServedIndex};
use super::serving::Indexes;
use crate::digest::Sha256;
use crate::ledger::entry::Snapshot;
use crate::opam::Rewrite;
use crate::store::{Store, durable};
use bytes::Bytes;
use std::collections::HashMap;
use std::ffi::OsString;

/// What built indexes follow from; each names it and its own hash, so that a damaged or stale one
/// is not found.
pub(super) struct Recipe<'a> {
    repository: &'a str,
    id: Sha256,
    /// Whether there is one for old clients too.
    is_rewritten: bool,
}

impl<'a> Recipe<'a> {
    pub(super) fn new(repository: &'a str, snapshot: &Snapshot, rewrite: Option<&Rewrite>) -> Self {
        let strengthened = snapshot.strengthened.map(|list| list.to_string()).unwrap_or_default();
        let base = rewrite.map_or("", Rewrite::base);
        let text = format!("{FORM}\n{}\n{strengthened}\n{base}\n", snapshot.admitted);
        Self { repository, id: Sha256::of(text.as_bytes()), is_rewritten: rewrite.is_some() }
    }

    fn prefix(&self, which: &str) -> String {
        format!("{} {} {which} ", self.repository, self.id)
    }
}

/// Changes whenever the same files are written as other bytes.
const FORM: u32 = 2;

/// Keeps the indexes of what is served, in place of older ones of the same repository.
pub(super) fn keep(store: &Store, recipe: &Recipe<'_>, served: &Served) {
    if served.snapshot.index.is_some() {
        return;
    }
    let directory = store.layout().built_indexes();
    let of_old_clients = served.index_for_old_clients.as_ref();
    let files: HashMap<OsString, &Bytes> = std::iter::once((INDEX, &served.index))
        .chain(of_old_clients.map(|index| (FOR_OLD_CLIENTS, index)))
        .map(|(which, index)| {
            let name = format!("{}{}.tar.gz", recipe.prefix(which), index.name);
            (name.into(), &index.bytes)
        })
        .collect();
    if files.keys().all(|name| directory.join(name).exists()) {
        return;
    }
    let others = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let ours = format!("{} ", recipe.repository);
    let stale = others.filter(|file| {
        let name = file.file_name();
        name.to_string_lossy().starts_with(&ours) && !files.contains_key(&name)
    });
    for file in stale {
        // A stale index is never read; removing it only saves space.
        let _ = std::fs::remove_file(file.path());
    }
    let kept = std::fs::create_dir_all(&directory).and_then(|()| {
        let mut files = files.iter();
        files.try_for_each(|(name, index)| durable::write(&directory.join(name), index, 0o600))
    });
    if let Err(error) = kept {
        tracing::warn!(%error, "the next start will build the index anew");
    }
}

/// The indexes of a recipe, if they were kept and are sound.
pub(super) fn find(store: &Store, recipe: &Recipe<'_>) -> Option<Indexes> {
    let index = read(store, &recipe.prefix(INDEX))?;
    let for_old_clients = match recipe.is_rewritten {
        true => Some(read(store, &recipe.prefix(FOR_OLD_CLIENTS))?),
        false => None,
    };
    Some(Indexes { index, for_old_clients })
}

fn read(store: &Store, prefix: &str) -> Option<ServedIndex> {
    let directory = std::fs::read_dir(store.layout().built_indexes()).ok()?;
    for file in directory.flatten() {
        let file_name = file.file_name().into_string().unwrap_or_default();
        let hash = file_name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".tar.gz"));
        if let Some(Ok(expected)) = hash.map(str::parse::<Sha256>) {
            let index = ServedIndex::from(Bytes::from(std::fs::read(file.path()).ok()?));
            return Some(index).filter(|index| index.name == expected);
        }
    }
    None
}

const INDEX: &str = "index";
const FOR_OLD_CLIENTS: &str = "old";
