//! Whom a request is sent to: its Host header and, in HTTP/2, its `:authority` (RFC 9112 section
//! 3.2, RFC 9113 section 8.3.1). Whoever it names is served alike; what names nobody, or two, is
//! refused, since servers on the way may read it otherwise.

use super::refusal::Refusal;
use http::header::{HOST, HeaderMap};
use http::{Uri, Version};
use std::net::Ipv6Addr;

/// A name or address, and a port.
struct Host<'a> {
    name: &'a str,
    /// None is the scheme's own.
    port: Option<u16>,
}

/// Refuses a request that is not sent to exactly one host.
pub(super) fn check(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let authority = uri.authority().map(|authority| authority.as_str());
    if version <= Version::HTTP_11 && authority.is_some() {
        return Err(Refusal::bad("this is a mirror, not a forward proxy: ask for a path"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    let is_missing = host.is_none() && authority.is_none() && version >= Version::HTTP_11;
    if other.is_some() || is_missing {
        return Err(Refusal::bad("a request has exactly one Host header"));
    }
    let host = host.map(|host| parse(host.to_str().unwrap_or_default())).transpose()?;
    let authority = authority.map(parse).transpose()?;
    match (host, authority) {
        (Some(host), Some(authority)) if !host.is_same(&authority) => {
            Err(Refusal::bad("the Host header is another one than :authority"))
        }
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Result<Host<'_>, Refusal> {
    Host::parse(text).ok_or(Refusal::bad("a host is a name or an address, and maybe a port"))
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                (address, port)
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                is_name(name).then_some((name, port))?
            }
        };
        let port = match port {
            "" | ":" => None,
            port => Some(parse_port(port.strip_prefix(':')?)?),
        };
        Some(Self { name, port })
    }

    /// Whether both are one, over TLS: no other connection speaks HTTP/2 here.
    fn is_same(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
            && self.port.unwrap_or(HTTPS) == other.port.unwrap_or(HTTPS)
    }
}

/// RFC 3986 lets names have more than those of DNS, such as commas, by which two hosts in one header
/// would pass for a name.
fn is_name(text: &str) -> bool {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(is_in_name)
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str, version: Version, hosts: &[&str]) -> bool {
        let hosts = hosts.iter().map(|host| (HOST, host.parse().unwrap()));
        let mut headers = HeaderMap::new();
        hosts.for_each(|(name, value)| _ = headers.append(name, value));
        check(&uri.parse().unwrap(), version, &headers).is_err()
    }

    #[test]
    fn what_names_a_host_is_taken_and_nothing_else() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "keep.example:8443",
            "keep_1:",
            "192.0.2.1:80",
            "[::1]",
            "[2001:db8::1]:65535",
        ] {
            assert!(!refused("/", Version::HTTP_11, &[host]), "{host}");
        }
        for host in [
            "",
            ":443",
            "a b",
            "a/b@c",
            "user@a",
            "a,b",
            ",,<script>",
            "a%20b",
            "x:99999999",
            "x:+1",
            "x:1:2",
            "[::1",
            "[::1]x",
            "[a]",
            "::1",
        ] {
            assert!(refused("/", Version::HTTP_11, &[host]), "{host}");
            assert!(refused("/", Version::HTTP_10, &[host]), "{host}");
            assert!(refused("https://a/", Version::HTTP_2, &[host]), "{host}");
        }
    }

    #[test]
    fn a_request_is_sent_to_one_host() {
        for (uri, version, hosts, expected) in [
            ("/", Version::HTTP_10, &[][..], false),
            ("/", Version::HTTP_11, &[], true),
            ("/", Version::HTTP_11, &["a", "a"], true),
            ("https://a/", Version::HTTP_11, &["a"], true),
            ("https://a/", Version::HTTP_2, &[], false),
            ("https://a/", Version::HTTP_2, &["A:443"], false),
            ("/", Version::HTTP_2, &["a"], false),
            ("/", Version::HTTP_2, &[], true),
            ("https://a/", Version::HTTP_2, &["b"], true),
            ("https://a/", Version::HTTP_2, &["a:444"], true),
            ("https://a/", Version::HTTP_2, &["a", "a"], true),
            ("https://user@a/", Version::HTTP_2, &[], true),
        ] {
            assert_eq!(refused(uri, version, hosts), expected, "{uri} {version:?} {hosts:?}");
        }
    }
}
