//! Versions that some clients take for one another. A new one must not stand in for one that was
//! served before without being held against it.

use super::departed::Departed;
use super::differing::below;
use super::file_list::FileList;
use super::opam_files::{OPAM, package};
use crate::opam::{Package, ancestors};
use std::collections::{BTreeMap, HashMap, HashSet};

/// For each new version those that it could be taken for.
pub(super) struct Alike<'a>(BTreeMap<&'a Package, Vec<Other>>);

/// A version that was there before.
#[derive(Clone)]
pub(super) enum Other {
    /// Its name and its files.
    Served(Package, FileList),
    Departed(Package),
}

impl<'a> Alike<'a> {
    /// Looks for those of `added`.
    pub(super) fn of(added: &[&'a Package], served: &FileList, departed: &Departed) -> Self {
        let wanted: HashSet<String> = added.iter().map(|package| package.likeness()).collect();
        // Most versions need no closer look.
        let names = added.iter().map(|package| package.name.as_str().to_ascii_lowercase());
        let names: HashSet<String> = names.collect();
        let may_be = |directory: &&str| {
            let (_, version) = directory.rsplit_once('/').unwrap_or(("", directory));
            version
                .split_once('.')
                .is_some_and(|(name, _)| names.contains(&name.to_ascii_lowercase()))
        };
        let mut known: HashMap<String, Vec<Other>> = HashMap::new();
        let mut note = |likeness: String, other: Other| {
            let alike = known.entry(likeness).or_default();
            if alike.len() <= Self::MOST {
                alike.push(other);
            }
        };
        let directories = served.0.keys().filter_map(|path| path.as_str().strip_suffix(OPAM));
        for directory in directories.filter(may_be) {
            let Some(package) = package(directory) else { continue };
            let (likeness, is_outermost) = (package.likeness(), || {
                !ancestors(directory).any(|it| served.0.contains_key(&*format!("{it}{OPAM}")))
            });
            if wanted.contains(&likeness) && is_outermost() {
                let files = below(served, directory).map(|(_, path, name)| (path.clone(), name));
                note(likeness, Other::Served(package, files.collect()));
            }
        }
        for package in departed.packages().filter(|it| may_be(&&*it.to_string())) {
            note(package.likeness(), Other::Departed(package.clone()));
        }
        let others = |added: &&'a Package| {
            let others = known.get(&added.likeness()).into_iter().flatten();
            let others = others.filter(|it| it.package() != *added);
            (*added, others.take(Self::MOST).cloned().collect())
        };
        Self(added.iter().map(others).collect())
    }

    /// At most [`Self::MOST`].
    pub(super) fn others(&self, added: &Package) -> &[Other] {
        self.0.get(added).map_or(&[], Vec::as_slice)
    }

    /// So many are told of one version.
    pub(super) const MOST: usize = 16;
}

impl Other {
    pub(super) fn package(&self) -> &Package {
        match self {
            Self::Served(package, _) | Self::Departed(package) => package,
        }
    }
}
