//! An operator's decision, carried out: what was accepted is served and pinned.

use super::current::Current;
use super::divergences::{self, DecideError, Deciding, ExplainError, Noted};
use super::edited::{self, Sides};
use super::exceptions::Exceptions;
use super::refresh::RefreshError;
use super::repository::{Repository, blocking, read_list};
use super::versions::Versions;
use super::{Answer, Keeper, Missing, Scope};
use crate::ledger::entry::{Action, Decision, Divergence, Entry};
use crate::store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What became of an operator's decision.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// Where it is in the ledger.
    pub entry: u64,
    /// The decision that was there before and went as far, so that this one was not written.
    pub before: Option<Decision>,
    /// The ledger entries that pin what was accepted.
    pub pinned: Vec<u64>,
    /// The divergences of archives that told of the same bytes, and are acknowledged with this.
    #[serde(default)]
    pub acknowledged: Vec<u64>,
    /// Why what was accepted is not served, if it is not.
    pub problem: Option<String>,
    /// What else has to be accepted before it is served, if anything.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Why an archive of it is not pinned yet, although it is served.
    pub unpinned: Option<String>,
}

impl Keeper {
    /// Writes an operator's decision to the ledger; what was accepted is served at once, and its
    /// archive pinned beside the one before. Divergences that tell of these very bytes are
    /// acknowledged with it.
    ///
    /// # Errors
    /// As [`divergences::decide`].
    pub async fn decide(
        self: &Arc<Self>,
        divergence: u64,
        action: Action,
        by: String,
        why: Option<String>,
    ) -> Result<Decided, DecideError> {
        let decided = self.decide_all(vec![divergence], action, by, why).await?;
        let first = decided.into_iter().next();
        first.ok_or_else(|| DecideError::Broken("nothing was decided".to_owned()))
    }

    /// The same about several, which upstream is asked for once.
    ///
    /// # Errors
    /// As [`divergences::decide`]; those before the one that fails are decided, and carried out.
    pub async fn decide_all(
        self: &Arc<Self>,
        divergences: Vec<u64>,
        action: Action,
        by: String,
        why: Option<String>,
    ) -> Result<Vec<Decided>, DecideError> {
        let keeper = Arc::clone(self);
        let deciding = async move {
            let since = keeper.store.log().size()?;
            let deciding = Deciding { action, by, why, with: None };
            let (noted, result) = keeper.write_decision(divergences, &deciding).await;
            let noted = noted.into_iter().map(|it| (Decided::noted(it.entry, it.before), it.about));
            let mut all: Vec<_> = noted.collect();
            if action == Action::Accept {
                keeper.in_charge().carry_out(&mut all, since).await;
            }
            result.map(|()| all.into_iter().map(|(decided, _)| decided).collect())
        };
        self.tasks.spawn(deciding).await.map_err(|error| DecideError::Broken(error.to_string()))?
    }

    /// Writes a decision to the ledger, unless another keeper admits states by now: then that does.
    async fn write_decision(
        &self,
        divergences: Vec<u64>,
        deciding: &Deciding,
    ) -> (Vec<Noted>, Result<(), DecideError>) {
        // What upstream says must not change between the look at it and the decision.
        let mut admitting = Vec::new();
        for repository in &self.repositories {
            admitting.push(repository.admitting.read().await);
        }
        if !self.repositories.iter().any(|it| it.is_retired.load(Ordering::Relaxed)) {
            return divergences::decide(&self.store, &self.clock, divergences, deciding).await;
        }
        drop(admitting);
        match self.successor().await {
            Some(next) => Box::pin(next.write_decision(divergences, deciding)).await,
            None => (Vec::new(), Err(DecideError::Broken(RefreshError::Retired.to_string()))),
        }
    }

