//! curl, which is what opam downloads with.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// curl, trusting one certificate authority.
#[derive(Clone, Debug)]
pub struct Curl {
    ca: PathBuf,
    base: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// curl's exit code: 0 for a whole transfer, whatever its status.
    pub exit: i32,
    /// The HTTP status, 0 without one.
    pub status: u16,
    /// The bytes that arrived, all or some.
    pub body: Vec<u8>,
    /// From start to end.
    pub took: Duration,
    head: String,
}

impl Curl {
    /// Asks below `base`, such as `https://localhost:8443`.
    pub fn new(base: &str, ca: PathBuf) -> Self {
        Self { ca, base: base.to_owned() }
    }

    /// A plain GET of `path`, as opam does it.
    pub fn get(&self, path: &str) -> Answer {
        self.with(&[], path)
    }

    /// The same with more arguments.
    pub fn with(&self, arguments: &[&str], path: &str) -> Answer {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let (head, body) = (directory.path().join("head"), directory.path().join("body"));
        let start = Instant::now();
        let output = Command::new("curl")
            .args(["-q", "-sS", "--path-as-is", "--max-time", PATIENCE, "-w", "%{http_code}"])
            .arg("--cacert")
            .arg(&self.ca)
            .arg("-D")
            .arg(&head)
            .arg("-o")
            .arg(&body)
            .args(arguments)
            .arg(format!("{}{path}", self.base))
            .output()
            .expect("curl is installed");
        let status = String::from_utf8_lossy(&output.stdout).trim().parse();
        Answer {
            exit: output.status.code().unwrap_or(-1),
            status: status.unwrap_or(0),
            body: std::fs::read(body).unwrap_or_default(),
            took: start.elapsed(),
            head: std::fs::read_to_string(head).unwrap_or_default(),
        }
    }
}

impl Answer {
    /// Whether a client would take this for the file it asked for.
    pub fn is_whole(&self) -> bool {
        self.exit == 0 && self.status == 200
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

const PATIENCE: &str = "120";
