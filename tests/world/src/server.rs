//! The server that is every host: TLS and plain HTTP on one port, told apart by the first byte.

use crate::authority::Authority;
use crate::checksum::Kind;
use crate::lie::Lie;
use crate::request::Request;
use crate::sites::{Found, Sites};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use http::{HeaderName, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Serves until its runtime is shut down.
pub(crate) async fn serve(listener: TcpListener, authority: Arc<Authority>, sites: Arc<Sites>) {
    let tls = TlsAcceptor::from(Arc::new(authority.server()));
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, tls.clone(), Arc::clone(&sites)));
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, sites: Arc<Sites>) {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == TLS_HANDSHAKE => {
            if let Ok(stream) = tls.accept(stream).await {
                http1(stream, "https", sites).await;
            }
        }
        Ok(1) => http1(stream, "http", sites).await,
        Ok(_) | Err(_) => {}
    }
}

async fn http1<S>(stream: S, scheme: &'static str, sites: Arc<Sites>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(request, scheme, &sites));
    // Clients hang up and lies end in errors: neither is news.
    let _ended = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn answer(
    request: http::Request<Incoming>,
    scheme: &'static str,
    sites: &Sites,
) -> io::Result<Response<Body>> {
    let request = note(request, scheme).await?;
    let if_none_match = request.header(IF_NONE_MATCH.as_str()).map(str::to_owned);
    let Found { page, lie } = sites.visit(request);
    match (lie, page) {
        (Some(lie), page) => lying(lie, page.unwrap_or_default()).await,
        (None, None) => Ok(status(StatusCode::NOT_FOUND)),
        (None, Some(page)) => Ok(honest(page, if_none_match.as_deref())),
    }
}

async fn note(request: http::Request<Incoming>, scheme: &'static str) -> io::Result<Request> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = head.uri.host().or(host).unwrap_or_default();
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{host}{path}");
    let method = head.method.to_string();
    Ok(Request { scheme, url, method, headers: head.headers, body, lie: None })
}

fn honest(page: Bytes, if_none_match: Option<&str>) -> Response<Body> {
    let etag = format!("\"{}\"", Kind::Md5.of(&page));
    let mut response = if if_none_match == Some(etag.as_str()) {
        status(StatusCode::NOT_MODIFIED)
    } else {
        Response::new(full(page))
    };
    response.headers_mut().insert(ETAG, etag.parse().expect("hex in quotes is a header value"));
    response
}

/// Says `lie` about `truth`.
///
/// # Errors
/// [`Lie::HangUp`], so that the connection is closed without a word.
async fn lying(lie: Lie, truth: Bytes) -> io::Result<Response<Body>> {
    let half = truth.slice(..truth.len() / 2);
    let length = truth.len();
    Ok(match lie {
        Lie::FlippedByte => Response::new(full(flipped(&truth))),
        Lie::Bytes(bytes) => Response::new(full(bytes.into())),
        Lie::Html => with(CONTENT_TYPE, "text/html", Response::new(full(HTML.into()))),
        Lie::Half => Response::new(full(half)),
        Lie::CutShort => with(CONTENT_LENGTH, length, Response::new(then(half, cut().boxed()))),
        Lie::StallMidBody => {
            with(CONTENT_LENGTH, length, Response::new(then(half, stream::pending().boxed())))
        }
        Lie::Endless => Response::new(then(truth, stream::repeat_with(noise).boxed())),
        Lie::Slow(per_second) => {
            with(CONTENT_LENGTH, length, Response::new(slow(truth, per_second)))
        }
        Lie::Unannounced(per_second) => Response::new(slow(truth, per_second)),
        Lie::Redirect(to) => with(LOCATION, to, status(StatusCode::FOUND)),
        Lie::Status(code) => {
            status(StatusCode::from_u16(code).expect("a lie's status is an HTTP status"))
        }
        Lie::Busy(seconds) => with(RETRY_AFTER, seconds, status(StatusCode::SERVICE_UNAVAILABLE)),
        Lie::Unstable => {
            let number = ANSWERS.fetch_add(1, Ordering::Relaxed);
            with(ETAG, format!("\"{number}\""), Response::new(full(truth)))
        }
        Lie::NoHead => std::future::pending().await,
        Lie::HangUp => return Err(io::ErrorKind::ConnectionAborted.into()),
    })
}

fn flipped(truth: &[u8]) -> Bytes {
    let mut bytes = truth.to_vec();
    if let Some(byte) = bytes.get_mut(truth.len() / 2) {
        *byte ^= 1;
    }
    bytes.into()
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(format!("{code}\n"))));
    *response.status_mut() = code;
    response
}

fn with(name: HeaderName, value: impl ToString, mut response: Response<Body>) -> Response<Body> {
    let value = value.to_string().parse().expect("a test's header value is one");
    response.headers_mut().insert(name, value);
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

type Chunks = stream::BoxStream<'static, io::Result<Bytes>>;

fn then(first: Bytes, rest: Chunks) -> Body {
    streamed(stream::once(async { Ok(first) }).chain(rest).boxed())
}

fn streamed(chunks: Chunks) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// Ends the connection, once what was written before it had time to leave.
fn cut() -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::once(async {
        tokio::time::sleep(FLUSH).await;
        Err(io::ErrorKind::ConnectionReset.into())
    })
}

fn noise() -> io::Result<Bytes> {
    Ok(Bytes::from_static(&[b'x'; 64 * 1024]))
}

fn slow(truth: Bytes, per_second: u64) -> Body {
    let step = usize::try_from(per_second / STEPS_PER_SECOND).expect("a rate fits").max(1);
    let chunks = stream::unfold(truth, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_secs(1) / STEPS_PER_SECOND as u32).await;
        let chunk = left.split_to(step.min(left.len()));
        Some((Ok(chunk), left))
    });
    streamed(chunks.boxed())
}

static ANSWERS: AtomicU64 = AtomicU64::new(0);
const FLUSH: Duration = Duration::from_millis(50);
const HTML: &str = "<!DOCTYPE html><title>Welcome</title><p>Please log in to the network.</p>\n";
const STEPS_PER_SECOND: u64 = 20;
const TLS_HANDSHAKE: u8 = 22;
