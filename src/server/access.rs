//! One line in the log for each request, once its response is over: what was sent, not what was
//! meant to be.

use super::body::Body;
use super::listener::Peer;
use super::metrics::Metrics;
use super::route::Route;
use crate::store::tokens::TokenName;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tracing::Level;

/// What a line says of a request.
pub(super) struct Asked {
    id: u64,
    client: IpAddr,
    /// The name in the certificate that the client showed.
    certificate: Option<Arc<str>>,
    method: Method,
    path: String,
    /// The token by which the client was let in.
    by: Option<TokenName>,
}

/// A body that counts its request, and writes its line, when it is let go of.
pub(super) struct Logged {
    body: Body,
    asked: Option<Asked>,
    metrics: Arc<Metrics>,
    route: Route,
    begun: Instant,
    status: StatusCode,
    sent: u64,
    /// How much there is to send, as far as that is known.
    whole: Option<u64>,
    ended: bool,
}

impl Asked {
    /// Notes what was asked for; nothing when nobody reads it.
    pub(super) fn new(id: u64, peer: &Peer, request: &Parts) -> Option<Self> {
        tracing::enabled!(target: "access", Level::INFO).then(|| Self {
            id,
            client: peer.address,
            certificate: peer.certificate().map(|it| Arc::clone(&it.name)),
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            by: None,
        })
    }

    /// Notes whose token it is.
    pub(super) fn by(&mut self, name: TokenName) {
        self.by = Some(name);
    }
}

impl Logged {
    /// The response, whose end is counted and writes the line.
    pub(super) fn new(
        response: Response<Body>,
        asked: Option<Asked>,
        metrics: Arc<Metrics>,
        route: Route,
        begun: Instant,
    ) -> Response<Self> {
        let status = response.status();
        response.map(|body| {
            let whole = body.size_hint().exact();
            Self { body, asked, metrics, route, begun, status, sent: 0, whole, ended: false }
        })
    }

    /// The same, of which less is in memory at once.
    pub(super) fn in_small_chunks(mut self) -> Self {
        if let Body::File(part) = &mut self.body {
            part.in_small_chunks();
        }
        self
    }
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.metrics.count(self.route, self.status, self.sent, took);
        let Some(asked) = &self.asked else { return };
        let is_whole = self.ended || self.whole == Some(self.sent);
        tracing::info!(
            target: "access",
            request = format_args!("{:016x}", asked.id),
            client = %asked.client,
            certificate = asked.certificate.as_deref(),
            token = asked.by.as_ref().map(TokenName::as_str),
            method = %asked.method,
            path = asked.path,
            status = self.status.as_u16(),
            bytes = self.sent,
            cut = (!is_whole).then_some(true),
            microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
}
