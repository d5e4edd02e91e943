//! What changed under published versions, held against the policy.
//!
//! Pure but for reading blobs; blocking, so it runs off the reactor.

use super::admit::{main_checksums, read_file};
use super::departed::{Known, list_of};
use super::differing::{Differing, Files, count, versions};
use super::file_list::FileList;
use super::pinned;
use super::previous::Before;
use super::served_tree::Held;
use crate::config::{self, Mode, Policy, Rule};
use crate::opam::{Alike, Edit, EditKind, Package, Presence, Tree, VersionFiles, ancestors};
use crate::store::Store;
use crate::store::blobs::{BlobError, Blobs};
use bytes::Bytes;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};

/// How a new state differs from what is served.
pub(super) struct Review {
    /// The edits that the policy does not let through silently, sorted by package.
    pub edits: Vec<ReviewedEdit>,
    /// The versions that can't be served as they are now, whatever the policy says.
    pub turned: Vec<Held>,
    /// How many versions are served.
    pub versions: u64,
    /// Those of them that upstream has no more.
    pub removed: Vec<Package>,
    /// Whether any version differs at all.
    pub differs: bool,
}

/// One version's edit, and what the policy says of it.
pub(super) struct ReviewedEdit {
    pub edit: Edit,
    /// The strictest rule of all changes: [`Rule::Warn`] or [`Rule::Hold`].
    pub rule: Rule,
    /// The version's files as they were served last, where opam's own tools put them.
    pub before: FileList,
    /// The version's files as they are served: the same, or none where upstream had taken it away.
    pub served: FileList,
    /// The version's files as upstream has them now, where opam's own tools put them.
    pub after: FileList,
}

/// Whether files that have nothing in them are part of a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyFiles {
    LeftOut,
    Served,
}

/// What versions are compared by.
struct Reviewer<'a> {
    before: &'a Before,
    upstream: &'a Tree,
    differing: &'a Differing<'a>,
    alike: &'a Alike<'a>,
    /// The rules for those that are alike, by likeness.
    rules: HashMap<&'a str, HashMap<EditKind, Rule>>,
    empty: EmptyFiles,
    store: &'a Store,
    policy: &'a Policy,
    repository: &'a str,
}

/// Compares what is served with a new state, version by version.
///
/// `files` is the list of the files of `upstream`.
pub(super) fn review(
    before: &Before,
    upstream: &Tree,
    files: &FileList,
    store: &Store,
    policy: &Policy,
    settings: &config::Repository,
) -> Review {
    let empty = match settings.mode {
        Mode::Managed => EmptyFiles::LeftOut,
        Mode::Verbatim => EmptyFiles::Served,
    };
    let differing = Differing::between(&before.served, files);
    let is_lost = |package: &&Package| upstream.directory(package).is_none();
    let lost = before.departed.damaged().iter().filter(is_lost);
    let mut packages: Vec<&Package> = differing.packages().chain(lost).collect();
    packages.sort_unstable();
    packages.dedup();
    let (removed, there): (Vec<&Package>, Vec<&Package>) =
        packages.iter().partition(|package| !differing.is.contains_key(**package));
    let added: HashSet<&Package> =
        there.into_iter().filter(|package| !differing.was.contains_key(*package)).collect();
    let presence = |package| match added.contains(package) {
        true => Presence::After,
        false => Presence::Both,
    };
    let later = upstream.versions().map(|(package, _)| (presence(package), package));
    let gone = removed.iter().map(|package| (Presence::Before, *package));
    let is_known = |package: &&Package| {
        added.contains(package) || before.departed.damaged().contains(*package)
    };
    let once = before.departed.packages().filter(|package| !is_known(package));
    let all = later.chain(gone).chain(once.map(|package| (Presence::Once, package)));
    let alike = &Alike::of(&packages, all.collect());
    let repository = settings.name.as_str();
    let reviewer = Reviewer {
        before,
        upstream,
        differing: &differing,
        alike,
        rules: strictest(alike, policy, repository),
        empty,
        store,
        policy,
        repository,
    };
    let turned = match settings.mode {
        Mode::Managed => packages.par_iter().filter_map(|it| reviewer.turned(it)).collect(),
        // There the paths of all are looked at.
        Mode::Verbatim => Vec::new(),
    };
    Review {
        edits: packages.par_iter().filter_map(|package| reviewer.review(package)).collect(),
        turned,
        versions: count(&before.served) as u64,
        removed: removed.into_iter().cloned().collect(),
        differs: !packages.is_empty(),
    }
}

/// Who is strict about a version is so about what clients take for it.
fn strictest<'a>(
    alike: &'a Alike<'_>,
    policy: &Policy,
    repository: &str,
) -> HashMap<&'a str, HashMap<EditKind, Rule>> {
    let rules = |(likeness, packages): (&'a str, Vec<&Package>)| {
        let names: Vec<String> = packages.into_iter().map(Package::to_string).collect();
        let rule = |kind: EditKind| {
            let rules = names.iter().map(|name| policy.rule(repository, name, &kind.to_string()));
            Some((kind, rules.max()?))
        };
        (likeness, EditKind::ALL.into_iter().filter_map(rule).collect())
    };
    alike.groups().map(rules).collect()
}

