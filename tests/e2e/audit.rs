//! `audit`: what a pull request to a repository should hear.

use crate::{BINARY, skip};
use serde_json::Value;
use world::{Checkout, Keep, Kind, Package, Recorded, Repo, Snapshot, installed};

#[test]
fn an_edit_that_the_policy_holds_fails_and_others_pass() {
    let keep = bare();
    let package = Package::new("hello", "1.0");
    let old = written(&keep, "old", vec![package.clone()]);
    let same = written(&keep, "same", vec![package.clone(), Package::new("hello", "1.1")]);
    let rewritten = package.clone().bytes(*b"other bytes", &[Kind::Sha256, Kind::Sha512]);
    let rewritten = written(&keep, "rewritten", vec![rewritten]);

    let passed = keep.run(&["audit", &old, &same]);
    assert_eq!(passed.code, 0, "{}", passed.said());
    assert!(passed.stdout.contains("allow hello.1.1: version-added"), "{}", passed.stdout);
    let held = keep.run(&["audit", &old, &rewritten]);
    assert_eq!(held.code, 1, "{}", held.said());
    assert!(held.stdout.contains("hold  hello.1.0: source-rewritten"), "{}", held.stdout);
    let old_sum = Kind::Sha256.of(package.archive_bytes());
    assert!(held.stdout.contains(&format!("sha256={old_sum}")), "{}", held.stdout);

    let json = keep.run(&["audit", "--json", &old, &rewritten]);
    let line: Value = serde_json::from_str(&json.stdout).expect("one object a line");
    assert_eq!((json.code, &line["rule"]), (1, &"hold".into()));
    assert_eq!(line["changes"][0]["kind"], "source-rewritten");
    let github = keep.run(&["audit", "--format", "github", &old, &rewritten]).stdout;
    let start = "::error file=packages/hello/hello.1.0/opam,title=hello.1.0::source-rewritten%0A";
    assert!(github.starts_with(start) && github.lines().count() == 1, "{github}");
}

#[test]
fn the_policy_of_mirror_toml_decides() {
    let keep = bare();
    let package = Package::new("hello", "1.0");
    let old = written(&keep, "old", vec![package.clone()]);
    let new = package.bytes(*b"other bytes", &[Kind::Sha256, Kind::Sha512]);
    let new = written(&keep, "new", vec![new]);
    keep.configure(
        "[[policy.override]]\nrepository = \"ours\"\npackages = [\"hel*\"]\n\
         source_rewritten = \"warn\"\n",
    );
    assert_eq!(keep.run(&["audit", &old, &new]).code, 1);
    let ours = keep.run(&["audit", "--repository", "ours", &old, &new]);
    assert_eq!(ours.code, 0, "{}", ours.said());
    assert!(ours.stdout.contains("warn  hello.1.0"), "{}", ours.stdout);
}

#[test]
fn a_state_that_a_mirror_would_hold_as_a_whole_fails() {
    let keep = bare();
    let packages: Vec<Package> =
        (0..10).map(|number| Package::new("many", &number.to_string())).collect();
    let old = written(&keep, "old", packages.clone());
    let new = written(&keep, "new", packages[..7].to_vec());
    let held = keep.run(&["audit", &old, &new]);
    let said = "hold  repository default: 3 of 10 versions are gone at once";
    assert!(held.code == 1 && held.stdout.contains(said), "{}", held.said());
    let github = keep.run(&["audit", "--format", "github", &old, &new]).stdout;
    assert!(github.starts_with("::error file=repo,title=default::gutted%0A3 of 10"), "{github}");
    let json = keep.run(&["audit", "--json", &old, &new]).stdout;
    let last: Value = serde_json::from_str(json.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["rule"], &last["removed"]), (&"hold".into(), &3.into()));
    keep.configure("[policy]\nmax_removed = \"30%\"\n");
    keep.run(&["audit", &old, &new]).ok();
    let unknown = keep.run(&["audit", "--repository", "other", &old, &new]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("these are: default"), "{}", unknown.stderr);
}

