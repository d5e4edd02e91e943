//! Two real snapshots of the public repository, two months apart.

use super::super::*;
use crate::opam::tree::world;
use std::collections::BTreeMap;

#[test]
fn explore() {
    let snapshots = world::snapshots();
    let [(_, before), (_, after)] = &snapshots[..] else { return };
    let start = std::time::Instant::now();
    let edits = edits(before, after);
    println!("{} edits in {:?}", edits.len(), start.elapsed());
    let mut counts: BTreeMap<EditKind, usize> = BTreeMap::new();
    for edit in &edits {
        for kind in edit.kinds() {
            *counts.entry(kind).or_default() += 1;
        }
    }
    println!("{counts:?}");
    for edit in &edits {
        for change in &edit.changes {
            println!("== {} {}", edit.package, change.kind);
            println!("-{}", change.before.as_deref().unwrap_or("").replace('\n', "\n-"));
            println!("+{}", change.after.as_deref().unwrap_or("").replace('\n', "\n+"));
        }
    }
    for (name, tree) in &snapshots {
        for (package, _) in tree.versions() {
            let files = VersionFiles::of(tree, package).unwrap();
            if let Some(problems) = State::read(&files).problems() {
                println!("## {name} {package}: {problems}");
            }
        }
    }
}
