//! A moment in the past, as a request names it.

use std::time::Duration;

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
