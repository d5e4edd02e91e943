//! TLS: a certificate of the operator's, or one from a CA that opam-keep makes once for itself.

use crate::archive::is_deceptive;
use crate::config::{Config, TlsFiles};
use crate::digest::Sha256;
use crate::store::durable;
use bytes::Bytes;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use url::Url;
use x509_parser::extensions::GeneralName;

/// Why TLS can't be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{path}: {problem}: it must hold {expected} in PEM form")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// Certificate and key do not go together, or rustls refuses them.
    #[error("{path}: {problem}: check that certificate and key belong together")]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls said.
        problem: String,
    },
    /// The self-made certificate can't be made.
    #[error("no certificate can be made for server.hostnames: {0}")]
    Make(#[from] rcgen::Error),
}

/// What a mirror.toml asks for.
pub struct Tls {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// Until when clients trust the certificate, where that can be read.
    pub expires: Option<Timestamp>,
    /// Those of `access.client_ca`, where that is set.
    pub authorities: Option<Authorities>,
}

/// Who vouches for clients.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// What tells them from others.
    pub id: Sha256,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// Whether a certificate that a client showed is good now.
    pub(super) fn vouch_for(&self, shown: &Shown, now: Timestamp) -> bool {
        let Some((own, others)) = shown.chain.split_first() else { return false };
        let judge = || self.verifier.verify_client_cert(own, others, UnixTime::now()).is_ok();
        let is_as_judged = shown.authorities == self.id && shown.judged_until >= now;
        shown.until >= now && (is_as_judged || judge())
    }
}

/// A certificate that a client showed, and that was good when its connection began.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The subject's common name, else the first alternative one.
    pub name: Arc<str>,
    /// Its last second.
    pub until: Timestamp,
    /// The last second of the first that ends of it and those beside it, which may be needless.
    judged_until: Timestamp,
    /// The authorities by which it was judged.
    pub authorities: Sha256,
    /// The certificate itself, and those that lead from it to them.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// The TLS configuration that a mirror.toml asks for; `directory` holds what is self-made.
///
/// # Errors
/// When a certificate or key can't be read, made or used.
pub fn server_config(config: &Config, directory: &Path) -> Result<Tls, TlsError> {
    let settings = &config.server;
    let (cert, key) = match &settings.tls {
        Some(TlsFiles { cert, key }) => (cert.get_ref().clone(), key.get_ref().clone()),
        None => self_made(&settings.hostnames, directory)?,
    };
    let chain = certificates(&cert, "a certificate chain")?;
    let expires = chain.first().and_then(expiry);
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| match is_encrypted(&key) {
        true => TlsError::Unreadable {
            path: key.clone(),
            problem: "the key in it is encrypted".to_owned(),
            expected: "a private key without a password",
        },
        false => unreadable(&key, "a private key", &error),
    })?;
    let refused = |error: rustls::Error| TlsError::Refused {
        path: cert.clone(),
        problem: match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("its key is not the one in {}", key.display())
            }
            error => error.to_string(),
        },
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(refused)?;
    let (builder, authorities) = match &config.access.client_ca {
        Some(path) => {
            let authorities = authorities(path.get_ref(), provider)?;
            let verifier = Arc::clone(&authorities.verifier);
            (builder.with_client_cert_verifier(verifier), Some(authorities))
        }
        None => (builder.with_no_client_auth(), None),
    };
    let mut config = builder.with_single_cert(chain, private).map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // With another configuration come other tickets, so none outlives what it was given for.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
    Ok(Tls { config: Arc::new(config), expires, authorities })
}

/// Whether clients can be known by `access.client_ca`, where that is set.
///
/// # Errors
/// When its authorities can't be read or used.
pub fn check_client_ca(config: &Config) -> Result<(), TlsError> {
    let Some(path) = &config.access.client_ca else { return Ok(()) };
    authorities(path.get_ref(), Arc::new(aws_lc_rs::default_provider())).map(drop)
}

fn is_encrypted(key: &Path) -> bool {
    std::fs::read_to_string(key).is_ok_and(|text| text.contains("ENCRYPTED"))
}

/// The host of a URL under which clients refuse this server's certificate.
pub fn untrusted_host<'a>(config: &Config, url: &'a Url) -> Option<&'a str> {
    let host = url.host_str().filter(|_| url.scheme() == "https")?.trim_matches(['[', ']']);
    // Whoever ends TLS in front of it has a certificate of its own.
    let is_direct = !config.server.listen.is_empty();
    (is_direct && !is_for(config, host)).then_some(host)
}

/// Whether clients that reach it under this name trust the certificate, as far as that can be read.
fn is_for(config: &Config, host: &str) -> bool {
    let Some(TlsFiles { cert, .. }) = &config.server.tls else {
        return config.server.hostnames.iter().any(|name| name.eq_ignore_ascii_case(host));
    };
    let Ok(name) = ServerName::try_from(host.to_owned()) else { return true };
    let chain = certificates(cert.get_ref(), "a certificate chain").unwrap_or_default();
    chain.first().is_none_or(|own| {
        ParsedCertificate::try_from(own)
            .is_ok_and(|own| rustls::client::verify_server_name(&own, &name).is_ok())
    })
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    // The year 9999 stands for no end (RFC 5280 section 4.1.2.5).
    let end = certificate.validity().not_after.timestamp();
    Some(Timestamp::from_second(end).unwrap_or(Timestamp::MAX))
}

