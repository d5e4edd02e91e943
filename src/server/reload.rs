//! Another configuration or certificate takes effect while the server runs, without a connection or
//! download noticing; a bad one is refused, and the one before goes on.
//!
//! A good configuration becomes a whole new [`Server`] with a keeper of its own on the same store,
//! and takes the old one's place in one step. What clients are in the middle of ends with the old
//! one. What was counted, who is logged in and who is connected goes over.

use super::status::ConfigurationStatus;
use super::{Current, Face, Server, public_url, tls};
use crate::config::Config;
use crate::digest::Sha256;
use crate::keeper::Keeper;
use crate::supervisor;
use jiff::Timestamp;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where the configuration comes from.
pub struct Source {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// What it said when it was last taken.
    pub config: Config,
    /// Reads it again, as the command line wants it.
    pub load: Arc<dyn Fn() -> Result<Config, String> + Send + Sync>,
}

/// What people are told of the configuration.
pub(super) struct Configuration {
    status: Mutex<ConfigurationStatus>,
}

/// Watches the configuration's files and takes over what they say.
pub(super) struct Reload {
    current: Arc<Current>,
    source: Source,
    addresses: Vec<SocketAddr>,
    /// What the files held when they were last looked at.
    contents: Contents,
}

/// The hash of each file; none where it can't be read.
type Contents = BTreeMap<PathBuf, Option<Sha256>>;

impl Configuration {
    pub(super) fn new(since: Timestamp) -> Self {
        let status = ConfigurationStatus { since, problem: None, at_next_start: Vec::new() };
        Self { status: Mutex::new(status) }
    }

    pub(super) fn status(&self) -> ConfigurationStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn took(&self, since: Timestamp, at_next_start: Vec<String>) {
        let status = ConfigurationStatus { since, problem: None, at_next_start };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn refused(&self, problem: String) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).problem = Some(problem);
    }
}

impl Reload {
    /// `addresses` are those that are listened on.
    pub(super) fn new(current: Arc<Current>, source: Source, addresses: Vec<SocketAddr>) -> Self {
        let contents = contents(files(&source));
        Self { current, source, addresses, contents }
    }

