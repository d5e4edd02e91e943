//! Durations, sizes, names and address ranges, as people write them in mirror.toml.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

/// A duration such as `"15m"`, `"30d"` or `"1h 30m"`; never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// The duration itself.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// What an address to listen on looks like, for who wrote something else.
pub const EXPECTED_ADDRESS: &str =
    "an address with a port, such as \"127.0.0.1:8443\" or \"[::]:8443\"";

/// Takes a text, and says what it should be where there is something else, such as a number.
pub(super) struct Text(pub &'static str);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(Text(EXPECTED_DURATION))?;
        text.parse()
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED_DURATION))
    }
}

/// Text that is no [`HumanDuration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {EXPECTED_DURATION}")]
pub struct NotADuration;

impl FromStr for HumanDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        match humantime::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err(NotADuration),
        }
    }
}

const EXPECTED_DURATION: &str = "a duration longer than zero, such as \"30s\", \"15m\" or \"30d\"";

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A number of bytes such as `"512KiB"`, `"2GiB"` or `"10MB"`; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    pub(super) const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    pub(super) const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

impl FromStr for ByteSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| ())?;
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or(())?;
        match number.checked_mul(unit.1) {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(()),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str =
            "a size of at least one byte, such as \"512KiB\", \"2GiB\" or \"10MB\"";
        let text = deserializer.deserialize_str(Text(EXPECTED))?;
        text.parse().map_err(|()| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .filter(|(name, _)| name.is_empty() || name.ends_with("iB"))
            .rev()
            .find(|(_, size)| self.0.is_multiple_of(*size));
        match unit {
            Some((name, size)) if !name.is_empty() => write!(f, "{}{name}", self.0 / size),
            _ => write!(f, "{}B", self.0),
        }
    }
}

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A number of bytes a second such as `"2MiB/s"`; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate(NonZeroU64);

impl ByteRate {
    /// How many bytes a second.
    pub fn bytes_per_second(self) -> NonZeroU64 {
        self.0
    }

    pub(super) const fn mib(count: u64) -> Self {
        Self(NonZeroU64::new(count << 20).expect("a default is not zero"))
    }
}

impl FromStr for ByteRate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let size: ByteSize = text.strip_suffix("/s").ok_or(())?.parse()?;
        NonZeroU64::new(size.bytes()).map(Self).ok_or(())
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "bytes a second, such as \"512KiB/s\" or \"2MiB/s\"";
        let text = deserializer.deserialize_str(Text(EXPECTED))?;
        text.parse().map_err(|()| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
    }
}

/// A repository's name: 1 to 64 of `a-z A-Z 0-9 - _ .`, starting with a letter or digit, and
/// none of the words that the server uses as first path segments itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    /// What was expected.
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name.chars().all(allowed)
            || name.len() > 64
        {
            return Err("a name of 1 to 64 letters, digits, '-', '_' or '.'".to_owned());
        }
        if RESERVED_NAMES.contains(&name) {
            let all = RESERVED_NAMES.join(", ");
            return Err(format!("another name than those that paths of the server have: {all}"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|expected: String| {
            D::Error::invalid_value(Unexpected::Str(&text), &expected.as_str())
        })
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// First path segments that belong to the server, now or in a later version.
const RESERVED_NAMES: [&str; 19] = [
    "api",
    "archive",
    "assets",
    "at",
    "cache",
    "divergences",
    "git",
    "index.tar.gz",
    "ledger",
    "livez",
    "login",
    "logout",
    "metrics",
    "packages",
    "readyz",
    "repo",
    "snapshots",
    "status",
    "version",
];

/// A range of IP addresses, such as `10.0.0.0/8` or `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    base: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Whether `address` lies in the range; the two families never mix.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(base) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(base) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| ())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| ())?,
            None => longest,
        };
        if prefix > longest { Err(()) } else { Ok(Self { base, prefix }) }
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| {
            D::Error::invalid_value(
                Unexpected::Str(&text),
                &"an address range such as \"10.0.0.0/8\" or \"fd00::/8\"",
            )
        })
    }
}

/// A socket address such as `127.0.0.1:8443` or `[::]:443`.
struct Address(SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED_ADDRESS);
        text.parse().map(Self).map_err(wrong)
    }
}

pub(super) fn at_least_one<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<NonZeroUsize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    NonZeroUsize::new(number)
        .ok_or_else(|| D::Error::invalid_value(Unexpected::Unsigned(0), &"1 or more"))
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    Ok(Vec::<Address>::deserialize(deserializer)?.into_iter().map(|it| it.0).collect())
}

pub(super) fn addresses_by_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, SocketAddr>, D::Error> {
    let named = BTreeMap::<String, Address>::deserialize(deserializer)?;
    Ok(named.into_iter().map(|(name, it)| (name, it.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_as_people_write_them() {
        for (text, bytes) in [("2GiB", 2 << 30), ("10 MB", 10_000_000), ("7", 7), ("7B", 7)] {
            assert_eq!(text.parse::<ByteSize>().map(ByteSize::bytes), Ok(bytes), "{text}");
        }
        for text in ["", "0", "2gib", "-1", "99999999999TiB", "GiB", "1.5GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize::gib(2).to_string(), "2GiB");
        assert_eq!(ByteSize(10).to_string(), "10B");
    }

    #[test]
    fn rates_are_sizes_a_second() {
        let rate = "2MiB/s".parse().map(ByteRate::bytes_per_second);
        assert_eq!(rate.map(NonZeroU64::get), Ok(2 << 20));
        for text in ["", "/s", "2MiB", "0B/s", "2MiB/h"] {
            assert!(text.parse::<ByteRate>().is_err(), "{text}");
        }
    }

    #[test]
    fn address_ranges_hold_their_addresses_and_no_others() {
        let private: AddressRange = "10.0.0.0/8".parse().unwrap();
        assert!(private.contains("10.255.0.1".parse().unwrap()));
        assert!(!private.contains("11.0.0.1".parse().unwrap()));
        assert!(!private.contains("::1".parse().unwrap()));
        let all: AddressRange = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("11.0.0.1".parse().unwrap()));
        let one: AddressRange = "::1".parse().unwrap();
        assert!(one.contains("::1".parse().unwrap()) && !one.contains("::2".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<AddressRange>().is_err());
    }

    #[test]
    fn repository_names_never_hide_an_endpoint() {
        assert!("default".parse::<RepositoryName>().is_ok());
        for name in ["", "cache", "ledger", "../x", "a/b", "é", "index.tar.gz"] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
    }
}
