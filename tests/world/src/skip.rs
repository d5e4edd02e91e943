//! Tests that can't run here say so, by name, and are counted apart.

use std::io::Write as _;

/// Says that `test` did not run, and why, for `tests/run` to subtract from the passed ones: the
/// test harness itself would count it as passed.
pub fn skipped(test: &str, why: &str) {
    // Not eprintln!, which the test harness keeps to itself when a test passes.
    writeln!(std::io::stderr(), "skipped: {test}: {why}").expect("standard error can be written");
    let Some(list) = std::env::var_os("OPAM_KEEP_SKIPS") else { return };
    let mut list = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(list)
        .expect("the file that OPAM_KEEP_SKIPS names can be written");
    writeln!(list, "{test}: {why}").expect("a skip can be noted down");
}
