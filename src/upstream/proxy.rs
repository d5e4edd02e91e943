//! The HTTP proxy that everything goes through when one is configured.

use super::error::SetupError;
use super::resolve::{ResolveError, Resolver, system_addresses};
use crate::safe_url::SafeUrl;
use base64::Engine as _;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

/// The configured proxy. Its own address is permitted, whatever it is: the configuration names
/// it.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    url: SafeUrl,
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Reads `http://[user:password@]host:port`.
    ///
    /// # Errors
    /// Another scheme, or no host.
    pub(super) fn new(url: &SafeUrl) -> Result<Self, SetupError> {
        let unusable = || SetupError::Proxy { url: url.clone() };
        let exposed = url.expose();
        if exposed.scheme() != "http" {
            return Err(unusable());
        }
        let (Some(host), Some(port)) = (exposed.host_str(), exposed.port_or_known_default()) else {
            return Err(unusable());
        };
        Ok(Self {
            url: url.clone(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authorization: basic_authorization(exposed),
        })
    }

    /// The URL, for git, which dials by itself.
    pub(super) fn url(&self) -> &SafeUrl {
        &self.url
    }

    /// What a request has to carry that this proxy forwards.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The proxy's own addresses.
    ///
    /// # Errors
    /// Its name can't be resolved.
    pub(super) async fn addresses(
        &self,
        resolver: &Resolver,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        match resolver.fixed(&self.host) {
            Some(address) => Ok(vec![address]),
            None => system_addresses(&self.host, self.port).await,
        }
    }

    /// Asks the proxy, over a connection to it, for a tunnel to `target`.
    ///
    /// # Errors
    /// What the proxy answered instead, without anything that it sent.
    pub(super) async fn tunnel(
        &self,
        connection: TcpStream,
        target: Uri,
    ) -> Result<TcpStream, String> {
        let mut tunnel = Tunnel::new(Uri::default(), Connected(Some(connection)));
        if let Some(authorization) = &self.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let stream = tunnel.call(target).await.map_err(|error| error.to_string())?;
        Ok(stream.into_inner())
    }
}

/// The `Basic` credentials in a URL, as a header's value; `None` when it has none.
pub(super) fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    let password = url.password().unwrap_or_default();
    if url.username().is_empty() && password.is_empty() {
        return None;
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(password));
    let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Hands [`Tunnel`] a connection that exists already.
struct Connected(Option<TcpStream>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_decoded_before_they_are_sent_and_never_print() {
        let url: SafeUrl = "http://user:p%40ss@proxy.example:3128".parse().unwrap();
        let proxy = Proxy::new(&url).unwrap();
        // base64 of user:p@ss
        assert_eq!(proxy.authorization().unwrap(), "Basic dXNlcjpwQHNz");
        let printed = format!("{proxy:?}");
        assert!(!printed.contains("p%40ss") && !printed.contains("dXNlc"), "{printed}");
    }

    #[test]
    fn only_http_proxies_are_known() {
        for url in ["https://proxy.example", "socks5://proxy.example", "data:x"] {
            assert!(Proxy::new(&url.parse().unwrap()).is_err(), "{url}");
        }
    }
}
