//! The HTTP client: one `GET` and the redirects after it, each hop on the same terms.

use super::circuit::CircuitLimits;
use super::connect::{ConnectError, Connector};
use super::error::{FetchError, FetchErrorKind, SetupError, Wait};
use super::guard::AddressGuard;
use super::hosts::Hosts;
use super::pace::PaceLimits;
use super::proxy::Proxy;
use super::request::Request;
use super::resolve::Resolver;
use super::response::{BodyLimits, Response};
use super::retry::{RetryLimits, retrying};
use super::tally::{Outcome, Tally};
use super::tls::Trust;
use super::turns::Turns;
use crate::config;
use crate::safe_url::SafeUrl;
use bytes::Bytes;
use http::header::{LOCATION, PROXY_AUTHORIZATION};
use http::{StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Fetches over HTTP and HTTPS; cheap to clone, all clones share connections and limits.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    http: legacy::Client<Connector, Empty<Bytes>>,
    connector: Connector,
    hosts: Hosts,
    tally: Arc<Tally>,
    limits: Limits,
    reach: Reach,
}

/// What others that dial out need to do it on the same terms.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) resolver: Resolver,
    pub(super) proxy: Option<Proxy>,
    pub(super) trust: Trust,
    pub(super) timeout: Duration,
    /// Whether nothing may be dialled at all.
    pub(super) is_offline: bool,
}

/// What isn't configured, but differs in tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) retry: RetryLimits,
    pub(super) circuit: CircuitLimits,
    pub(super) pace: PaceLimits,
}

impl Client {
    /// A client as the `[upstream]` section wants it.
    ///
    /// # Errors
    /// The proxy's URL or the extra certificate authorities can't be used.
    pub fn new(config: &config::Upstream) -> Result<Self, SetupError> {
        Self::with_limits(config, Limits::default())
    }

    /// A client that takes another one's place, and goes on with its counts.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn in_place_of(&self, config: &config::Upstream) -> Result<Self, SetupError> {
        Self::build(config, self.0.limits, Arc::clone(&self.0.tally))
    }

    pub(super) fn with_limits(
        config: &config::Upstream,
        limits: Limits,
    ) -> Result<Self, SetupError> {
        Self::build(config, limits, Arc::default())
    }

    fn build(
        config: &config::Upstream,
        limits: Limits,
        tally: Arc<Tally>,
    ) -> Result<Self, SetupError> {
        let timeout = config.timeout.get();
        let guard = AddressGuard::new(config.allow_addresses.clone());
        let reach = Reach {
            resolver: Resolver::new(guard, &config.resolve),
            proxy: config.proxy.as_ref().map(Proxy::new).transpose()?,
            trust: Trust::load(config.extra_ca.as_ref().map(|path| path.get_ref().as_path()))?,
            timeout,
            is_offline: config.offline,
        };
        let connector = Connector::new(
            reach.resolver.clone(),
            reach.proxy.clone(),
            reach.trust.client_config()?,
            timeout,
        );
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(config.per_host.get())
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .http2_keep_alive_interval(timeout)
            .http2_keep_alive_timeout(timeout)
            .build(connector.clone());
        let longest_wait = timeout.saturating_mul(TURN_TIMEOUTS);
        let hosts = Hosts::new(Turns::new(config), longest_wait, limits.circuit);
        Ok(Self(Arc::new(Shared { http, connector, hosts, tally, limits, reach })))
    }

    /// Asks for `request`, follows redirects, and hands back the head with the body to come.
    ///
    /// Transient failures up to here are tried again a few times. What fails in the body is the
    /// caller's to try again: only the caller knows what became of the bytes before.
    ///
    /// # Errors
    /// Anything but 200, or 304 for a conditional request; see [`FetchErrorKind`].
    pub async fn get(&self, request: Request) -> Result<Response, FetchError> {
        if self.0.reach.is_offline {
            return Err(FetchError::new(&request.url, FetchErrorKind::Offline));
        }
        retrying(self.0.limits.retry, || self.0.follow(&request)).await
    }

    /// How often hosts were asked, and what came of it.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.0.reach
    }
}

