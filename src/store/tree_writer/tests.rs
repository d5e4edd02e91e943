use super::*;
use std::fs;

type Files<'a> = &'a [(&'a str, &'a str)];

#[test]
fn a_file_may_become_a_directory_and_a_directory_a_file() {
    let root = tempfile::tempdir().unwrap();
    let (a_file, a_directory): (Files<'_>, Files<'_>) = (
        &[("packages/a.1/opam", "a"), ("packages/a.1/x", "data")],
        &[("packages/a.1/x/b.1/files/deep", "b"), ("packages/a.1/x/b.1/opam", "b")],
    );
    export(root.path(), a_file).unwrap();
    for _ in 0..2 {
        assert_eq!(export(root.path(), a_directory).unwrap(), 2);
        assert_eq!(below(root.path()), paths(a_directory));
        assert_eq!(export(root.path(), a_directory).unwrap(), 0);
        assert_eq!(export(root.path(), a_file).unwrap(), 2);
        assert_eq!(below(root.path()), paths(a_file));
    }
}

#[test]
fn what_makes_way_is_only_what_an_export_wrote() {
    let root = tempfile::tempdir().unwrap();
    let (a_file, a_directory): (Files<'_>, Files<'_>) =
        (&[("packages/x", "data")], &[("packages/x/y/z", "deep")]);
    // A file in a directory that has to become a file.
    export(root.path(), a_directory).unwrap();
    let own = root.path().join("packages/x/own");
    fs::write(&own, "kept").unwrap();
    let refused = export(root.path(), a_file).unwrap_err();
    assert!(matches!(&refused, TreeError::NoFile(at) if at.ends_with("packages/x")), "{refused}");
    assert_eq!(fs::read_to_string(&own).unwrap(), "kept");
    fs::remove_file(&own).unwrap();
    export(root.path(), a_file).unwrap();
    // A link where a file was that has to become a directory.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("y")).unwrap();
    fs::write(elsewhere.path().join("y/z"), "kept").unwrap();
    fs::remove_file(root.path().join("packages/x")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("packages/x")).unwrap();
    let refused = export(root.path(), a_directory).unwrap_err();
    assert!(matches!(refused, TreeError::NoDirectory(_)), "{refused}");
    // And where a directory was that has to go.
    export(root.path(), &[]).unwrap();
    assert_eq!(fs::read_to_string(elsewhere.path().join("y/z")).unwrap(), "kept");
}

#[test]
fn a_directory_that_came_where_a_file_was_stays() {
    let root = tempfile::tempdir().unwrap();
    export(root.path(), &[("x", "data")]).unwrap();
    fs::remove_file(root.path().join("x")).unwrap();
    fs::create_dir(root.path().join("x")).unwrap();
    fs::write(root.path().join("x/own"), "kept").unwrap();
    assert_eq!(export(root.path(), &[]).unwrap(), 0);
    assert_eq!(below(root.path()), ["x/own"]);
}

fn export(root: &Path, files: Files<'_>) -> Result<u64, TreeError> {
    let names = files.iter().map(|(path, text)| ((*path).to_owned(), Sha256::of(text.as_bytes())));
    let mut tree = TreeWriter::begin(root, true, names.collect())?;
    for (path, text) in files {
        tree.write(path, text.as_bytes())?;
    }
    tree.end()
}

fn paths(files: Files<'_>) -> Vec<String> {
    files.iter().map(|(path, _)| (*path).to_owned()).collect()
}

/// The files below a directory, but for those of the export itself.
fn below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => {
                    let path = entry.path();
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    found.retain(|path| path != MARKER && path != SUMS);
    found.sort();
    found
}
