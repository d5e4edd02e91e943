//! Versions whose directories lie inside or around others' where case counts for nothing: unpacked on
//! such a disk, one would have files of the other.

use super::opam_files::OPAM;
use crate::opam::{RepoPath, Tree, ancestors, folded};
use std::collections::{HashMap, HashSet};

/// The directories of versions that are not to be served because of another one's, which each is
/// with: the one that `was_there` stays; without any, the outer one.
pub(super) fn overlaid(tree: &Tree, was_there: impl Fn(&str) -> bool) -> HashMap<&str, &RepoPath> {
    let depth = |directory: &RepoPath| directory.components().count();
    let depths: HashSet<usize> = tree.versions().map(|(_, directory)| depth(directory)).collect();
    let mut overlaid = HashMap::new();
    // Nothing lies inside another one where all lie equally deep.
    if depths.len() < 2 {
        return overlaid;
    }
    let mut by_folded: HashMap<String, Vec<&RepoPath>> = HashMap::new();
    for (_, directory) in tree.versions() {
        by_folded.entry(folded(directory.as_str())).or_default().push(directory);
    }
    let was_there = |directory: &RepoPath| was_there(&format!("{directory}{OPAM}"));
    for (folded, inners) in &by_folded {
        for outer in ancestors(folded).filter_map(|outer| by_folded.get(outer)).flatten() {
            for inner in inners {
                match was_there(inner) && !was_there(outer) {
                    true => overlaid.insert(outer.as_str(), *inner),
                    false => overlaid.insert(inner.as_str(), *outer),
                };
            }
        }
    }
    overlaid
}
