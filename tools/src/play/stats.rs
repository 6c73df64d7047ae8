//! Blocks that are heard, and how playing went.

use std::time::{Duration, Instant};

/// How often the player is to be checked.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A block that begins to be heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeardBlock {
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// When it was captured, in Unix seconds by the server's clock.
    pub(crate) captured_at: f64,
    /// When it is heard.
    pub(crate) at: Instant,
}

/// How playing went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlayStats {
    /// The device.
    pub(crate) device: String,
    /// How long sound came out.
    pub(crate) played: Duration,
    /// How often sound came too late to be played in time.
    pub(crate) late: u64,
    /// Sound that was left out to be closer to live again.
    pub(crate) skipped: Duration,
    /// Silence in place of lost blocks.
    pub(crate) silent: Duration,
}
