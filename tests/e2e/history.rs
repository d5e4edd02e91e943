//! `history`: what happened to published versions, read from a git repository.

use crate::{BINARY, skip, start};
use serde_json::Value;
use world::{Checkout, Keep, Kind, Mirror, Package, Repo, World, installed};

#[test]
fn every_rewrite_of_a_published_version_is_told_with_commit_and_both_texts() {
    let Some((keep, clone)) = clone() else { skip!("no git in PATH") };
    clone.write(HELLO, opam("one", "aa"));
    clone.commit("Publish");
    clone.write(HELLO, format!("# a comment\n{}", opam("one", "aa")));
    clone.commit("Form is no edit");
    clone.write(HELLO, opam("two", "aa"));
    clone.commit("Words are let through");
    clone.write(HELLO, opam("two", "bb"));
    let rewritten = clone.commit("Rewrite");

    let told = history(&keep, &clone, &[]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["commit"], rewritten);
    assert_eq!(told[0]["package"], "hello.1.0");
    assert_eq!(told[0]["kinds"], serde_json::json!(["source-rewritten"]));
    let text = |field: &str| told[0][field].as_str().unwrap_or_default().to_owned();
    assert!(text("before").contains(&"aa".repeat(32)) && text("after").contains(&"bb".repeat(32)));
    assert!(text("date").ends_with('Z'), "{told:#?}");
    let fields = told[0].as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    let all = ["after", "before", "commit", "date", "kinds", "package"].map(str::to_owned);
    assert_eq!(fields, Some(all.into()));
    assert_eq!(kinds(&history(&keep, &clone, &["--all"])), ["description", "source-rewritten"]);

    let table = keep.run(&["history", "--git", &clone.path()]).ok();
    assert!(table.contains(&format!("{}  hello.1.0: source-rewritten\n", &rewritten[..10])));
    assert!(table.contains("1 rewrite in 4 commits, 1 version published\n"), "{table}");
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    let earlier = keep.run(&["history", "--git", &clone.path(), "--rev", "HEAD~1"]).ok();
    assert!(earlier.starts_with("0 rewrites in 3 commits"), "{earlier}");
}

#[test]
fn a_merge_counts_once_as_what_it_brought() {
    let Some((keep, clone)) = clone() else { skip!("no git in PATH") };
    clone.write(HELLO, opam("one", "aa"));
    clone.commit("Publish");
    clone.git(&["checkout", "--quiet", "-b", "side"]).ok();
    for checksum in ["bb", "cc", "dd"] {
        clone.write(HELLO, opam("one", checksum));
        clone.commit("Rewrite");
    }
    clone.git(&["checkout", "--quiet", "main"]).ok();
    clone.write("packages/other/other.1/opam", opam("other", "ee"));
    clone.commit("Publish another");
    clone.git(&["merge", "--quiet", "--no-ff", "-m", "Merge", "side"]).ok();
    let merge = clone.git(&["rev-parse", "HEAD"]).ok().trim().to_owned();
    let told = history(&keep, &clone, &[]);
    assert_eq!((told.len(), &told[0]["commit"]), (1, &merge.into()), "{told:#?}");
    let text = |field: &str| told[0][field].as_str().unwrap_or_default().to_owned();
    assert!(text("before").contains(&"aa".repeat(32)) && text("after").contains(&"dd".repeat(32)));
}

#[test]
fn a_version_that_comes_back_is_compared_with_what_it_was() {
    let Some((keep, clone)) = clone() else { skip!("no git in PATH") };
    clone.write(HELLO, opam("one", "aa"));
    clone.write("packages/hello/hello.1.0/files/fix.patch", "first\n");
    clone.commit("Publish");
    clone.remove("packages/hello/hello.1.0");
    clone.commit("Remove");
    clone.write(HELLO, opam("one", "aa"));
    clone.write("packages/hello/hello.1.0/files/fix.patch", "first\n");
    clone.commit("Bring it back as it was");
    clone.remove(HELLO);
    clone.commit("Remove its opam file alone");
    clone.write(HELLO, opam("one", "bb"));
    clone.commit("Bring another one back");
    assert_eq!(kinds(&history(&keep, &clone, &[])), ["source-rewritten"]);
    let all = ["version-removed", "version-removed", "source-rewritten"];
    assert_eq!(kinds(&history(&keep, &clone, &["--all"])), all);
}

