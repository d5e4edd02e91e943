//! Chromium, driven by the scripts in `tests/browser`.

use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A browser without a window.
#[derive(Debug)]
pub struct Browser(());

impl Browser {
    /// `None` where there is no Chromium, no Node.js, or where nobody ran `npm ci` in
    /// `tests/browser`.
    pub fn find() -> Option<Self> {
        let chromium = std::env::var("OPAM_KEEP_CHROMIUM");
        let chromium = chromium.unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
        let node = Command::new("node").arg("--version").output().ok()?.status.success();
        let modules = Path::new(SCRIPTS).join("node_modules/playwright-core").is_dir();
        (node && modules && Path::new(&chromium).is_file()).then_some(Self(()))
    }

    /// Runs a script to its end; what it was told comes on standard input, and what it saw on
    /// standard output.
    pub fn run(&self, script: &str, told: &Value) -> Value {
        let mut child = Command::new("node")
            .arg(Path::new(SCRIPTS).join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be run");
        let mut stdin = child.stdin.take().expect("the pipe was asked for");
        stdin.write_all(told.to_string().as_bytes()).expect("a script reads what it is told");
        drop(stdin);
        let output = child.wait_with_output().expect("a script ends");
        assert!(output.status.success(), "{script} ended with {}", output.status);
        serde_json::from_slice(&output.stdout).expect("a script tells what it saw as JSON")
    }
}

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../browser");
