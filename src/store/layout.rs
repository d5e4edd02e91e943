//! Where things lie in the data directory.

use crate::digest::Sha256;
use std::path::{Path, PathBuf};

/// The data directory and the paths in it.
///
/// Everything but `catalog/` and `work/` is the truth; those two can be deleted at any time while
/// nothing runs. `alerts/` says what was told to whom: without it, nothing older is told any more.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A blob's file: `blobs/sha256/ab/<hex>`.
    pub fn blob(&self, name: &Sha256) -> PathBuf {
        let hex = name.to_string();
        self.blobs().join(&hex[..2]).join(hex)
    }

    /// The directory of all blobs named by SHA-256.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// The ledger, laid out as it is served.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The ledger's keys, and the access tokens.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The ledger's private key, PKCS #8 PEM, mode 0600.
    pub fn ledger_key(&self) -> PathBuf {
        self.keys().join("ledger.key")
    }

    /// The ledger's public key, as a signed-note verifier key.
    pub fn ledger_public_key(&self) -> PathBuf {
        self.keys().join("ledger.pub")
    }

    /// The access tokens, without their secrets, mode 0600.
    pub fn tokens(&self) -> PathBuf {
        self.keys().join("tokens.json")
    }

    /// The catalog's index, and what else is derived.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog")
    }

    /// Indexes as they were last built, so that a start need not build them again.
    pub fn built_indexes(&self) -> PathBuf {
        self.catalog().join("indexes")
    }

    /// Why versions are not served as upstream has them, so that a start can say so.
    pub fn exceptions(&self) -> PathBuf {
        self.catalog().join("exceptions")
    }

    /// The certificate authority and certificate that opam-keep makes for itself.
    pub fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// Temporary files; emptied at start, on the same file system as the blobs.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Bare git repositories of upstreams: a cache that saves fetching history again.
    pub fn git(&self) -> PathBuf {
        self.catalog().join("git")
    }

    /// Alerts: what waits to be told, and what was told already.
    pub fn alerts(&self) -> PathBuf {
        self.root.join("alerts")
    }

    /// The queues of alerts, a directory for each sink.
    pub fn sinks(&self) -> PathBuf {
        self.alerts().join("sinks")
    }

    /// What is wrong at present and was told, a file for each.
    pub fn conditions(&self) -> PathBuf {
        self.alerts().join("conditions")
    }

    /// When each upstream last gave a good index.
    pub fn freshness(&self) -> PathBuf {
        self.alerts().join("fresh")
    }

    /// What the last check of the whole store came to.
    pub fn verified(&self) -> PathBuf {
        self.root.join("verified.json")
    }

    /// What clients asked for, hour by hour.
    pub fn traffic(&self) -> PathBuf {
        self.root.join("traffic.json")
    }

    /// The file whose lock says that a process owns the store.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The socket on which a running server takes commands.
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }
}
