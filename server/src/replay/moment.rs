//! A moment in the past, as a request names it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This time, in nanoseconds of Unix time.
    At(u64),
    /// So long ago.
    Back(Duration),
}

impl Moment {
    /// Returns the moment in nanoseconds of Unix time, if it is `now` then.
    #[must_use]
    pub fn unix_nanos(self, now: u64) -> u64 {
        match self {
            Self::At(at) => at,
            Self::Back(back) => now.saturating_sub(u64::try_from(back.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

/// Reads a time in UTC as RFC 3339 writes it, such as `2026-11-27T14:03:00Z`, in nanoseconds of Unix time.
#[must_use]
pub fn parse_time(text: &str) -> Option<u64> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Writes a time in UTC, to the second.
#[must_use]
pub fn format_time(unix_nanos: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(unix_nanos);
    humantime::format_rfc3339_seconds(time).to_string()
}
