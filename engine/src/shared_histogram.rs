//! A histogram that any number of threads fill while it is read.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::buckets::{Buckets, Precision};
use crate::summary::Summary;

/// Counts of recorded values, in hdrhistogram's buckets, filled by any number of threads. A value costs three locked
/// additions. All buckets are allocated at the start, with 8 bytes each, which never overflow.
///
/// ```
/// use aircheck_engine::{Precision, SharedHistogram};
///
/// let micros = SharedHistogram::new(1_000_000, Precision::TwoDigits);
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| micros.record(250));
///     }
/// });
/// assert_eq!(micros.sum(), 500);
/// assert_eq!(micros.summary().map(|summary| summary.count), Some(2));
/// ```
#[derive(Debug)]
pub struct SharedHistogram {
    counts: Box<[AtomicU64]>,
    buckets: Buckets,
    max: AtomicU64,
    sum: AtomicU64,
}

impl SharedHistogram {
    /// Creates an empty histogram for values from 0 to `max_trackable`, both included.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// assert!(SharedHistogram::new(1_000_000, Precision::TwoDigits).summary().is_none());
    /// ```
    ///
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram cannot lay out.
    #[must_use]
    pub fn new(max_trackable: u64, precision: Precision) -> Self {
        let buckets = Buckets::new(max_trackable, precision);
        let counts = (0..buckets.count()).map(|_| AtomicU64::new(0)).collect();
        Self { counts, buckets, max: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts `value` once. Never waits, never allocates.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// let micros = SharedHistogram::new(1_000_000, Precision::TwoDigits);
    /// micros.record(250);
    /// assert_eq!((micros.max(), micros.sum()), (250, 250));
    /// ```
    #[inline]
    pub fn record(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.counts[self.buckets.index_of(value)].fetch_add(1, Ordering::Release);
        self.raise_max(value);
    }

    /// Notes a value for the maximum. Most are no larger, for which a locked comparison is spared.
    #[inline]
    fn raise_max(&self, value: u64) {
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// Records `scale(number)` for each number of a range, `times` each, at the cost of a count for each bucket: a range
    /// of millions takes no longer than a histogram has buckets. `scale` must not decrease. The sum of the values in a
    /// bucket is taken as if they rose evenly.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// let micros = SharedHistogram::new(1_000_000, Precision::TwoDigits);
    /// micros.record_scaled(0..=100, 1, |blocks| blocks * 10_000);
    /// assert_eq!(micros.summary().map(|summary| (summary.count, summary.max)), Some((101, 1_000_000)));
    /// assert_eq!(micros.sum(), 50_500_000);
    /// ```
    pub fn record_scaled(&self, numbers: RangeInclusive<u64>, times: u64, scale: impl Fn(u64) -> u64) {
        let (mut from, last) = numbers.into_inner();
        while from <= last && times > 0 {
            let index = self.buckets.index_of(scale(from));
            // Finds the last number of this bucket: `inside` is in it, numbers after `last_possible` are not.
            let (mut inside, mut last_possible) = (from, last);
            while inside < last_possible {
                let middle = inside + (last_possible - inside).div_ceil(2);
                if self.buckets.index_of(scale(middle)) == index {
                    inside = middle;
                } else {
                    last_possible = middle - 1;
                }
            }
            let (lowest, highest) = (scale(from), scale(inside));
            let count = (u128::from(inside - from) + 1) * u128::from(times);
            let sum = (u128::from(lowest) + u128::from(highest)).saturating_mul(count) / 2;
            self.sum.fetch_add(sum as u64, Ordering::Relaxed);
            self.counts[index].fetch_add(count as u64, Ordering::Release);
            self.raise_max(highest);
            let Some(next) = inside.checked_add(1) else { return };
            from = next;
        }
    }

    /// Returns the largest value so far, exactly; 0 if there is none.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// let micros = SharedHistogram::new(100, Precision::TwoDigits);
    /// micros.record(12_345);
    /// assert_eq!(micros.max(), 12_345);
    /// ```
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Returns the exact sum of all values, modulo 2^64. Read after the counts, it includes all values of those.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// let micros = SharedHistogram::new(1_000_000, Precision::TwoDigits);
    /// (1..=10).for_each(|value| micros.record(value));
    /// assert_eq!(micros.sum(), 55);
    /// ```
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Returns the values so far as an ordinary histogram. Needs the feature `hdrhistogram`.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// let micros = SharedHistogram::new(1_000_000, Precision::TwoDigits);
    /// micros.record(250);
    /// # #[cfg(feature = "hdrhistogram")]
    /// assert_eq!(micros.to_hdrhistogram().len(), 1);
    /// ```
    #[cfg(any(test, feature = "hdrhistogram"))]
    #[must_use]
    pub fn to_hdrhistogram(&self) -> hdrhistogram::Histogram<u64> {
        self.buckets.histogram(self.counts())
    }

    /// Returns the median, the 99th percentile and the largest value; `None` if there are no values.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedHistogram};
    ///
    /// let micros = SharedHistogram::new(1_000_000, Precision::TwoDigits);
    /// (1..=100).for_each(|value| micros.record(value));
    /// assert_eq!(micros.summary().map(|summary| summary.p99), Some(99));
    /// ```
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.buckets, self.counts(), self.max())
    }

    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().map(|count| count.load(Ordering::Acquire)).enumerate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_range_is_recorded() {
        let histogram = SharedHistogram::new(1000, Precision::OneDigit);
        histogram.record_scaled(0..=u64::MAX, 1, |number| number);
        histogram.record_scaled(0..=u64::MAX, u64::MAX, |_| 0);
        assert_eq!(histogram.max(), u64::MAX);
    }
}
