//! Writing the `index.tar.gz` that clients get: the same files always give the same bytes.

mod blocks;

pub use blocks::Blocks;

use super::path::RepoPath;
use crate::digest::Sha256;
use bytes::Bytes;
use flate2::Crc;
use std::ops::Range;
use tar::{EntryType, Header};

/// A file of an index.
#[derive(Clone, Copy, Debug)]
pub struct IndexFile<'a> {
    path: &'a RepoPath,
    name: Sha256,
    content: &'a [u8],
}

impl<'a> IndexFile<'a> {
    /// A file.
    pub fn new(path: &'a RepoPath, content: &'a [u8]) -> Self {
        Self::named(path, Sha256::of(content), content)
    }

    /// A file whose content was hashed before.
    pub fn named(path: &'a RepoPath, name: Sha256, content: &'a [u8]) -> Self {
        debug_assert_eq!(name, Sha256::of(content), "{path}");
        Self { path, name, content }
    }

    /// How many bytes of a tar archive it takes.
    fn size(&self) -> usize {
        BLOCK + padded(self.content.len())
    }
}

/// The unit of a tar archive.
const BLOCK: usize = 512;
/// A path of up to so many bytes fits in a ustar header unsplit.
const USTAR_NAME: usize = 100;
/// What a tar archive ends with.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// What the mode of every file is.
const MODE: u32 = 0o644;

/// Writes an index of these files.
///
/// It is a pure function of paths and contents, in whatever order they come: regular files only,
/// sorted, ustar headers that say nothing of owner and time, one gzip member without time and
/// system. An empty file is left out, as clients up to 2.3 can't update one.
///
/// `before` are the blocks of another index: where they are of the same files they need not be
/// compressed again. Those of this one come with it.
pub fn write_index<'a>(
    files: impl Iterator<Item = IndexFile<'a>>,
    before: &Blocks,
) -> Result<(Bytes, Blocks), IndexError> {
    let mut files: Vec<_> = files.filter(|file| !file.content.is_empty()).collect();
    files.sort_unstable_by_key(|file| file.path);
    if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(IndexError::Duplicate(pair[0].path.clone()));
    }
    blocks::gzip(&files, &groups(&files), before)
}

/// Whether an index can hold a file of this path.
pub fn fits_index(path: &RepoPath) -> bool {
    path.as_str().len() <= USTAR_NAME || header(path, 0).is_ok()
}

/// Why files can't be written as an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Two files of one path.
    #[error("the file \"{0}\" is there twice")]
    Duplicate(RepoPath),
    /// A path that no ustar header can hold: no `/` splits it into at most 155 and 100 bytes.
    #[error("the path \"{0}\" is too long for an index")]
    PathTooLong(RepoPath),
    /// The compressor failed.
    #[error("the index could not be compressed: {0}")]
    Compression(String),
}