#[test]
fn moves_and_the_formats_of_old_times_are_no_rewrites() {
    let Some((keep, clone)) = clone() else { skip!("no git in PATH") };
    let old = "packages/hello.1.0";
    let md5 = "0123456789abcdef0123456789abcdef";
    clone.write(&format!("{old}/opam"), "opam-version: \"1\"\nmaintainer: \"a@example.org\"\n");
    clone.write(&format!("{old}/descr"), "Says hello\nAnd more.\n");
    let url = format!("archive: \"https://a.example/h.tgz\"\r\nchecksum: \"{md5}\"\r\n");
    clone.write(&format!("{old}/url"), url);
    clone.write(&format!("{old}/files/\u{e9} x"), "a name with a blank");
    clone.commit("Publish in the old way");
    clone.git(&["mv", old, "packages/moved"]).ok();
    clone.write("packages/hello/.keep", "");
    clone.git(&["mv", "packages/moved", "packages/hello/hello.1.0"]).ok();
    clone.commit("Move the directory");
    clone.remove("packages/hello/hello.1.0/url");
    clone.remove("packages/hello/hello.1.0/descr");
    let merged = format!(
        "opam-version: \"2.0\"\nmaintainer: \"a@example.org\"\nsynopsis: \"Says hello\"\n\
         description: \"And more.\"\n\
         url {{\n  src: \"https://a.example/h.tgz\"\n  checksum: \"md5={md5}\"\n}}\n"
    );
    clone.write(HELLO, &merged);
    clone.commit("Write it as opam 2 does");
    let told = history(&keep, &clone, &["--all"]);
    let code = ["source-rewritten", "checksum-removed", "extra-source", "patches"];
    assert!(kinds(&told).iter().all(|kind| !code.contains(&kind.as_str())), "{told:#?}");
    clone.write(HELLO, merged.replace("0123", "3210"));
    clone.commit("Rewrite");
    let told = history(&keep, &clone, &[]);
    assert_eq!(kinds(&told).last().map(String::as_str), Some("source-rewritten"), "{told:#?}");
}