    /// Goes on until `stop`; says how long running downloads may take then.
    pub(super) async fn follow(mut self, stop: CancellationToken) -> Duration {
        let changed = Arc::new(Notify::new());
        let mut watcher = self.watch(&changed);
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut renewed = Instant::now();
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => break,
                () = hung_up(&mut hangup) => true,
                () = changed.notified() => {
                    // Whoever writes a file, or several, may not be done.
                    tokio::time::sleep(SETTLE).await;
                    false
                }
                // A watch can miss something: on network file systems it sees nothing.
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let files = files(&self.source);
            let now = tokio::task::spawn_blocking(move || contents(files)).await;
            let now = now.unwrap_or_else(|_| self.contents.clone());
            let is_changed = now != self.contents;
            let is_old = renewed.elapsed() >= RENEW_EVERY;
            if !is_changed && !is_asked && !is_old {
                continue;
            }
            let only_tls = !is_asked && self.is_of_tls_alone(&now);
            self.contents = now;
            renewed = Instant::now();
            supervisor::reloading();
            if stop.run_until_cancelled(self.reload(only_tls)).await.is_none() {
                break;
            }
            supervisor::ready();
            // Other files may be named by now.
            watcher = self.watch(&changed);
            let named = self::files(&self.source);
            self.contents.retain(|path, _| named.contains(path));
            for path in named {
                self.contents.entry(path).or_insert_with_key(|path| hashed(path));
            }
        }
        drop(watcher);
        self.source.config.server.shutdown_grace.get()
    }

    async fn reload(&mut self, only_tls: bool) {
        let server = self.current.load_full();
        let now = server.clock.now();
        let taken = match only_tls {
            true => self.take_certificates().map(|()| Vec::new()),
            false => self.take_configuration().await,
        };
        match taken {
            Ok(at_next_start) => {
                let what = if only_tls { "certificates" } else { "configuration" };
                tracing::info!(what, "reloaded");
                for key in &at_next_start {
                    tracing::warn!(key, "the new value takes effect at the next start");
                }
                let at_next_start = match only_tls {
                    true => server.configuration.status().at_next_start,
                    false => at_next_start,
                };
                server.configuration.took(now, at_next_start);
            }
            Err(problem) => {
                tracing::error!(problem, "the new configuration is refused; the old one goes on");
                server.configuration.refused(problem);
            }
        }
    }

    /// The same configuration, whose certificates are others by now.
    fn take_certificates(&self) -> Result<(), String> {
        let server = self.current.load_full();
        let face = self.face(&self.source.config)?;
        let keeper = Arc::clone(&server.keeper);
        self.current.store(Arc::new(server.next(keeper, &self.source.config, face)));
        Ok(())
    }

    /// The keys whose new values have to wait.
    async fn take_configuration(&mut self) -> Result<Vec<String>, String> {
        let load = Arc::clone(&self.source.load);
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let mut config = loaded.map_err(|error| error.to_string())??;
        let at_next_start = keep_what_stays(&mut config, &self.source.config);
        let server = self.current.load_full();
        let face = self.face(&config)?;
        let layout = server.keeper.store().layout();
        Keeper::could_open(&config, layout).map_err(|error| error.to_string())?;
        server.keeper.retire().await;
        match reopened(&server.keeper, &config).await {
            Ok(keeper) => {
                self.put(&server, keeper, &config, face);
                self.source.config = config;
                Ok(at_next_start)
            }
            Err(problem) => {
                // The old keeper has retired, so another one has to go on with the old.
                let before = &self.source.config;
                let keeper = reopened(&server.keeper, before).await.map_err(|second| {
                    tracing::error!(problem = second, "nothing can be admitted until a restart");
                    second
                })?;
                let face = self.face(before)?;
                self.put(&server, keeper, before, face);
                Err(problem)
            }
        }
    }

    /// Puts a keeper in the place of one that has retired.
    fn put(&self, old: &Server, keeper: Arc<Keeper>, config: &Config, face: Face) {
        self.current.store(Arc::new(old.next(Arc::clone(&keeper), config, face)));
        keeper.start();
        old.keeper.succeeded_by(&keeper);
    }

    fn face(&self, config: &Config) -> Result<Face, String> {
        let server = self.current.load();
        let directory = server.keeper.store().layout().tls();
        let (mut tls, mut ca) = (None, None);
        if server.tls.is_some() {
            tls = Some(tls::server_config(config, &directory).map_err(|error| error.to_string())?);
            ca = tls::own_ca(config, &directory);
        }
        Ok((public_url(&config.server, self.addresses.first().copied()), ca, tls))
    }

    /// Whether no file differs but those of certificates.
    fn is_of_tls_alone(&self, now: &Contents) -> bool {
        let of_tls = tls::files(&self.source.config);
        let differs = |path: &&PathBuf| now.get(*path) != self.contents.get(*path);
        now.keys().filter(differs).all(|path| of_tls.contains(path))
    }

    /// Watches the files' directories: editors, certificate managers and Kubernetes put another
    /// file in the place of the old one.
    fn watch(&self, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
        let changed = Arc::clone(changed);
        let watcher = notify::recommended_watcher(move |_| changed.notify_one());
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "changes of the configuration are seen late");
                return None;
            }
        };
        let files = files(&self.source);
        let directories: BTreeSet<&Path> = files.iter().filter_map(|it| it.parent()).collect();
        for directory in directories {
            let directory =
                if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                let path = directory.display();
                tracing::warn!(%path, %error, "changes in this directory are seen late");
            }
        }
        Some(watcher)
    }
}

async fn reopened(old: &Arc<Keeper>, config: &Config) -> Result<Arc<Keeper>, String> {
    let (old, config) = (Arc::clone(old), config.clone());
    let opened = tokio::task::spawn_blocking(move || old.reopen(&config)).await;
    opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn hung_up(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Puts the old values of keys that hold from start to end into a new configuration, and names
/// those that differ.
fn keep_what_stays(new: &mut Config, old: &Config) -> Vec<String> {
    let mut differing = Vec::new();
    let mut keep = |key: &str, differs: bool| {
        if differs {
            differing.push(key.to_owned());
        }
    };
    keep("server.listen", new.server.listen != old.server.listen);
    keep("server.plain_http", new.server.plain_http != old.server.plain_http);
    keep("store.path", new.store.path != old.store.path);
    keep("store.min_free", new.store.min_free != old.store.min_free);
    keep("upstream.concurrency", new.upstream.concurrency != old.upstream.concurrency);
    new.server.listen.clone_from(&old.server.listen);
    new.server.plain_http.clone_from(&old.server.plain_http);
    new.store.path.clone_from(&old.store.path);
    new.store.min_free = old.store.min_free;
    new.upstream.concurrency = old.upstream.concurrency;
    differing
}

/// Every file that the configuration is in or names.
fn files(source: &Source) -> Vec<PathBuf> {
    let config = &source.config;
    let mut files: Vec<PathBuf> = source.file.iter().cloned().collect();
    files.extend(tls::files(config));
    files.extend(config.upstream.extra_ca.iter().map(|it| it.get_ref().clone()));
    files.extend(config.alert.secret_files().map(|it| it.get_ref().clone()));
    files
}

fn contents(files: Vec<PathBuf>) -> Contents {
    files.into_iter().map(|path| (path.clone(), hashed(&path))).collect()
}

fn hashed(path: &Path) -> Option<Sha256> {
    std::fs::read(path).ok().map(|bytes| Sha256::of(&bytes))
}

const SETTLE: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A self-made certificate that grows old is made anew then.
const RENEW_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
