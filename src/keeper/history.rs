//! A repository's whole history, replayed: what each version said when it was published, and
//! every commit that made a published version say something else.

use crate::config::{Policy, Rule};
use crate::opam::{Edit, EditKind, Package, RepoPath, VersionFiles};
use crate::upstream::repository::{
    Commit, FileChange, LocalGit, LocalGitError, ObjectName, Objects,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// A commit that made one published version say something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// The commit, on the first-parent history.
    pub commit: String,
    /// When it was committed.
    pub date: Timestamp,
    /// The version.
    pub package: Package,
    /// Everything that the commit did to it.
    pub kinds: Vec<EditKind>,
    /// What was said before, of all these kinds.
    pub before: Option<String>,
    /// What was said from then on.
    pub after: Option<String>,
}

/// What a history has seen, all in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The commits on the first-parent history.
    pub commits: u64,
    /// The versions that were ever published.
    pub versions: u64,
}

/// Goes through a first-parent history, and tells of every commit and of every rewrite that the
/// policy would not have let through silently, or of all edits with `all`.
///
/// A version that comes back is compared with what it was before it went. Where its directory
/// lies plays no part.
///
/// # Errors
/// When the repository can't be read.
pub fn replay(
    git: &LocalGit,
    commit: &str,
    told: &Told<'_>,
    mut tell: impl FnMut(Step),
) -> Result<Totals, LocalGitError> {
    let mut objects = git.objects()?;
    let mut versions: HashMap<Box<str>, Version> = HashMap::new();
    let mut totals = Totals::default();
    for commit in git.history(commit)? {
        let commit = commit?;
        totals.commits += 1;
        for (name, changes) in by_version(&commit) {
            let version = versions.entry(name.as_str().into()).or_default();
            let after = version.after(changes);
            let was_there = std::mem::replace(&mut version.is_there, after.contains_key(OPAM));
            if !version.is_there {
                // It may come back, and is then compared with what it was.
                version.rest = after;
                let kinds = [EditKind::VersionRemoved];
                if was_there && let Some(package) = told.wants(&name, &kinds) {
                    tell(Step::Rewrite(rewrite(&commit, package, kinds.into(), None, None)));
                }
                continue;
            }
            let before = std::mem::replace(&mut version.published, after);
            version.rest = BTreeMap::new();
            if before.is_empty() {
                totals.versions += 1;
                if told.published {
                    tell(published(&name, &commit, &version.published, &mut objects)?);
                }
                continue;
            }
            if before != version.published
                && let Some(edit) = edit(&name, &before, &version.published, &mut objects)?
                && told.wants(&name, &edit.kinds().collect::<Vec<_>>()).is_some()
            {
                tell(Step::Rewrite(of_edit(&commit, edit)));
            }
        }
        tell(Step::Commit);
    }
    Ok(totals)
}

/// What a replay tells on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One more commit is done.
    Commit,
    /// A rewrite was found in it.
    Rewrite(Rewrite),
    /// It publishes a version for the first time.
    Published {
        /// The version's directory, `name.version`.
        name: String,
        /// The commit.
        commit: String,
        /// The opam file.
        opam: Bytes,
        /// The `url` file beside it, as opam before 2.0 had it.
        url: Option<Bytes>,
    },
}

/// Which edits are told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The rules by which an edit is worth telling.
    pub policy: &'a Policy,
    /// The repository whose rules hold.
    pub repository: &'a str,
    /// Whether every edit is told.
    pub all: bool,
    /// Whether it is told what versions say as they are published.
    pub published: bool,
}

impl Told<'_> {
    /// The package, if an edit of these kinds is told.
    fn wants(&self, name: &str, kinds: &[EditKind]) -> Option<Package> {
        let rule = |kind: &EditKind| self.policy.rule(self.repository, name, &kind.to_string());
        let wanted = self.all || kinds.iter().any(|kind| rule(kind) != Rule::Allow);
        name.parse().ok().filter(|_| wanted)
    }
}

/// A version's files, by their paths in its directory.
type Files = BTreeMap<Box<str>, ObjectName>;

