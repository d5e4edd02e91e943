//! A new state held against the policy: what of it is served, and what has to be told.

use super::exceptions::Whole;
use super::file_list::FileList;
use super::previous::{Before, Previous};
use super::refresh::RefreshError;
use super::repository::{Repository, apart};
use super::review::{self, Review, ReviewedEdit};
use super::said::LookedAt;
use super::served_tree::Held;
use super::state::{State, Verdict};
use super::untold::{Question, Untold};
use crate::clock::Clock;
use crate::config::{self, Mode, Policy, Rule};
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, DivergenceKind, Observed};
use crate::opam::{EditKind, Package, RepoPath, Tree, stops_clients};
use crate::store::Store;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What the policy says of a state, and what of that nobody was told yet.
pub(super) struct Judged {
    pub verdict: Verdict,
    pub untold: Untold,
}

impl Default for Judged {
    /// All is well.
    fn default() -> Self {
        Self { verdict: Verdict::AllBut(Vec::new()), untold: Untold::default() }
    }
}

/// Holds states of one repository against the policy; blocking.
struct Judge<'a> {
    settings: &'a config::Repository,
    policy: &'a Policy,
    store: &'a Store,
    clock: &'a Clock,
    let_through: &'a Mutex<LookedAt>,
}

impl Repository {
    /// Holds a state against the policy.
    pub(super) async fn judge(
        &self,
        state: &Arc<State>,
        previous: Option<&Arc<Previous>>,
        store: &Store,
        clock: &Clock,
        policy: &Arc<Policy>,
    ) -> Result<Judged, RefreshError> {
        let (state, previous) = (Arc::clone(state), previous.map(Arc::clone));
        let (settings, policy) = (self.settings.clone(), Arc::clone(policy));
        let (store, clock) = (store.clone(), clock.clone());
        let let_through = Arc::clone(&self.let_through);
        let judge = move || {
            let (settings, policy, store, clock) = (&settings, &*policy, &store, &clock);
            let let_through = &*let_through;
            let judge = Judge { settings, policy, store, clock, let_through };
            match &previous {
                Some(previous) => judge.judge(&state, previous),
                None => judge.judge_first(&state),
            }
        };
        apart(judge).await?
    }
}

