//! The epoch of a stream: what tells its segments from those of every other one.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use aircheck_engine::Timestamp;

/// When a stream began, in milliseconds of Unix time. No two streams of a process have the same one; those of another process would have
/// to begin in the same millisecond by its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// Returns the epoch of a stream that begins now.
    #[must_use]
    pub(super) fn begin() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = Timestamp::now().unix_nanos() / 1_000_000;
        let after = |last: u64| now.max(last + 1);
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        Self(after(last.unwrap_or_default()))
    }

    /// Returns it in whole seconds, from which the numbers in playlists count on.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Returns it in frames of this rate, from which the times in segments count on. A later stream goes on at a later time, so a player
    /// takes it for the same timeline, with a hole in it. To tell it by `EXT-X-DISCONTINUITY-SEQUENCE` takes a number that grows from one
    /// stream to the next; one made of the time is so large that hls.js hangs, because it counts up to it.
    #[must_use]
    pub(super) fn frames(self, rate_hz: u32) -> u64 {
        (u128::from(self.0) * u128::from(rate_hz) / 1000) as u64
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Epoch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_streams_share_an_epoch() {
        let epochs: Vec<_> = (0..1000).map(|_| Epoch::begin().0).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{epochs:?}");
    }
}