    /// Serves what was accepted, and pins its archives.
    async fn carry_out(self: &Arc<Self>, all: &mut [(Decided, Divergence)], since: u64) {
        let names: BTreeSet<String> = all.iter().map(|(_, it)| it.repository.clone()).collect();
        for name in names {
            // What mirror.toml does not have is served by nobody.
            let Some(repository) = self.repository(&name) else { continue };
            let refreshed = self.refresh(repository).await;
            let mut of_it: Vec<_> =
                all.iter_mut().filter(|(_, it)| it.repository == name).collect();
            if let Err(error) = refreshed {
                let problem = format!("it is not served yet: {error}");
                of_it.iter_mut().for_each(|(decided, _)| decided.problem = Some(problem.clone()));
                continue;
            }
            // Who has taken over meanwhile serves it.
            let keeper = self.in_charge();
            let Some(repository) = keeper.repository(&name) else { continue };
            let accepted: Vec<Divergence> = of_it.iter().map(|(_, about)| about.clone()).collect();
            let (store, served) = (keeper.store.clone(), Arc::clone(repository));
            let outcomes = blocking(move || outcomes(&store, &served, &accepted)).await;
            let outcomes = outcomes.and_then(|outcomes| outcomes).unwrap_or_else(|error| {
                vec![
                    Outcome::Problem(format!("what is served can't be told: {error}"));
                    of_it.len()
                ]
            });
            for ((decided, _), outcome) in of_it.iter_mut().zip(outcomes) {
                match outcome {
                    Outcome::Served => {}
                    Outcome::Waiting(what) => decided.waiting = Some(what),
                    Outcome::Problem(problem) => decided.problem = Some(problem),
                }
            }
            of_it.retain(|(decided, _)| decided.problem.is_none() && decided.waiting.is_none());
            for some in of_it.chunks_mut(AT_ONCE) {
                let pinning =
                    some.iter_mut().map(|(decided, about)| keeper.pin(decided, about, since));
                futures_util::future::join_all(pinning).await;
            }
        }
    }

    /// Acknowledges what was told of the same before it was found to be more.
    async fn acknowledge_told_before(&self, decided: &mut Decided, about: &Divergence) {
        let (store, about, entry) = (self.store.clone(), about.clone(), decided.entry);
        let find = move || -> Result<_, ExplainError> {
            let decision =
                store.log().entries(entry, entry.saturating_add(1)).next().transpose()?;
            let Some((_, Entry::Decision(decision))) = decision else { return Ok(None) };
            let open = store.lookup(|catalog| catalog.open_before(&about, decision.divergence))?;
            Ok(Some((decision, open)))
        };
        // What stays open can be acknowledged by hand.
        let Ok(Ok(Some((decision, open)))) = blocking(find).await else { return };
        let why = Some(format!("it was accepted with divergence {}", decision.divergence));
        let (action, with) = (Action::Acknowledge, Some(decision.divergence));
        let deciding = Deciding { action, by: decision.by, why, with };
        let (noted, _) = divergences::decide(&self.store, &self.clock, open, &deciding).await;
        decided.acknowledged.extend(noted.into_iter().map(|noted| noted.id));
    }

    /// Pins the archives of what was accepted and is served.
    async fn pin(self: &Arc<Self>, decided: &mut Decided, about: &Divergence, since: u64) {
        self.acknowledge_told_before(decided, about).await;
        for package in &about.packages {
            match self.named_archive(Scope::Repository(&about.repository), package).await {
                Answer::Kept(kept) => decided.pinned.push(kept.entry),
                // It has none.
                Answer::Missing(Missing::Undeclared) => {}
                Answer::Arriving(..) => {
                    decided.unpinned = Some(format!("the archive of {package} is still arriving"));
                }
                Answer::Missing(missing) => {
                    let unpinned = format!("the archive of {package} is not pinned yet: {missing}");
                    decided.unpinned = Some(unpinned);
                }
            }
        }
        for &pin in &decided.pinned {
            let Ok(pin) = self.pin_at(pin).await else { continue };
            if let Some(accepted) = self.accepted_bytes(&pin, &about.packages).await {
                decided.acknowledged.extend(self.acknowledge_same(accepted, since).await);
            }
        }
    }
}

/// What became of something that was accepted.
#[derive(Clone)]
enum Outcome {
    Served,
    /// For something else to be accepted.
    Waiting(String),
    Problem(String),
}

