//! Hostile and ordinary indexes.

mod readers;
mod verbatim;

use super::*;
use crate::opam::path::MAX_PATH_LEN;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::io::Write;
use tar::{EntryType, Header};

const REPO_TEXT: &[u8] = b"opam-version: \"2.0\"\n";
const OPAM_PATH: &str = "packages/a/a.1/opam";

/// A tar archive under construction; names go into the headers just as they are.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// With a `repo` file and one version, so that it is a repository.
    fn repository() -> Self {
        Self::default().file("repo", REPO_TEXT).file(OPAM_PATH, b"x: 1")
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, content)
    }

    fn entry(self, entry_type: EntryType, name: &str, content: &[u8]) -> Self {
        self.sized(entry_type, name, content.len() as u64, content)
    }

    fn sized(mut self, entry_type: EntryType, name: &str, size: u64, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(entry_type);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A file whose header is like no ordinary one.
    fn with_header(self, name: &str, content: &[u8], change: impl Fn(&mut [u8; 512])) -> Self {
        let start = self.0.len();
        let mut tar = self.file(name, content);
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&tar.0[start..start + 512]);
        change(header.as_mut_bytes());
        header.set_cksum();
        tar.0[start..start + 512].copy_from_slice(header.as_bytes());
        tar
    }

    fn read(&self) -> Result<Tree, TreeError> {
        self.read_within(&TreeLimits::default())
    }

    fn read_within(&self, limits: &TreeLimits) -> Result<Tree, TreeError> {
        Tree::from_index(&self.gzip(), limits)
    }

    fn gzip(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.0).unwrap();
        encoder.write_all(&[0; 1024]).unwrap();
        encoder.finish().unwrap()
    }

    fn error(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

#[test]
fn an_ordinary_index_reads_with_and_without_a_dot() {
    for dot in ["", "./"] {
        let named = |name: &str| format!("{dot}{name}");
        let tree = Tar::default()
            .entry(EntryType::Directory, "./", b"")
            .entry(EntryType::Directory, &named("packages/"), b"")
            .entry(EntryType::Directory, &named("packages/a/a.1"), b"")
            .file(&named(OPAM_PATH), b"x: 1")
            .file(&named("packages/a/a.1/files/fix"), b"fix")
            .file(&named("packages/deep/er/b.2/opam"), b"y: 2")
            .file(&named("packages/a/README"), b"read")
            .file(&named("repo"), REPO_TEXT)
            .file(&named("version"), b"ignored")
            .file(&named(".git/config"), b"ignored")
            .read()
            .unwrap();
        assert_eq!(tree.files().len(), 4);
        assert_eq!(tree.repo_file().unwrap(), REPO_TEXT);
        let versions: Vec<_> = tree.versions().map(|(package, _)| package.to_string()).collect();
        assert_eq!(versions, ["a.1", "b.2"]);
        let package = "a.1".parse().unwrap();
        assert_eq!(tree.opam_file(&package).unwrap(), &b"x: 1"[..]);
        assert_eq!(tree.directory(&package).unwrap().as_str(), "packages/a/a.1");
        let names: Vec<_> =
            tree.version_files(&package).map(|(path, _)| path.file_name()).collect();
        assert_eq!(names, ["fix", "opam"]);
        assert_eq!(tree.version_files(&"c.3".parse().unwrap()).count(), 0);
    }
}

#[test]
fn trap_11_only_regular_files_are_served() {
    for (entry_type, kind) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a named pipe"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::Continuous, "of a kind"),
        (EntryType::new(b'V'), "of a kind"),
    ] {
        for name in ["packages/a/a.1/files/x", "other"] {
            let error = Tar::repository().entry(entry_type, name, b"").error();
            assert!(error.starts_with(&format!("\"{name}\" is {kind}")), "{error}");
        }
    }
    let sparse = Tar::repository()
        .entry(EntryType::XHeader, "p", b"22 GNU.sparse.major=1\n")
        .file("packages/a/a.1/files/x", b"x");
    assert!(sparse.error().contains("extended header"));
}

#[test]
fn trap_11_no_name_leads_out_or_comes_twice() {
    for name in ["../x", "packages/../../x", "/etc/passwd", "packages/a\\b", "packages//a", "x/"] {
        let error = Tar::repository().file(name, b"x").error();
        assert!(error.contains("is not a safe path"), "{name}: {error}");
    }
    let directory = Tar::repository().entry(EntryType::Directory, "packages/../x/", b"");
    assert!(directory.error().contains("is not a safe path"));
    let twice = Tar::repository().file("./repo", b"other");
    assert_eq!(twice.error(), "the file \"repo\" is there twice");
    let twice = Tar::repository().file(&format!("./{OPAM_PATH}"), b"x: 1");
    assert_eq!(twice.error(), format!("the file \"{OPAM_PATH}\" is there twice"));
}

