//! A bound on how often something is said: in the log, so that a thousand troubles fill no disk, and over a connection.

use aircheck_engine::Timestamp;

/// How many pass at once.
const BURST: u64 = 20;
/// Time after which one more passes: five a second.
const INTERVAL_NANOS: u64 = 200_000_000;

/// Lets a burst of 20 pass, and then five a second (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Default)]
pub struct Throttle {
    /// When all that has passed would have been due at the steady rate, in nanoseconds.
    due_at: u64,
    withheld: u64,
}

impl Throttle {
    /// Returns how many were withheld since the last one that passed, or `None` if this one is withheld.
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    /// use aircheck_server::mount::throttle::Throttle;
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
        let due_at = self.due_at.max(now) + INTERVAL_NANOS;
        if due_at > now + BURST * INTERVAL_NANOS {
            self.withheld += 1;
            return None;
        }
        self.due_at = due_at;
        Some(std::mem::take(&mut self.withheld))
    }
}
