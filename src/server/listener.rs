//! Connections: accepted, counted, encrypted, and ended when they make no progress.

use super::activity::{Activity, Answering};
use super::progress_io::ProgressIo;
use super::rate::whole;
use super::room::Room;
use super::streams::Streams;
use super::tls::{self, Shown};
use super::workers::Workers;
use super::{Current, Scheme, plain_request};
use crate::config;
use crate::digest::Sha256;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Counts connections, in all and by address; a /64 of IPv6 counts as one.
///
/// Shared by all listeners of a server.
pub(super) struct Limits {
    all: AtomicUsize,
    per_address: AtomicUsize,
    open: Arc<Mutex<Open>>,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub address: IpAddr,
    pub speaks: Speaks,
    /// Where answers that are made for it have to find room.
    pub room: Room,
}

/// What a peer speaks.
#[derive(Clone, Debug)]
pub(super) enum Speaks {
    Http,
    /// Plain HTTP, to a port that speaks HTTPS.
    HttpForHttps,
    Https {
        /// The certificate that it showed, if that is one of `access.client_ca`.
        certificate: Option<Shown>,
    },
}

impl Peer {
    /// The certificate that it showed, which may be good no longer.
    pub(super) fn certificate(&self) -> Option<&Shown> {
        match &self.speaks {
            Speaks::Https { certificate } => certificate.as_ref(),
            Speaks::Http | Speaks::HttpForHttps => None,
        }
    }
}

/// A place among the connections, given back when dropped.
struct Place {
    address: IpAddr,
    open: Arc<Mutex<Open>>,
}

impl Limits {
    pub(super) fn new(settings: &config::Server) -> Self {
        let limits = Self {
            all: AtomicUsize::new(0),
            per_address: AtomicUsize::new(0),
            open: Arc::default(),
        };
        limits.change(settings);
        limits
    }

