use super::*;
use crate::clock::Clock;
use crate::config::{self, Config, Purpose};
use crate::digest::Sha256;
use crate::keeper::divergences::all;
use crate::keeper::repository::read_list;
use crate::store::Store;
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
