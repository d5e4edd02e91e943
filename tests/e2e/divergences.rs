//! `divergences`: a person sees what upstream did, why the bytes differ, and decides.

use crate::start;
use world::{Keep, Kind, Mirror, Package, Repo, World, tar_gz};

#[test]
fn g4_a_divergence_is_explained_and_acknowledged_for_good() {
    let (_world, mut keep, id) = changed(|content| content.replace("one", "two"));
    let listed = keep.run(&["divergences"]).ok();
    assert!(listed.contains("open") && listed.contains("changed"), "{listed}");
    assert!(listed.contains("hello.1.0"), "{listed}");
    let shown = keep.run(&["divergences", "show", &id]).ok();
    for text in ["hello.1.0", URL, "sha256=", "explanation", "ack"] {
        assert!(shown.contains(text), "{text} is not in {shown}");
    }
    let diff = keep.run(&["divergences", "diff", &id]).ok();
    assert!(diff.contains("-line one") && diff.contains("+line two"), "{diff}");
    let status = keep.run(&["status"]).ok();
    assert!(status.contains("1 open"), "{status}");

    let told = keep.run(&["divergences", "ack", &id, "--why", "asked them", "--by", "ops"]).ok();
    assert!(told.contains(&format!("divergence {id}")), "{told}");
    for running in [true, false] {
        if !running {
            keep.stop();
        }
        assert!(keep.run(&["divergences"]).ok().contains("no divergence is open"));
        assert!(keep.run(&["divergences", "--all"]).ok().contains("acknowledged"));
        assert!(keep.run(&["status"]).ok().contains("none open"));
        let shown = keep.run(&["divergences", "show", &id]).ok();
        assert!(shown.contains("by ops") && shown.contains("asked them"), "{shown}");
    }
    // A decision is about the package that its divergence is about.
    for kind in [&[][..], &["--kind", "decision"]] {
        let listed = keep.run(&[&["log", "hello.1.0"], kind].concat()).ok();
        assert!(listed.contains(&format!("divergence {id} acknowledged by ops")), "{listed}");
    }
    let nothing = keep.run(&["log", "other.1.0", "--kind", "decision"]);
    assert!(nothing.stderr.contains("no decision entry is about other.1.0"), "{}", nothing.said());
    let entries = keep.ledger().len();
    keep.run(&["divergences", "ack", &id]).ok();
    assert_eq!(keep.ledger().len(), entries, "the same decision is not written twice");
    keep.run(&["verify"]).ok();
}

#[test]
fn an_archive_that_was_only_packed_anew_is_called_so() {
    let (_world, keep, id) = changed(|content| content.to_owned());
    let shown = keep.run(&["divergences", "show", &id]).ok();
    assert!(shown.contains("explanation  repacked"), "{shown}");
    let refused = keep.run(&["divergences", "diff", &id]);
    assert_eq!(refused.code, 1, "{}", refused.said());
}

#[test]
fn what_is_no_divergence_can_not_be_decided() {
    let (_world, mut keep, _) = changed(|content| content.to_owned());
    for running in [true, false] {
        if !running {
            keep.stop();
        }
        for arguments in [&["show", "0"], &["ack", "0"], &["ack", "999999"], &["diff", "1"]] {
            let run = keep.run(&[&["divergences"][..], arguments].concat());
            assert_eq!(run.code, 2, "{arguments:?}: {}", run.said());
            assert!(run.stderr.contains("is no divergence"), "{}", run.stderr);
        }
    }
}

/// A mirror that pinned an archive, of which metadata then declared another one at the same URL,
/// with other content; and the id of the divergence that this is.
fn changed(edit: fn(&str) -> String) -> (World, Keep, String) {
    let content = "line one\nline end\n";
    let first = archive("hello-1.0", content);
    let second = archive("hello-world-1.0", &edit(content));
    rewritten(first, second)
}

/// The same of these two archives.
pub(crate) fn rewritten(first: Vec<u8>, second: Vec<u8>) -> (World, Keep, String) {
    let package = |bytes: Vec<u8>| {
        Package::bare("hello", "1.0").archive(URL, &[]).bytes(bytes, &[Kind::Sha256])
    };
    let (first, second) = (package(first), package(second));
    let world = World::start();
    world.publish(&Repo::new([first.clone()]));
    let mut keep = start(&Mirror::of(&world).set("policy.source_rewritten", "allow"));
    keep.index();
    assert!(keep.curl().get(&first.cache_path(Kind::Sha256)).is_whole());
    world.publish(&Repo::new([second.clone()]));
    keep.refresh().ok();
    assert!(keep.curl().get(&second.cache_path(Kind::Sha256)).is_whole());
    let id = keep.divergence();
    (world, keep, id)
}

fn archive(folder: &str, content: &str) -> Vec<u8> {
    let path = format!("{folder}/README");
    tar_gz([(path.as_str(), content.as_bytes())])
}

const URL: &str = "https://github.com/world/hello.tar.gz";
