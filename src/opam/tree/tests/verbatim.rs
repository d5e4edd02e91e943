//! Indexes that clients get as they came.

use super::*;

#[test]
fn an_index_that_is_served_as_it_came_is_read_with_its_empty_files() {
    let index = Tar::repository()
        .entry(EntryType::Directory, "packages/a/a.1/files/none/", b"")
        .entry(EntryType::Directory, "packages/b/", b"")
        .file("packages/a/a.1/files/Makefile", b"")
        .file("packages/a/a.2/opam", b"")
        .file("packages/a/README", b"");
    let limits = TreeLimits::default();
    let tree = Tree::from_verbatim_index(&index.gzip(), &limits).unwrap();
    let paths: Vec<&str> = tree.files().map(|(path, _)| path.as_str()).collect();
    let empty = ["packages/a/a.1/files/Makefile", OPAM_PATH, "packages/a/a.2/opam"];
    assert_eq!(paths, [&empty[..], &["repo"]].concat());
    assert_eq!(tree.versions().len(), 2);
    let again = tree.files().map(|(path, content)| (path.clone(), content.clone()));
    assert!(Tree::from_files(again, &limits).unwrap().files().eq(tree.files()));
    let no_repo = Tar::default().file("repo", b"").file(OPAM_PATH, b"x: 1").gzip();
    assert!(matches!(Tree::from_verbatim_index(&no_repo, &limits), Err(TreeError::NoRepoFile)));
    // What is written anew has none of them.
    let changed = tree.changed(&BTreeSet::new(), []).unwrap();
    assert_eq!((changed.files().len(), changed.versions().len()), (2, 1));
}

#[test]
fn an_index_in_which_some_clients_find_other_versions_is_not_served_as_it_came() {
    let read = |tar: Tar| Tree::from_verbatim_index(&tar.gzip(), &TreeLimits::default());
    let directory = |name| Tar::repository().entry(EntryType::Directory, name, b"");
    let file = |name| Tar::repository().file(name, b"");
    for (tar, outer, version) in [
        (directory("packages/opam/"), "packages", "packages/a/a.1"),
        (directory("packages/a/opam"), "packages/a", "packages/a/a.1"),
        (directory("packages/opam/x/y"), "packages", "packages/a/a.1"),
        (file("packages/a/opam"), "packages/a", "packages/a/a.1"),
        (file("packages/a/opam/README"), "packages/a", "packages/a/a.1"),
        (file("packages/b/opam/b.1/opam"), "packages/b", "packages/b/opam/b.1"),
        (file("packages/a/a.1/files/b.1/opam"), "packages/a/a.1", "packages/a/a.1/files/b.1"),
    ] {
        assert_eq!(
            read(tar).unwrap_err().to_string(),
            format!(
                "not every opam finds \"{version}\": \"{outer}\" has something called opam in it"
            )
        );
    }
    for harmless in [
        directory("packages/a/a.1/files/opam"),
        directory("packages/b/opam"),
        file("packages/a/a.1/files/opam"),
        file("packages/b/b.1/opam/x"),
    ] {
        assert_eq!(read(harmless).unwrap().versions().len(), 1);
    }
}

#[test]
fn an_index_that_has_clients_go_elsewhere_is_not_served_as_it_came() {
    let read = |tar: Tar| Tree::from_verbatim_index(&tar.gzip(), &TreeLimits::default());
    let with = |repo: &str| Tar::default().file("repo", repo.as_bytes()).file(OPAM_PATH, b"x: 1");
    let plain = "opam-version: \"2.0\"\narchive-mirrors: \"https://a.example\"\n";
    assert!(read(with(plain)).is_ok());
    for (repo, fault) in [
        (format!("{plain}redirect: \"https://b.example\""), "has a redirect"),
        ("opam-version: \"1.2\"".to_owned(), "is not of opam-version 2.0"),
        (format!("{plain}opam-version: \"1.2\""), "is not of opam-version 2.0"),
        ("announce: \"x\"".to_owned(), "is not of opam-version 2.0"),
        ("opam-version: \"2.0\" {".to_owned(), "can't be read"),
    ] {
        let error = read(with(&repo)).unwrap_err().to_string();
        assert!(error.contains(&format!("its file \"repo\" {fault}")), "{error}");
    }
    assert!(read(with(plain).file("compilers/4.02.3/4.02.3.comp", b"x")).is_ok());
    for other in ["PACKAGES/a/a.1/opam", "Repo", "repo/x"] {
        let tar = with(plain).file(other, b"x");
        if other != "repo/x" {
            assert!(tar.read().is_ok(), "{other} is left out where the index is made here");
        }
        assert!(read(tar).is_err(), "{other}");
    }
}