impl Shared {
    async fn follow(&self, request: &Request) -> Result<Response, FetchError> {
        let mut url = request.url.clone();
        let mut chain = Vec::new();
        loop {
            let failed = |kind| FetchError::new(&url, kind);
            let host = url.expose().host_str().unwrap_or_default();
            let count = |outcome| self.tally.count(host, outcome);
            let refused = |kind| {
                count(Outcome::from(&kind));
                failed(kind)
            };
            let uri = uri_of(&url).map_err(failed)?;
            let turn = self.hosts.turn(&host_and_port(&url), &request.awaited).await;
            let turn = turn.map_err(refused)?;
            let answer = match self.ask(request, &url, uri).await.map_err(failed) {
                Ok(answer) => answer,
                Err(error) => {
                    count(Outcome::from(&error.kind));
                    if error.is_the_hosts_fault() {
                        turn.failed(&error.kind);
                    }
                    return Err(error);
                }
            };
            chain.push(SafeUrl::from(url.public()));
            let status = answer.status();
            if status == StatusCode::OK
                || status == StatusCode::NOT_MODIFIED && request.is_conditional()
            {
                let limits = BodyLimits {
                    max_size: request.max_size,
                    idle: self.reach.timeout,
                    pace: self.limits.pace,
                };
                let public = url.public().into();
                let counted = self.tally.begin(host);
                return Response::new(answer, chain, public, limits, turn, counted);
            }
            count(status.into());
            if status.is_server_error() {
                turn.failed(&FetchErrorKind::Status(status));
            } else {
                turn.succeeded();
            }
            if !REDIRECTS.contains(&status) {
                return Err(failed(FetchErrorKind::Status(status)));
            }
            if chain.len() > MAX_REDIRECTS {
                return Err(failed(FetchErrorKind::TooManyRedirects { count: MAX_REDIRECTS }));
            }
            url = redirect_target(&url, &answer).map_err(failed)?;
        }
    }

    /// One request and its answer's head.
    async fn ask(
        &self,
        request: &Request,
        url: &SafeUrl,
        uri: Uri,
    ) -> Result<http::Response<Incoming>, FetchErrorKind> {
        let mut headers = request.headers_for(url);
        let forwarder = self.connector.forwarder(&uri);
        if let Some(authorization) = forwarder.and_then(Proxy::authorization) {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let mut message = http::Request::new(Empty::new());
        *message.uri_mut() = uri;
        *message.headers_mut() = headers;
        let mut connection = capture_connection(&mut message);
        // The connector bounds the time until there is a connection; from then on it is ours.
        let silence = async {
            connection.wait_for_connection_metadata().await;
            tokio::time::sleep(self.reach.timeout).await;
        };
        tokio::select! {
            answer = self.http.request(message) => answer.map_err(|error| failure(&error)),
            () = silence => Err(FetchErrorKind::Timeout(Wait::FirstByte)),
        }
    }
}

/// Finds out what the connector said, if it is what failed.
pub(super) fn failure(error: &legacy::Error) -> FetchErrorKind {
    let mut deepest: &(dyn Error + 'static) = error;
    loop {
        if let Some(connect) = deepest.downcast_ref::<ConnectError>() {
            return connect.into();
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => return FetchErrorKind::Interrupted { reason: deepest.to_string() },
        }
    }
}

/// Where a redirect leads: `http` or `https`, never from the latter to the former, and without
/// credentials, which are nobody's to hand out but the configuration's.
fn redirect_target(
    from: &SafeUrl,
    answer: &http::Response<Incoming>,
) -> Result<SafeUrl, FetchErrorKind> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target: SafeUrl = location
        .and_then(|location| from.expose().join(location).ok())
        .map(|url| SafeUrl::from(url).public().into())
        .filter(|target: &SafeUrl| target.expose().as_str().len() <= MAX_URL)
        .ok_or(FetchErrorKind::BadRedirect { status: answer.status() })?;
    match (from.expose().scheme(), target.expose().scheme()) {
        ("https", "http") => Err(FetchErrorKind::InsecureRedirect { to: Box::new(target) }),
        _ => Ok(target),
    }
}

pub(super) fn uri_of(url: &SafeUrl) -> Result<Uri, FetchErrorKind> {
    if !matches!(url.expose().scheme(), "http" | "https") {
        return Err(FetchErrorKind::UnusableUrl("only http and https can"));
    }
    Uri::try_from(url.public().as_str())
        .map_err(|_| FetchErrorKind::UnusableUrl("it has characters that no request can carry"))
}

fn host_and_port(url: &SafeUrl) -> String {
    let url: &Url = url.expose();
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// Redirects followed for one request.
pub const MAX_REDIRECTS: usize = 10;
/// Longest URL that a redirect may lead to, in bytes.
const MAX_URL: usize = 4_096;
/// How many times `upstream.timeout` a fetch waits for its turn.
const TURN_TIMEOUTS: u32 = 4;
/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// How many bytes of an answer may be under way: what a host that is 60 ms away sends in that time
/// over 1 Gbit/s.
const HTTP2_STREAM_WINDOW: u32 = 8 << 20;
/// The same for all answers of one connection.
const HTTP2_CONNECTION_WINDOW: u32 = 16 << 20;
const REDIRECTS: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];
