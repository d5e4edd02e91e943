//! Whose a store is, for people who are someone else.

use super::layout::Layout;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// What to do about a file of the store that this user may not use, to be put behind the error;
/// empty for any other error.
pub fn advice(error: &io::Error, layout: &Layout) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    match std::fs::metadata(layout.root()) {
        Ok(root) => {
            let owner = root.uid();
            format!(": run it as the store's owner, which is the user with id {owner}")
        }
        Err(_) => ": run it as the store's owner".to_owned(),
    }
}
