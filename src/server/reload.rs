//! Another configuration or certificate takes effect while the server runs, without a connection or
//! download noticing; a bad one is refused, and the one before goes on.
//!
//! A good configuration becomes a whole new [`Server`] with a keeper of its own on the same store,
//! and takes the old one's place in one step. What clients are in the middle of ends with the old
//! one. What was counted, who is logged in and who is connected goes over.

use super::source::{Due, Source};
use super::status::ConfigurationStatus;
use super::{Current, Face, Scheme, Server, public_url, tls};
use crate::config::Config;
use crate::keeper::Keeper;
use crate::supervisor;
use jiff::Timestamp;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{Signal as Hangup, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What people are told of the configuration.
pub(super) struct Configuration {
    state: Mutex<State>,
}

/// How the configuration stands.
struct State {
    since: Timestamp,
    /// Why what mirror.toml says is not in force.
    refused: Option<String>,
    /// Why the certificates are those from before.
    not_renewed: Option<String>,
    at_next_start: Vec<String>,
}

/// Watches the configuration's files and takes over what they say.
pub(super) struct Reload {
    current: Arc<Current>,
    source: Source,
    /// The listener that clients are told of.
    bound: Option<(Scheme, SocketAddr)>,
    hangup: Option<Hangup>,
}

impl Configuration {
    pub(super) fn new(since: Timestamp) -> Self {
        let at_next_start = Vec::new();
        let state = State { since, refused: None, not_renewed: None, at_next_start };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn status(&self) -> ConfigurationStatus {
        let state = self.state();
        let State { since, refused, not_renewed, at_next_start } = &*state;
        let mut problems: Vec<&str> =
            [refused, not_renewed].into_iter().flatten().map(|it| &**it).collect();
        problems.dedup();
        ConfigurationStatus {
            since: *since,
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
            at_next_start: at_next_start.clone(),
        }
    }

    fn took(&self, since: Timestamp, at_next_start: Vec<String>) {
        *self.state() = State { since, refused: None, not_renewed: None, at_next_start };
    }

    fn refused(&self, problem: String) {
        self.state().refused = Some(problem);
    }

    fn renewed(&self) {
        self.state().not_renewed = None;
    }

    fn not_renewed(&self, problem: String) {
        self.state().not_renewed = Some(problem);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reload {
    /// `bound` is the listener that clients are told of. From now on SIGHUP ends no process.
    pub(super) fn new(
        current: Arc<Current>,
        source: Source,
        bound: Option<(Scheme, SocketAddr)>,
    ) -> Self {
        let hangup = signal(SignalKind::hangup()).ok();
        Self { current, source, bound, hangup }
    }

    /// Goes on until `stop`; says how long running downloads may take then.
    pub(super) async fn follow(mut self, stop: CancellationToken) -> Duration {
        let changed = Arc::new(Notify::new());
        let mut watcher = self.watch(&changed);
        // What changed since it was read, while the store was opened, nobody has seen yet.
        changed.notify_one();
        let mut renewed = Instant::now();
        let mut hangup = self.hangup.take();
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
            let mut due = self.source.look().await;
            due.configuration |= is_asked;
            due.certificates |= renewed.elapsed() >= RENEW_EVERY;
            if !due.configuration && !due.certificates {
                continue;
            }
            renewed = Instant::now();
            supervisor::reloading();
            if stop.run_until_cancelled(self.reload(due)).await.is_none() {
                break;
            }
            supervisor::ready();
            // Other files may be named by now.
            watcher = self.watch(&changed);
        }
        drop(watcher);
        self.source.config().server.shutdown_grace.get()
    }

    async fn reload(&mut self, due: Due) {
        let server = self.current.load_full();
        if due.configuration {
            match self.take_configuration().await {
                Ok(at_next_start) => {
                    tracing::info!(what = "configuration", "reloaded");
                    for key in &at_next_start {
                        tracing::warn!(key, "the new value takes effect at the next start");
                    }
                    server.configuration.took(server.clock.now(), at_next_start);
                    return self.current.load().warn_of_certificate();
                }
                Err(problem) => {
                    tracing::error!(
                        problem,
                        "the new configuration is refused; the old one goes on"
                    );
                    server.configuration.refused(problem);
                }
            }
        }
        // What goes on does so under the certificates that its own files have by now.
        if due.certificates {
            match self.take_certificates() {
                Ok(()) => {
                    tracing::info!(what = "certificates", "reloaded");
                    server.configuration.renewed();
                    self.current.load().warn_of_certificate();
                }
                Err(problem) => {
                    tracing::error!(
                        problem,
                        "the new certificates are refused; the old ones go on"
                    );
                    server.configuration.not_renewed(problem);
                }
            }
        }
    }

    /// The same configuration, whose certificates are others by now.
    fn take_certificates(&self) -> Result<(), String> {
        let server = self.current.load_full();
        let config = self.source.config();
        let face = self.face(config)?;
        let keeper = Arc::clone(&server.keeper);
        self.current.store(Arc::new(server.next(keeper, config, face)));
        Ok(())
    }

    /// The keys whose new values have to wait.
    async fn take_configuration(&mut self) -> Result<Vec<String>, String> {
        let mut config = self.source.load().await?;
        let at_next_start = keep_what_stays(&mut config, self.source.config());
        let server = self.current.load_full();
        let face = self.face(&config)?;
        let layout = server.keeper.store().layout();
        Keeper::could_open(&config, layout).map_err(|error| error.to_string())?;
        server.keeper.retire().await;
        match reopened(&server.keeper, &config).await {
            Ok(keeper) => {
                self.put(&server, keeper, &config, face);
                self.source.took(config);
                Ok(at_next_start)
            }
            Err(problem) => {
                // The old keeper has retired, so another one has to go on with the old.
                let before = self.source.config();
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
        Ok((public_url(&config.server, self.bound), ca, tls))
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
        let files = self.source.files();
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

async fn hung_up(signal: &mut Option<Hangup>) {
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

const SETTLE: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A self-made certificate that grows old is made anew then.
const RENEW_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