/// What became of each of these after a refresh; blocks.
fn outcomes(
    store: &Store,
    repository: &Repository,
    accepted: &[Divergence],
) -> Result<Vec<Outcome>, RefreshError> {
    let mut current = Current::in_store(store);
    let Some(served) = repository.served() else { return Err(RefreshError::Retired) };
    let versions = Versions::of(read_list(store, &served.snapshot.admitted)?);
    let Exceptions { refused, kept, whole, .. } = repository.health().exceptions;
    let why = |package: &String| {
        let find = |list: &[(String, String)]| {
            list.iter().find(|(it, _)| it == package).map(|(_, why)| why.clone())
        };
        let refused = find(&refused).map(|why| format!("it is not served: {why}"));
        refused.or_else(|| Some(format!("it stays as it was: {}", find(&kept)?)))
    };
    let outcome = |about: &Divergence| -> Result<Outcome, ExplainError> {
        if !current.says(about)? {
            return Ok(Outcome::Problem(OUTDATED.to_owned()));
        }
        let sides = edited::sides(store.blobs(), about)?;
        let Some((Sides { after, .. }, package)) = sides.zip(about.packages.first()) else {
            return Ok(Outcome::Served);
        };
        Ok(match why(package) {
            _ if versions.has(package, &after) => Outcome::Served,
            Some(why) => Outcome::Problem(why),
            None if whole.is_some() => Outcome::Waiting(WAITING.to_owned()),
            None => Outcome::Problem(TOLD_ANEW.to_owned()),
        })
    };
    let outcomes = accepted.iter().map(outcome).collect::<Result<_, _>>();
    outcomes.map_err(|error| RefreshError::Store(error.to_string()))
}

impl Decided {
    /// A decision that is in the ledger, of which nothing else came yet.
    pub(crate) fn noted(entry: u64, before: Option<Decision>) -> Self {
        let (pinned, acknowledged) = (Vec::new(), Vec::new());
        let (problem, waiting, unpinned) = (None, None, None);
        Self { entry, before, pinned, acknowledged, problem, waiting, unpinned }
    }
}

/// How many archives are waited for at once.
const AT_ONCE: usize = 8;
const WAITING: &str = "all that is held of the same state as a whole has to be accepted too, and \
                       opam-keep divergences lists it";
const TOLD_ANEW: &str = "it is not served: something else has been served in between, so a newer \
                         divergence, which opam-keep divergences lists, tells of this edit";
