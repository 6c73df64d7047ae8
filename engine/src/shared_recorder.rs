//! A histogram that any number of threads fill while it is read.

use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::buckets::{Buckets, Precision};
use crate::summary::Summary;

/// Counts of recorded values, in hdrhistogram's buckets, filled by any number of threads. A value costs three locked
/// additions. All buckets are allocated at the start, with 8 bytes each, which never overflow.
///
/// ```
/// use aircheck_engine::{Precision, SharedRecorder};
///
/// let micros = SharedRecorder::new(1_000_000, Precision::TwoDigits);
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| micros.record(250));
///     }
/// });
/// assert_eq!(micros.sum(), 500);
/// assert_eq!(micros.histogram().len(), 2);
/// ```
#[derive(Debug)]
pub struct SharedRecorder {
    counts: Box<[AtomicU64]>,
    buckets: Buckets,
    max: AtomicU64,
    sum: AtomicU64,
}

impl SharedRecorder {
    /// Creates an empty recorder for values from 0 to `max_trackable`, both included.
    ///
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram can't lay out.
    #[must_use]
    pub fn new(max_trackable: u64, precision: Precision) -> Self {
        let buckets = Buckets::new(max_trackable, precision);
        let counts = (0..buckets.count()).map(|_| AtomicU64::new(0)).collect();
        Self { counts, buckets, max: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts `value` once. Never waits, never allocates.
    #[inline]
    pub fn record(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.counts[self.buckets.index_of(value)].fetch_add(1, Ordering::Release);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// Returns the largest value so far, exactly; 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Returns the exact sum of all values. Read after [`histogram`](Self::histogram), it includes all of the histogram's.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Returns the values so far as an ordinary histogram.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        self.buckets.histogram(self.counts())
    }

    /// Returns the median, the 99th percentile and the largest value; `None` if there are no values.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.buckets, self.counts(), self.max())
    }

    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().map(|count| count.load(Ordering::Acquire)).enumerate()
    }
}