#[test]
fn trap_12_no_path_is_both_a_file_and_a_directory() {
    for both in [
        Tar::repository().file("packages/a/a.1", b"x"),
        Tar::repository().file("packages/a/a.1/opam/x", b"x"),
        Tar::repository().file("repo/x", b"x").file("packages/a", b"x"),
        Tar::repository().file("packages", b"x"),
        Tar::repository().entry(EntryType::Directory, "repo/", b""),
        Tar::repository().entry(EntryType::Directory, "packages/a/a.1/opam/x/y/", b""),
    ] {
        let error = both.error();
        assert!(error.ends_with("is both a file and a directory"), "{error}");
    }
}

#[test]
fn trap_12_no_empty_file_is_served() {
    let tree = Tar::repository()
        .file("packages/a/a.1/files/empty", b"")
        .file("packages/a/a.2/opam", b"")
        .read()
        .unwrap();
    assert_eq!((tree.files().len(), tree.versions().len()), (2, 1));
    assert!(matches!(
        Tar::default().file("repo", b"").file(OPAM_PATH, b"x: 1").read(),
        Err(TreeError::NoRepoFile)
    ));
}

#[test]
fn what_lies_in_no_version_is_left_out_and_so_hides_none() {
    let tree = Tar::repository()
        .entry(EntryType::Directory, "packages/opam/", b"")
        .file("packages/README", b"x")
        .file("packages/a/opam/README", b"x")
        .file("packages/a/opam/b.1/opam", b"x: 1")
        .file("packages/opam/c.1/opam", b"x: 1")
        .file("packages/d/d.1/opam/x", b"x")
        .file("packages/a/a.1/files/a.1/opam", b"x: 2")
        .file("packages/a/a.1/files/opam/x", b"x")
        .read()
        .unwrap();
    let paths: Vec<&str> = tree.files().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["packages/a/a.1/files/opam/x", OPAM_PATH, "repo"]);
    assert_eq!(tree.versions().len(), 1);
    for stray in ["packages/opam", "packages/a/opam"] {
        let tree = Tar::repository().file(stray, b"x").read().unwrap();
        let paths: Vec<&str> = tree.files().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [OPAM_PATH, "repo"], "{stray}");
    }
    let files = tree.files().map(|(path, content)| (path.clone(), content.clone()));
    let stray = ("packages/opam/x".parse().unwrap(), Bytes::from_static(b"x"));
    let changed = tree.changed(&BTreeSet::new(), [stray.clone()]).unwrap();
    assert!(changed.files().eq(tree.files()));
    let collected = Tree::from_files(files.chain([stray]), &TreeLimits::default()).unwrap();
    assert!(collected.files().eq(tree.files()));
}

#[test]
fn trap_23_what_would_empty_the_package_list_is_refused() {
    assert!(matches!(Tar::default().read(), Err(TreeError::Empty)));
    let no_repo = Tar::default().file(OPAM_PATH, b"x: 1");
    assert_eq!(no_repo.error(), "the file \"repo\" is missing at the root, or empty");
    let no_packages = Tar::default().file("repo", REPO_TEXT).file("packages/a/README", b"x");
    assert!(no_packages.error().starts_with("the repository is empty"));
    let elsewhere = Tar::default()
        .file("opam-repository-master/repo", REPO_TEXT)
        .file(&format!("opam-repository-master/{OPAM_PATH}"), b"x: 1");
    assert_eq!(
        elsewhere.error(),
        "the repository is not at the root but in the directory \"opam-repository-master\""
    );
}

#[test]
fn a_version_is_found_where_opam_finds_it_and_only_once() {
    let tree = Tar::repository()
        .file("packages/a/a.1/files/b.1/opam", b"no version: it is a file of one")
        .file("packages/c.1/opam", b"x: 1")
        .file("packages/c.1-x/opam", b"x: 1")
        .file("packages/not-a-version/opam", b"x: 1")
        .read()
        .unwrap();
    let versions: Vec<_> = tree.versions().map(|(package, _)| package.to_string()).collect();
    assert_eq!(versions, ["a.1", "c.1", "c.1-x"]);
    let twice = Tar::repository().file("packages/b/a.1/opam", b"x: 1");
    assert_eq!(
        twice.error(),
        "a.1 is there twice, in \"packages/a/a.1\" and in \"packages/b/a.1\""
    );
}