impl Reviewer<'_> {
    /// One version, if the policy does not let it through silently.
    fn review(&self, package: &Package) -> Option<ReviewedEdit> {
        let was = self.differing.was.get(package);
        let known = self.before.known(package, was, self.store.blobs());
        let comes_back = was.is_none() && self.before.departed.damaged().contains(package);
        let mut edit = match &known {
            // Whatever it was: upstream has it no more.
            _ if comes_back && self.upstream.directory(package).is_none() => {
                let mut edit = Edit::without_changes(package);
                edit.add(EditKind::VersionRemoved, "what was served of it can't be read back");
                Some(edit)
            }
            Ok(known) => self.changes(package, known.as_ref()),
            Err(error) => Some(unreadable(package, error)),
        };
        if let Some(other) = self.alike.taken_for(package) {
            edit.get_or_insert_with(|| Edit::without_changes(package)).take_for(other);
        }
        let edit = edit?;
        let rule = self.rule(&edit)?;
        let files = |files: Option<&Files<'_>>| files.map(list_of).unwrap_or_default();
        let known = known.ok().flatten();
        let as_it_was = known.as_ref().filter(|_| comes_back);
        Some(ReviewedEdit {
            edit,
            rule,
            served: as_it_was.map_or_else(|| files(was), |known| known.files.clone()),
            before: in_place(known.map(|known| known.files).unwrap_or_default()),
            after: in_place(files(self.differing.is.get(package))),
        })
    }

    /// A version in which a file became a directory or the other way round since it was served last,
    /// as it was then.
    fn turned(&self, package: &Package) -> Option<Held> {
        let is: BTreeSet<&str> = self.differing.is.get(package)?.keys().copied().collect();
        let was = self.differing.was.get(package);
        let known = self.before.known(package, was, self.store.blobs()).ok()??;
        let known = versions(&known.files).into_values().flatten();
        let known: BTreeSet<&str> = known.map(|(below, _)| below).collect();
        let turned = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| {
            let above = one.difference(other).flat_map(|path| ancestors(path));
            above.filter_map(|directory| other.get(directory)).next().map(|it| (*it).to_owned())
        };
        let path = turned(&known, &is).or_else(|| turned(&is, &known))?;
        let why = format!(
            "its \"{path}\" was a file and is a directory now, or the other way round, which opam \
             before 2.6 does not follow"
        );
        let served = was.map(list_of).unwrap_or_default();
        Some(Held { package: package.clone(), served, why: Some(why) })
    }

    /// The strictest rule of all changes, if that is not to let them through silently.
    fn rule(&self, edit: &Edit) -> Option<Rule> {
        let rule = match self.rules.is_empty() {
            true => None,
            false => self.rules.get(&*edit.package.likeness()),
        };
        let rule = match rule {
            Some(rules) => edit.kinds().filter_map(|kind| rules.get(&kind).copied()).max(),
            None => {
                let name = edit.package.to_string();
                let rule =
                    |kind: EditKind| self.policy.rule(self.repository, &name, &kind.to_string());
                edit.kinds().map(rule).max()
            }
        };
        rule.filter(|rule| matches!(rule, Rule::Warn | Rule::Hold))
    }

    /// What a version underwent since it was served last.
    fn changes(&self, package: &Package, known: Option<&Known>) -> Option<Edit> {
        let blobs = self.store.blobs();
        let is = VersionFiles::of(self.upstream, package);
        let strengthened = known.and_then(|known| known.strengthened);
        let was = known.map(|known| read(&known.files, blobs)).transpose();
        let strengthened = strengthened.map(|name| read_file(blobs, &name)).transpose();
        let (mut was, strengthened) = match (was, strengthened) {
            (Ok(was), Ok(strengthened)) => (was, strengthened),
            (Err(error), _) | (_, Err(error)) => return Some(unreadable(package, &error)),
        };
        if let (EmptyFiles::LeftOut, Some((was, is))) = (self.empty, was.as_mut().zip(is.as_ref()))
        {
            was.forget_empty(is);
        }
        let mut edit = Edit::between(package, was.as_ref(), is.as_ref())?;
        // What was added here is what the pin is: to say otherwise is to say another archive.
        if let Some((was, is)) = strengthened.zip(is.as_ref())
            && contradicts(&was, is.opam())
        {
            edit.add(EditKind::SourceRewritten, "checksum: contradicts the pin's");
        }
        if let Some((was, is)) = was.zip(is)
            && edit.kinds().any(|kind| kind == EditKind::ChecksumAdded)
        {
            let told = pinned::contradictions(self.store, was.opam(), is.opam());
            told.into_iter().for_each(|(kind, why)| edit.add(kind, &why));
        }
        Some(edit)
    }
}

/// The files of one version where opam's own tools put them: where its directory lies is no edit.
pub(super) fn in_place(files: FileList) -> FileList {
    let Some((package, found)) = versions(&files).pop_first() else { return files };
    match package.in_place(found.keys().copied()) {
        Some(paths) => paths.into_iter().zip(found.into_values().map(|(_, blob)| blob)).collect(),
        None => files,
    }
}

/// What there is to say of a version of which nobody can tell what it was.
fn unreadable(package: &Package, error: &dyn std::fmt::Display) -> Edit {
    let mut edit = Edit::without_changes(package);
    let why = format!("what was served of it can't be read back: {error}");
    edit.add(EditKind::Unreadable, &why);
    edit
}

/// Whether the archive of one opam file has a checksum of a kind that the other has with another
/// value.
fn contradicts(was: &[u8], is: &[u8]) -> bool {
    let (was, is) = (main_checksums(was), main_checksums(is));
    is.iter().any(|is| was.iter().any(|was| was.kind() == is.kind() && was != is))
}

/// The files of the one version in a list.
fn read(files: &FileList, blobs: &Blobs) -> Result<VersionFiles, BlobError> {
    let mut version = VersionFiles::new(Bytes::new());
    for (below, (_, name)) in versions(files).into_values().flatten() {
        let content = blobs.read(&name, MAX_FILE)?;
        // A path that ends a safe path is a safe one.
        if let Ok(path) = below.parse() {
            version.insert(path, content.into());
        }
    }
    Ok(version)
}

/// As large as a file may be when it is admitted.
const MAX_FILE: u64 = 64 << 20;
