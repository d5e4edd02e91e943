//! The versions that are not served as upstream has them, and why: kept with the catalog, so that a
//! start says what was said before it.

use super::differing::Differing;
use super::file_list::FileList;
use super::opam_files::opam_files;
use crate::opam::Package;
use crate::store::layout::Layout;
use crate::store::{Store, durable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

/// What of a repository is not served as upstream has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exceptions {
    /// Versions that are not served, because they can't be, each with the reason.
    pub refused: Vec<(String, String)>,
    /// Versions that are served as they were, because they can't be as upstream has them, each with
    /// the reason.
    #[serde(default)]
    pub kept: Vec<(String, String)>,
    /// Versions that are served as they were until someone accepts their edits.
    pub held: Vec<String>,
    /// Versions that are not served until someone accepts them.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Why nothing new is served at all, if so.
    #[serde(default)]
    pub whole: Option<Whole>,
}

/// Why a state is held as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whole {
    /// Too many versions are gone at once.
    Gutted,
    /// Upstream went back to a commit that was there before.
    RolledBack,
    /// Something is held of a repository whose bytes are signed as one.
    Verbatim,
    /// What is held and what is new don't fit into one repository.
    NoRoom,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gutted => "too many versions are gone at once",
            Self::RolledBack => "upstream went back to a commit that was there before",
            Self::Verbatim => "in verbatim mode all is served or nothing",
            Self::NoRoom => "beside what is held there is no room for the rest",
        })
    }
}

/// The same, and the ledger index of the snapshot.
#[derive(Serialize, Deserialize)]
struct Kept {
    entry: u64,
    #[serde(flatten)]
    exceptions: Exceptions,
}

impl Exceptions {
    /// With the versions that differ between what is `admitted` and upstream's `files` for no other
    /// reason than that someone has to decide.
    pub(super) fn and_held(mut self, admitted: &FileList, files: &FileList) -> Self {
        let known = self.refused.iter().chain(&self.kept);
        let known: HashSet<&str> = known.map(|(package, _)| package.as_str()).collect();
        let differing = Differing::between(admitted, files);
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for package in differing.packages() {
            let name = package.to_string();
            match differing.was.contains_key(package) {
                _ if known.contains(name.as_str()) => {}
                true => held.push(name),
                false => waiting.push(name),
            }
        }
        (self.held, self.waiting) = (held, waiting);
        self
    }

    /// Those of a snapshot, as they were said last; without that, as its lists tell.
    pub(super) fn of_snapshot(
        store: &Store,
        repository: &str,
        entry: u64,
        admitted: &FileList,
        files: &FileList,
    ) -> Self {
        if let Some(kept) = Self::kept(store.layout(), repository, entry) {
            return kept;
        }
        match admitted == files {
            // A start is waited for, and nearly all of them are so.
            true => Self::default(),
            false => {
                let refused = left_out(admitted, files, entry);
                Self { refused, ..Self::default() }.and_held(admitted, files)
            }
        }
    }

    /// Those of a snapshot, as they were said last.
    pub fn kept(layout: &Layout, repository: &str, entry: u64) -> Option<Self> {
        let kept = std::fs::read(path(layout, repository)).ok()?;
        let kept: Kept = serde_json::from_slice(&kept).ok()?;
        Some(kept.exceptions).filter(|_| kept.entry == entry)
    }

    /// Keeps those of a snapshot for the next start.
    pub(super) fn keep(self, store: &Store, repository: &str, entry: u64) {
        let path = path(store.layout(), repository);
        let kept = serde_json::to_vec(&Kept { entry, exceptions: self });
        let kept = kept.map_err(std::io::Error::from).and_then(|kept| {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            durable::write(&path, &kept, 0o600)
        });
        if let Err(error) = kept {
            tracing::warn!(repository, %error, "the next start can't say why versions are left out");
        }
    }
}

fn path(layout: &Layout, repository: &str) -> PathBuf {
    layout.exceptions().join(format!("{repository}.json"))
}

/// The versions that upstream has and that were not admitted, each with the reason.
fn left_out(admitted: &FileList, files: &FileList, entry: u64) -> Vec<(String, String)> {
    let elsewhere = opam_files(files).filter(|(_, path, _)| !admitted.0.contains_key(*path));
    let elsewhere: Vec<Package> = elsewhere.map(|(package, ..)| package).collect();
    if elsewhere.is_empty() {
        return Vec::new();
    }
    let served: HashSet<Package> = opam_files(admitted).map(|(package, ..)| package).collect();
    let why = format!("left out when ledger entry {entry} was admitted");
    let left_out = elsewhere.iter().filter(|package| !served.contains(package));
    left_out.map(|package| (package.to_string(), why.clone())).collect()
}
