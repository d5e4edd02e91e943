//! Files that a person names: what is wrong with one that can't be used, and what to do.

use super::Failure;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// The bytes of a small file.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|it| it.take(limit as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::Usage(problem(path, &error)))?;
    if bytes.len() > limit {
        let (path, limit) = (path.display(), limit >> 10);
        return Err(Failure::Usage(format!(
            "{path}: longer than {limit} KiB, so it is another file"
        )));
    }
    Ok(bytes)
}

/// One sentence about a file or directory.
pub(super) fn problem(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("{path}: No such file or directory: check the path"),
        ErrorKind::PermissionDenied => {
            format!("{path}: Permission denied: run it as a user who may use that")
        }
        _ => format!("{path}: {error}"),
    }
}
