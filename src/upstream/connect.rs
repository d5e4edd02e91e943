//! The connector under the HTTP client: name, guard, TCP, proxy and TLS, in this order.

use super::dial::dial;
use super::proxy::Proxy;
use super::resolve::{ResolveError, Resolver};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tower_service::Service;

/// Opens connections; cheap to clone.
///
/// A host that `upstream.resolve` names is dialled at that address, past the proxy. Everything
/// else goes through the proxy when there is one: `https` through a tunnel, `http` as requests
/// that it forwards, because many proxies refuse tunnels to other ports than 443.
#[derive(Clone)]
pub(super) struct Connector {
    resolver: Resolver,
    proxy: Option<Arc<Proxy>>,
    tls: Arc<ClientConfig>,
    bound: Duration,
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
pub enum ConnectError {
    /// There is no address to dial, or none that is permitted.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No address takes a connection.
    #[error("{host} at {address} takes no connection: {source}")]
    Unreachable {
        /// The host, or the proxy.
        host: String,
        /// The address that failed last.
        address: SocketAddr,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A step took longer than `upstream.timeout`.
    #[error("{step} took longer than {}", humantime::format_duration(*.bound))]
    TimedOut {
        /// What was waited for.
        step: &'static str,
        /// How long.
        bound: Duration,
    },
    /// The proxy gives no tunnel.
    #[error("the proxy {proxy} gives no tunnel to {host}: {reason}")]
    Proxy {
        /// The proxy, without credentials.
        proxy: String,
        /// The host that was asked for.
        host: String,
        /// What it answered.
        reason: String,
    },
    /// The connection broke before TLS was agreed on.
    #[error("the connection to {host} broke during the TLS handshake: {source}")]
    Interrupted {
        /// The host.
        host: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What rustls said.
        reason: String,
    },
}

/// How a host is reached.
enum Route<'a> {
    Direct,
    Tunnel(&'a Proxy),
    Forward(&'a Proxy),
}

impl Connector {
    /// A connector that gives up on a connection after `bound`.
    pub(super) fn new(
        resolver: Resolver,
        proxy: Option<Proxy>,
        tls: ClientConfig,
        bound: Duration,
    ) -> Self {
        Self { resolver, proxy: proxy.map(Arc::new), tls: Arc::new(tls), bound }
    }

    /// The proxy that forwards requests for `uri` and wants to see its credentials on each.
    pub(super) fn forwarder(&self, uri: &Uri) -> Option<&Proxy> {
        match self.route(uri) {
            Route::Forward(proxy) => Some(proxy),
            Route::Direct | Route::Tunnel(_) => None,
        }
    }

    fn route(&self, uri: &Uri) -> Route<'_> {
        match self.proxy.as_deref() {
            Some(_) if self.resolver.fixed(uri.host().unwrap_or_default()).is_some() => {
                Route::Direct
            }
            Some(proxy) if is_https(uri) => Route::Tunnel(proxy),
            Some(proxy) => Route::Forward(proxy),
            None => Route::Direct,
        }
    }

    async fn connect(&self, uri: Uri) -> Result<Stream, ConnectError> {
        let limit = Limit { bound: self.bound, deadline: Instant::now() + self.bound };
        let host = uri.host().unwrap_or_default().to_owned();
        let (tcp, forwarded) = match self.route(&uri) {
            Route::Direct => (self.direct(&host, &uri, limit).await?, false),
            Route::Tunnel(proxy) => (self.tunnel(proxy, &host, uri.clone(), limit).await?, false),
            Route::Forward(proxy) => {
                self.resolver.check_for_proxy(&host)?;
                (self.to_proxy(proxy, limit).await?, true)
            }
        };
        let tcp = TokioIo::new(tcp);
        if !is_https(&uri) {
            return Ok(Stream { inner: tcp.into(), forwarded });
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let failed = |reason: String| ConnectError::Tls { host: host.clone(), reason };
        let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, TokioIo::new(tcp));
        let stream = limit.within("the TLS handshake", handshake).await?;
        let stream = stream.map_err(|error| {
            if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                failed(error.to_string())
            } else {
                ConnectError::Interrupted { host: host.clone(), source: Arc::new(error) }
            }
        })?;
        Ok(Stream { inner: stream.into(), forwarded })
    }

    async fn direct(&self, host: &str, uri: &Uri, limit: Limit) -> Result<TcpStream, ConnectError> {
        let port = uri.port_u16().unwrap_or(if is_https(uri) { 443 } else { 80 });
        let resolving = self.resolver.addresses(host, port);
        let addresses = limit.within("resolving the name", resolving).await??;
        self.dial(host, &addresses, limit).await
    }

    async fn tunnel(
        &self,
        proxy: &Proxy,
        host: &str,
        uri: Uri,
        limit: Limit,
    ) -> Result<TcpStream, ConnectError> {
        self.resolver.check_for_proxy(host)?;
        let tcp = self.to_proxy(proxy, limit).await?;
        let tunnelling = proxy.tunnel(tcp, uri);
        limit.within("the proxy's tunnel", tunnelling).await?.map_err(|reason| {
            ConnectError::Proxy { proxy: proxy.url().to_string(), host: host.to_owned(), reason }
        })
    }

    async fn to_proxy(&self, proxy: &Proxy, limit: Limit) -> Result<TcpStream, ConnectError> {
        let resolving = proxy.addresses(&self.resolver);
        let addresses = limit.within("resolving the proxy's name", resolving).await??;
        self.dial(&format!("the proxy {}", proxy.url()), &addresses, limit).await
    }

    async fn dial(
        &self,
        host: &str,
        addresses: &[SocketAddr],
        limit: Limit,
    ) -> Result<TcpStream, ConnectError> {
        let host = || host.to_owned();
        limit.within("connecting", dial(addresses)).await?.map_err(|failure| match failure {
            Some((address, error)) => {
                ConnectError::Unreachable { host: host(), address, source: Arc::new(error) }
            }
            None => ResolveError::Nothing { host: host() }.into(),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("resolver", &self.resolver)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// A connection, with or without TLS.
pub(super) struct Stream {
    inner: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy at the other end reads the requests.
    forwarded: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// One deadline for all steps of a connection.
#[derive(Clone, Copy)]
struct Limit {
    bound: Duration,
    deadline: Instant,
}

impl Limit {
    async fn within<T>(
        self,
        step: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        tokio::time::timeout_at(self.deadline, future)
            .await
            .map_err(|_| ConnectError::TimedOut { step, bound: self.bound })
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&http::uri::Scheme::HTTPS)
}
