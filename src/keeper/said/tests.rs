use super::*;
use crate::clock::Clock;
use crate::keeper::previous::{Before, Last};
use crate::ledger::entry::DivergenceKind;
use crate::store::layout::Layout;
use jiff::Timestamp;

const PACKAGE: &str = "a.1";

fn list(opam: Option<&str>, revision: usize) -> FileList {
    let file =
        |path: String, content: &str| (path.parse().unwrap(), Sha256::of(content.as_bytes()));
    let opam = opam.map(|content| file("packages/a/a.1/opam".to_owned(), content));
    let other = file("packages/b/b.1/opam".to_owned(), &revision.to_string());
    FileList(opam.into_iter().chain([other]).collect())
}

/// Appends a snapshot of a state in which the version has this opam file, though what was served of it
/// stays the same.
async fn said(store: &Store, opam: Option<&str>, revision: usize) -> Last {
    let (files, admitted) = (list(opam, revision).to_bytes(), list(Some("before"), 0).to_bytes());
    let named = [&files, &admitted].map(|list| (Sha256::of(list), &list[..]));
    store.blobs().put_all(named.into_iter()).unwrap();
    let snapshot = Snapshot {
        at: Timestamp::UNIX_EPOCH,
        repository: "default".to_owned(),
        upstream: "https://upstream.example".to_owned(),
        revision: None,
        mode: "managed".to_owned(),
        files: Sha256::of(&files),
        admitted: Sha256::of(&admitted),
        strengthened: None,
        departed: None,
        index: None,
        versions: 2,
        import: None,
        past: None,
    };
    store.append(Entry::Snapshot(snapshot.clone())).await.unwrap();
    Last { entry: store.log().size().unwrap() - 1, snapshot, served: None, is_behind: false }
}

fn edit() -> Divergence {
    Divergence {
        at: Timestamp::UNIX_EPOCH,
        repository: "default".to_owned(),
        packages: vec![PACKAGE.to_owned()],
        url: "https://upstream.example".to_owned(),
        src: None,
        from: "https://upstream.example".to_owned(),
        what: DivergenceKind::Edited,
        expected: Vec::new(),
        edits: Vec::new(),
        held: true,
        again: None,
        observed: None,
        evidence: None,
        detail: String::new(),
    }
}

#[tokio::test]
async fn what_was_withdrawn_just_now_is_over_however_long_it_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Layout::new(directory.path()), 0, &Clock::system()).await.unwrap();
    let mut last = said(&store, Some("edited"), 0).await;
    let since = last.entry;
    let is_over = |last: &Last, since: u64| {
        let (divergence, FileList(files)) = (edit(), list(Some("edited"), 0));
        let after = FileList(files.into_iter().take(1).collect());
        let asked =
            LetThrough { since, divergence: &divergence, after: Some(&after), is_held: true };
        let last = Last {
            entry: last.entry,
            snapshot: last.snapshot.clone(),
            served: None,
            is_behind: false,
        };
        let previous = Previous { last, before: Before::default() };
        over(&[Some(asked)], false, &previous, &mut LookedAt::new(), &store).unwrap()[0]
    };
    for revision in 1..=MOST + 10 {
        last = said(&store, Some("edited"), revision).await;
    }
    assert!(!is_over(&last, since), "it is still said");
    let withdrawn = said(&store, None, 0).await;
    assert!(is_over(&withdrawn, since) && is_over(&withdrawn, last.entry));
}
