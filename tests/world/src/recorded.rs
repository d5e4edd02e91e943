//! The recorded piece of the real internet, where it is at hand.

use crate::world::World;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Real snapshots of opam's repository and the real archives that some of its packages name.
#[derive(Debug)]
pub struct Recorded {
    snapshots: Vec<Snapshot>,
    archives: Vec<Archive>,
}

/// One row of manifest.tsv, with its bytes.
#[derive(Debug)]
struct Archive {
    url: String,
    bytes: Bytes,
    packages: Vec<String>,
}

/// opam's own repository as it was on one day.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
}

impl Recorded {
    /// What `OPAM_KEEP_WORLD` names, else `../shared/world` beside the project; `None` where there
    /// is neither.
    pub fn find() -> Option<Self> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/world");
        let root = std::env::var_os("OPAM_KEEP_WORLD").map_or(PathBuf::from(beside), PathBuf::from);
        let manifest = std::fs::read_to_string(root.join("manifest.tsv")).ok()?;
        Some(Self { snapshots: snapshots(&root), archives: archives(&root, &manifest) })
    }

    /// Makes all archives downloadable in `world`, and `snapshot` the current one.
    pub fn publish(&self, world: &World, snapshot: &Snapshot) {
        for archive in &self.archives {
            world.put(&archive.url, archive.bytes.clone());
        }
        world.put(&format!("{}/index.tar.gz", World::OPAM), snapshot.index());
    }

    /// Every snapshot, the oldest first.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Every package that has an archive here, as name.version.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.archives.iter().flat_map(|archive| archive.packages.iter().map(String::as_str))
    }

    /// The URLs of all archives.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.archives.iter().map(|archive| archive.url.as_str())
    }

    /// The bytes of all archives, each once.
    pub fn archives(&self) -> impl Iterator<Item = &Bytes> {
        let mut seen = HashSet::new();
        let bytes = self.archives.iter().map(|archive| &archive.bytes);
        bytes.filter(move |bytes| seen.insert(bytes.as_ptr()))
    }

    /// The URLs of all archives and extra sources of `package`, written name.version.
    pub fn urls_of(&self, package: &str) -> Vec<&str> {
        let named = |archive: &&Archive| archive.packages.iter().any(|name| name == package);
        let urls: Vec<_> = self.archives.iter().filter(named).map(|row| row.url.as_str()).collect();
        assert!(!urls.is_empty(), "{package} is not in the recorded world");
        urls
    }
}

impl Snapshot {
    /// The index.tar.gz as upstream served it.
    pub fn index(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("a snapshot can be read")
    }
}

/// Their names begin with the date, so sorted is in order.
fn snapshots(root: &Path) -> Vec<Snapshot> {
    let mut paths: Vec<_> = std::fs::read_dir(root.join("opam-repository"))
        .expect("a recorded world has snapshots")
        .map(|entry| entry.expect("the snapshots can be listed").path())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| Snapshot { path }).collect()
}

fn archives(root: &Path, manifest: &str) -> Vec<Archive> {
    let mut read = BTreeMap::new();
    let rows = manifest.lines().skip(1).map(|line| {
        let mut columns = line.split('\t');
        let url = columns.next().expect("a row of manifest.tsv begins with a URL");
        let sha256 = columns.next().expect("a row's second column is a sha256");
        let bytes = read.entry(sha256).or_insert_with(|| {
            let path = root.join("archives").join(sha256);
            Bytes::from(std::fs::read(path).expect("what manifest.tsv names is there"))
        });
        let packages = columns.nth(1).expect("a row's fourth column is packages");
        Archive {
            url: url.to_owned(),
            bytes: bytes.clone(),
            packages: packages.split(',').map(str::to_owned).collect(),
        }
    });
    rows.collect()
}
