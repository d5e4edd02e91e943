//! Files that a person names: what is wrong with one that can't be used, and what to do.

use std::io::{self, ErrorKind};
use std::path::Path;

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
