//! opam files, pairs of them, `repo` files, versions and indexes.

use crate::Corpus;
use flate2::read::GzDecoder;
use opam_keep::opam::{Blocks, IndexFile, Tree, TreeLimits, edits, write_index};
use std::io::{self, Read as _};
use world::{Kind, Package, Recorded, Repo};

pub(crate) fn seed(corpus: &Corpus, recorded: Option<&Recorded>) -> io::Result<()> {
    let indexes: Vec<Vec<u8>> = match recorded {
        Some(recorded) => recorded.snapshots().iter().map(|snapshot| snapshot.index()).collect(),
        None => Vec::new(),
    };
    let made = [made("1.0", "https://a.example/a.tar.gz"), made("1.0", "https://b.example/b.zip")];
    let read = |index: Vec<u8>| Tree::from_index(&index, &TreeLimits::default()).ok();
    let trees: Vec<Tree> = indexes.into_iter().chain(made).filter_map(read).collect();
    for tree in &trees {
        files(corpus, tree)?;
    }
    for pair in trees.windows(2) {
        pairs(corpus, &pair[0], &pair[1])?;
    }
    for versions in ["1.0 1.00 1.0~beta", "0.1 1.0-test 1.0.1", "dev trunk ~~", "a.1 A.1 a.01"] {
        corpus.add("opam_version", versions)?;
    }
    for opam in KINDS {
        corpus.add("opam_file", opam)?;
    }
    for pair in KINDS.windows(2) {
        corpus.add("edit", pair.join("\0"))?;
    }
    Ok(())
}

/// Files of a tree as seeds: each so many-th of those that are not too large.
fn files(corpus: &Corpus, tree: &Tree) -> io::Result<()> {
    corpus.add("repo_file", tree.repo_file().map_or(&b""[..], |file| &file[..]))?;
    let small = tree
        .versions()
        .filter(|(package, _)| tree.opam_file(package).is_some_and(|opam| opam.len() <= LARGEST));
    let step = tree.versions().len().div_ceil(MOST);
    let mut versions = String::new();
    for (number, (package, _)) in small.enumerate().filter(|(number, _)| number % step == 0) {
        if let Some(opam) = tree.opam_file(package) {
            corpus.add("opam_file", opam)?;
            if number % (8 * step) == 0 {
                index(corpus, tree, package)?;
            }
        }
        versions += &format!("{} ", package.version);
    }
    let versions: Vec<&str> = versions.split(' ').collect();
    versions.chunks(3).try_for_each(|three| corpus.add("opam_version", three.join(" ")))
}

/// A repository of one version, as tar archive and as gzip file.
fn index(corpus: &Corpus, tree: &Tree, package: &opam_keep::opam::Package) -> io::Result<()> {
    let repo = tree.files().filter(|(path, _)| path.as_str() == "repo");
    let files = repo.chain(tree.version_files(package));
    let files = files.map(|(path, content)| IndexFile::new(path, content));
    let Ok((gz, _)) = write_index(files, &Blocks::default()) else {
        return Ok(());
    };
    let mut tar = Vec::new();
    GzDecoder::new(&gz[..]).read_to_end(&mut tar)?;
    // The last byte says what is made of the others.
    for (choice, bytes) in [(0, gz.to_vec()), (1, tar.clone()), (2, tar)] {
        if bytes.len() <= LARGEST {
            corpus.add("index", [&bytes[..], &[choice]].concat())?;
        }
    }
    Ok(())
}

/// Versions that were edited between two states, as both files with a zero between them.
fn pairs(corpus: &Corpus, before: &Tree, after: &Tree) -> io::Result<()> {
    let edited = edits(before, after);
    let pairs = edited.iter().filter_map(|edit| {
        let (old, new) = (before.opam_file(&edit.package)?, after.opam_file(&edit.package)?);
        (old.len() + new.len() < LARGEST).then(|| [&old[..], &[0], &new[..]].concat())
    });
    pairs.take(MOST).try_for_each(|pair| corpus.add("edit", pair))
}

fn made(version: &str, url: &str) -> Vec<u8> {
    let package = Package::bare("a", version)
        .archive(url, &Kind::ALL)
        .mirror("https://mirror.example/a")
        .extra_source("b/c.patch", url, b"a patch", &[Kind::Md5])
        .depends("b");
    Repo::new([package, Package::bare("b", "2")]).index()
}

/// What the recorded files rarely or never have.
const KINDS: [&str; 7] = [
    "opam-version: \"2.1\"\nflags: [conf plugin]\ndepends: [\"a\" {>= \"1\" & (build | ?x)} \"b\"]\n",
    "depexts: [[\"x\"] {os = \"linux\"}] # c\n(* (* *) *)\r\nsetenv: [A += \"b\" C =: d E =+= f]\n",
    "url { archive: \"https://a.example/a\" checksum: \"900150983cd24fb0d6963f7d28e17f72\" }\n",
    "extra-sources: [[\"https://a.example/p\" \"p\"]] patches: [\"p\" {os != \"win32\"}]\n",
    "extra-files: [[\"a\" \"md5=900150983cd24fb0d6963f7d28e17f72\"]] available: !(a | b)\n",
    "installed: [\"a.1\" \"b.2\"] pinned: [\"b.2\"] description: \"\"\"\n a\\\n \\065\\x41\"\"\"\n",
    "features { a { b: -1 } } url { git: \"https://a.example\" subpath: \"b\" mirrors: [] }\n",
];
/// Files from how many versions.
const MOST: usize = 100;
/// Longest seed, in bytes.
const LARGEST: usize = 5 << 10;
