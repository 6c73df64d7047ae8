//! Instants as plain numbers: the engine computes with them, and only its edges read a clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, in nanoseconds since the Unix epoch.
///
/// All timestamps of a process come from one monotonic clock that is anchored to the wall clock once, when it is
/// first read. So differences are never disturbed by a stepped wall clock, and a step made after that is not seen.
///
/// ```
/// use aircheck_engine::Timestamp;
/// use std::time::Duration;
///
/// let start = Timestamp::from_nanos(1_790_000_000_000_000_000);
/// let later = start + Duration::from_millis(10);
/// assert_eq!(later.since(start), Duration::from_millis(10));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Reads the clock. Takes no lock and makes no system call after the first reading.
    #[must_use]
    pub fn now() -> Self {
        static ANCHOR: OnceLock<(Instant, u64)> = OnceLock::new();
        let (instant, unix) = ANCHOR.get_or_init(|| {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (Instant::now(), nanos(unix))
        });
        Self(unix + nanos(instant.elapsed()))
    }

    /// The moment `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the Unix epoch, as JSON shows them (a double keeps a quarter of a microsecond here).
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long after `earlier` this is, in whole microseconds; 0 if it is before.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// Nanoseconds from `other` to this moment, negative if this is earlier.
    #[must_use]
    pub const fn offset_from(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// This moment moved by a signed number of nanoseconds.
    #[must_use]
    pub const fn offset_by(self, nanos: i64) -> Self {
        Self(self.0.saturating_add_signed(nanos))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

/// A span in nanoseconds; 584 years, the most a `u64` holds, for anything longer.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
