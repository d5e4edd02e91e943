//! The built binary, running on a store of its own.

use crate::checksum::Kind;
use crate::curl::Curl;
use crate::deadline::within;
use crate::fake_clock::FakeClock;
use crate::index::Index;
use crate::ledger::Ledger;
use crate::mirror::Mirror;
use crate::raw;
use crate::run::{Run, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// `opam-keep serve`, its store and its mirror.toml; killed and removed when dropped, and what it
/// logged is shown when the test failed.
#[derive(Debug)]
pub struct Keep {
    binary: PathBuf,
    home: TempDir,
    server: Option<Server>,
    log: &'static str,
    clock: Option<FakeClock>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Keep {
    /// Starts `binary` with an empty store and waits until it listens.
    pub fn start(binary: &str, mirror: &Mirror) -> Self {
        let mut keep = Self::stopped(binary);
        keep.configure(&mirror.text(&keep.store()));
        keep.restart();
        keep
    }

    /// Starts nothing yet; its mirror.toml is still to be written.
    pub fn stopped(binary: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        Self { binary: binary.into(), home, server: None, log: "info", clock: None }
    }

    /// The same without a line for each request.
    pub fn without_access_log(self) -> Self {
        Self { log: "info,access=off", ..self }
    }

    /// The same, taking `clock` for the time, also in commands.
    pub fn by_clock(self, clock: &FakeClock) -> Self {
        Self { clock: Some(clock.clone()), ..self }
    }

    /// Writes mirror.toml; a running server does not read it again.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.config(), text).expect("a file can be written");
    }

    /// Starts the server on whatever is in the store, and waits until it listens.
    pub fn restart(&mut self) {
        assert!(self.server.is_none(), "only a stopped server starts");
        let mut child = self
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let log = Arc::default();
        collect(child.stdout.take(), &log);
        collect(child.stderr.take(), &log);
        self.server = Some(Server { child, log });
        self.address("https");
    }

    /// Ends the server with SIGKILL, in the middle of whatever it does.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("only a running server is killed");
        server.child.kill().expect("a child can be killed");
        server.child.wait().expect("a killed child ends");
    }

    /// Ends the server with SIGTERM and waits until it is gone; its exit code must be 0.
    pub fn stop(&mut self) {
        let pid = self.pid();
        kill_process(Pid::from_raw(pid).expect("a child has a pid"), Signal::TERM)
            .expect("a child can be told to stop");
        let code = within(STOP, "stopping on SIGTERM", || {
            self.server().child.try_wait().expect("a child can be waited for")
        });
        assert!(code.success(), "a server that was told to stop ended with {code}");
        self.server = None;
    }

    /// Whether the server runs.
    pub fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// The server's process id.
    pub fn pid(&mut self) -> i32 {
        self.server().child.id().try_into().expect("a pid fits")
    }

    /// Where it listens for `https` or `http`.
    pub fn address(&mut self, scheme: &str) -> SocketAddr {
        within(START, "listening", || {
            let server = self.server();
            let ended = server.child.try_wait().expect("a child can be waited for");
            let address = server.listening(scheme);
            assert!(address.is_some() || ended.is_none(), "it did not even start: {ended:?}");
            address
        })
    }

    /// What clients call it: `https://localhost:PORT`.
    pub fn url(&mut self) -> String {
        format!("https://localhost:{}", self.address("https").port())
    }

    /// The certificate authority that vouches for it, a PEM file.
    pub fn ca(&self) -> PathBuf {
        self.store().join("tls/ca.pem")
    }

    /// curl, to ask it.
    pub fn curl(&mut self) -> Curl {
        Curl::new(&self.url(), self.ca())
    }

    /// A client that sends it whatever bytes a test likes.
    pub fn raw(&mut self) -> raw::Client {
        raw::Client::new(self.address("https"), &self.ca())
    }

    /// The index at `path`, once there is one.
    pub fn index_at(&mut self, path: &str) -> Vec<u8> {
        let client = self.raw();
        within(INDEX, path, || {
            let answer = client.get(path).ok()?;
            if answer.status != 200 {
                return None;
            }
            answer.body().ok()
        })
    }

    /// The first repository's index, once there is one.
    pub fn index(&mut self) -> Index {
        Index::read(&self.index_at("/index.tar.gz"))
    }

    /// `opam-keep --config … ARGUMENTS`, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| is_meant_for_it(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.env("OPAM_KEEP_LOG", self.log);
        command.envs(self.clock.iter().flat_map(FakeClock::variables));
        command.arg("--config").arg(self.config()).args(arguments).current_dir(self.home.path());
        command
    }

    /// `opam-keep --config … ARGUMENTS`, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments), COMMAND)
    }

    /// Asks the server to look at its upstreams now, and waits until it has.
    pub fn refresh(&self) -> Run {
        self.run(&["refresh"])
    }

    /// All of the ledger.
    pub fn ledger(&self) -> Ledger {
        Ledger::read(&self.run(&["log", "--json"]).ok())
    }

    /// The open divergences, as `divergences --json` tells them.
    pub fn divergences(&self) -> Vec<Value> {
        let listed = self.run(&["divergences", "--json"]).ok();
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The id of the one open divergence.
    pub fn divergence(&self) -> String {
        let open = self.divergences();
        assert_eq!(open.len(), 1, "{open:#?}");
        open[0]["id"].to_string()
    }

    /// Where everything is kept.
    pub fn store(&self) -> PathBuf {
        self.home.path().join("store")
    }

    /// The mirror.toml.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("mirror.toml")
    }

    /// Where the store has, or would have, these bytes.
    pub fn blob(&self, bytes: &[u8]) -> PathBuf {
        self.blob_named(&Kind::Sha256.of(bytes))
    }

    /// Where the store has, or would have, the bytes of this sha256.
    pub fn blob_named(&self, sha256: &str) -> PathBuf {
        self.store().join("blobs/sha256").join(&sha256[..2]).join(sha256)
    }

    /// A file or directory that lives as long as this, beside the store.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The fields of every line that the running server logged so far.
    pub fn logged(&mut self) -> Vec<Value> {
        let log = self.server().log.lock().expect("no thread panicked while logging").clone();
        let line = |line: &String| serde_json::from_str::<Value>(line).ok();
        log.iter().filter_map(line).map(|mut line| line["fields"].take()).collect()
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("the server runs")
    }
}

impl Server {
    fn listening(&self, scheme: &str) -> Option<SocketAddr> {
        let log = self.log.lock().expect("no thread panicked while logging");
        log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|line| {
            let fields = &line["fields"];
            if fields["message"] != "listening" || fields["scheme"] != scheme {
                return None;
            }
            fields["address"].as_str()?.parse().ok()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().map(|log| log.join("\n")).unwrap_or_default();
            eprintln!("--- what opam-keep logged ---\n{log}\n---");
        }
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>, log: &Arc<Mutex<Vec<String>>>) {
    let lines = BufReader::new(pipe.expect("the pipe was asked for")).lines();
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            log.lock().expect("no thread panicked while logging").push(line);
        }
    });
}

/// Variables of the surroundings that would change what the binary does.
fn is_meant_for_it(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    name.starts_with("OPAM_KEEP_") || lower.ends_with("_proxy") || name == "STATE_DIRECTORY"
}

const COMMAND: Duration = Duration::from_secs(120);
const INDEX: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(40);