/// A version that has, or had, files.
#[derive(Debug, Default)]
struct Version {
    is_there: bool,
    /// Its files as they were published last; none until it was.
    published: Files,
    /// The files that there are while it is not there: its directory may come and go file by file.
    rest: Files,
}

impl Version {
    /// The files after some changes, those that go first: a directory may move.
    fn after(&self, mut changes: Vec<Change>) -> Files {
        let mut files = if self.is_there { self.published.clone() } else { self.rest.clone() };
        changes.sort_by_key(|(_, object)| object.is_some());
        for (path, object) in changes {
            match object {
                Some(object) => drop(files.insert(path, object)),
                None => drop(files.remove(&path)),
            }
        }
        files
    }
}

/// A file's path in its version, and what it is now, if it is there.
type Change = (Box<str>, Option<ObjectName>);

/// A commit's changes by `name.version`.
fn by_version(commit: &Commit) -> BTreeMap<String, Vec<Change>> {
    let mut versions: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for FileChange { path, object } in &commit.changes {
        if let Some((name, path)) = version_of(path) {
            versions.entry(name).or_default().push((path, object.clone()));
        }
    }
    versions
}

/// Whose file it is: below `packages`, the first directory that is called as a version is; and
/// the path in that directory. Paths that no index can hold belong to nobody.
fn version_of(path: &[u8]) -> Option<(String, Box<str>)> {
    let path = RepoPath::from_name(path).ok()?;
    let mut rest = path.as_str().strip_prefix("packages/")?;
    while let Some((directory, below)) = rest.split_once('/') {
        if directory.parse::<Package>().is_ok() {
            return Some((directory.to_owned(), below.into()));
        }
        rest = below;
    }
    None
}

fn published(
    name: &str,
    commit: &Commit,
    files: &Files,
    objects: &mut Objects,
) -> Result<Step, LocalGitError> {
    let mut read = |path: &str| files.get(path).map(|object| objects.read(object)).transpose();
    Ok(Step::Published {
        name: name.to_owned(),
        commit: commit.id.clone(),
        opam: read(OPAM)?.unwrap_or_default(),
        url: read("url")?,
    })
}

fn edit(
    name: &str,
    before: &Files,
    after: &Files,
    objects: &mut Objects,
) -> Result<Option<Edit>, LocalGitError> {
    let Ok(package) = name.parse::<Package>() else { return Ok(None) };
    let before = read(before, objects)?;
    let after = read(after, objects)?;
    Ok(Edit::between(&package, Some(&before), Some(&after)))
}

fn read(files: &Files, objects: &mut Objects) -> Result<VersionFiles, LocalGitError> {
    let mut version = VersionFiles::new(Bytes::new());
    for (path, object) in files {
        // A path that ends a safe path is a safe one.
        if let Ok(path) = path.parse() {
            version.insert(path, objects.read(object)?);
        }
    }
    Ok(version)
}

fn of_edit(commit: &Commit, edit: Edit) -> Rewrite {
    let kinds = edit.kinds().collect();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for change in edit.changes {
        before.extend(change.before);
        after.extend(change.after);
    }
    let text = |lines: Vec<String>| (!lines.is_empty()).then(|| lines.join("\n"));
    rewrite(commit, edit.package, kinds, text(before), text(after))
}

fn rewrite(
    commit: &Commit,
    package: Package,
    kinds: Vec<EditKind>,
    before: Option<String>,
    after: Option<String>,
) -> Rewrite {
    Rewrite { commit: commit.id.clone(), date: commit.date, package, kinds, before, after }
}

const OPAM: &str = "opam";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_wherever_its_directory_lies() {
        let found =
            |path: &str| version_of(path.as_bytes()).map(|(name, below)| format!("{name} {below}"));
        assert_eq!(found("packages/a/a.1/opam").as_deref(), Some("a.1 opam"));
        assert_eq!(found("packages/a.1/files/b.2/x").as_deref(), Some("a.1 files/b.2/x"));
        assert_eq!(found("packages/x/y/a.1/opam").as_deref(), Some("a.1 opam"));
        for none in ["repo", "packages/a/opam", "other/a.1/opam", "packages/../a.1/opam"] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
