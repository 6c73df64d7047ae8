//! A histogram that one thread fills and any thread reads, neither waiting for the other.
//!
//! hdrhistogram's own concurrent recorder allocates on the recording thread and hangs its reader while the recorder
//! idles, so the counts live here, in atomics laid out on hdrhistogram's bucket edges; whoever reads gets an
//! ordinary [`Histogram`], and the percentiles are computed there.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// How finely a [`Recorder`] tells values apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// One significant digit: buckets at most 1/16 of their value wide.
    OneDigit,
    /// Two significant digits: buckets at most 1/128 of their value wide.
    TwoDigits,
}

impl Precision {
    const fn digits(self) -> u8 {
        match self {
            Self::OneDigit => 1,
            Self::TwoDigits => 2,
        }
    }

    /// log2 of half the buckets of one power of two. hdrhistogram's rule: the smallest power of two that holds
    /// `2 * 10^digits` values singly, halved.
    const fn half_magnitude(self) -> u32 {
        match self {
            Self::OneDigit => 4,
            Self::TwoDigits => 7,
        }
    }
}

/// Counts of recorded values, in hdrhistogram's buckets.
///
/// There must be one recording thread at a time; more than one lose counts, and nothing worse. A value above the
/// maximum counts as the maximum, while [`max`](Recorder::max) keeps it as it was.
///
/// ```
/// use aircheck_engine::{Precision, Recorder};
///
/// let lag = Recorder::new(1_000_000, Precision::TwoDigits);
/// for blocks in 1..=100 {
///     lag.record(blocks);
/// }
/// assert_eq!(lag.histogram().value_at_quantile(0.5), 50);
/// assert_eq!(lag.max(), 100);
/// ```
#[derive(Debug)]
pub struct Recorder {
    counts: Box<[AtomicU32]>,
    max_trackable: u64,
    precision: Precision,
    max: AtomicU64,
}

impl Recorder {
    /// An empty recorder for values from 0 to `max_trackable`, both included. It takes 4 bytes a bucket: 7 KB for
    /// a million at two digits.
    ///
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram can't lay out.
    #[must_use]
    pub fn new(max_trackable: u64, precision: Precision) -> Self {
        assert!(max_trackable >= 2, "a histogram must reach 2 at least");
        let buckets = index_of(max_trackable, precision) + 1;
        Self {
            counts: (0..buckets).map(|_| AtomicU32::new(0)).collect(),
            max_trackable,
            precision,
            max: AtomicU64::new(0),
        }
    }

    /// Counts `value` once. Never waits, never allocates.
    #[inline]
    pub fn record(&self, value: u64) {
        let tracked = value.min(self.max_trackable);
        let count = &self.counts[index_of(tracked, self.precision)];
        count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }

    /// The largest value so far, exactly; 0 if there was none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// What was recorded so far.
    ///
    /// # Panics
    ///
    /// Never: the bounds were checked when the recorder was made.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, self.max_trackable, self.precision.digits())
            .expect("bounds were checked in `new`");
        for (index, count) in self.counts.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                histogram
                    .record_n(lowest_in(index, self.precision), u64::from(count))
                    .expect("an index comes from a value within the bounds");
            }
        }
        histogram
    }

    /// Median, 99th percentile and largest value, in the unit of what was recorded; `None` if nothing was.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let histogram = self.histogram();
        let max = self.max();
        // A bucket is reported by its highest value, which may exceed the largest one seen.
        let at = |quantile| histogram.value_at_quantile(quantile).min(max);
        (!histogram.is_empty()).then(|| Summary { count: histogram.len(), p50: at(0.5), p99: at(0.99), max })
    }
}

/// The figures of a distribution that people read first, in the unit of the recorded values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many values there are.
    pub count: u64,
    /// Half of the values are at most this.
    pub p50: u64,
    /// 99 of 100 values are at most this.
    pub p99: u64,
    /// The largest value, exactly.
    pub max: u64,
}

/// hdrhistogram's bucket of a value: linear up to twice the half count, then that half count for each power of two.
#[inline]
fn index_of(value: u64, precision: Precision) -> usize {
    let half = precision.half_magnitude();
    if value >> (half + 1) == 0 {
        return value as usize;
    }
    let power = u64::BITS - (half + 1) - value.leading_zeros();
    ((power as usize) << half) + (value >> power) as usize
}

/// The lowest value of a bucket: the inverse of [`index_of`].
fn lowest_in(index: usize, precision: Precision) -> u64 {
    let half = precision.half_magnitude();
    let power = (index >> half).saturating_sub(1);
    ((index - (power << half)) as u64) << power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_lie_on_hdrhistogram_s_edges(value in 0u64..1 << 40, fine in any::<bool>()) {
            let precision = if fine { Precision::TwoDigits } else { Precision::OneDigit };
            let reference = Histogram::<u64>::new_with_bounds(1, 1 << 41, precision.digits()).unwrap();
            prop_assert_eq!(lowest_in(index_of(value, precision), precision), reference.lowest_equivalent(value));
        }

        #[test]
        fn it_holds_what_hdrhistogram_would(values in prop::collection::vec(0u64..1_000_000, 1..500)) {
            let recorder = Recorder::new(1_000_000, Precision::TwoDigits);
            let mut reference = Histogram::<u64>::new_with_bounds(1, 1_000_000, 2).unwrap();
            for &value in &values {
                recorder.record(value);
                reference.record(value).unwrap();
            }
            let read = recorder.histogram();
            prop_assert_eq!(read.len(), reference.len());
            for quantile in [0.0, 0.25, 0.5, 0.9, 0.99, 1.0] {
                prop_assert_eq!(read.value_at_quantile(quantile), reference.value_at_quantile(quantile));
            }
            prop_assert_eq!(recorder.max(), *values.iter().max().unwrap());
        }
    }

    #[test]
    fn too_large_a_value_counts_at_the_end_and_is_kept_as_the_maximum() {
        let recorder = Recorder::new(1000, Precision::OneDigit);
        recorder.record(5000);
        assert_eq!(recorder.histogram().len(), 1);
        assert_eq!(recorder.max(), 5000);
    }

    #[test]
    fn an_empty_one_has_no_summary() {
        assert_eq!(Recorder::new(10, Precision::OneDigit).summary(), None);
    }
}
