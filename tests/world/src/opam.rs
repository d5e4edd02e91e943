//! Real opam clients, each with a root and a home of its own.

use crate::network::Network;
use crate::run::{Run, run};
use crate::trace::Trace;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// An opam that tests know how to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The system's own, 2.1.2 on Debian bookworm.
    System,
    /// 2.3, from the directory that `OPAM_KEEP_CLIENTS` names.
    V2_3,
    /// 2.6, from there too.
    V2_6,
}

/// One client that knows nothing yet.
#[derive(Debug)]
pub struct Opam {
    program: PathBuf,
    ca: PathBuf,
    home: TempDir,
    /// The network namespace that it runs in.
    network: Option<String>,
}

impl Version {
    /// What the program is called.
    pub fn program(self) -> &'static str {
        match self {
            Self::System => "opam",
            Self::V2_3 => "opam-2.3",
            Self::V2_6 => "opam-2.6",
        }
    }

    /// Where it is, if it is at hand.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let directories = match self {
            Self::System => std::env::var_os("PATH"),
            Self::V2_3 | Self::V2_6 => std::env::var_os("OPAM_KEEP_CLIENTS")
                .map(|directory| PathBuf::from(directory).join("bin").into_os_string()),
        };
        std::env::split_paths(&directories?)
            .map(|directory| directory.join(self.program()))
            .find(|program| program.is_file())
    }
}

impl Opam {
    /// A fresh client that trusts `ca`, a PEM file; `None` where that version is not at hand.
    pub fn fresh(version: Version, ca: PathBuf) -> Option<Self> {
        let home = tempfile::tempdir().expect("a directory can be made");
        Some(Self { program: version.find()?, ca, home, network: None })
    }

    /// Makes every host resolve to `address`, whatever the port: a client of the world itself.
    pub fn connect_to(self, address: SocketAddr) -> Self {
        let rule = format!("connect-to = \"::{address}\"\nnoproxy = \"*\"\n");
        std::fs::write(self.home.path().join(".curlrc"), rule).expect("a file can be written");
        self
    }

    /// Puts a file into its home.
    pub fn with_file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.home.path().join(name), text).expect("a file can be written");
        self
    }

    /// Runs it in a network of its own, with a trace of every socket.
    pub fn inside(mut self, network: &Network, trace: &Trace) -> Self {
        self.program = trace.program().to_owned();
        self.network = Some(network.name().to_owned());
        self
    }

    /// Its program, for a trace.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// `opam init` from `repository`, without a switch.
    pub fn init(&self, repository: &str) -> Run {
        self.run(&["init", "--bare", "--no-setup", "--disable-sandboxing", repository])
    }

    /// `opam ARGUMENTS`, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments), PATIENCE)
    }

    /// The switch's `share` directory.
    pub fn share(&self, switch: &str) -> PathBuf {
        self.root().join(switch).join("share")
    }

    fn command(&self) -> Command {
        let mut command = match &self.network {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("TMPDIR", std::env::temp_dir())
            .env("LC_ALL", "C.UTF-8")
            .env("CURL_CA_BUNDLE", &self.ca)
            .env("SSL_CERT_FILE", &self.ca)
            .env("OPAMROOT", self.root())
            .env("OPAMROOTISOK", "1")
            .env("OPAMYES", "1")
            .env("OPAMCOLOR", "never")
            .env("OPAMNODEPEXTS", "1")
            .env("OPAMJOBS", "2")
            // What does not come from the mirror must fail, on machines with the internet too.
            .env("http_proxy", NOWHERE)
            .env("https_proxy", NOWHERE)
            .env("no_proxy", "localhost,127.0.0.1")
            .current_dir(self.home.path());
        if self.network.is_some() {
            // There it can't reach anything else, and the trace shows what it tries.
            command.env_remove("http_proxy").env_remove("https_proxy");
        }
        command
    }

    /// The opam root.
    pub fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }
}

/// Whether a program is in `PATH`.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}

const NOWHERE: &str = "http://127.0.0.1:9";
const PATIENCE: Duration = Duration::from_secs(1200);