impl Judge<'_> {
    fn judge(&self, state: &State, previous: &Previous) -> Result<Judged, RefreshError> {
        let (tree, files) = (&state.tree, &state.files);
        let review =
            review::review(&previous.before, tree, files, self.store, self.policy, self.settings);
        if let Some(path) = self.turned(state, previous)? {
            return Err(RefreshError::Refused(format!(
                "\"{path}\" was a file and is a directory now, or the other way round, which opam \
                 before 2.6 does not follow; the repository is served in managed mode, or once that \
                 is mended"
            )));
        }
        let mut judged = Judged::default();
        let suspicions = self.suspicions(state, previous, &review)?;
        let (kinds, questions): (Vec<_>, Vec<_>) = suspicions
            .into_iter()
            .map(|(what, detail)| {
                let before = previous.last.snapshot.admitted;
                let divergence = self.divergence(what, Some(before), &state.files, detail);
                (what, (divergence, vec![&state.files]))
            })
            .unzip();
        let accepted = judged.untold.accepted(
            questions,
            false,
            Some(previous),
            self.let_through,
            self.store,
        )?;
        let mut kinds = kinds.into_iter().zip(accepted);
        if let Some((what, _)) = kinds.find(|(_, is_accepted)| !is_accepted) {
            let whole = match what {
                DivergenceKind::RolledBack => Whole::RolledBack,
                _ => Whole::Gutted,
            };
            return Ok(Judged { verdict: Verdict::Nothing(whole), ..judged });
        }
        self.each(review.edits, review.turned, Some(previous), judged)
    }

    /// A path that is a file only before or only after, and a directory otherwise, where clients see
    /// upstream's own paths.
    fn turned(&self, state: &State, previous: &Previous) -> Result<Option<RepoPath>, RefreshError> {
        let Some(index) = &state.index else { return Ok(None) };
        let before = previous.index(self.store.blobs()).ok().flatten();
        let before = before.and_then(|index| Tree::paths_of_index(&index).ok());
        // Where it can't be read back, what clients read of it is known all the same.
        let before = before.unwrap_or_else(|| previous.before.served.0.keys().cloned().collect());
        let after = Tree::paths_of_index(index)
            .map_err(|error| RefreshError::Refused(error.to_string()))?;
        let turned = |one: &BTreeSet<RepoPath>, other: &BTreeSet<RepoPath>| {
            let mut above = one.difference(other).flat_map(RepoPath::ancestors);
            above.find_map(|directory| other.get(directory)).cloned()
        };
        Ok(turned(&before, &after).or_else(|| turned(&after, &before)))
    }

    /// The first state of all: there is nothing to compare it with, but what stops some client from
    /// reading any of it is to be seen.
    fn judge_first(&self, state: &State) -> Result<Judged, RefreshError> {
        let (tree, files, before) = (&state.tree, &state.files, Before::default());
        let stops = |package: &Package| {
            let url = tree.directory(package).and_then(|it| tree.file(&format!("{it}/url")));
            let opam = tree.opam_file(package);
            opam.is_some_and(|opam| stops_clients(opam, url.map(|url| &url[..])))
        };
        let versions: Vec<&Package> = tree.versions().map(|(package, _)| package).collect();
        let is_well = !versions.into_par_iter().any(stops);
        if is_well {
            return Ok(Judged::default());
        }
        let review = review::review(&before, tree, files, self.store, self.policy, self.settings);
        let stopping = |mut edit: ReviewedEdit| {
            let package = &edit.edit.package;
            let kind = EditKind::Unreadable.to_string();
            let rule = self.policy.rule(self.name(), &package.to_string(), &kind);
            // Byte for byte there is no other state to serve, nor anything that was served before.
            let is_signed_as_one = self.settings.mode == Mode::Verbatim && rule == Rule::Hold;
            edit.rule = if is_signed_as_one { Rule::Warn } else { rule };
            (matches!(edit.rule, Rule::Warn | Rule::Hold) && stops(package)).then_some(edit)
        };
        let edits = review.edits.into_iter().filter_map(stopping).collect();
        self.each(edits, Vec::new(), None, Judged::default())
    }

    /// What becomes of the edits of a state one by one.
    fn each(
        &self,
        edits: Vec<ReviewedEdit>,
        turned: Vec<Held>,
        previous: Option<&Previous>,
        mut judged: Judged,
    ) -> Result<Judged, RefreshError> {
        let mut held = Vec::new();
        let (holding, warning): (Vec<ReviewedEdit>, Vec<ReviewedEdit>) =
            edits.into_iter().partition(|edit| edit.rule == Rule::Hold);
        let accepted = judged.untold.accepted(
            self.questions(&holding),
            false,
            previous,
            self.let_through,
            self.store,
        )?;
        for (edit, is_accepted) in holding.into_iter().zip(accepted) {
            if !is_accepted {
                let (package, served) = (edit.edit.package, edit.served);
                held.push(Held { package, served, why: None });
            }
        }
        let known: BTreeSet<Package> = held.iter().map(|held| held.package.clone()).collect();
        held.extend(turned.into_iter().filter(|turned| !known.contains(&turned.package)));
        let waits = self.settings.mode == Mode::Verbatim && !held.is_empty();
        judged.untold.accepted(
            self.questions(&warning),
            waits,
            previous,
            self.let_through,
            self.store,
        )?;
        judged.verdict = match self.settings.mode {
            // What is signed as a whole is served as a whole.
            Mode::Verbatim if waits => Verdict::Nothing(Whole::Verbatim),
            Mode::Verbatim | Mode::Managed => Verdict::AllBut(held),
        };
        Ok(judged)
    }

    /// Why a state as a whole looks wrong, if it does.
    fn suspicions(
        &self,
        state: &State,
        previous: &Previous,
        review: &Review,
    ) -> Result<Vec<(DivergenceKind, String)>, RefreshError> {
        let mut found = Vec::new();
        let Review { removed, edits, versions, .. } = review;
        let is_gutted = |removed: usize| self.policy.is_gutted(removed as u64, *versions);
        if is_gutted(removed.len()) {
            let vanishing = self.vanishing(review)?;
            if is_gutted(vanishing.len()) {
                let heading =
                    format!("{} of {versions} versions are gone at once", vanishing.len());
                let detail = itemised(heading, vanishing.into_iter().map(Package::to_string));
                found.push((DivergenceKind::Gutted, detail));
            }
        }
        let is_git = self.settings.upstream.get_ref().expose().scheme().starts_with("git+");
        let (name, revision) = (self.name(), state.revision.as_str());
        let first = self.store.lookup(|catalog| catalog.snapshot_at(name, revision))?;
        // What is served came of this very commit; only what is held of it may have changed.
        let is_other = previous.last.snapshot.revision.as_deref() != Some(revision);
        let is_back =
            |first: &u64| is_git && is_other && review.differs && *first < previous.last.entry;
        found.extend(first.filter(is_back).map(|first| {
            let heading = format!("commit {revision} was there before, in ledger entry {first}");
            let gone = removed.iter().map(|package| format!("{package} is gone"));
            let other = edits.iter().map(|edit| format!("{} is another", edit.edit.package));
            let items: Vec<String> = gone.chain(other).collect();
            (DivergenceKind::RolledBack, itemised(heading, items.into_iter()))
        }));
        Ok(found)
    }

    /// The versions that vanish with a state: not those whose removals are held one by one since an
    /// earlier state.
    fn vanishing<'r>(&self, review: &'r Review) -> Result<Vec<&'r Package>, RefreshError> {
        let mut held = BTreeSet::new();
        let removals = review.edits.iter().filter(|edit| edit.after.0.is_empty());
        for edit in removals.filter(|edit| edit.rule == Rule::Hold) {
            let divergence = self.edited(edit);
            if self.store.lookup(|catalog| catalog.newest_alike(&divergence))?.is_some() {
                held.insert(&edit.edit.package);
            }
        }
        Ok(review.removed.iter().filter(|package| !held.contains(package)).collect())
    }

    fn questions<'e>(&self, edits: &'e [ReviewedEdit]) -> Vec<Question<'e>> {
        let question =
            |edit: &'e ReviewedEdit| (self.edited(edit), vec![&edit.before, &edit.after]);
        edits.iter().map(question).collect()
    }

    /// An edit as the ledger tells of it.
    fn edited(&self, edit: &ReviewedEdit) -> Divergence {
        let before = Some(&edit.before).filter(|list| !list.0.is_empty());
        let name = before.map(|list| Sha256::of(&list.to_bytes()));
        let divergence = self.divergence(DivergenceKind::Edited, name, &edit.after, told(edit));
        Divergence {
            packages: vec![edit.edit.package.to_string()],
            edits: edit.edit.kinds().map(|kind| kind.to_string()).collect(),
            held: edit.rule == Rule::Hold,
            ..divergence
        }
    }

    fn divergence(
        &self,
        what: DivergenceKind,
        before: Option<Sha256>,
        after: &FileList,
        detail: String,
    ) -> Divergence {
        let after = after.to_bytes();
        let upstream = self.settings.upstream.get_ref().to_string();
        let observed = Observed { sha256: Sha256::of(&after), size: after.len() as u64 };
        Divergence {
            at: self.clock.now(),
            repository: self.name().to_owned(),
            packages: Vec::new(),
            url: upstream.clone(),
            src: None,
            from: upstream,
            what,
            expected: before.iter().map(|name| format!("sha256={name}")).collect(),
            edits: Vec::new(),
            held: true,
            again: None,
            observed: Some(observed),
            evidence: Some(observed.sha256),
            detail: super::pinning::short(detail),
        }
    }

    fn name(&self) -> &str {
        self.settings.name.as_str()
    }
}

/// A sentence and what it is about, by name as far as that is readable.
fn itemised(mut text: String, items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(MAX_NAMED);
    for item in items.take(MAX_NAMED) {
        text.push_str(&format!("\n- {item}"));
    }
    if more > 0 {
        text.push_str(&format!("\nand {more} more"));
    }
    text
}

/// An edit in words: what each change said before and says now.
fn told(edit: &ReviewedEdit) -> String {
    let mut text = String::new();
    for change in &edit.edit.changes {
        text.push_str(&format!("{}\n", change.kind));
        let sides = [('-', &change.before), ('+', &change.after)];
        for (sign, side) in sides {
            for line in side.iter().flat_map(|side| side.lines()) {
                text.push_str(&format!("{sign} {line}\n"));
            }
        }
    }
    text
}

/// Most versions that are named of those that are gone.
const MAX_NAMED: usize = 100;
