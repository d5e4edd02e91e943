//! Finds out which commit is built, for `--version`.

use std::path::Path;
use std::process::Command;

fn main() {
    // Whoever packages a source without its history says which commit it is.
    println!("cargo::rerun-if-env-changed=OPAM_KEEP_COMMIT");
    let given = std::env::var("OPAM_KEEP_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit);
    let number = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let text = match &commit {
        Some(commit) => format!("{number} ({commit})"),
        None => number,
    };
    println!("cargo::rustc-env=OPAM_KEEP_VERSION={text}");
    if let Some(commit) = commit {
        println!("cargo::rustc-env=OPAM_KEEP_COMMIT={commit}");
    }
}

/// The commit that is checked out here, and not in some directory around this one.
fn commit() -> Option<String> {
    let is_own = Path::new(".git").exists();
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (is_own && output.status.success() && !text.is_empty()).then_some(text)
    };
    // Both change with each commit, wherever a worktree keeps them.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
