//! Counts wrong tokens by address, and says when an address has sent too many.
//!
//! A token of 256 bits cannot be guessed, so this protects no secret: it keeps guessing from costing much, and makes it
//! visible. A right token is never refused, however many wrong ones its address has sent.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens of one address in a minute that are answered as such. A player with an old token, which tries again
/// every few seconds, stays below it.
pub const MAX_WRONG: u32 = 10;
/// The span in which they are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered: 64 bytes each. Beyond it, the one that began first is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Counts wrong tokens by address.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

/// The answer to a wrong token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its address may try again at once.
    Counted,
    /// Its address has sent too many, and may try again after this time.
    TooMany {
        /// How long it should wait.
        wait: Duration,
        /// Whether this is the first one too many, so that one line of the log tells of all.
        is_first: bool,
    },
}

impl Throttle {
    /// Counts a wrong token from `remote`.
    pub fn count(&self, remote: IpAddr, now: Instant) -> Wrong {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(remote);
        let is_new = !addresses.contains_key(&address);
        if is_new && addresses.len() >= MAX_ADDRESSES {
            addresses.retain(|_, failures| now.saturating_duration_since(failures.since) < WINDOW);
            let first = addresses.iter().min_by_key(|(_, failures)| failures.since).map(|(address, _)| *address);
            if let Some(first) = first.filter(|_| addresses.len() >= MAX_ADDRESSES) {
                addresses.remove(&first);
            }
        }
        let failures = addresses.entry(address).or_insert(Failures { since: now, count: 0 });
        if now.saturating_duration_since(failures.since) >= WINDOW {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count <= MAX_WRONG {
            return Wrong::Counted;
        }
        let wait = WINDOW.saturating_sub(now.saturating_duration_since(failures.since));
        Wrong::TooMany { wait, is_first: failures.count == MAX_WRONG + 1 }
    }
}

/// Returns the address that a connection counts for: all of an IPv6 network of 64 bits is one, because each customer has at
/// least that many, and an IPv4 address in IPv6 is that IPv4 address.
#[must_use]
pub fn network(remote: IpAddr) -> IpAddr {
    match remote.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_ten_wrong_ones_a_minute() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let count = |last: u8, seconds| throttle.count([192, 0, 2, last].into(), at(seconds));
        (0..10).for_each(|second| assert_eq!(count(1, second), Wrong::Counted));
        assert_eq!(count(1, 20), Wrong::TooMany { wait: Duration::from_secs(40), is_first: true });
        assert_eq!(count(1, 59), Wrong::TooMany { wait: Duration::from_secs(1), is_first: false });
        assert_eq!(count(2, 59), Wrong::Counted, "another address has its own");
        assert_eq!(count(1, 60), Wrong::Counted, "a new minute");
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory_and_forgets_the_oldest() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let address = |number: usize| IpAddr::from(Ipv6Addr::from_bits((number as u128 + 1) << 64));
        for number in 0..MAX_ADDRESSES + 100 {
            throttle.count(address(number), start + Duration::from_micros(number as u64));
        }
        let addresses = throttle.0.lock().unwrap();
        assert_eq!(addresses.len(), MAX_ADDRESSES);
        assert!(!addresses.contains_key(&address(99)) && addresses.contains_key(&address(100)));
    }
}