    /// Sets other bounds for connections to come.
    pub(super) fn change(&self, settings: &config::Server) {
        self.all.store(settings.max_connections.get(), Ordering::Relaxed);
        self.per_address.store(settings.max_connections_per_address.get(), Ordering::Relaxed);
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> u64 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).all as u64
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let address = whole(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.all.load(Ordering::Relaxed) {
            return None;
        }
        let count = open.by_address.entry(address).or_default();
        if *count >= self.per_address.load(Ordering::Relaxed) {
            return None;
        }
        *count += 1;
        open.all += 1;
        Some(Place { address, open: Arc::clone(&self.open) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts connections until `stop`, for the workers to serve.
pub(super) async fn accept(
    current: Arc<Current>,
    listener: TcpListener,
    scheme: Scheme,
    stop: CancellationToken,
    workers: Arc<Workers>,
) {
    let mut failed: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            // It is watched by the thread that serves it.
            Ok((stream, peer)) => (stream.into_std(), peer),
            // The client has gone again; the next one has not.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Out of file descriptors, most likely: waiting lets some connections end.
                if failed.is_none_or(|last| last.elapsed() > ACCEPT_BOUT) {
                    tracing::warn!(%error, "connections can't be accepted");
                }
                failed = Some(Instant::now());
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let server = current.load_full();
        let Some(place) = server.limits.take(peer.ip()) else {
            tracing::debug!(client = %peer.ip(), "too many connections");
            continue;
        };
        // Who is connected stays so under another certificate of the server.
        let tls = server.tls.clone().filter(|_| scheme == Scheme::Https);
        let authorities = server.gate.authorities();
        if tls.is_none() && scheme == Scheme::Https {
            continue;
        }
        // Each connection looks at its own again and again, so they do not wait for each other.
        let (current, stop) = (Arc::clone(&current), stop.child_token());
        let tls = tls.zip(Some(authorities));
        workers.serve(|activity| {
            let greeting = activity.answering();
            async move {
                let _place = place;
                let ended = connection(current, stream, peer, tls, greeting, stop).await;
                if let Err(error) = ended {
                    tracing::debug!(client = %peer.ip(), %error, "connection ended");
                }
            }
        });
    }
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

/// Until it is known what the peer speaks and who it is, that counts as a request.
async fn connection(
    current: Arc<Current>,
    stream: io::Result<std::net::TcpStream>,
    peer: SocketAddr,
    tls: Option<(TlsAcceptor, Option<Sha256>)>,
    greeting: Answering,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let stream = TcpStream::from_std(stream?)?;
    stream.set_nodelay(true)?;
    let activity = greeting.activity().clone();
    let address = peer.ip();
    let Some((tls, authorities)) = tls else {
        drop(greeting);
        let stream = ProgressIo::new(stream, WRITE_PATIENCE, activity.clone());
        let peer = Peer { address, speaks: Speaks::Http, room: Room::unbounded() };
        return serve_http1(current, stream, peer, activity, stop).await;
    };
    let patience = Instant::now() + HANDSHAKE_PATIENCE;
    let is_plain = tokio::select! {
        is_plain = timeout_at(patience, plain_request::begins(&stream)) => is_plain??,
        // Who asked for nothing yet misses nothing.
        () = stop.cancelled() => return Ok(()),
    };
    let stream = ProgressIo::new(stream, WRITE_PATIENCE, activity.clone());
    if is_plain {
        drop(greeting);
        let peer = Peer { address, speaks: Speaks::HttpForHttps, room: Room::unbounded() };
        return serve_http1(current, stream, peer, activity, stop).await;
    }
    let accepted = tokio::select! {
        accepted = timeout_at(patience, tls.accept(stream)) => accepted?,
        () = stop.cancelled() => return Ok(()),
    };
    let stream = accepted.inspect_err(|error| tell_refused(address, error))?;
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().zip(authorities);
    let certificate = certificate.and_then(|(chain, authorities)| tls::shown(chain, authorities));
    let http2 = session.alpn_protocol() == Some(b"h2");
    let room = if http2 { Room::bounded() } else { Room::unbounded() };
    let peer = Peer { address, speaks: Speaks::Https { certificate }, room };
    drop(greeting);
    if http2 {
        Box::pin(serve_http2(current, stream, peer, activity.afresh(), stop)).await
    } else {
        serve_http1(current, stream, peer, activity, stop).await
    }
}

/// Who shows a certificate in vain gets no answer that would say why.
fn tell_refused(client: IpAddr, error: &io::Error) {
    let cause = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = cause {
        tracing::warn!(
            %client,
            %reason,
            "a client's certificate is refused: it has to be of X.509 version 3, for clientAuth, in \
             its time, and from an authority in access.client_ca"
        );
    }
}

async fn serve_http1(
    current: Arc<Current>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    activity: Activity,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let seen = activity.clone();
    let service = hyper::service::service_fn(move |request| {
        let (server, peer, answering) = (current.load_full(), peer.clone(), seen.answering());
        async move {
            let response = server.respond(request, &peer).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| answering.until_sent(body)))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // One timer for a connection, and not one for each of its requests.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = activity.idled(HEADER_PATIENCE) => return Err("no request".into()),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = connection.as_mut() => Ok(ended?),
        () = activity.idled(HEADER_PATIENCE) => Err("no request".into()),
    }
}

async fn serve_http2(
    current: Arc<Current>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    activity: Activity,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let streams = Streams::new();
    let (seen, sending) = (activity.clone(), streams.clone());
    let service = hyper::service::service_fn(move |request| {
        let (server, peer, answering) = (current.load_full(), peer.clone(), seen.answering());
        let sending = sending.clone();
        async move {
            let response = server.respond(request, &peer).await;
            let response = response.map(|body| answering.while_made(sending.send(body)));
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = streams.stuck(STREAM_PATIENCE) => return Err(STUCK.into()),
        () = stop.cancelled() => {}
        () = activity.idled(IDLE_PATIENCE) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection.as_mut() => Ok(ended?),
        () = streams.stuck(STREAM_PATIENCE) => Err(STUCK.into()),
        // A peer that answers pings and takes no data is let go of as well.
        () = activity.idled(IDLE_PATIENCE) => Err("no progress".into()),
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What fails again within this time is told of no more.
const ACCEPT_BOUT: Duration = Duration::from_secs(60);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long, at least, a request's head may take to come, counted from the answer before it.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// Largest head of a request, and most bytes of a response that wait in memory.
const MAX_HEAD: usize = 64 * 1024;
const MAX_STREAMS: u32 = 64;
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// An HTTP/2 connection without a request or a byte for so long is closed, unless what it asked for
/// is being made.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// An HTTP/2 connection whose peer takes nothing of an answer for so long is closed.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);
const STUCK: &str = "the peer takes nothing of an answer";
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    #[test]
    fn a_network_of_ipv6_has_as_many_connections_as_one_address() {
        let most = |count| NonZeroUsize::new(count).unwrap();
        let settings = config::Server {
            max_connections: most(4),
            max_connections_per_address: most(2),
            ..config::Server::default()
        };
        let limits = Limits::new(&settings);
        let take = |address: &str| limits.take(address.parse().unwrap());
        let first = take("2001:db8::1").unwrap();
        let _second = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::ffff:3").is_none());
        let _mapped = take("::ffff:192.0.2.1").unwrap();
        let _plain = take("192.0.2.1").unwrap();
        drop(first);
        assert!(take("::ffff:192.0.2.1").is_none(), "it is the same machine");
        assert!(take("2001:db8::3").is_some(), "a place was given back");
        assert_eq!(limits.open(), 3);
    }
}
