//! Moments as plain numbers. The engine computes with them, and only its edges read a clock.

use std::time::Duration;

use crate::clock;

/// A moment on the clock of this process, in nanoseconds.
///
/// All timestamps of a process come from one steady clock, so a span between two of them is right even if the wall clock
/// was set meanwhile. On Linux the clock goes on while the machine is suspended. It counts from the Unix epoch, by the
/// wall clock as it stood at the first reading; [`unix_nanos`](Self::unix_nanos) and
/// [`unix_seconds`](Self::unix_seconds) add the steps that the wall clock has made since. Use these two for every time
/// that leaves the process.
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
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    ///
    /// let before = Timestamp::now();
    /// assert!(Timestamp::now() >= before);
    /// ```
    #[must_use]
    #[inline]
    pub fn now() -> Self {
        Self(clock::now_nanos())
    }

    /// Creates the moment `nanos` on the process's clock: the inverse of [`as_nanos`](Self::as_nanos).
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_nanos(7).as_nanos(), 7);
    /// ```
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds on the process's clock.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Timestamp;
    ///
    /// assert_eq!((Timestamp::from_nanos(0) + Duration::from_micros(3)).as_nanos(), 3000);
    /// ```
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns Unix time in nanoseconds, as the wall clock stands now: within a second of a step while a
    /// `Stream` runs.
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    ///
    /// assert!(Timestamp::now().unix_nanos() > 1_700_000_000_000_000_000);
    /// ```
    #[must_use]
    pub fn unix_nanos(self) -> u64 {
        clock::unix_nanos(self.0)
    }

    /// Returns Unix time in seconds, as the wall clock stands now. A double keeps a quarter of a microsecond here.
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    ///
    /// assert!(Timestamp::now().unix_seconds() > 1.7e9);
    /// ```
    #[must_use]
    pub fn unix_seconds(self) -> f64 {
        self.unix_nanos() as f64 / 1e9
    }

    /// Returns how long after `earlier` this is; zero if it is before.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Timestamp;
    ///
    /// let start = Timestamp::from_nanos(5_000_000);
    /// assert_eq!((start + Duration::from_millis(2)).since(start), Duration::from_millis(2));
    /// assert_eq!(start.since(start + Duration::from_millis(2)), Duration::ZERO);
    /// ```
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns how long after `earlier` this is, in whole microseconds; 0 if it is before.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Timestamp;
    ///
    /// let start = Timestamp::from_nanos(5_000_000);
    /// assert_eq!((start + Duration::from_nanos(2999)).micros_since(start), 2);
    /// ```
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// Returns the nanoseconds from `other` to this moment, negative if this is earlier. They must be less than 292 years
    /// apart, which all moments of one clock are.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Timestamp;
    ///
    /// let start = Timestamp::from_nanos(5_000_000);
    /// assert_eq!(start.offset_from(start + Duration::from_nanos(7)), -7);
    /// ```
    #[must_use]
    pub const fn offset_from(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// Returns this moment moved by a signed number of nanoseconds.
    ///
    /// ```
    /// use aircheck_engine::Timestamp;
    ///
    /// assert_eq!(Timestamp::from_nanos(10).offset_by(-3), Timestamp::from_nanos(7));
    /// ```
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

/// Converts a span to nanoseconds; a longer one than the 584 years of a `u64` becomes those.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
