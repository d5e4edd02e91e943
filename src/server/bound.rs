//! From addresses to an end: listeners are bound, served, and given time to finish.

use super::listener;
use super::reload::Reload;
use super::source::Source;
use super::tls::{self, Tls};
use super::workers::Workers;
use super::{Current, Server, admin, traffic};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::keeper::Keeper;
use crate::supervisor;
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// Why a server can't start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("server.{key}: {address}: {source}: {}", advice(source))]
    Listen {
        /// The key in mirror.toml.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// There are no threads to serve clients with.
    #[error("no threads can be had to serve clients with: {0}: raise the limit of threads")]
    Threads(io::Error),
    /// A socket that the supervisor bound can't be used.
    #[error("a socket of the supervisor can't be used: {0}")]
    Given(io::Error),
    /// The admin socket can't be made.
    #[error("{path}: {source}")]
    Admin {
        /// The socket.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

fn advice(problem: &io::Error) -> &'static str {
    match problem.kind() {
        io::ErrorKind::AddrNotAvailable => "name an address that this machine has",
        io::ErrorKind::PermissionDenied => {
            "name a port from 1024 on, or run it with the right to this one"
        }
        _ => "free the port, or name another address",
    }
}

/// Listeners that are bound, so that nothing else can go wrong before serving.
pub struct Bound {
    listeners: Vec<(TcpListener, Scheme, SocketAddr)>,
    tls: Option<Tls>,
    public_url: String,
    ca: Option<Bytes>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP in TLS.
    Https,
    /// HTTP in the clear.
    Http,
}

/// Binds all addresses, or takes the sockets that a supervisor bound, and sets up TLS;
/// `tls_directory` holds what is self-made.
///
/// # Errors
/// When an address is taken, or certificates can't be read or made.
pub fn bind(
    config: &Config,
    tls_directory: &Path,
    given: Vec<(std::net::TcpListener, Scheme)>,
) -> Result<Bound, ServeError> {
    let settings = &config.server;
    let mut listeners = Vec::new();
    if given.is_empty() {
        let secure = settings.listen.iter().map(|address| ("listen", *address, Scheme::Https));
        let plain =
            settings.plain_http.iter().map(|address| ("plain_http", *address, Scheme::Http));
        for (key, address, scheme) in secure.chain(plain) {
            let listen = |source| ServeError::Listen { key, address, source };
            let listener = listen_on(address).map_err(listen)?;
            let bound = listener.local_addr().map_err(listen)?;
            listeners.push((listener, scheme, bound));
        }
    }
    for (listener, scheme) in given {
        let bound = listener.local_addr().map_err(ServeError::Given)?;
        listener.set_nonblocking(true).map_err(ServeError::Given)?;
        let listener = TcpListener::from_std(listener).map_err(ServeError::Given)?;
        listeners.push((listener, scheme, bound));
    }
    let (mut tls, mut ca) = (None, None);
    if listeners.iter().any(|(_, scheme, _)| *scheme == Scheme::Https) {
        tls = Some(tls::server_config(config, tls_directory)?);
        ca = tls::own_ca(config, tls_directory);
    }
    let public_url = public_url(settings, face(&listeners));
    Ok(Bound { listeners, tls, public_url, ca })
}

/// The listener that clients are told of: the first that speaks HTTPS, if any does.
fn face(listeners: &[(TcpListener, Scheme, SocketAddr)]) -> Option<(Scheme, SocketAddr)> {
    let secure = listeners.iter().find(|(_, scheme, _)| *scheme == Scheme::Https);
    secure.or(listeners.first()).map(|(_, scheme, address)| (*scheme, *address))
}

/// The URL under which clients reach the server, of which that listener is `bound`; before that, as
/// the settings would have it.
pub fn public_url(settings: &config::Server, bound: Option<(Scheme, SocketAddr)>) -> String {
    if let Some(url) = &settings.public_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let secure = settings.listen.iter().map(|address| (Scheme::Https, *address));
    let plain = settings.plain_http.iter().map(|address| (Scheme::Http, *address));
    let listener = bound.or(secure.chain(plain).next());
    let scheme = listener.map_or(Scheme::Http, |(scheme, _)| scheme);
    let host = settings.hostnames.first().map_or("localhost", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let (port, name) = (listener.map(|(_, address)| address.port()), scheme.as_str());
    match (scheme, port) {
        (Scheme::Https, Some(443)) | (Scheme::Http, Some(80)) | (_, None) => {
            format!("{name}://{host}")
        }
        (_, Some(port)) => format!("{name}://{host}:{port}"),
    }
}

impl Bound {
    /// The URL under which clients reach the server.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Whether the certificate comes from the self-made CA.
    pub fn is_self_made(&self) -> bool {
        self.ca.is_some()
    }

    /// Serves until `stop`, then lets running responses finish for `shutdown_grace` at most. The
    /// configuration is read again from its `source` whenever that changes.
    ///
    /// # Errors
    /// When the admin socket can't be made, or no threads can be had.
    pub async fn serve(
        self,
        keeper: Arc<Keeper>,
        clock: Clock,
        source: Source,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let socket = keeper.store().layout().admin_socket();
        let face = face(&self.listeners);
        let current = Arc::new(Current::from_pointee(Server::first(
            keeper,
            clock,
            source.config(),
            (self.public_url, self.ca, self.tls),
        )));
        let workers = Arc::new(Workers::start().map_err(ServeError::Threads)?);
        // It answers as long as the store is owned.
        let stopped = CancellationToken::new();
        admin::listen(&socket, Arc::clone(&current), stopped.clone())
            .map_err(|source| ServeError::Admin { path: socket.display().to_string(), source })?;
        let mut accepting = Vec::new();
        for (listener, scheme, address) in self.listeners {
            tracing::info!(%address, scheme = scheme.as_str(), "listening");
            let (current, workers) = (Arc::clone(&current), Arc::clone(&workers));
            let accept = listener::accept(current, listener, scheme, stop.clone(), workers);
            accepting.push(tokio::spawn(accept));
        }
        current.load().warn_of_certificate();
        current.load().keeper.start();
        // Whoever hears that it is ready may ask for a reload.
        let reload = Reload::new(Arc::clone(&current), source, face);
        supervisor::ready();
        let turning = Arc::clone(&workers);
        tokio::spawn(supervisor::watchdog(async move || turning.all_turn().await));
        let counting = tokio::spawn(traffic::follow(Arc::clone(&current), stop.clone()));
        let reloading = tokio::spawn(reload.follow(stop.clone()));
        stop.cancelled().await;
        supervisor::stopping();
        tracing::info!("stopping: running downloads may end within server.shutdown_grace");
        for task in accepting {
            let _ = task.await;
        }
        let grace = reloading.await.unwrap_or(DEFAULT_GRACE);
        let keeper = Arc::clone(&current.load().keeper);
        keeper.stop();
        let begun = Instant::now();
        if tokio::time::timeout(grace, workers.finish()).await.is_err() {
            let connections = workers.connections();
            tracing::warn!(connections, "connections cut short after the grace");
        }
        let _ = counting.await;
        keeper.finish(grace.saturating_sub(begun.elapsed()).max(Duration::from_millis(100))).await;
        let store = keeper.store().clone();
        let settling = tokio::task::spawn_blocking(move || store.settle());
        if !matches!(tokio::time::timeout(SETTLE_PATIENCE, settling).await, Ok(Ok(Ok(())))) {
            tracing::warn!("the next start reads some of the ledger again");
        }
        stopped.cancel();
        let _ = std::fs::remove_file(socket);
        Ok(())
    }
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What a server that broke off in the middle of a reload gives running downloads.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long the catalog may take to become durable in the end.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
const BACKLOG: u32 = 4_096;
