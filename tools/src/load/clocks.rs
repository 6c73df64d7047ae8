//! Our time and the server's.

use std::time::{Duration, Instant, SystemTime};

/// How late blocks are: what to add to our time, which counts from any moment, for the server's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Our time counts from here.
    pub(crate) epoch: Instant,
    /// The server's Unix time then, in nanoseconds, if that is known.
    pub(crate) server_ns: Option<f64>,
}

impl Clocks {
    /// As they are now: this machine's clock is the server's, or nothing is known of that yet.
    pub(crate) fn now(same_machine: bool) -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { epoch: Instant::now(), server_ns: same_machine.then_some(unix.as_nanos() as f64) }
    }

    /// How long ago by the server's clock something was captured, if that clock is known.
    pub(crate) fn latency(self, captured_at_ns: u64, now: Instant) -> Option<Duration> {
        let at = self.server_ns? + (now - self.epoch).as_nanos() as f64;
        // Before its capture nothing arrives: what looks like it is the clocks' error.
        Some(Duration::from_nanos((at - captured_at_ns as f64).max(0.0) as u64))
    }
}
