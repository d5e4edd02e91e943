//! Makes way for a file where the last run left a directory of that name, or a file where the
//! directory has to be; of what it did not write, nothing goes.

use super::{TreeError, TreeWriter, failed, is_directory};
use crate::store::durable;
use std::io;
use std::path::Path;

impl TreeWriter {
    /// Removes what is not wanted any more and is in the way of the file `path`.
    pub(super) fn make_way_for(&mut self, path: &str) -> Result<(), TreeError> {
        self.make_way_above(path)?;
        let target = self.root.join(path);
        match is_directory(&target) {
            Ok(true) => self.make_way_below(path, &target),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    /// A file that has become a directory.
    fn make_way_above(&mut self, path: &str) -> Result<(), TreeError> {
        // From the root on, as what lies behind a link is not ours.
        for (end, _) in path.match_indices('/') {
            let above = &path[..end];
            let target = self.root.join(above);
            if self.directories.contains(&target) {
                continue;
            }
            match std::fs::symlink_metadata(&target) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_file() && self.is_to_go(above) => {
                    return self.remove(&target);
                }
                // It is made, or told that it can't be.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// A directory that has become a file.
    fn make_way_below(&mut self, path: &str, target: &Path) -> Result<(), TreeError> {
        let below = format!("{path}/");
        let listed = self.before.range(below.clone()..).map(|(path, _)| path);
        let listed = listed.take_while(|path| path.starts_with(&below));
        let to_go: Vec<String> = listed.filter(|path| self.is_to_go(path)).cloned().collect();
        for path in to_go {
            self.remove_listed(&path)?;
        }
        match is_directory(target) {
            Ok(true) => Err(TreeError::NoFile(target.to_owned())),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    /// Removes a file that an earlier run wrote, and the directories that are empty then; not what
    /// is a directory by now, nor what is behind a link.
    pub(super) fn remove_listed(&mut self, path: &str) -> Result<(), TreeError> {
        let target = self.root.join(path);
        let mut above = target.ancestors().skip(1).take_while(|it| *it != self.root);
        if !above.all(|it| is_directory(it).unwrap_or(true)) {
            return Ok(());
        }
        if !is_directory(&target).unwrap_or(false) {
            self.remove(&target)?;
        }
        // Those that others need are not empty.
        for directory in target.ancestors().skip(1).take_while(|it| *it != self.root) {
            match std::fs::remove_dir(directory) {
                Ok(()) => drop(self.directories.remove(directory)),
                // Whoever removed the file was killed before this.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Whether an earlier run wrote this, and it is not wanted any more.
    fn is_to_go(&self, path: &str) -> bool {
        self.before.contains_key(path) && !self.now.contains_key(path)
    }

    fn remove(&mut self, target: &Path) -> Result<(), TreeError> {
        match durable::remove(target) {
            Ok(()) => self.removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(target)(error)),
        }
        Ok(())
    }
}
