//! What mirror.toml says, as values that can't be wrong.
//!
//! One file per concern: `value` holds durations, sizes, names and address ranges as people
//! write them, `policy` the rules for edits, `files` knows where what is named lies, [`load`] puts file, environment and defaults together. A key that nobody knows
//! is an error with its line and column.

mod alert;
mod check;
mod environment;
mod files;
mod load;
mod policy;
mod value;
mod wording;

pub use alert::{Address, Alert, Command, Email, SinkName, Webhook, WebhookBody, WebhookUrl};
pub use files::likely_store;
pub use load::{ConfigError, Purpose, load, parse};
pub use policy::{ChecksumPolicy, KINDS, Percent, Policy, Rule};
pub use value::{
    AddressRange, ByteRate, ByteSize, EXPECTED_ADDRESS, HumanDuration, NotADuration, RepositoryName,
};

use crate::safe_url::SafeUrl;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// All of mirror.toml.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where and how clients connect.
    pub server: Server,
    /// Who may ask, and how often.
    pub access: Access,
    /// Where everything is kept.
    pub store: Store,
    /// The repositories that are mirrored; one, opam's own, when none is named.
    pub repository: Vec<Repository>,
    /// How opam-keep dials out.
    pub upstream: Upstream,
    /// What happens to archives that nothing, or only something weak, vouches for.
    pub policy: Policy,
    /// How often what is pinned is fetched again.
    pub recheck: Recheck,
    /// Who is told of what upstream did.
    pub alert: Alert,
}

/// The `[server]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Addresses that speak HTTPS.
    #[serde(deserialize_with = "value::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Names and addresses in the self-made certificate.
    pub hostnames: Vec<String>,
    /// Where clients reach this mirror, when that differs from `hostnames` and `listen`.
    pub public_url: Option<SafeUrl>,
    /// A certificate of one's own, instead of the self-made one.
    pub tls: Option<TlsFiles>,
    /// Addresses that speak plain HTTP: none unless named.
    #[serde(deserialize_with = "value::addresses")]
    pub plain_http: Vec<SocketAddr>,
    /// Most connections at one time.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_connections: NonZeroUsize,
    /// Most connections at one time from one address.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_connections_per_address: NonZeroUsize,
    /// How long running downloads may take once a stop was asked for.
    pub shutdown_grace: HumanDuration,
}

/// The `[access]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Who may read.
    pub read: Reading,
    /// A PEM file of authorities: who shows a certificate of theirs reads without a token.
    pub client_ca: Option<toml::Spanned<PathBuf>>,
    /// How often in a minute one client may ask for what is not kept.
    pub misses_per_minute: NonZeroU32,
    /// How often in a minute one client may come with a token that is not good.
    pub failed_logins_per_minute: NonZeroU32,
}

/// Who may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Everyone who can connect.
    #[default]
    Open,
    /// Those who have a token.
    Tokens,
}

/// Certificate chain and private key, both PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, leaf first, then its chain.
    pub cert: toml::Spanned<PathBuf>,
    /// The leaf's private key.
    pub key: toml::Spanned<PathBuf>,
}

/// The `[store]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The data directory; see [`Config::data_directory`] for what holds without it.
    pub path: Option<PathBuf>,
    /// With less room than this on its file system, no new archive, snapshot or evidence is kept.
    pub min_free: ByteSize,
    /// Of one divergence, bytes are kept whole up to this size; of more, the beginning.
    pub max_evidence: ByteSize,
    /// Room for the evidence of all divergences.
    pub max_evidence_total: ByteSize,
}

/// One `[[repository]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// The first path segment under which clients reach it.
    pub name: RepositoryName,
    /// `https://…`, `http://…`, `git+https://…`, `git+file://…` or `file:///a/checkout`.
    pub upstream: toml::Spanned<SafeUrl>,
    /// How often upstream is asked for changes.
    #[serde(default = "default_refresh")]
    pub refresh: HumanDuration,
    /// Whether opam-keep writes the index or passes on upstream's own bytes.
    #[serde(default)]
    pub mode: Mode,
    /// Whether the sources in its opam files point here, so that clients never ask upstream.
    #[serde(default = "not_rewritten")]
    pub rewrite_sources: toml::Spanned<bool>,
}

