//! Real snapshots of the public repository for tests, where they are at hand.

use super::{Tree, TreeLimits};
use std::path::PathBuf;

/// Every snapshot with its name; none, and a line that says so, where the world is not there.
///
/// `OPAM_KEEP_WORLD` names the world's directory; else it lies next to the project.
pub(in crate::opam) fn snapshots() -> Vec<(String, Tree)> {
    let paths = paths();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let index = std::fs::read(&path).unwrap();
        (name, Tree::from_index(&index, &TreeLimits::default()).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// Where the snapshots lie.
pub(in crate::opam) fn paths() -> Vec<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/world");
    let world = std::env::var_os("OPAM_KEEP_WORLD").map_or_else(|| beside.into(), PathBuf::from);
    let Ok(listing) = std::fs::read_dir(world.join("opam-repository")) else {
        println!("skipped: there is no world of real repositories at {}", world.display());
        return Vec::new();
    };
    let files = listing.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        files.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    paths.sort();
    paths
}
