//! Repositories as they are served: one that was admitted, and a new state with the versions that are
//! held.

use super::admit::{AdmitError, WEAK};
use super::differing::below;
use super::file_list::FileList;
use super::opam_files::{OPAM, opam_files};
use super::review::in_place;
use crate::digest::Sha256;
use crate::opam::{Package, RepoPath, Tree, TreeLimits};
use crate::store::blobs::{BlobError, Blobs};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Upstream's tree with the held versions as they are served.
pub(super) struct Merged {
    pub tree: Tree,
    /// The versions that it lacks although they are held, each with the reason.
    pub left_out: Vec<(String, String)>,
    /// Those of the held ones that can't be read back.
    pub damaged: BTreeSet<Package>,
}

/// A version that is served as it was.
pub(super) struct Held {
    pub package: Package,
    /// Its files; none where it is not served.
    pub served: FileList,
    /// Why it stays so, where that is not for someone to decide.
    pub why: Option<String>,
}

/// `upstream`, with the held versions as they are served.
///
/// # Errors
/// When the two can't be in one repository, or that would be more than these limits allow.
pub(super) fn with_held(
    upstream: &Tree,
    held: &[Held],
    blobs: &Blobs,
    limits: &TreeLimits,
) -> Result<Merged, AdmitError> {
    let (mut files, mut left_out, mut damaged) = (Vec::new(), Vec::new(), BTreeSet::new());
    for Held { package, served, .. } in held {
        // Upstream may have the very bytes still.
        let theirs = |name: &Sha256| {
            let mut files = upstream.version_files(package);
            files.find(|(_, bytes)| Sha256::of(bytes) == *name).map(|(_, bytes)| bytes.clone())
        };
        match read(&in_place(served.clone()), blobs, theirs) {
            Ok(read) => files.extend(read),
            Err(error) => {
                let why = format!("it is held, and what was served can't be read back: {error}");
                left_out.push((package.to_string(), why));
                damaged.insert(package.clone());
            }
        }
    }
    let afters = held.iter().flat_map(|held| upstream.version_files(&held.package));
    let afters: BTreeSet<&RepoPath> = afters.map(|(path, _)| path).collect();
    let tree =
        upstream.changed(&afters, files).map_err(|error| AdmitError::Held(error.to_string()))?;
    let TreeLimits { entries, inflated_bytes, .. } = *limits;
    let bytes: usize = tree.files().map(|(_, bytes)| bytes.len()).sum();
    let is_too_much = tree.files().len() > entries || bytes > inflated_bytes;
    if is_too_much {
        let limits = format!("{entries} files or {} MiB", inflated_bytes >> 20);
        return Err(AdmitError::Held(format!("together they are more than {limits}")));
    }
    Ok(Merged { tree, left_out, damaged })
}

/// Those of the `refused` versions that were served, and that upstream has otherwise by now, each with
/// the reason: they stay as they were. What did not change is refused for a reason of
/// ours.
pub(super) fn lost(upstream: &Tree, served: &FileList, refused: &[(String, String)]) -> Vec<Held> {
    let refused = refused.iter().filter(|(_, why)| why != WEAK);
    let refused: BTreeMap<&str, &String> = refused.map(|(it, why)| (it.as_str(), why)).collect();
    if refused.is_empty() {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for (package, path, _) in opam_files(served) {
        let name = package.to_string();
        let Some(why) = refused.get(name.as_str()) else { continue };
        let directory = path.as_str().strip_suffix(OPAM).unwrap_or_default();
        let was = below(served, directory).map(|(_, path, name)| (path.clone(), name));
        let was: FileList = was.collect();
        let is = upstream.version_files(&package);
        let is: FileList = is.map(|(path, bytes)| (path.clone(), Sha256::of(bytes))).collect();
        if in_place(was.clone()) != is {
            lost.push(Held { package, served: was, why: Some(String::clone(why)) });
        }
    }
    lost
}

/// Reads files, some of which someone `else_has` where ours are damaged.
fn read(
    served: &FileList,
    blobs: &Blobs,
    else_has: impl Fn(&Sha256) -> Option<Bytes>,
) -> Result<Vec<(RepoPath, Bytes)>, BlobError> {
    let read = |(path, name): (&RepoPath, &Sha256)| {
        let ours = blobs.read(name, MAX_FILE).map(Bytes::from);
        let bytes = ours.or_else(|error| else_has(name).ok_or(error))?;
        Ok((path.clone(), bytes))
    };
    served.0.iter().map(read).collect()
}

/// A repository as it is served.
///
/// # Errors
/// When a blob can't be read.
pub(super) fn as_served(served: &FileList, blobs: &Blobs) -> Result<Tree, AdmitError> {
    Tree::from_files(read(served, blobs, |_| None)?, &TreeLimits::NONE)
        .map_err(|error| AdmitError::Held(error.to_string()))
}

/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;
    use crate::store::layout::Layout;

    #[tokio::test]
    async fn what_is_held_and_what_is_new_keep_to_the_limits_together_and_what_is_served_is_read_back()
     {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("store"));
        let store = Store::open(layout, 0, &Clock::system()).await.unwrap();
        let blobs = store.blobs();
        let file = |path: &str, size: usize| {
            (path.parse::<RepoPath>().unwrap(), Bytes::from(vec![b'#'; size]))
        };
        let (old, new) = (file("packages/a/a.1/opam", 70), file("packages/b/b.1/opam", 40));
        let blob = Sha256::of(&old.1);
        blobs.put_all([(blob, &old.1[..])].into_iter()).unwrap();
        let served: FileList = [(old.0, blob)].into_iter().collect();
        let limits = TreeLimits { inflated_bytes: 109, ..TreeLimits::default() };
        let upstream = Tree::from_files([new], &limits).unwrap();
        let held = [Held { package: "a.1".parse().unwrap(), served: served.clone(), why: None }];
        let merged = with_held(&upstream, &held, blobs, &limits);
        assert!(matches!(merged, Err(AdmitError::Held(_))));
        let limits = TreeLimits { inflated_bytes: 110, ..limits };
        assert_eq!(with_held(&upstream, &held, blobs, &limits).unwrap().tree.files().len(), 2);
        assert_eq!(as_served(&served, blobs).unwrap().files().len(), 1);
    }
}
