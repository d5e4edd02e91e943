//! Files of a git or directory upstream, as the tree that an index would have given.

use crate::opam::{PathError, RepoPath};
use crate::opam::{Tree, TreeError, TreeLimits};
use crate::upstream::repository::{FileKind, RawFile};
use thiserror::Error;

/// Why files are no repository that could be served.
#[derive(Debug, Error)]
pub(super) enum RawFilesError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("the name \"{name}\" is not a safe path: {cause}")]
    Name { name: String, cause: PathError },
    #[error("\"{0}\" is a symbolic link: only regular files can be served")]
    Link(RepoPath),
}

/// The tree of an upstream that is no index, by the rules for one.
pub(super) fn tree(files: Vec<RawFile>) -> Result<Tree, RawFilesError> {
    let mut regular = Vec::with_capacity(files.len());
    for file in files {
        let path = RepoPath::from_name(&file.path).map_err(|cause| {
            let name = String::from_utf8_lossy(&file.path).escape_debug().to_string();
            RawFilesError::Name { name, cause }
        })?;
        match file.kind {
            FileKind::Regular if file.bytes.is_empty() => {}
            FileKind::Regular => regular.push((path, file.bytes)),
            FileKind::Symlink => return Err(RawFilesError::Link(path)),
        }
    }
    Ok(Tree::from_files(regular, &TreeLimits::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_12_no_empty_file_is_served() {
        let opam = "packages/a/a.1/opam";
        let file = |path: &str, bytes: &'static [u8]| RawFile {
            path: path.into(),
            kind: FileKind::Regular,
            bytes: bytes.into(),
        };
        let files = [file(opam, b"x: 1"), file("packages/a/a.1/files/x", b"")];
        let tree = tree(files.into()).unwrap();
        let paths: Vec<&str> = tree.files().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [opam]);
    }
}
