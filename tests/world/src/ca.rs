//! A certificate authority for opam-keep's own certificates, and its clients'.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::time::SystemTime;

/// An authority that signs whatever a test wants.
#[derive(Debug)]
pub struct Ca {
    pem: String,
    /// What leads from its certificates to an authority that is trusted.
    chain: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and what leads from it to an authority.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

impl Ca {
    /// A new one.
    pub fn new() -> Self {
        let (params, key) = authority("A test's certificate authority");
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        let (pem, chain) = (certificate.pem(), String::new());
        Self { pem, chain, issuer: Issuer::new(params, key) }
    }

    /// An authority below this one, until then.
    pub fn intermediate_until(&self, end: SystemTime) -> Self {
        let (mut params, key) = authority("A test's intermediate authority");
        params.not_after = end.into();
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority signs");
        let (pem, chain) = (certificate.pem(), format!("{}{}", certificate.pem(), self.chain));
        Self { pem, chain, issuer: Issuer::new(params, key) }
    }

    /// The certificate to trust, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for hosts of these names.
    pub fn server(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).expect("names are names"))
    }

    /// A certificate for hosts of these names that was good in 2020 alone.
    pub fn expired(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names are names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    /// A certificate for a client that is called so.
    pub fn client(&self, name: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(params)
    }

    /// The same, good until then.
    pub fn client_until(&self, name: &str, end: SystemTime) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = end.into();
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority signs");
        let cert = format!("{}{}", certificate.pem(), self.chain);
        Identity { cert, key: key.serialize_pem() }
    }
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, KeyPair::generate().expect("a key can be made"))
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}
