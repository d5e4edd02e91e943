//! From a host's name to the addresses that may be dialled for it.

use super::guard::{AddressGuard, ForbiddenAddress};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use thiserror::Error;

/// Turns host names into addresses that the guard has seen.
///
/// What it returns is what gets dialled: nobody asks DNS a second time in between, so that an
/// answer that changes has nothing to gain.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    guard: AddressGuard,
    fixed: Arc<BTreeMap<String, SocketAddr>>,
}

/// Why there is no address to dial.
#[derive(Clone, Debug, Error)]
pub enum ResolveError {
    /// Every address that the name has is forbidden.
    #[error("{host}: {source}")]
    Forbidden {
        /// The name, or the literal address.
        host: String,
        /// The first address and why.
        source: ForbiddenAddress,
    },
    /// DNS gave an error.
    #[error("the name {host} can't be resolved: {source}")]
    Failed {
        /// The name.
        host: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// DNS gave an empty answer.
    #[error("the name {host} has no address")]
    Nothing {
        /// The name.
        host: String,
    },
}

impl Resolver {
    /// A resolver where `fixed` outranks DNS, and the guard too: the configuration names these.
    pub(super) fn new(guard: AddressGuard, fixed: &BTreeMap<String, SocketAddr>) -> Self {
        let fixed = fixed.iter().map(|(host, address)| (canonical(host), *address)).collect();
        Self { guard, fixed: Arc::new(fixed) }
    }

    /// The address that the configuration gives `host`.
    pub(super) fn fixed(&self, host: &str) -> Option<SocketAddr> {
        self.fixed.get(&canonical(host)).copied()
    }

    /// All addresses of `host` that may be dialled, in the order in which to try them.
    ///
    /// # Errors
    /// There is none, or none that is permitted.
    pub(super) async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(address) = self.fixed(host) {
            return Ok(vec![address]);
        }
        let host = canonical(host);
        self.permitted(&host, system_addresses(&host, port).await?)
    }

    /// Checks what can be checked of a host that a proxy will resolve: a literal address, and
    /// `localhost`, which is the proxy's own machine.
    ///
    /// Other names are the proxy's to judge, as only it sees what they mean there.
    ///
    /// # Errors
    /// The address is forbidden.
    pub(super) fn check_for_proxy(&self, host: &str) -> Result<(), ResolveError> {
        let host = canonical(host);
        let address = if host == "localhost" || host.ends_with(".localhost") {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else if let Ok(literal) = host.parse() {
            literal
        } else {
            return Ok(());
        };
        self.guard.check(address).map_err(|source| ResolveError::Forbidden { host, source })
    }

    fn permitted(
        &self,
        host: &str,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut refusal = None;
        let mut permitted = Vec::with_capacity(found.len());
        for address in found {
            match self.guard.check(address.ip()) {
                Ok(()) => permitted.push(address),
                Err(forbidden) => refusal = refusal.or(Some(forbidden)),
            }
        }
        match refusal {
            _ if !permitted.is_empty() => Ok(families_in_turn(permitted)),
            Some(source) => Err(ResolveError::Forbidden { host: host.to_owned(), source }),
            None => Err(ResolveError::Nothing { host: host.to_owned() }),
        }
    }
}

/// The addresses of `host` as the operating system knows them, unchecked.
pub(super) async fn system_addresses(
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(literal) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, port)]);
    }
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| ResolveError::Failed { host: host.to_owned(), source: Arc::new(error) })?;
    Ok(found.collect())
}

/// Lower case, without the brackets of a literal IPv6 address and the root's dot.
fn canonical(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Puts the two families in turn, the first answer's first, so that a family that leads nowhere
/// delays little (RFC 8305, section 4).
fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut mixed = Vec::new();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(allowed: &[&str], fixed: &[(&str, &str)]) -> Resolver {
        Resolver::new(
            AddressGuard::new(allowed.iter().map(|range| range.parse().unwrap()).collect()),
            &fixed
                .iter()
                .map(|(host, address)| ((*host).to_owned(), address.parse().unwrap()))
                .collect(),
        )
    }

    #[tokio::test]
    async fn g6_a_name_that_resolves_to_loopback_is_refused() {
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            let error = resolver(&[], &[]).addresses(host, 443).await.unwrap_err();
            assert!(matches!(error, ResolveError::Forbidden { .. }), "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn g6_an_address_that_the_configuration_names_is_permitted() {
        let resolver = resolver(&[], &[("Example.COM", "127.0.0.1:9443")]);
        for host in ["example.com", "EXAMPLE.com."] {
            let found = resolver.addresses(host, 443).await.unwrap();
            assert_eq!(found, ["127.0.0.1:9443".parse().unwrap()], "{host}");
        }
    }

    #[test]
    fn g6_only_the_permitted_addresses_of_a_name_are_dialled() {
        let found = ["10.0.0.1:1", "1.1.1.1:1"].map(|address| address.parse().unwrap());
        let permitted = resolver(&[], &[]).permitted("host", found.to_vec()).unwrap();
        assert_eq!(permitted, found[1..]);
    }

    #[test]
    fn g6_a_literal_address_is_checked_even_when_a_proxy_would_dial_it() {
        let resolver = resolver(&["10.0.0.0/8"], &[]);
        for host in ["127.0.0.1", "[::1]", "localhost", "a.localhost", "192.168.1.1"] {
            assert!(resolver.check_for_proxy(host).is_err(), "{host}");
        }
        for host in ["10.0.0.1", "1.1.1.1", "example.com"] {
            assert!(resolver.check_for_proxy(host).is_ok(), "{host}");
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses = ["[2a00::1]:1", "[2a00::2]:1", "1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"]
            .map(|address| address.parse().unwrap());
        let mixed = families_in_turn(addresses.to_vec());
        let expected = [0, 2, 1, 3, 4].map(|index: usize| addresses[index]);
        assert_eq!(mixed, expected);
    }
}