#[test]
fn long_names_are_read_in_every_form_and_checked() {
    let long = format!("packages/{}/a.2/opam", "b".repeat(120));
    let record = format!(" path={long}\n");
    let record = format!("{}{record}", record.len() + 3);
    for (entry_type, content) in
        [(EntryType::GNULongName, format!("{long}\0")), (EntryType::XHeader, record)]
    {
        let tar = Tar::repository().entry(entry_type, "x", content.as_bytes());
        assert!(tar.clone().file("short", b"x: 2").read().unwrap().file(&long).is_some());
        assert!(tar.error().contains("no file or directory follows"), "{}", tar.error());
    }
    let hidden = Tar::repository().entry(EntryType::XHeader, "x", b"13 path=../a\n");
    assert!(hidden.file("packages/a/b", b"x").error().contains("is not a safe path"));
    let long = Tar::repository().entry(EntryType::GNULongName, "x", &[b'a'; 300]);
    assert!(long.file("short", b"x").error().contains("longer than 256 bytes"));
}

#[test]
fn everything_is_bounded() {
    let limits = TreeLimits { inflated_bytes: 8 << 10, entries: 4, file_size: 1000, depth: 16 };
    let large = Tar::repository().file("packages/x", &[b'x'; 1001]);
    let error = large.read_within(&limits).unwrap_err().to_string();
    assert_eq!(error, "the file \"packages/x\" is larger than 1000 bytes");
    let many = (0..3).fold(Tar::repository(), |tar, name| tar.file(&name.to_string(), b"x"));
    let error = many.read_within(&limits).unwrap_err();
    assert!(matches!(error, TreeError::TooManyEntries { limit: 4 }), "{error}");
    let full = Tar::repository().file("x", &[b'x'; 9000]);
    let error = full.read_within(&limits).unwrap_err();
    assert!(matches!(error, TreeError::TooLarge { limit: 8192 }), "{error}");
    for size in [2000, u64::MAX, u64::MAX - 1024, 1 << 62] {
        let lying = Tar::repository().sized(EntryType::Regular, "packages/x", size, b"x");
        assert!(matches!(lying.read(), Err(TreeError::Tar(_))), "{size}");
    }
    for (depth, is_read) in [(16, true), (17, false)] {
        let path = format!("packages/a/a.1/{}x", "d/".repeat(depth - 4));
        let deep = Tar::repository().file(&path, b"x");
        let read = deep.read();
        assert_eq!(read.is_ok(), is_read, "{path}");
        assert_eq!(matches!(read, Err(TreeError::TooDeep { limit: 16, .. })), !is_read, "{path}");
        let admitted = [OPAM_PATH, &path].map(|path| (path.parse().unwrap(), "x: 1".into()));
        assert!(Tree::from_files(admitted, &TreeLimits::NONE).is_ok(), "{path}");
    }
    let files = (0..3).map(|name| (name.to_string().parse().unwrap(), Bytes::from_static(b"x")));
    let limits = TreeLimits { entries: 2, ..limits };
    let error = Tree::from_files(files, &limits).unwrap_err();
    assert!(matches!(error, TreeError::TooManyEntries { limit: 2 }), "{error}");
}

#[test]
fn files_from_elsewhere_obey_the_same_rules() {
    let tree = |paths: &[&str]| {
        let files = paths.iter().map(|path| (path.parse().unwrap(), Bytes::from_static(b"x: 1")));
        Tree::from_files(files, &TreeLimits::default())
    };
    assert!(tree(&[OPAM_PATH]).unwrap().repo_file().is_none());
    assert!(matches!(tree(&["repo"]), Err(TreeError::Empty)));
    assert!(matches!(tree(&[OPAM_PATH, OPAM_PATH]), Err(TreeError::Duplicate { .. })));
    let both = tree(&[OPAM_PATH, "packages/a"]);
    assert!(matches!(both, Err(TreeError::FileAndDirectory { .. })));
    assert!(matches!(tree(&["x/packages/a.1/opam"]), Err(TreeError::MisRooted { .. })));
}

