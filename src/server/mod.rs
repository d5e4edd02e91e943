//! The server: listeners with their TLS, then one file per endpoint.
//!
//! It turns requests into questions to the keeper and answers into HTTP. What is kept is served
//! whatever upstream does (G5); a response never carries bytes that are not pinned to the end
//! (G1); no connection lives without progress; nobody's input ends in a panic.

mod access;
mod activity;
pub mod admin;
mod answer;
mod api;
mod archive;
mod body;
mod gate;
mod given;
mod health;
mod hot;
mod ledger;
mod listener;
mod metrics;
mod pages;
mod past;
mod progress_io;
mod rate;
mod repository;
mod route;
mod same_origin;
mod sessions;
pub mod status;
mod target;
pub mod tls;
mod traffic;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::keeper::{Keeper, Scope, When};
use access::{Asked, Logged};
use archive::Asking;
use body::Body;
use bytes::Bytes;
use gate::{Gate, Visitor};
use hot::Hot;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use listener::Limits;
use metrics::Metrics;
use rate::Rate;
use route::Route;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use target::{Part, Target};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use traffic::Traffic;

/// A running server's state, shared by all its connections.
pub(crate) struct Server {
    keeper: Arc<Keeper>,
    clock: Clock,
    hot: Hot,
    limits: Limits,
    gate: Gate,
    /// How often clients ask for what is not kept.
    misses: Rate,
    metrics: Arc<Metrics>,
    traffic: Traffic,
    public_url: String,
    ca: Option<Bytes>,
    /// Request ids are this number, random at start, plus one each time.
    requests: AtomicU64,
}

