//! What an index.tar.gz holds.

use flate2::read::MultiGzDecoder;
use std::collections::BTreeMap;
use std::io::Read as _;

/// The files of an index.tar.gz, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index(BTreeMap<String, Vec<u8>>);

impl Index {
    /// Reads an index as it came over the wire.
    pub fn read(bytes: &[u8]) -> Self {
        let mut archive = tar::Archive::new(MultiGzDecoder::new(bytes));
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("the index is a tarball") {
            let mut entry = entry.expect("the index's entries can be read");
            if entry.header().entry_type().is_dir() {
                continue;
            }
            let path = String::from_utf8(entry.path_bytes().into_owned()).expect("paths are UTF-8");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("the index is whole");
            let first = files.insert(path.clone(), content).is_none();
            assert!(first, "{path} is in the index twice");
        }
        Self(files)
    }

    /// The file `repo` at the root.
    pub fn repo(&self) -> &str {
        self.text("repo").expect("the index has a file `repo` at its root")
    }

    /// The opam file of `name.version`.
    pub fn opam(&self, package: &str) -> Option<&str> {
        let name = package.split_once('.').expect("a package is written name.version").0;
        self.text(&format!("packages/{name}/{package}/opam"))
    }

    /// Every `name.version`, sorted.
    pub fn packages(&self) -> Vec<&str> {
        self.0
            .keys()
            .filter_map(|path| path.strip_prefix("packages/")?.strip_suffix("/opam"))
            .filter_map(|path| path.rsplit('/').next())
            .collect()
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(|bytes| std::str::from_utf8(bytes).expect("opam files are UTF-8"))
    }
}