#[test]
fn a_real_repository_reads_in_no_time() {
    for path in world::paths() {
        let index = std::fs::read(&path).unwrap();
        let start = std::time::Instant::now();
        let tree = Tree::from_index(&index, &TreeLimits::default()).unwrap();
        println!("{} files in {:?}", tree.files().len(), start.elapsed());
        let as_it_came = Tree::from_verbatim_index(&index, &TreeLimits::default()).unwrap();
        assert!(as_it_came.files().eq(tree.files()));
        assert!(tree.versions().len() > 17_000);
    }
}

/// Files of a few paths, some of which are directories of others.
fn files() -> impl Strategy<Value = BTreeMap<RepoPath, Bytes>> {
    let path =
        "packages(/(a|a\\.1|b\\.2|opam)){1,3}(/opam)?".prop_map(|path| path.parse().unwrap());
    let content = prop_oneof![Just(&b"x"[..]), Just(&b"y"[..])].prop_map(Bytes::from_static);
    prop::collection::btree_map(path, content, 0..8)
}

proptest! {
    #[test]
    fn a_changed_tree_is_the_tree_of_the_changed_files(
        before in files(), with in files(), without in any::<u64>(),
    ) {
        let limits = TreeLimits::default();
        let Ok(tree) = Tree::from_files(before, &limits) else { return Ok(()) };
        let paths: Vec<RepoPath> = tree.files().map(|(path, _)| path.clone()).collect();
        let is_out = |at: usize| without & (1 << at) != 0;
        let without: BTreeSet<&RepoPath> =
            paths.iter().enumerate().filter(|(at, _)| is_out(*at)).map(|(_, path)| path).collect();
        let rest = tree.files().filter(|(path, _)| !without.contains(path));
        let files = rest.map(|(path, content)| (path.clone(), content.clone())).chain(with.clone());
        let expected = Tree::from_files(files, &limits);
        match (tree.changed(&without, with), expected) {
            (Ok(changed), Ok(expected)) => {
                prop_assert!(changed.files().eq(expected.files()));
                prop_assert!(changed.versions().eq(expected.versions()));
            }
            (changed, expected) => prop_assert_eq!(changed.is_err(), expected.is_err()),
        }
    }

    #[test]
    fn no_damage_panics(
        at in 0..4096_usize, bytes in prop::collection::vec(any::<u8>(), 1..40)
    ) {
        let record = b"19 path=packages/x\n";
        let mut tar = Tar::repository().entry(EntryType::XHeader, "x", record).file("y", b"z");
        let at = at % tar.0.len();
        let end = tar.0.len().min(at + bytes.len());
        tar.0.splice(at..end, bytes);
        let _ = tar.read();
        let _ = Tree::from_index(&tar.0, &TreeLimits::default());
    }
}

#[test]
fn each_version_is_put_where_opams_own_tools_have_it() {
    let longest = format!("packages/a.1/{}", "x".repeat(MAX_PATH_LEN - "packages/a.1/".len()));
    let (name, x) = ("n".repeat(60), "x".repeat(55));
    let no_index_holds_it = format!("packages/{name}.1/files/{x}/{x}");
    for (from, to) in [
        ("repo", "repo"),
        ("packages/a.1/opam", "packages/a/a.1/opam"),
        ("packages/a.1/files/x", "packages/a/a.1/files/x"),
        ("packages/a/a.1/files/b.1/b.1/opam", "packages/b/b.1/opam"),
        ("packages/x/y/b.1/files/opam", "packages/b/b.1/files/opam"),
        ("packages/x/opam.1/opam", "packages/opam.1/opam"),
        ("packages/x/OPAM.1/opam", "packages/OPAM.1/opam"),
        // There is no room for more.
        (&longest, &longest),
        (&no_index_holds_it, &no_index_holds_it),
    ] {
        let directory = from.strip_suffix("/opam").unwrap_or("packages/a.1");
        let beside = match from.split_once("/files/") {
            Some((version, _)) if !from.ends_with(".1/opam") => version,
            _ => directory,
        };
        let files = [from.to_owned(), format!("{beside}/opam")];
        let files: BTreeSet<RepoPath> = files.iter().map(|it| it.parse().unwrap()).collect();
        let files = files.into_iter().map(|it| (it, Bytes::from_static(b"x: 1")));
        let tree = Tree::from_files(files, &TreeLimits::default()).unwrap().in_place();
        assert!(tree.file(to).is_some(), "{from}: {tree:?}");
        let again = tree.files().map(|(path, bytes)| (path.clone(), bytes.clone()));
        let again = Tree::from_files(again, &TreeLimits::default()).unwrap();
        assert!(again.versions().eq(tree.versions()) && again.files().eq(tree.files()));
    }
}
