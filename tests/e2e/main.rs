//! What opam-keep promises, asked of the built binary: real sockets, real TLS, real files, real
//! opam. One module per area, one test per promise; `runners` is what the tests of `ci` run in, and
//! `steady` are clients beside a test.
//!
//! A test that can't run on this machine says so with [`skip!`] and is counted by `tests/run`.

mod abandoned;
mod access;
mod admin;
mod alerts;
mod api;
mod at;
mod audit;
mod bundle;
mod certificates;
mod ci;
mod ci_tokens;
mod clients;
mod clock;
mod compared;
mod config;
mod connections;
mod crash;
mod decide;
mod disk;
mod divergences;
mod dune;
mod frames;
mod history;
mod hold;
mod hostile;
mod import;
mod install;
mod joined;
mod large_ledger;
mod ledger;
mod lies;
mod many_pins;
mod metrics;
mod pages;
mod pins;
mod policy;
mod processes;
mod recheck;
mod reload;
mod removed;
mod requests;
mod rewrite;
mod room;
mod rot;
mod runners;
mod service;
mod slow;
mod snapshots;
mod sources;
mod ssrf;
mod static_files;
mod steady;
mod streams;
mod stronger;
mod stuck;
mod sync;
mod terminal;
mod threats;
mod tls;
mod torture;
mod update;
mod upstream;
mod web;
mod without_checksums;

use std::path::Path;
use std::process::Command;
use world::{Keep, Mirror};

const BINARY: &str = env!("CARGO_BIN_EXE_opam-keep");

/// Starts the built binary.
fn start(mirror: &Mirror) -> Keep {
    Keep::start(BINARY, mirror)
}

/// Copies a directory with all that is below it, as a backup does.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success());
}

/// Ends the test that it is written in, counted as skipped.
macro_rules! skip {
    ($($why:tt)*) => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        world::skipped(name.trim_start_matches("e2e::"), &format!($($why)*));
        return;
    }};
}
use skip;