/// The files of each block: cut before files whose names say so, so that what is added or removed
/// moves no other cut.
fn groups(files: &[IndexFile<'_>]) -> Vec<Range<usize>> {
    let (mut groups, mut start, mut length) = (Vec::new(), 0, 0);
    for (at, file) in files.iter().enumerate() {
        if at > start && (is_cut_before(file.path) || length + file.content.len() > LONGEST) {
            groups.push(start..at);
            (start, length) = (at, 0);
        }
        length += file.size();
    }
    groups.push(start..files.len());
    groups
}

/// These files in a tar archive that does not end with them.
fn tar(files: &[IndexFile<'_>]) -> Result<Vec<u8>, IndexError> {
    let size: usize = files.iter().map(IndexFile::size).sum();
    let mut tar = Vec::with_capacity(size + END.len());
    for IndexFile { path, content, .. } in files {
        tar.extend_from_slice(header(path, content.len())?.as_bytes());
        tar.extend_from_slice(content);
        tar.resize(padded(tar.len()), 0);
    }
    Ok(tar)
}

fn is_cut_before(path: &RepoPath) -> bool {
    let mut crc = Crc::new();
    crc.update(path.as_str().as_bytes());
    crc.sum().is_multiple_of(FILES)
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

fn header(path: &RepoPath, size: usize) -> Result<Header, IndexError> {
    let too_long = |_| IndexError::PathTooLong(path.clone());
    let mut header = Header::new_ustar();
    header.set_path(path.as_str()).map_err(too_long)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // ocaml-tar wants a number even where a device number means nothing.
    header.set_device_major(0).map_err(too_long)?;
    header.set_device_minor(0).map_err(too_long)?;
    header.set_size(size as u64);
    header.set_cksum();
    Ok(header)
}

/// About how many files a block has: some 32 KiB. Fewer would be compressed less well, and with more
/// an edit would have more compressed again.
const FILES: u32 = 16;
/// About how long a block gets at most.
const LONGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opam::tree::world;
    use crate::opam::{Tree, TreeLimits};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::process::Command;

    fn index(files: &[(String, &[u8])]) -> Result<Bytes, IndexError> {
        let files: Vec<(RepoPath, &[u8])> =
            files.iter().map(|(path, content)| (path.parse().unwrap(), *content)).collect();
        let files = files.iter().map(|(path, content)| IndexFile::new(path, content));
        write_index(files, &Blocks::default()).map(|(gz, _)| gz)
    }

    fn of_tree(tree: &Tree, before: &Blocks) -> (Bytes, Blocks) {
        let files = tree.files().map(|(path, content)| IndexFile::new(path, content));
        write_index(files, before).unwrap()
    }

    fn example() -> Vec<(String, &'static [u8])> {
        let long = format!("packages/{}/a.1/opam", "b".repeat(120));
        vec![
            ("repo".to_owned(), b"opam-version: \"2.0\"\n"),
            ("packages/a/a.1/opam".to_owned(), b"x: 1"),
            ("packages/a/a.1/files/empty".to_owned(), b""),
            ("packages/a/a.1/files/b c".to_owned(), &[b'z'; 1000]),
            (long.replace("a.1", "c.1"), b"y: 2"),
        ]
    }

    #[test]
    fn trap_11_the_index_is_what_every_client_reads() {
        let gz = index(&example()).unwrap();
        // Magic, deflate, no flags, no time, best compression or nothing said, unknown system.
        assert_eq!(gz[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(gz[9], 255);
        let mut tar = Vec::new();
        let mut member = flate2::bufread::GzDecoder::new(&gz[..]);
        std::io::Read::read_to_end(&mut member, &mut tar).unwrap();
        assert!(member.into_inner().is_empty(), "one gzip member and no byte more");
        let mut archive = tar::Archive::new(&tar[..]);
        let mut names = Vec::new();
        for entry in archive.entries().unwrap().raw(true) {
            let entry = entry.unwrap();
            let header = entry.header();
            assert!(header.as_ustar().is_some() && header.entry_type() == EntryType::Regular);
            assert_eq!(header.mode().unwrap(), 0o644);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 0);
            assert_eq!(
                (header.username().unwrap(), header.groupname().unwrap()),
                (Some(""), Some(""))
            );
            assert_eq!(header.device_major().unwrap(), Some(0));
            assert!(entry.size() > 0);
            names.push(String::from_utf8(entry.path_bytes().into_owned()).unwrap());
        }
        assert!(names.is_sorted() && names.len() == 4 && names.last().unwrap() == "repo");
        assert!(tar.ends_with(&[0; 1024]));
    }

    #[test]
    fn gnu_tar_lists_it() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), index(&example()).unwrap()).unwrap();
        let Ok(output) = Command::new("tar").arg("tzvf").arg(path.path()).output() else {
            println!("skipped: there is no tar");
            return;
        };
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{listing}");
        assert_eq!(listing.lines().count(), 4);
        assert!(listing.lines().all(|line| line.starts_with("-rw-r--r-- 0/0")), "{listing}");
    }

    #[test]
    fn what_no_header_can_hold_is_refused() {
        let name = "a".repeat(101);
        for path in [name.clone(), format!("packages/{name}"), format!("{}/b", "a".repeat(156))] {
            let error = index(&[(path.clone(), b"x")]).unwrap_err();
            assert_eq!(error, IndexError::PathTooLong(path.parse().unwrap()));
        }
        let longest = format!("{}/{}", "a".repeat(155), "b".repeat(100));
        assert!(index(&[(longest, b"x")]).is_ok());
        let twice = [("a".to_owned(), &b"x"[..]), ("a".to_owned(), b"y")];
        assert_eq!(index(&twice), Err(IndexError::Duplicate("a".parse().unwrap())));
    }

    proptest! {
        #[test]
        fn trap_13_any_order_of_the_same_files_gives_the_same_bytes(
            order in Just(example()).prop_shuffle()
        ) {
            prop_assert_eq!(index(&order).unwrap(), index(&example()).unwrap());
        }

        #[test]
        fn what_is_written_reads_back(
            contents in prop::collection::btree_map("[a-c]{1,3}", "[xy]{1,600}", 1..6)
        ) {
            let files = contents.iter().map(|(name, content)| {
                let path: RepoPath = format!("packages/{name}/{name}.1/opam").parse().unwrap();
                (path, Bytes::from(content.clone()))
            });
            let files = files.chain([("repo".parse().unwrap(), Bytes::from_static(b"x"))]);
            let tree = Tree::from_files(files, &TreeLimits::default()).unwrap();
            let gz = of_tree(&tree, &Blocks::default()).0;
            let again = Tree::from_index(&gz, &TreeLimits::default()).unwrap();
            prop_assert!(tree.files().eq(again.files()) && tree.versions().eq(again.versions()));
        }
    }

    #[test]
    fn blocks_of_another_index_change_no_byte() {
        let tree = |edited: usize| {
            let text = |number| if number == edited { "edited" } else { "as it was" };
            let files = (0..600).map(|number| {
                let path = format!("packages/p/p.{number}/opam");
                (path.parse().unwrap(), Bytes::from(text(number).repeat(20 + number % 7)))
            });
            Tree::from_files(files, &TreeLimits::default()).unwrap()
        };
        let (_, before) = of_tree(&tree(usize::MAX), &Blocks::default());
        assert!(before.len() > 5, "{} blocks", before.len());
        for edited in [0, 17, 300, 599] {
            let (apart, blocks) = of_tree(&tree(edited), &Blocks::default());
            let (together, _) = of_tree(&tree(edited), &before);
            assert_eq!(apart, together);
            let common = before.common(&blocks);
            assert!(common + 5 >= blocks.len(), "{common} of {} are as before", blocks.len());
        }
    }

    #[test]
    fn a_real_repository_reads_back() {
        for (name, tree) in world::snapshots() {
            let start = std::time::Instant::now();
            let gz = of_tree(&tree, &Blocks::default()).0;
            println!("{name}: {} bytes, {}, in {:?}", gz.len(), Sha256::of(&gz), start.elapsed());
            let again = Tree::from_index(&gz, &TreeLimits::default()).unwrap();
            assert!(tree.files().eq(again.files()));
        }
    }
}
