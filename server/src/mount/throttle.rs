//! A rate limit for log lines, so that a thousand troubles fill no disk, and for messages over a connection.

use std::time::Duration;

use aircheck_engine::Timestamp;

/// A rate limit: lets a burst pass, and then one in each interval. The default is 20, and then five a second. (It is the
/// generic cell rate algorithm, ITU-T I.371.)
#[derive(Debug)]
pub struct Throttle {
    burst: u64,
    interval_nanos: u64,
    /// When all that has passed would have been due at the steady rate, in nanoseconds.
    due_at: u64,
    withheld: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(20, Duration::from_millis(200))
    }
}

impl Throttle {
    /// Makes a throttle that lets `burst` pass at once, at least one, and then one in each `interval`.
    #[must_use]
    pub const fn new(burst: u64, interval: Duration) -> Self {
        Self { burst, interval_nanos: interval.as_nanos() as u64, due_at: 0, withheld: 0 }
    }

    /// Asks whether one may pass at `now`. Returns the number of withheld ones since the last that passed, or `None` if
    /// this one is withheld.
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
        let due_at = self.due_at.max(now) + self.interval_nanos;
        if due_at > now + self.burst * self.interval_nanos {
            self.withheld += 1;
            return None;
        }
        self.due_at = due_at;
        Some(std::mem::take(&mut self.withheld))
    }
}
