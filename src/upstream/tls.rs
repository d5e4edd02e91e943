//! Whom opam-keep believes when it dials out over TLS.

use super::error::SetupError;
use base64::Engine as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// The certificate authorities of the system and those of `upstream.extra_ca`.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    system: Vec<CertificateDer<'static>>,
    extra: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Reads the system's authorities and those of the PEM file `extra_ca`.
    ///
    /// # Errors
    /// The PEM file can't be read or holds no certificate. A system without authorities is no
    /// error: Mozilla's, built in, stand in for them.
    pub(super) fn load(extra_ca: Option<&Path>) -> Result<Self, SetupError> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            warn!(%error, "some of the system's certificate authorities can't be read");
        }
        let extra = extra_ca.map(read_pem).transpose()?.unwrap_or_default();
        Ok(Self { system: found.certs, extra })
    }

    /// A TLS configuration that believes these authorities and offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// An authority in `extra_ca` is malformed.
    pub(super) fn client_config(&self) -> Result<ClientConfig, SetupError> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(self.system.iter().cloned());
        if added == 0 {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for certificate in &self.extra {
            roots
                .add(certificate.clone())
                .map_err(|error| SetupError::ExtraCa { reason: error.to_string() })?;
        }
        // The provider is passed explicitly: should a second one ever be compiled in, rustls'
        // own choice would be a panic.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Tls { reason: error.to_string() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The authorities that can be read, the extra ones last.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let is_usable =
            |one: &&CertificateDer<'static>| RootCertStore::empty().add((*one).clone()).is_ok();
        self.system.iter().chain(&self.extra).filter(is_usable).cloned().collect()
    }

    /// The same authorities as one PEM text, for programs that read such a file; `None` when
    /// there are none, as such a program may know better.
    pub(super) fn to_pem(&self) -> Option<String> {
        let pem: String =
            self.system.iter().chain(&self.extra).map(|one| certificate_to_pem(one)).collect();
        (!pem.is_empty()).then_some(pem)
    }
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let failed =
        |reason: String| SetupError::ExtraCa { reason: format!("{}: {reason}", path.display()) };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn certificate_to_pem(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_survive_the_way_through_pem() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let der = made.cert.der();
        let read = CertificateDer::from_pem_slice(certificate_to_pem(der).as_bytes()).unwrap();
        assert_eq!(&read, der);
    }

    #[test]
    fn a_file_without_a_certificate_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Trust::load(Some(file.path())).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
