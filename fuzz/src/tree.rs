//! index.tar.gz: a tree that is taken can be served, and is the same tree for who reads that.

use crate::mending::{choice, gzip, with_right_sums};
use opam_keep::opam::{
    Blocks, IndexFile, Tree, TreeLimits, edits, findings, fits_index, write_index,
};

/// A repository that reads is within the limits, and reads back from what is written of it.
pub fn index(input: &[u8]) {
    let Some((choice, bytes)) = choice(input) else { return };
    let index = match choice % 3 {
        0 => bytes.to_vec(),
        1 => gzip(bytes),
        _ => gzip(&with_right_sums(bytes)),
    };
    let Ok(tree) = Tree::from_index(&index, &LIMITS) else { return };
    assert!(tree.files().len() <= LIMITS.entries && tree.versions().len() > 0);
    let size: usize = tree.files().map(|(_, content)| content.len()).sum();
    assert!(size <= LIMITS.inflated_bytes);
    assert!(tree.files().all(|(_, content)| (1..=LIMITS.file_size).contains(&content.len())));
    assert!(tree.versions().is_sorted_by(|one, next| one.0 < next.0));
    let _ = findings(&tree);
    assert!(edits(&tree, &tree).is_empty());
    for (package, _) in tree.versions() {
        assert!(tree.opam_file(package).is_some() && tree.version_files(package).count() > 0);
    }
    if tree.files().any(|(path, _)| !fits_index(path)) {
        return;
    }
    let write = |before: &Blocks| {
        let files = tree.files().map(|(path, content)| IndexFile::new(path, content));
        write_index(files, before).expect("a tree whose paths fit can be written")
    };
    let (written, blocks) = write(&Blocks::default());
    assert_eq!(write(&blocks).0, written, "blocks of an index before change no byte");
    let again = Tree::from_index(&written, &TreeLimits::default()).expect("it reads back");
    assert!(tree.files().eq(again.files()) && tree.versions().eq(again.versions()));
}

/// Small, so that what goes over them shows.
const LIMITS: TreeLimits =
    TreeLimits { inflated_bytes: 1 << 18, entries: 60, file_size: 1 << 16, depth: 16 };