/// How a repository's index is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Written by opam-keep from what is admitted.
    #[default]
    Managed,
    /// Upstream's bytes, for repositories whose files are signed as a whole.
    Verbatim,
}

/// The `[upstream]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Bound on each wait: to connect, for the first byte, and between two bytes.
    pub timeout: HumanDuration,
    /// How long a client waits for a first fetch before it is told 404 and the fetch goes on
    /// without it.
    pub patience: HumanDuration,
    /// How long a failed fetch is remembered before upstream is asked again.
    pub retry_after: HumanDuration,
    /// Largest archive that is fetched.
    pub max_archive_size: ByteSize,
    /// Most fetches at one time.
    #[serde(deserialize_with = "value::at_least_one")]
    pub concurrency: NonZeroUsize,
    /// Most fetches at one time from one host.
    #[serde(deserialize_with = "value::at_least_one")]
    pub per_host: NonZeroUsize,
    /// A proxy for everything that goes out; `http://[user:password@]host:port`.
    pub proxy: Option<SafeUrl>,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub extra_ca: Option<toml::Spanned<PathBuf>>,
    /// Other archive caches to ask after an archive's own sources, as opam writes them.
    pub caches: Vec<SafeUrl>,
    /// Private ranges that may be dialled.
    pub allow_addresses: Vec<AddressRange>,
    /// Nothing is asked of another machine, not even the address of a name; what is not kept is a
    /// miss.
    pub offline: bool,
    /// Fixed addresses for host names, like curl's `--resolve`.
    #[serde(deserialize_with = "value::addresses_by_name")]
    pub resolve: BTreeMap<String, SocketAddr>,
}

/// The `[recheck]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recheck {
    /// The time in which every pinned URL is fetched again once.
    pub every: HumanDuration,
    /// How fast all rechecks together take bytes from upstreams.
    pub bandwidth: ByteRate,
}

impl Config {
    /// The data directory: `store.path`, else systemd's `$STATE_DIRECTORY`, else
    /// `opam-keep` in the XDG data directory.
    ///
    /// # Errors
    /// When none of them says where.
    pub fn data_directory(&self) -> Result<PathBuf, NoDataDirectory> {
        if let Some(path) = &self.store.path {
            return Ok(path.clone());
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = variable("STATE_DIRECTORY") {
            return Ok(path.into());
        }
        let data = variable("XDG_DATA_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        data.or_else(home).map(|data| data.join("opam-keep")).ok_or(NoDataDirectory)
    }
}

/// Nothing says where the data directory is.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nothing says where to keep data: set store.path, or the HOME variable")]
pub struct NoDataDirectory;

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8443))],
            hostnames: vec!["localhost".to_owned()],
            public_url: None,
            tls: None,
            plain_http: Vec::new(),
            max_connections: count(16_384),
            max_connections_per_address: count(1_024),
            shutdown_grace: Duration::from_secs(30).into(),
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        let often = |count| NonZeroU32::new(count).expect("a default is not zero");
        Self {
            read: Reading::Open,
            client_ca: None,
            misses_per_minute: often(6_000),
            failed_logins_per_minute: often(30),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: None,
            min_free: ByteSize::mib(512),
            max_evidence: ByteSize::mib(64),
            max_evidence_total: ByteSize::gib(16),
        }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30).into(),
            patience: Duration::from_secs(20).into(),
            retry_after: Duration::from_secs(60).into(),
            max_archive_size: ByteSize::gib(2),
            concurrency: count(24),
            per_host: count(9),
            proxy: None,
            extra_ca: None,
            caches: Vec::new(),
            allow_addresses: Vec::new(),
            offline: false,
            resolve: BTreeMap::new(),
        }
    }
}

impl Default for Recheck {
    fn default() -> Self {
        Self { every: Duration::from_secs(30 * 24 * 60 * 60).into(), bandwidth: ByteRate::mib(2) }
    }
}

/// Every key with its default, as a mirror.toml.
pub const EXAMPLE: &str = include_str!("../../mirror.toml.example");

fn default_refresh() -> HumanDuration {
    Duration::from_secs(15 * 60).into()
}

fn not_rewritten() -> toml::Spanned<bool> {
    toml::Spanned::new(0..0, false)
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("a default is not zero")
}
