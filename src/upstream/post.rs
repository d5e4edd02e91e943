//! One `POST` to a URL that the configuration names: alerts go out this way.

use super::client::{failure, uri_of};
use super::connect::Connector;
use super::error::{FetchErrorKind, SetupError};
use super::guard::AddressGuard;
use super::proxy::{Proxy, basic_authorization};
use super::request::USER_AGENT_TEXT;
use super::resolve::Resolver;
use super::tls::Trust;
use crate::config;
use crate::safe_url::SafeUrl;
use bytes::Bytes;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls_pki_types::CertificateDer;
use std::net::SocketAddr;
use std::time::Duration;

/// Posts to URLs that the configuration names, on the same terms as everything that goes out:
/// `upstream.proxy`, `upstream.resolve`, `upstream.extra_ca` and `upstream.timeout` hold.
///
/// No redirect is followed, so no address but that of the named host is ever dialled; that one may
/// be private, as the configuration names it (promise G6).
#[derive(Clone, Debug)]
pub struct Poster {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    url: SafeUrl,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
}

impl Poster {
    /// Posts to `url`; `direct` leads past the proxy.
    ///
    /// # Errors
    /// The proxy's URL or the extra certificate authorities can't be used.
    pub fn new(url: &SafeUrl, config: &config::Upstream, direct: bool) -> Result<Self, SetupError> {
        let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|range| range.parse().ok());
        let guard = AddressGuard::new(everywhere.collect());
        let proxy = config.proxy.as_ref().filter(|_| !direct).map(Proxy::new).transpose()?;
        let connector = Connector::new(
            Resolver::new(guard, &config.resolve),
            proxy,
            trust(config)?.client_config()?,
            config.timeout.get(),
        );
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            // Alerts are rare: a connection that was kept would be a dead one by the next.
            .pool_max_idle_per_host(0)
            .build(connector.clone());
        Ok(Self { http, connector, url: url.clone() })
    }

    /// Posts `body` and reads what little of the answer keeps the other side content.
    ///
    /// Whoever calls bounds the time.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn post(
        &self,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Posted, FetchErrorKind> {
        let uri = uri_of(&self.url)?;
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        if let Some(authorization) = basic_authorization(self.url.expose()) {
            headers.insert(AUTHORIZATION, authorization);
        }
        if let Some(forwarder) = self.connector.forwarder(&uri)
            && let Some(authorization) = forwarder.authorization()
        {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let mut message = http::Request::post(uri).body(Full::new(body)).map_err(|_| {
            FetchErrorKind::UnusableUrl("it has characters that no request can carry")
        })?;
        *message.headers_mut() = headers;
        let answer = self.http.request(message).await.map_err(|error| failure(&error))?;
        let (head, body) = answer.into_parts();
        // The status says it all, and whoever sends an endless answer is not listened to.
        let rest = Limited::new(body, MAX_ANSWER).collect();
        let _ = tokio::time::timeout(ANSWER_PATIENCE, rest).await;
        Ok(Posted { status: head.status, headers: head.headers })
    }
}

/// The certificate authorities that everything that goes out trusts; none when the system has
/// none, and Mozilla's stand in for them.
///
/// # Errors
/// The extra authorities can't be used.
pub fn authorities(config: &config::Upstream) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    Ok(trust(config)?.certificates())
}

/// The address that `upstream.resolve` gives a host.
pub fn fixed_address(config: &config::Upstream, host: &str) -> Option<SocketAddr> {
    Resolver::new(AddressGuard::new(Vec::new()), &config.resolve).fixed(host)
}

fn trust(config: &config::Upstream) -> Result<Trust, SetupError> {
    Trust::load(config.extra_ca.as_ref().map(|path| path.get_ref().as_path()))
}

const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 64 << 10;