/// Why a server can't start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("server.{key}: {address}: {source}: free the port, or name another address")]
    Listen {
        /// The key in mirror.toml.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
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

/// Listeners that are bound, so that nothing else can go wrong before serving.
pub struct Bound {
    listeners: Vec<(TcpListener, Option<TlsAcceptor>, SocketAddr)>,
    public_url: String,
    ca: Option<Bytes>,
}

/// Binds all addresses and sets up TLS; `tls_directory` holds what is self-made.
///
/// # Errors
/// When an address is taken, or certificates can't be read or made.
pub fn bind(
    settings: &config::Server,
    tls_directory: &std::path::Path,
) -> Result<Bound, ServeError> {
    let mut listeners = Vec::new();
    let mut acceptor = None;
    if !settings.listen.is_empty() {
        acceptor = Some(TlsAcceptor::from(tls::server_config(settings, tls_directory)?));
    }
    let secure = settings.listen.iter().map(|address| ("listen", *address, acceptor.clone()));
    let plain = settings.plain_http.iter().map(|address| ("plain_http", *address, None));
    for (key, address, acceptor) in secure.chain(plain) {
        let listen = |source| ServeError::Listen { key, address, source };
        let listener = listen_on(address).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        listeners.push((listener, acceptor, bound));
    }
    let self_made = settings.tls.is_none() && acceptor.is_some();
    let ca = match self_made {
        true => std::fs::read(tls::ca_path(tls_directory)).ok().map(Bytes::from),
        false => None,
    };
    let public_url = public_url(settings, listeners.first().map(|(_, _, address)| *address));
    Ok(Bound { listeners, public_url, ca })
}

/// The URL under which clients reach the server.
pub fn public_url(settings: &config::Server, bound: Option<SocketAddr>) -> String {
    if let Some(url) = &settings.public_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let scheme = if settings.listen.is_empty() { "http" } else { "https" };
    let host = settings.hostnames.first().map_or("localhost", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let first = settings.listen.iter().chain(&settings.plain_http).next().copied();
    match (scheme, bound.or(first).map(|address| address.port())) {
        ("https", Some(443)) | ("http", Some(80)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
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

    /// Serves until `stop`, then lets running responses finish for `grace` at most.
    ///
    /// # Errors
    /// When the admin socket can't be made.
    pub async fn serve(
        self,
        keeper: Arc<Keeper>,
        clock: Clock,
        config: &Config,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let settings = &config.server;
        let socket = keeper.store().layout().admin_socket();
        // It answers as long as the store is owned.
        let stopped = CancellationToken::new();
        admin::listen(&socket, Arc::clone(&keeper), clock.clone(), stopped.clone())
            .map_err(|source| ServeError::Admin { path: socket.display().to_string(), source })?;
        let layout = keeper.store().layout().clone();
        let server = Arc::new(Server {
            keeper: Arc::clone(&keeper),
            gate: Gate::new(&config.access, layout, clock.clone(), &self.public_url),
            misses: Rate::new(config.access.misses_per_minute),
            metrics: Arc::new(Metrics::new(&keeper)),
            traffic: Traffic::read(keeper.store().layout()),
            clock,
            hot: Hot::default(),
            limits: Limits::new(
                settings.max_connections.get(),
                settings.max_connections_per_address.get(),
            ),
            public_url: self.public_url,
            ca: self.ca,
            requests: AtomicU64::new(first_request_id()),
        });
        let connections = TaskTracker::new();
        let mut accepting = Vec::new();
        for (listener, tls, address) in self.listeners {
            let scheme = if tls.is_some() { "https" } else { "http" };
            tracing::info!(%address, scheme, "listening");
            let (server, connections) = (Arc::clone(&server), connections.clone());
            let accept = listener::accept(server, listener, tls, stop.clone(), connections);
            accepting.push(tokio::spawn(accept));
        }
        keeper.start(&stop);
        let counting = tokio::spawn(traffic::follow(Arc::clone(&server), stop.clone()));
        stop.cancelled().await;
        tracing::info!("stopping: running downloads are finished");
        for accept in accepting {
            let _ = accept.await;
        }
        connections.close();
        let grace = settings.shutdown_grace.get();
        let begun = Instant::now();
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "connections cut short after the grace"
            );
        }
        let _ = counting.await;
        keeper.finish(grace.saturating_sub(begun.elapsed()).max(Duration::from_millis(100))).await;
        stopped.cancel();
        let _ = std::fs::remove_file(socket);
        Ok(())
    }
}

impl Server {
    /// Answers one request.
    async fn respond(&self, request: Request<Incoming>, client: IpAddr) -> Response<Logged> {
        let begun = Instant::now();
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (request, body) = request.into_parts();
        let mut asked = Asked::new(id, client, &request);
        let (mut response, visitor, route) = self.let_in(&request, body, client).await;
        if let (Some(asked), Some((name, _))) = (&mut asked, visitor.token) {
            asked.by(name);
        }
        if request.method == http::Method::HEAD {
            let bytes = http_body::Body::size_hint(response.body()).exact();
            *response.body_mut() = Body::Empty;
            if let Some(bytes) = bytes {
                response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
            }
        }
        let headers = response.headers_mut();
        // A cache that others share would hand it to those who have no token.
        if self.gate.is_closed()
            && let Some(cache) = headers.get_mut(header::CACHE_CONTROL)
            && cache.as_bytes().starts_with(b"public")
        {
            *cache = HeaderValue::from_static("private, max-age=31536000, immutable");
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer::insert(headers, REQUEST_ID, &format!("{id:016x}"));
        if let Some(reason) = headers.get(archive::REASON).and_then(|it| it.to_str().ok()) {
            self.metrics.count_unfilled(reason);
        }
        Logged::new(response, asked, Arc::clone(&self.metrics), route, begun)
    }

    /// The answer, as whom the client was let in, and what kind of thing was asked for.
    async fn let_in(
        &self,
        request: &Parts,
        body: Incoming,
        client: IpAddr,
    ) -> (Response<Body>, Visitor, Route) {
        let Parts { method, uri, version, headers, .. } = request;
        let visitor = Visitor::default();
        let target = match target::parse(method, uri, *version, headers) {
            Ok(target) => target,
            Err(refusal) => {
                body::let_pass(body).await;
                let response = match api::is_below(uri.path()) {
                    true => api::refused(refusal, uri.path()),
                    false => pages::refused(refusal, &visitor, request),
                };
                return (response, visitor, Route::None);
            }
        };
        let route = Route::from(&target);
        match self.gate.admit(&target, request, client) {
            Ok(visitor) => {
                let response = self.route(target, request, body, &visitor, client).await;
                (response, visitor, route)
            }
            Err(refusal) => {
                body::let_pass(body).await;
                let response = match target {
                    Target::Api(_) => api::refused(refusal, uri.path()),
                    _ => pages::refused(refusal, &visitor, request),
                };
                (response, visitor, route)
            }
        }
    }

    async fn route(
        &self,
        target: Target<'_>,
        request: &Parts,
        body: Incoming,
        visitor: &Visitor,
        client: IpAddr,
    ) -> Response<Body> {
        match target {
            Target::Of { name: Some(name), .. } if self.keeper.repository(name).is_none() => {
                repository::unknown()
            }
            Target::Of { when, name, part } => self.part(when, name, part, request, client).await,
            Target::Page(page) => pages::show(self, page, visitor, request).await,
            Target::Form(form) => pages::submit(self, form, visitor, request, body, client).await,
            Target::Api(call) => api::answer(self, call, visitor, request, body).await,
            Target::Style => pages::style(),
            Target::Ca => self.ca(),
            Target::Checkpoint => ledger::checkpoint(self).await,
            Target::LedgerKey => ledger::key(self),
            Target::Tile(path) => ledger::tile(self, path).await,
            Target::Health(health) => health::answer(self, health, &request.headers).await,
            Target::Metrics => metrics::answer(self).await,
        }
    }

    /// The certificate of the CA that opam-keep made for itself, if it did.
    fn ca(&self) -> Response<Body> {
        match &self.ca {
            Some(ca) => answer::plain(ca.clone(), "application/x-pem-file", "no-cache"),
            None => answer::message(
                http::StatusCode::NOT_FOUND,
                "this server's certificate was not made by opam-keep",
            ),
        }
    }

    async fn part(
        &self,
        when: Option<When>,
        name: Option<&str>,
        part: Part,
        request: &Parts,
        client: IpAddr,
    ) -> Response<Body> {
        let (headers, version) = (&request.headers, request.version);
        let asking = Asking { headers, version, client };
        match (part, when) {
            (Part::Index, None) => repository::index(self, name, headers),
            (Part::Index, Some(when)) => past::index(self, when, name, headers).await,
            (Part::Repo, None) => repository::repo(self, name, headers),
            (Part::Repo, Some(when)) => past::repo(self, when, name, headers).await,
            (Part::Archive(checksum), when) => {
                archive::by_checksum(self, when, scope(name), checksum, &asking).await
            }
            (Part::Source(archive), when) => {
                archive::by_name(self, when, scope(name), &archive, &asking).await
            }
        }
    }
}

fn scope(repository: Option<&str>) -> Scope<'_> {
    repository.map_or(Scope::All, Scope::Repository)
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

fn first_request_id() -> u64 {
    let mut random = [0; 8];
    // Without random numbers ids begin at zero, which only makes them easier to guess.
    let _ = getrandom::fill(&mut random);
    u64::from_be_bytes(random)
}

const BACKLOG: u32 = 4_096;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
