//! At most so many at once, and so many a second: for log lines, so that a thousand troubles fill no disk.

use aircheck_engine::Timestamp;

/// Lines that may come at once.
const BURST: u64 = 20;
/// Time after which one more may: five a second.
const EVERY_NANOS: u64 = 200_000_000;

/// A bucket of permissions that fills up by and by.
#[derive(Debug, Default)]
pub struct Throttle {
    /// The bucket would be full at this time, in nanoseconds.
    full_at: u64,
    withheld: u64,
}

impl Throttle {
    /// Whether one more may pass now; if so, how many were withheld since the last that did.
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    /// use aircheck_server::telemetry::throttle::Throttle;
    /// use std::time::Duration;
    ///
    /// let mut throttle = Throttle::default();
    /// let now = Timestamp::now();
    /// let passed = (0..100).filter(|_| throttle.pass(now).is_some()).count();
    /// assert_eq!(passed, 20);
    /// assert_eq!(throttle.pass(now + Duration::from_secs(1)), Some(80));
    /// ```
    pub fn pass(&mut self, now: Timestamp) -> Option<u64> {
        let now = now.as_nanos();
        let full_at = self.full_at.max(now) + EVERY_NANOS;
        if full_at > now + BURST * EVERY_NANOS {
            self.withheld += 1;
            return None;
        }
        self.full_at = full_at;
        Some(std::mem::take(&mut self.withheld))
    }
}