#[test]
fn one_state_is_looked_over() {
    let keep = bare();
    let sound = written(&keep, "sound", vec![Package::new("hello", "1.0")]);
    keep.run(&["audit", &sound]).ok();
    let weak = Package::bare("weak", "1.0").archive("https://a.example/weak.tgz", &[Kind::Md5]);
    let weak = written(&keep, "weak", vec![weak]);
    let found = keep.run(&["audit", &weak]);
    assert_eq!(found.code, 1);
    assert!(found.stdout.contains("weak.1.0: weak-checksum"), "{}", found.stdout);
    let nothing = keep.run(&["audit", &keep.path("nowhere").display().to_string()]);
    assert_eq!((nothing.code, nothing.stderr.lines().count()), (2, 1), "{}", nothing.said());
}

#[test]
fn two_real_snapshots_are_audited_in_seconds() {
    let Some(recorded) = Recorded::find() else { skip!("no recorded world") };
    let [old, new, ..] = recorded.snapshots() else { skip!("no two recorded snapshots") };
    let keep = bare();
    let write = |name: &str, snapshot: &Snapshot| {
        let path = keep.path(name);
        std::fs::write(&path, snapshot.index()).expect("a file can be written");
        path.display().to_string()
    };
    let audited = keep.run(&["audit", &write("old", old), &write("new", new)]);
    assert_eq!(audited.code, 1, "{}", audited.stderr);
    let held = audited.stdout.lines().filter(|line| line.starts_with("hold ")).count();
    assert_eq!(held, 5);
    assert!(audited.stdout.ends_with("928 edits, 5 of which the policy holds\n"));
}

#[test]
fn revisions_of_a_clone_are_audited_as_a_pull_request_is() {
    if !installed("git") {
        skip!("no git in PATH");
    }
    let keep = bare();
    let clone = Checkout::new(keep.path("clone"));
    let package = Package::new("hello", "1.0");
    let rewritten = package.clone().bytes(*b"other bytes", &[Kind::Sha256, Kind::Sha512]);
    let base = clone.publish(&Repo::new([package.clone()]));
    clone.git(&["checkout", "--quiet", "-b", "pull"]).ok();
    clone.publish(&Repo::new([package, Package::new("hello", "1.1")]));
    clone.git(&["checkout", "--quiet", "main"]).ok();
    clone.publish(&Repo::new([rewritten]));
    let audit =
        |arguments: &[&str]| keep.run(&[&["audit", "--git", &clone.path()], arguments].concat());
    let pull = audit(&["main...pull"]);
    assert_eq!((pull.code, pull.stdout.lines().count()), (0, 2), "{}", pull.said());
    assert!(
        pull.stdout.starts_with(
            "allow hello.1.1: version-added
"
        ),
        "{}",
        pull.stdout
    );
    let main = audit(&[&format!("{base}..")]);
    assert_eq!(main.code, 1);
    assert!(
        main.stdout.starts_with(
            "hold  hello.1.0: source-rewritten
"
        ),
        "{}",
        main.stdout
    );
    audit(&["pull"]).ok();

    let report = audit(&["--format", "gitlab", "main~1..main"]).stdout;
    let report: Value = serde_json::from_str(&report).expect("a report is JSON");
    let [issue] = report.as_array().expect("it is a list").as_slice() else { panic!("{report}") };
    assert_eq!(issue["location"]["path"], "packages/hello/hello.1.0/opam");
    assert_eq!(issue["location"]["lines"]["begin"], 1);
    assert_eq!(
        (&issue["check_name"], &issue["severity"]),
        (&"source-rewritten".into(), &"critical".into())
    );
    let again = audit(&["--format", "gitlab", "main~1..main"]).stdout;
    let again: Value = serde_json::from_str(&again).expect("a report is JSON");
    assert_eq!(issue["fingerprint"], again[0]["fingerprint"]);
    assert_eq!(audit(&["--format", "gitlab", "main...pull"]).stdout, "[]\n");

    for (wrong, says) in [
        ("nowhere..main", "has no revision \"nowhere\""),
        ("main..--output=x", "has no revision \"--output=x\""),
        ("main:packages", "has no revision"),
    ] {
        let run = audit(&[wrong]);
        assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.said());
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
    let run = keep.run(&["audit", "--git", "/nowhere", "main"]);
    assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.said());
}

/// Nothing is configured.
fn bare() -> Keep {
    let keep = Keep::stopped(BINARY);
    keep.configure("");
    keep
}

fn written(keep: &Keep, name: &str, packages: Vec<Package>) -> String {
    let directory = keep.path(name);
    Repo::new(packages).write(&directory);
    directory.display().to_string()
}
