//! Our clock and the server's.

use std::time::{Duration, Instant, SystemTime};

/// Converts our time to the server's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Our time counts from here.
    pub(crate) epoch: Instant,
    /// The server's Unix time at the epoch in nanoseconds, if that is known.
    pub(crate) server_ns: Option<f64>,
}

impl Clocks {
    /// Begins now. On the same machine the clocks are one; otherwise nothing is known yet.
    pub(crate) fn now(same_machine: bool) -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { epoch: Instant::now(), server_ns: same_machine.then_some(unix.as_nanos() as f64) }
    }

    /// Returns how long ago by the server's clock a block was captured, if that clock is known.
    pub(crate) fn latency(self, captured_at_nanos: u64, now: Instant) -> Option<Duration> {
        let at = self.server_ns? + (now - self.epoch).as_nanos() as f64;
        // Nothing arrives before its capture: what looks like it is the clocks' error.
        Some(Duration::from_nanos((at - captured_at_nanos as f64).max(0.0) as u64))
    }
}
