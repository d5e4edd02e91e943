//! How often something may happen, by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bound on how often something happens in a minute, for each address of its own.
pub(super) struct Rate {
    per_minute: u32,
    minutes: Mutex<HashMap<IpAddr, Minute>>,
}

/// What an address did in the minute that began then.
struct Minute {
    began: Instant,
    count: u32,
}

impl Rate {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self { per_minute: per_minute.get(), minutes: Mutex::default() }
    }

    /// The same bound with its counts; another bound begins anew.
    pub(super) fn by(old: &Arc<Self>, per_minute: NonZeroU32) -> Arc<Self> {
        match old.per_minute == per_minute.get() {
            true => Arc::clone(old),
            false => Arc::new(Self::new(per_minute)),
        }
    }

    /// Counts once more for an address, unless it did so often enough this minute.
    pub(super) fn take(&self, address: IpAddr) -> bool {
        self.take_at(address, Instant::now())
    }

    fn take_at(&self, address: IpAddr, now: Instant) -> bool {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        if minutes.len() >= MAX_ADDRESSES && !minutes.contains_key(&whole(address)) {
            minutes.retain(|_, minute| now.duration_since(minute.began) < MINUTE);
            // More than that in one minute are a crowd that shares what there is.
            if minutes.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let minute = minutes.entry(whole(address)).or_insert(Minute { began: now, count: 0 });
        if now.duration_since(minute.began) >= MINUTE {
            *minute = Minute { began: now, count: 0 };
        }
        let is_free = minute.count < self.per_minute;
        minute.count += u32::from(is_free);
        is_free
    }
}

/// What one client has: an IPv4 address, or the network of an IPv6 one, of which it has 2^64.
pub(super) fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Most addresses that are counted at one time.
const MAX_ADDRESSES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_a_minute() {
        let rate = Rate::new(NonZeroU32::new(2).unwrap());
        let (one, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let begin = Instant::now();
        assert!(rate.take_at(one, begin) && rate.take_at(one, begin));
        assert!(!rate.take_at(one, begin + Duration::from_secs(59)));
        assert!(rate.take_at(other, begin));
        assert!(rate.take_at(one, begin + MINUTE));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let rate = Rate::new(NonZeroU32::new(1).unwrap());
        let now = Instant::now();
        assert!(rate.take_at("2001:db8::1".parse().unwrap(), now));
        assert!(!rate.take_at("2001:db8::2".parse().unwrap(), now));
        assert!(rate.take_at("2001:db8:0:1::1".parse().unwrap(), now));
        assert!(rate.take_at("::ffff:192.0.2.1".parse().unwrap(), now));
        assert!(!rate.take_at("192.0.2.1".parse().unwrap(), now));
    }
}