/// Knows clients by the certificates of these authorities; who shows none is let through.
fn authorities(path: &Path, provider: Arc<CryptoProvider>) -> Result<Authorities, TlsError> {
    let expected = "certificates of authorities";
    let refused =
        |problem: String| TlsError::Unreadable { path: path.to_owned(), problem, expected };
    let mut roots = RootCertStore::empty();
    let mut bytes = Vec::new();
    for certificate in certificates(path, expected)? {
        bytes.extend_from_slice(&certificate);
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| refused(error.to_string()))?;
    Ok(Authorities { id: Sha256::of(&bytes), verifier })
}

fn certificates(
    path: &Path,
    expected: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, expected, &error))?;
    if read.is_empty() {
        let problem = "it has no certificate".to_owned();
        return Err(TlsError::Unreadable { path: path.to_owned(), problem, expected });
    }
    Ok(read)
}

fn unreadable(
    path: &Path,
    expected: &'static str,
    error: &rustls_pki_types::pem::Error,
) -> TlsError {
    TlsError::Unreadable { path: path.to_owned(), problem: error.to_string(), expected }
}

/// Every file of certificates and keys that a configuration names.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let own = config.server.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    own.chain(&config.access.client_ca).map(|path| path.get_ref().clone()).collect()
}

/// The certificate of the CA that vouches for a self-made certificate.
pub(super) fn own_ca(config: &Config, directory: &Path) -> Option<Bytes> {
    let is_own = config.server.tls.is_none();
    is_own.then(|| std::fs::read(ca_path(directory)).ok().map(Bytes::from)).flatten()
}

/// What a client's certificate says, which was judged by these authorities.
pub(super) fn shown(chain: &[CertificateDer<'static>], authorities: Sha256) -> Option<Shown> {
    let own = chain.first()?;
    let (name, until) = (client_name(own)?, expiry(own)?);
    let judged_until = chain.iter().filter_map(expiry).min()?;
    Some(Shown { name, until, judged_until, authorities, chain: chain.into() })
}

fn client_name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let common = certificate.subject().iter_common_name().find_map(|it| it.as_str().ok());
    let alternative = || {
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some(*name)
            }
            _ => None,
        })
    };
    let name = common.or_else(alternative).unwrap_or("a certificate without a name");
    let printable = |c: char| if is_deceptive(c) { '?' } else { c };
    Some(name.chars().map(printable).take(MAX_NAME).collect::<String>().into())
}

/// Where clients find the self-made CA's certificate.
pub fn ca_path(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}

/// A certificate for `hostnames` from our own CA, renewed when names change or time runs out.
fn self_made(hostnames: &[String], directory: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let io = |path: &Path, source| TlsError::Io { path: path.to_owned(), source };
    durable::create_directory(directory).map_err(|error| io(directory, error))?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
        .map_err(|error| io(directory, error))?;
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let names = directory.join("names");
    let wanted = format!("{}\n", hostnames.join("\n"));
    let fresh = std::fs::metadata(&cert)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|made| made.elapsed().is_ok_and(|age| age < RENEW_AFTER));
    if fresh && key.exists() && std::fs::read_to_string(&names).is_ok_and(|names| names == wanted) {
        return Ok((cert, key));
    }
    let issuer = ca(directory)?;
    let leaf_key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(hostnames.to_vec())?;
    leaf.distinguished_name = name(hostnames.first().map_or("opam-keep", String::as_str));
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.use_authority_key_identifier_extension = true;
    valid_for(&mut leaf, LEAF_LIFETIME);
    let leaf = leaf.signed_by(&leaf_key, &issuer)?;
    for (path, text, mode) in [
        (&key, leaf_key.serialize_pem(), 0o600),
        (&cert, leaf.pem(), 0o644),
        (&names, wanted, 0o644),
    ] {
        durable::write(path, text.as_bytes(), mode).map_err(|error| io(path, error))?;
    }
    Ok((cert, key))
}

/// Our CA, made at the first start and never again.
fn ca(directory: &Path) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let (cert, key) = (ca_path(directory), directory.join("ca.key"));
    let io = |path: &Path, source| TlsError::Io { path: path.to_owned(), source };
    match (std::fs::read_to_string(&cert), std::fs::read_to_string(&key)) {
        (Ok(cert), Ok(key)) => {
            return Ok(Issuer::from_ca_cert_pem(&cert, KeyPair::from_pem(&key)?)?);
        }
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => return Err(io(&cert, error)),
        (_, Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(io(&key, error)),
        _ => {}
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name("opam-keep's own CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_LIFETIME);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    durable::write(&key, issuer.key().serialize_pem().as_bytes(), 0o600)
        .map_err(|error| io(&key, error))?;
    durable::write(&cert, issuer.pem().as_bytes(), 0o644).map_err(|error| io(&cert, error))?;
    Ok(Issuer::from_ca_cert_pem(&issuer.pem(), KeyPair::from_pem(&issuer.key().serialize_pem())?)?)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "opam-keep");
    name.push(DnType::CommonName, common);
    name
}

fn valid_for(params: &mut CertificateParams, lifetime: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime).into();
}

/// Longest name that is logged, in characters.
const MAX_NAME: usize = 128;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// Below the 398 days that some clients accept at most.
const LEAF_LIFETIME: Duration = Duration::from_secs(397 * 24 * 60 * 60);
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 60 * 60);
const CLOCK_SKEW: Duration = DAY;
