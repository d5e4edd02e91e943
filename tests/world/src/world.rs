//! The handle on a running world.

use crate::authority::Authority;
use crate::lie::Lie;
use crate::mail::MailServer;
use crate::repo::Repo;
use crate::request::Request;
use crate::server::serve;
use crate::sites::Sites;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Every host of the internet, on one port of this machine.
#[derive(Debug)]
pub struct World {
    address: SocketAddr,
    authority: Arc<Authority>,
    directory: TempDir,
    runtime: Mutex<Option<Runtime>>,
    sites: Arc<Sites>,
}

impl World {
    /// Where opam's own repository lives.
    pub const OPAM: &'static str = "https://opam.ocaml.org";

    /// A world in which nothing exists yet.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("this machine has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let authority = Arc::new(Authority::new());
        let directory = tempfile::tempdir().expect("a directory can be made");
        std::fs::write(directory.path().join(CA), authority.pem()).expect("ca.pem can be written");
        let sites = Arc::new(Sites::default());
        runtime.spawn(serve(listener, Arc::clone(&authority), Arc::clone(&sites)));
        Self { address, authority, directory, runtime: Mutex::new(Some(runtime)), sites }
    }

    /// The one address of all hosts.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate authority that vouches for all hosts, a PEM file.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join(CA)
    }

    /// Opens a mail server for which the same authority vouches.
    pub fn mail_server(&self) -> MailServer {
        MailServer::start(&self.authority)
    }

    /// A directory that lives as long as this world, for repositories that are no web site.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Every host that something was said about.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.sites.hosts()
    }

    /// Makes `url` answer with `bytes`, from now on.
    pub fn put(&self, url: &str, bytes: impl Into<Bytes>) {
        self.sites.put(url, bytes.into());
    }

    /// Makes `url` answer 404.
    pub fn take_down(&self, url: &str) {
        self.sites.take_down(url);
    }

    /// Serves `repo`, its index at opam's own address and its archives where it says they are.
    pub fn publish(&self, repo: &Repo) {
        self.publish_at(Self::OPAM, repo);
    }

    /// The same, with the index at `base`.
    pub fn publish_at(&self, base: &str, repo: &Repo) {
        for (url, bytes) in repo.archives() {
            self.put(url, bytes);
        }
        self.put(&format!("{base}/index.tar.gz"), repo.index());
    }

    /// Lies about `url` until further notice.
    pub fn lie(&self, url: &str, lie: Lie) {
        self.sites.lie(url, lie);
    }

    /// Lies about `url` so many times, and then no more.
    pub fn lie_times(&self, url: &str, lie: Lie, times: u32) {
        self.lie_in_turn(url, (0..times).map(|_| lie.clone()));
    }

    /// Tells these lies about `url`, one after the other, and then no more.
    pub fn lie_in_turn(&self, url: &str, lies: impl IntoIterator<Item = Lie>) {
        self.sites.lie_in_turn(url, lies);
    }

    /// Tells the truth about `url` again.
    pub fn be_honest(&self, url: &str) {
        self.sites.be_honest(url);
    }

    /// Tells one lie about everything, or with `None` no such lie any more.
    pub fn lie_everywhere(&self, lie: Option<Lie>) {
        self.sites.lie_everywhere(lie);
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.sites.requests()
    }

    /// How many of them asked for `url`.
    pub fn count(&self, url: &str) -> usize {
        self.sites.count(url)
    }

    /// Starts counting from nothing.
    pub fn forget_requests(&self) {
        self.sites.forget_requests();
    }

    /// Cuts every connection and takes no more: connecting is refused.
    pub fn kill(&self) {
        let runtime = self.runtime.lock().expect("no thread panicked while killing").take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

const CA: &str = "ca.pem";
