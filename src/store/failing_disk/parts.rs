//! Each step of what is written beside blobs and ledger, made to fail in every way: queues of
//! alerts, tokens, keys, repaired blobs and exports.

use super::super::layout::Layout;
use super::super::outbox::{Outbox, SinkState, Subject, Waiting};
use super::super::tokens::{self, Role, Tokens};
use super::super::tree_writer::TreeWriter;
use super::super::{blobs::Blobs, keys};
use super::*;
use crate::digest::Sha256;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn g4_what_a_queue_acknowledged_is_there_and_what_it_forgot_is_gone() {
    let old = waiting(9);
    let outbox = |root: &Path| Outbox::at(&Layout::new(root), "sink");
    let prepare = |root: &Path| {
        outbox(root).create().unwrap();
        outbox(root).put(&old).unwrap();
    };
    let work = |root: &Path| {
        let (outbox, state) = (outbox(root), SinkState { cursor: 11, ..SinkState::default() });
        outbox.put(&waiting(10)).and_then(|()| outbox.set_state(&state)).is_ok()
            && outbox.remove(&old.file_name()).is_ok()
    };
    at_every_step(7, prepare, work, |root, is_done, when| {
        let outbox = outbox(root);
        outbox.create().unwrap();
        let found: Vec<Subject> =
            outbox.waiting().unwrap().into_iter().map(|waiting| waiting.subject).collect();
        let cursor = outbox.state().unwrap().map(|state| state.cursor);
        let is_new_there = found.contains(&Subject::Entry(10));
        // The cursor never passes an alert that is not there.
        assert!(cursor.is_none() || is_new_there, "{when}: {found:?} {cursor:?}");
        assert!(cursor.is_some() || found.contains(&Subject::Entry(9)), "{when}: {found:?}");
        assert!(!is_done || (found.len() == 1 && cursor == Some(11)), "{when}: {found:?}");
    });
}

#[test]
fn a_list_of_tokens_is_the_one_before_or_the_one_after() {
    let name = |name: &str| name.parse::<tokens::TokenName>().unwrap();
    let (old, new) = (name("old"), name("new"));
    let at = Timestamp::UNIX_EPOCH;
    let prepare = |root: &Path| {
        tokens::add(&Layout::new(root), name("old"), Role::Read, at, None).unwrap();
    };
    let work = |root: &Path| {
        let layout = Layout::new(root);
        tokens::add(&layout, name("new"), Role::Admin, at, None).is_ok()
            && tokens::revoke(&layout, &old).is_ok()
    };
    at_every_step(8, prepare, work, |root, is_done, when| {
        let tokens = Tokens::read(&Layout::new(root)).unwrap_or_else(|it| panic!("{when}: {it}"));
        let names: Vec<_> = tokens.all().iter().map(|token| token.name.clone()).collect();
        let (before, between, after) =
            (vec![old.clone()], vec![new.clone(), old.clone()], vec![new.clone()]);
        assert!([&before, &between, &after].contains(&&names), "{when}: {names:?}");
        assert!(!is_done || names == after, "{when}: {names:?}");
    });
}

#[test]
fn a_key_that_was_used_is_there_and_one_that_was_not_is_made_anew() {
    let made = std::cell::RefCell::new(None);
    let work = |root: &Path| {
        let key = keys::load_or_create(&Layout::new(root)).ok();
        let verifier = key.map(|key| key.verifier().to_string());
        let is_done = verifier.is_some();
        *made.borrow_mut() = verifier;
        is_done
    };
    at_every_step(
        9,
        |_| {},
        work,
        |root, is_done, when| {
            let key = keys::load_or_create(&Layout::new(root));
            let key = key.unwrap_or_else(|error| panic!("{when}: {error}")).verifier().to_string();
            assert!(!is_done || *made.borrow() == Some(key), "{when}");
        },
    );
}

#[test]
fn a_blob_that_is_repaired_is_the_damaged_one_or_the_right_one() {
    let bytes = b"an archive";
    let name = Sha256::of(bytes);
    let blobs = |root: &Path| Blobs::new(Layout::new(root), 0).unwrap();
    let prepare = |root: &Path| {
        fs::create_dir_all(Layout::new(root).work()).unwrap();
        blobs(root).put(bytes).unwrap();
        let file = Layout::new(root).blob(&name);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(file, b"an arch").unwrap();
    };
    let work = |root: &Path| {
        let blobs = Blobs::at(Layout::new(root));
        let restored = blobs.writer().and_then(|mut writer| {
            writer.write(bytes)?;
            blobs.restore(writer.finish())
        });
        restored.is_ok()
    };
    at_every_step(4, prepare, work, |root, is_done, when| {
        let found = blobs(root).sha256(&name).unwrap_or_else(|error| panic!("{when}: {error}")).0;
        assert!(found == name || (!is_done && found == Sha256::of(b"an arch")), "{when}");
    });
}

