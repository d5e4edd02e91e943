//! Versions whose directories lie inside or around others' where case counts for nothing: unpacked on
//! such a disk, one would have files of the other.

use super::opam_files::OPAM;
use crate::opam::{RepoPath, Tree, ancestors, folded};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The directories of versions that are not to be served because of another one's, which each is
/// with: the one that `was_there` stays; without any, the outer one.
pub(super) fn overlaid<'t>(
    tree: &'t Tree,
    was_there: impl Fn(&str) -> bool,
) -> HashMap<&'t str, &'t RepoPath> {
    let depth = |directory: &RepoPath| directory.components().count();
    let depths: HashSet<usize> = tree.versions().map(|(_, directory)| depth(directory)).collect();
    let mut overlaid = HashMap::new();
    // Nothing lies inside another one where all lie equally deep.
    if depths.len() < 2 {
        return overlaid;
    }
    let mut by_folded: BTreeMap<String, Vec<&RepoPath>> = BTreeMap::new();
    for (_, directory) in tree.versions() {
        by_folded.entry(folded(directory.as_str())).or_default().push(directory);
    }
    let was_there = |directory: &RepoPath| was_there(&format!("{directory}{OPAM}"));
    let there = |group: &[&'t RepoPath]| group.iter().copied().find(|it| was_there(it));
    // Each is looked at once, however many there are of one spelling.
    let mut outers: HashMap<&str, Option<&RepoPath>> = HashMap::new();
    for (folded, inners) in &by_folded {
        let around = ancestors(folded).filter_map(|it| by_folded.get_key_value(it));
        let around: Vec<_> = around.collect();
        let Some((_, nearest)) = around.first() else { continue };
        let outer = around.iter().find_map(|(_, group)| there(group));
        let inner = there(inners);
        for (folded, _) in &around {
            let inside = outers.entry(folded).or_default();
            *inside = inside.or(inner);
        }
        for directory in inners.iter().filter(|it| outer.is_some() || !was_there(it)) {
            overlaid.insert(directory.as_str(), outer.unwrap_or(nearest[0]));
        }
    }
    for (folded, inner) in outers {
        let group = by_folded.get(folded).into_iter().flatten();
        for directory in group.filter(|it| inner.is_some() && !was_there(it)) {
            overlaid.extend(inner.map(|inner| (directory.as_str(), inner)));
        }
    }
    overlaid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opam::TreeLimits;

    #[test]
    fn what_was_there_stays_and_without_that_the_outer_one() {
        let (outer, other) = ("packages/a/a.1", "packages/A/a.2");
        let (inner, far) = ("packages/A/A.1/b.1", "packages/A/A.1/c/d.1");
        let file = |directory: &&str| {
            (format!("{directory}/opam").parse().unwrap(), "opam-version: \"2.0\"".into())
        };
        let tree = Tree::from_files([outer, other, inner, far].iter().map(file), &TreeLimits::NONE);
        let tree = tree.unwrap();
        for (there, expected) in [
            (&[][..], &[(inner, outer), (far, outer)][..]),
            (&[outer], &[(inner, outer), (far, outer)]),
            (&[far], &[(inner, outer), (outer, far)]),
            (&[inner, far], &[(outer, inner)]),
            (&[outer, inner, far], &[(inner, outer), (far, outer)]),
        ] {
            let was_there = |opam: &str| there.iter().any(|it| format!("{it}/opam") == opam);
            let found = overlaid(&tree, was_there);
            let mut names: Vec<&str> = found.keys().copied().collect();
            let mut wanted: Vec<&str> = expected.iter().map(|(one, _)| *one).collect();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted, "{there:?}");
        }
    }
}