const OUTDATED: &str = "upstream says something else by now: it withdrew this, or edited it again, \
                        which is a divergence of its own";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{self, Config, Purpose};
    use crate::digest::Sha256;
    use crate::keeper::divergences::all;
    use crate::keeper::repository::read_list;
    use crate::store::layout::Layout;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;

    /// Publishes versions of packages, each with a source.
    fn publish(checkout: &Path, versions: &[(&str, &str)]) {
        fs::create_dir_all(checkout).unwrap();
        fs::write(checkout.join("repo"), "opam-version: \"2.0\"\n").unwrap();
        for (package, source) in versions {
            let name = package.split_once('.').unwrap().0;
            let directory = checkout.join("packages").join(name).join(package);
            fs::create_dir_all(&directory).unwrap();
            let sum = Sha256::of(source.as_bytes());
            let text = format!(
                "opam-version: \"2.0\"\nurl {{ src: \"https://a.example/{source}\" \
                 checksum: \"sha256={sum}\" }}\n"
            );
            fs::write(directory.join("opam"), text).unwrap();
        }
    }

    /// A checkout, and the configuration of a mirror of it.
    fn mirror(directory: &Path) -> (PathBuf, Config) {
        let (checkout, file) = (directory.join("checkout"), directory.join("mirror.toml"));
        let upstream = format!("file://{}", checkout.display());
        let text = format!(
            "[upstream]\noffline = true\n[[repository]]\nname = \"default\"\n\
             upstream = \"{upstream}\"\n"
        );
        fs::write(&file, text).unwrap();
        (checkout, config::load(Some(&file), std::iter::empty(), Purpose::Serving).unwrap())
    }

    async fn keeper(config: &Config, store: &Path) -> Arc<Keeper> {
        let store = Store::open(Layout::new(store), 0, &Clock::system()).await.unwrap();
        Keeper::open(config, store, Clock::system()).unwrap()
    }

    /// A version's opam file as it is served, and as upstream has it.
    fn sides(keeper: &Keeper, opam: &str) -> [Option<Sha256>; 2] {
        let snapshot = keeper.repositories[0].served().unwrap().snapshot.clone();
        [snapshot.admitted, snapshot.files].map(|list| {
            let list = read_list(&keeper.store, &list).unwrap();
            list.0.get(opam).copied()
        })
    }

    async fn until(is_so: impl Fn() -> bool) {
        let turned = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), turned).await.expect("it takes a moment");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_refresh_under_way_does_not_make_the_next_one_pass_over_what_was_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let (checkout, config) = mirror(directory.path());
        let keeper = keeper(&config, &directory.path().join("store")).await;
        let repository = Arc::clone(&keeper.repositories[0]);
        publish(&checkout, &[("a.1", "a.tgz")]);
        keeper.refresh(&repository).await.unwrap();
        let log = keeper.store.log();
        let before = log.size().unwrap();
        // This one waits at its end, after it has seen that the edit is held.
        let stopped = repository.declaring.lock().await;
        publish(&checkout, &[("a.1", "other.tgz"), ("b.1", "b.tgz")]);
        let under_way = tokio::spawn({
            let (keeper, repository) = (Arc::clone(&keeper), Arc::clone(&repository));
            async move { keeper.refresh(&repository).await }
        });
        // Its snapshot comes last.
        until(|| log.size().unwrap() >= before + 2).await;
        let id = all(log).unwrap()[0].id;
        let deciding = tokio::spawn({
            let keeper = Arc::clone(&keeper);
            async move { keeper.decide(id, Action::Accept, "me".to_owned(), None).await }
        });
        let accepted = || keeper.store.lookup(|catalog| catalog.accepted_divergences());
        until(|| accepted().unwrap() > 0).await;
        drop(stopped);
        under_way.await.unwrap().unwrap();
        assert_eq!(deciding.await.unwrap().unwrap().problem, None);
        let [admitted, upstreams] = sides(&keeper, OPAM);
        assert_eq!(admitted, upstreams);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_told_just_before_a_crash_and_withdrawn_is_let_through_by_no_decision() {
        for action in [None, Some(Action::Acknowledge), Some(Action::Accept)] {
            let directory = tempfile::tempdir().unwrap();
            let (checkout, config) = mirror(directory.path());
            let store = directory.path().join("store");
            let crashing = keeper(&config, &store).await;
            let repository = Arc::clone(&crashing.repositories[0]);
            publish(&checkout, &[("a.1", "a.tgz")]);
            crashing.refresh(&repository).await.unwrap();
            // The edit is told, and its snapshot waits.
            let admitting = repository.admitting.read().await;
            publish(&checkout, &[("a.1", "evil.tgz")]);
            let under_way = tokio::spawn({
                let (keeper, repository) = (Arc::clone(&crashing), Arc::clone(&repository));
                async move { keeper.refresh(&repository).await }
            });
            let log = crashing.store.log();
            until(|| !all(log).unwrap().is_empty()).await;
            let after = directory.path().join("after");
            let copied = Command::new("cp").arg("-a").arg(&store).arg(&after).status();
            assert!(copied.unwrap().success());
            drop(admitting);
            under_way.await.unwrap().unwrap();

            publish(&checkout, &[("a.1", "a.tgz")]);
            let keeper = keeper(&config, &after).await;
            let id = all(keeper.store.log()).unwrap()[0].id;
            if let Some(action) = action {
                let decided = keeper.decide(id, action, "me".to_owned(), None).await.unwrap();
                assert_eq!(decided.problem.is_some(), action == Action::Accept);
            }
            let repository = Arc::clone(&keeper.repositories[0]);
            keeper.refresh(&repository).await.unwrap();
            if action.is_none() {
                let late = keeper.decide(id, Action::Accept, "me".to_owned(), None).await;
                assert!(matches!(late, Err(DecideError::Outdated(_))), "{late:?}");
            }
            publish(&checkout, &[("a.1", "evil.tgz")]);
            keeper.refresh(&repository).await.unwrap();
            let [admitted, upstreams] = sides(&keeper, OPAM);
            assert_ne!(admitted, upstreams, "{action:?}");
            let told = all(keeper.store.log()).unwrap().len();
            assert_eq!(told, if action.is_none() { 1 } else { 2 }, "{action:?}");
        }
    }

    const OPAM: &str = "packages/a/a.1/opam";
}
