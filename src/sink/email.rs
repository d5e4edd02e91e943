//! Alerts by e-mail, over SMTP.

use super::{Alert, DeliveryError, SinkError, one_line, secret};
use crate::config;
use crate::upstream;
use lettre::message::{Mailbox, MessageBuilder, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use url::Host;

/// A mail server and those whom it brings alerts.
pub(super) struct Email {
    server: String,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    pub(super) fn new(
        settings: &config::Email,
        upstream: &config::Upstream,
        timeout: Duration,
    ) -> Result<Self, SinkError> {
        let url = settings.server.get_ref().expose();
        let unusable = |reason: &dyn fmt::Display| SinkError::Email {
            name: settings.identity(),
            reason: reason.to_string(),
        };
        let host = match url.host() {
            // The scheme is none that URLs know, so the host is not recognised as an address.
            Some(Host::Domain(host)) => host.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(unusable(&"it names no host")),
        };
        let is_wrapped = url.scheme() == "smtps";
        let port = url.port().unwrap_or(if is_wrapped { SUBMISSIONS } else { SUBMISSION });
        let plain = settings.plaintext || is_loopback(&host);
        let tls = match (is_wrapped, plain) {
            (false, true) => Tls::None,
            (is_wrapped, _) => {
                let parameters =
                    tls_parameters(&host, upstream)?.map_err(|error| unusable(&error))?;
                if is_wrapped { Tls::Wrapper(parameters) } else { Tls::Required(parameters) }
            }
        };
        let fixed = upstream::fixed_address(upstream, &host);
        let (address, port) = match fixed {
            Some(address) => (address.ip().to_string(), address.port()),
            None => (host, port),
        };
        let server = settings.server.get_ref().to_string();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address)
            .port(port)
            .tls(tls)
            .hello_name(ClientId::default())
            .timeout(Some(timeout));
        if let Some(file) = &settings.password_file {
            let password = secret::read(file.get_ref())?;
            let user = percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy();
            builder = builder.credentials(Credentials::new(user.into(), password.to_string()));
        }
        let to = settings.to.get_ref().iter().map(|to| to.mailbox().clone()).collect();
        Ok(Self { server, transport: builder.build(), from: settings.from.mailbox().clone(), to })
    }

    pub(super) async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let message =
            self.message(alert).map_err(|error| DeliveryError::refused(error.to_string()))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut reason = error.to_string();
                // The transport's own words name what it did, and the cause what happened.
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    if !reason.contains(&error.to_string()) {
                        reason = format!("{reason}: {error}");
                    }
                    cause = error.source();
                }
                let reason = one_line(&format!("{}: {reason}", self.server));
                Err(match error.is_permanent() {
                    true => DeliveryError::refused(reason),
                    false => DeliveryError::unavailable(reason),
                })
            }
        }
    }

    /// Always the same message for the same alert.
    fn message(&self, alert: &Alert) -> Result<Message, lettre::error::Error> {
        let sent = u64::try_from(alert.at.as_second()).unwrap_or_default();
        let id = format!("<{}@{}>", alert.id, self.from.email.domain());
        let mut builder = MessageBuilder::new()
            .from(self.from.clone())
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(sent))
            .message_id(Some(id))
            .subject(format!("[opam-keep] {}", one_line(&alert.title)))
            .header(header::ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.body(alert.text.clone())
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").field("to", &self.to).finish_non_exhaustive()
    }
}

/// The same trust as for everything that goes out.
fn tls_parameters(
    host: &str,
    config: &config::Upstream,
) -> Result<Result<TlsParameters, lettre::transport::smtp::Error>, SinkError> {
    let authorities = upstream::authorities(config)?;
    let store = match authorities.is_empty() {
        true => CertificateStore::WebpkiRoots,
        false => CertificateStore::None,
    };
    let mut builder = TlsParameters::builder(host.to_owned()).certificate_store(store);
    for authority in authorities {
        match Certificate::from_der(authority.to_vec()) {
            Ok(certificate) => builder = builder.add_root_certificate(certificate),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(builder.build())
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || literal.is_ok_and(|address| address.is_loopback())
}

const SUBMISSION: u16 = 587;
const SUBMISSIONS: u16 = 465;