#[test]
fn an_export_that_was_broken_off_anywhere_is_made_good_by_the_next_one() {
    let blob = |root: &Path, bytes: &[u8]| Layout::new(root).blob(&Sha256::of(bytes));
    let prepare = |root: &Path| {
        fs::create_dir_all(Layout::new(root).work()).unwrap();
        let blobs = Blobs::new(Layout::new(root), 0).unwrap();
        for (_, bytes) in BEFORE.iter().chain(AFTER) {
            blobs.put(bytes).unwrap();
        }
        assert!(export(&root.join("export"), BEFORE, |bytes| blob(root, bytes)));
    };
    let work = |root: &Path| export(&root.join("export"), AFTER, |bytes| blob(root, bytes));
    at_every_step(14, prepare, work, |root, is_done, when| {
        let files = |when: &str| {
            for (path, bytes) in AFTER {
                let found = fs::read(root.join("export").join(path));
                assert_eq!(found.unwrap_or_default(), *bytes, "{when}: {path}");
            }
            assert!(!root.join("export/cache/only-before").exists(), "{when}");
        };
        if is_done {
            files(when);
        }
        // A copy: whoever exports into another file system has no links.
        assert!(export(&root.join("export"), AFTER, |bytes| blob(root, bytes)), "{when}");
        files(&format!("after the next one, {when}"));
    });
}

#[test]
fn a_first_export_that_was_broken_off_anywhere_goes_on() {
    let blob = |root: &Path, bytes: &[u8]| Layout::new(root).blob(&Sha256::of(bytes));
    let left = |root: &Path| root.join("export/.opam-keep-work-killed");
    let prepare = |root: &Path| {
        fs::create_dir_all(Layout::new(root).work()).unwrap();
        let blobs = Blobs::new(Layout::new(root), 0).unwrap();
        for (_, bytes) in AFTER {
            blobs.put(bytes).unwrap();
        }
        fs::create_dir_all(left(root)).unwrap();
        fs::write(left(root).join("linked"), b"half").unwrap();
    };
    let work = |root: &Path| export(&root.join("export"), AFTER, |bytes| blob(root, bytes));
    at_every_step(14, prepare, work, |root, _, when| {
        assert!(left(root).join("linked").exists(), "{when}");
        // One of these may be the first that gets to write the marker.
        for _ in 0..2 {
            assert!(export(&root.join("export"), AFTER, |bytes| blob(root, bytes)), "{when}");
        }
        assert!(!left(root).exists(), "{when}");
        for (path, bytes) in AFTER {
            assert_eq!(fs::read(root.join("export").join(path)).unwrap(), *bytes, "{when}: {path}");
        }
    });
}

/// Prepares a directory, does `work` on a disk that fails at each of its steps in each way, and
/// has `check` look at what is left; `work` says whether it was acknowledged.
fn at_every_step(
    least: usize,
    prepare: impl Fn(&Path),
    work: impl Fn(&Path) -> bool,
    check: impl Fn(&Path, bool, &str),
) {
    for fault in FAULTS {
        for at in 1.. {
            let directory = tempfile::tempdir().unwrap();
            prepare(directory.path());
            let disk = FailingDisk::new(directory.path(), at, fault);
            let is_done = work(directory.path());
            let has_failed = disk.has_failed();
            disk.mend();
            check(directory.path(), is_done, &format!("{fault:?} at step {at}"));
            if !has_failed {
                assert!(is_done && at > least, "{fault:?}: there are only {at} steps");
                break;
            }
        }
    }
}

fn export(root: &Path, files: &[(&str, &[u8])], blob: impl Fn(&[u8]) -> PathBuf) -> bool {
    let names: BTreeMap<String, Sha256> =
        files.iter().map(|(path, bytes)| ((*path).to_owned(), Sha256::of(bytes))).collect();
    let Ok(mut tree) = TreeWriter::begin(root, true, names) else { return false };
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("cache/")) {
        if !tree.is_current(path, &blob(bytes)) && tree.link(path, &blob(bytes)).is_err() {
            return false;
        }
    }
    let index = files.iter().filter(|(path, _)| !path.starts_with("cache/"));
    tree.sync().is_ok()
        && index.into_iter().all(|(path, bytes)| tree.write(path, bytes).is_ok())
        && tree.end().is_ok()
}

fn waiting(index: u64) -> Waiting {
    Waiting::new(Subject::Entry(index), index.to_string(), Timestamp::UNIX_EPOCH)
}

const BEFORE: &[(&str, &[u8])] = &[
    ("cache/both", b"an archive"),
    ("cache/other-bytes", b"of before"),
    ("cache/only-before", b"that goes"),
    ("index.tar.gz", b"an index"),
    ("packages/directory-then-file/a/one", b"deep"),
    ("packages/directory-then-file/two", b"less so"),
    ("packages/file-then-directory", b"a file"),
];
const AFTER: &[(&str, &[u8])] = &[
    ("cache/both", b"an archive"),
    ("cache/other-bytes", b"of now"),
    ("cache/only-after", b"that comes"),
    ("index.tar.gz", b"the next index"),
    ("packages/directory-then-file", b"a file"),
    ("packages/file-then-directory/a/one", b"deep"),
    ("packages/file-then-directory/two", b"less so"),
];
const FAULTS: [Fault; 6] = [
    Fault::NotDone,
    Fault::Done,
    Fault::DoneAndLost,
    Fault::PowerLoss(Lost::All),
    Fault::PowerLoss(Lost::Some),
    Fault::PowerLoss(Lost::Nothing),
];