#[test]
fn what_is_no_whole_repository_is_said_in_one_sentence() {
    let Some((keep, clone)) = clone() else { skip!("no git in PATH") };
    let at = |arguments: &[&str]| keep.run(&[&["history"], arguments].concat());
    for (arguments, says) in [
        (&["--git", "/nowhere"][..], "/nowhere"),
        (&["--git", &clone.path()], "has no revision \"HEAD\""),
        (&["--git", &clone.path(), "--rev", "--all"], "--rev"),
    ] {
        let run = at(arguments);
        assert_eq!(run.code, 2, "{}", run.said());
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
    clone.write(HELLO, opam("one", "aa"));
    clone.commit("Publish");
    clone.write(HELLO, opam("one", "bb"));
    clone.commit("Rewrite");
    let shallow = keep.path("shallow").display().to_string();
    let url = format!("file://{}", clone.path());
    clone.git(&["clone", "--quiet", "--depth", "1", &url, &shallow]).ok();
    let run = at(&["--git", &shallow]);
    assert_eq!(run.code, 0, "{}", run.said());
    assert!(run.stderr.contains("shallow") && run.stdout.starts_with("0 rewrites in 1 commit"));
    let blobless = keep.path("blobless").display().to_string();
    clone.git(&["config", "uploadpack.allowFilter", "true"]).ok();
    clone.git(&["clone", "--quiet", "--bare", "--filter=blob:none", &url, &blobless]).ok();
    let run = at(&["--git", &blobless]);
    assert_eq!((run.code, run.stderr.lines().count()), (1, 1), "{}", run.said());
    assert!(run.stderr.contains("use a clone with all objects"), "{}", run.stderr);
}

/// Nothing is configured, and nothing committed.
fn clone() -> Option<(Keep, Checkout)> {
    let keep = Keep::stopped(BINARY);
    keep.configure("");
    let clone = installed("git").then(|| Checkout::new(keep.path("clone")))?;
    Some((keep, clone))
}

fn history(keep: &Keep, clone: &Checkout, more: &[&str]) -> Vec<Value> {
    let path = clone.path();
    let said = keep.run(&[&["history", "--json", "--git", &path], more].concat()).ok();
    said.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// Every kind of every rewrite, in order.
fn kinds(told: &[Value]) -> Vec<String> {
    let kinds = told.iter().flat_map(|it| it["kinds"].as_array().cloned().unwrap_or_default());
    kinds.map(|kind| kind.as_str().unwrap_or_default().to_owned()).collect()
}

fn opam(synopsis: &str, checksum: &str) -> String {
    format!(
        "opam-version: \"2.0\"\nsynopsis: \"{synopsis}\"\n\
         url {{\n  src: \"https://a.example/hello.tgz\"\n  checksum: \"sha256={}\"\n}}\n",
        checksum.repeat(32)
    )
}

const HELLO: &str = "packages/hello/hello.1.0/opam";

#[test]
fn g4_a_first_fetch_that_gives_something_else_than_was_first_published_is_told() {
    let Some((_home, clone)) = clone() else { skip!("no git in PATH") };
    let rewritten = |name: &str| {
        let package = Package::new(name, "1.0");
        let first = package.clone().bytes(*b"what was there first", &[Kind::Sha256]);
        (first, package)
    };
    let packages = ["one", "two"].map(rewritten);
    let same = Package::new("same", "1.0");
    let [first, last] = [true, false].map(|first| {
        let pick = |(one, two): &(Package, Package)| if first { one.clone() } else { two.clone() };
        Repo::new(packages.iter().map(pick).chain([same.clone()]))
    });
    let published = clone.publish(&first);
    clone.publish(&last);
    let world = World::start();
    world.publish(&last);
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    let seeded = keep.run(&["history", "--pin", "--git", &clone.path()]).ok();
    assert!(seeded.contains("what 3 URLs were first said to give"), "{seeded}");
    let seeded_at = keep.ledger().index_of(|entry| entry["kind"] == "history");
    for (number, (was, is)) in packages.iter().enumerate() {
        if number == 1 {
            // What is derived can go.
            keep.stop();
            std::fs::remove_dir_all(keep.store().join("catalog")).expect("it is there");
            keep.restart();
        }
        let answer = keep.curl().get(&is.cache_path(Kind::Sha256));
        assert!(answer.is_whole(), "admitted metadata vouches for it, so it is served");
        let ledger = keep.ledger();
        let told = ledger.divergences(is.url());
        assert_eq!((told.len(), &told[0]["what"]), (1, &"changed".into()), "{told:#?}");
        let expected = format!("sha256={}", Kind::Sha256.of(was.archive_bytes()));
        assert_eq!(told[0]["expected"], serde_json::json!([expected]));
        let detail = told[0]["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(&published) && detail.contains(&is.full_name()), "{detail}");
    }
    assert!(keep.curl().get(&same.cache_path(Kind::Sha256)).is_whole());
    assert_eq!(keep.ledger().divergences(same.url()).len(), 0);
    keep.stop();
    keep.run(&["history", "--pin", "--git", &clone.path()]).ok();
    let unknown = ["history", "--pin", "--repository", "other", "--git", &clone.path()];
    let refused = keep.run(&unknown);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("these are: default"), "{}", refused.stderr);
    let again = keep.run(&["history", "--json", "--pin", "--git", &clone.path()]).ok();
    let again: serde_json::Value =
        serde_json::from_str(again.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&again["entry"], &again["urls"]), (&seeded_at.into(), &3.into()));
    assert_eq!(keep.ledger().of_kind("history").count(), 1, "the same is not noted twice");
    keep.run(&["verify"]).ok();
    assert!(keep.run(&["log", "--kind", "history"]).ok().contains("3 URLs as first declared"));
}
