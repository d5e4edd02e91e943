//! Which addresses may be dialled at all (promise G6).

use crate::config::AddressRange;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use thiserror::Error;

/// Refuses every address that is not public, unless the configuration allows its range.
///
/// Cheap to clone. It judges an address, never a name: whoever dials asks it about the very
/// address that is dialled.
#[derive(Clone, Debug)]
pub struct AddressGuard {
    allowed: Arc<[AddressRange]>,
}

/// An address that is not public and that no configured range allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{address} is a {what} address: name its range in upstream.allow_addresses to permit it")]
pub struct ForbiddenAddress {
    /// The address as it would have been dialled.
    pub address: IpAddr,
    /// What kind of address it, or the IPv4 address inside it, is.
    pub what: &'static str,
}

impl AddressGuard {
    /// A guard that permits public addresses and those of `allowed`.
    pub fn new(allowed: Vec<AddressRange>) -> Self {
        Self { allowed: allowed.into() }
    }

    /// Permits `address`, or says why not.
    ///
    /// An IPv6 address that carries an IPv4 address is judged by what it carries; where the
    /// carrying itself is obsolete, it is refused.
    ///
    /// # Errors
    /// The address and what kind of address it is.
    pub fn check(&self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        if self.allows(address) {
            return Ok(());
        }
        let refusal = match address {
            IpAddr::V4(v4) => special_v4(v4),
            IpAddr::V6(v6) => match carried_v4(v6) {
                Some(v4) if self.allows(IpAddr::V4(v4)) => None,
                Some(v4) => special_v4(v4),
                None => special_v6(v6),
            },
        };
        match refusal {
            Some(what) => Err(ForbiddenAddress { address, what }),
            None => Ok(()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|range| range.contains(address))
    }
}

/// The IPv4 address that packets to `address` end up at, if there is one.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    if in_v6(bits, V4_MAPPED) || in_v6(bits, NAT64) {
        // The mask leaves exactly the 32 bits of an IPv4 address.
        Some(Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32))
    } else if in_v6(bits, SIX_TO_FOUR) {
        Some(Ipv4Addr::from_bits((bits >> 80 & 0xffff_ffff) as u32))
    } else {
        None
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    SPECIAL_V4
        .iter()
        .find(|(network, prefix, _)| (network.to_bits() ^ bits) >> (32 - prefix) == 0)
        .map(|(_, _, what)| *what)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    SPECIAL_V6
        .iter()
        .find(|(network, prefix, _)| in_v6(bits, (*network, *prefix)))
        .map(|(_, _, what)| *what)
        .or_else(|| (!in_v6(bits, GLOBAL_UNICAST)).then_some("reserved"))
}

fn in_v6(bits: u128, (network, prefix): (Ipv6Addr, u32)) -> bool {
    (network.to_bits() ^ bits).checked_shr(128 - prefix).unwrap_or(0) == 0
}

/// The IANA IPv4 special-purpose registry, without what is globally reachable.
const SPECIAL_V4: [(Ipv4Addr, u32, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "\"this network\""),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignment"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// What deserves a name of its own; all else outside [`GLOBAL_UNICAST`] is "reserved".
const SPECIAL_V6: [(Ipv6Addr, u32, &str); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local NAT64"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignment"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const V4_MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> AddressGuard {
        AddressGuard::new(allowed.iter().map(|range| range.parse().unwrap()).collect())
    }

    fn kind(guard: &AddressGuard, address: &str) -> Option<&'static str> {
        guard.check(address.parse().unwrap()).err().map(|forbidden| forbidden.what)
    }

    #[test]
    fn g6_public_addresses_are_permitted() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:200::1",
            "2001:db7::1",
            "2003::1",
            "64:ff9b::1.1.1.1",
            "::ffff:1.1.1.1",
            "2002:101:101::1",
        ] {
            assert_eq!(kind(&guard(&[]), address), None, "{address}");
        }
    }

    #[test]
    fn g6_addresses_that_are_not_public_are_refused() {
        for (address, what) in [
            ("0.0.0.0", "\"this network\""),
            ("0.255.255.255", "\"this network\""),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.1", "protocol assignment"),
            ("192.0.2.1", "documentation"),
            ("192.168.0.1", "private"),
            ("198.18.0.0", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("100::1", "reserved"),
            ("2001:db8::1", "documentation"),
            ("2001:2::1", "protocol assignment"),
            ("3fff::1", "documentation"),
            ("4000::1", "reserved"),
            ("fc00::1", "private"),
            ("fdff::1", "private"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(kind(&guard(&[]), address), Some(what), "{address}");
        }
    }

    #[test]
    fn g6_an_ipv4_address_inside_an_ipv6_one_is_judged_by_what_it_is() {
        for (address, what) in [
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:7f00:1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::ffff:0.0.0.0", "\"this network\""),
            ("64:ff9b::169.254.169.254", "link-local"),
            ("64:ff9b::a00:1", "private"),
            ("64:ff9b:1::8.8.8.8", "local NAT64"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("2002:7f00:1::", "loopback"),
            ("2002:a00:1::1", "private"),
            ("2001::1", "Teredo"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
        ] {
            assert_eq!(kind(&guard(&[]), address), Some(what), "{address}");
        }
    }

    #[test]
    fn g6_a_configured_range_permits_its_addresses_and_no_others() {
        let allowing = guard(&["10.1.0.0/16", "fd00::/8", "::1"]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1", "::1"] {
            assert_eq!(kind(&allowing, address), None, "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fc00::1", "::2", "fe80::1"] {
            assert!(kind(&allowing, address).is_some(), "{address}");
        }
        // A range of one family says nothing about the other.
        assert!(kind(&guard(&["0.0.0.0/0"]), "::1").is_some());
        assert!(kind(&guard(&["::/0"]), "127.0.0.1").is_some());
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = guard(&[]).check("127.0.0.1".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "127.0.0.1 is a loopback address: name its range in upstream.allow_addresses to \
             permit it"
        );
    }
}
