//! Histograms that are read while they are filled, neither side waiting for the other.
//!
//! hdrhistogram's own concurrent recorder grows on the recording thread (205 µs at worst) and hangs its reader while the
//! recorder idles, so the counts live here, in atomics laid out on hdrhistogram's bucket edges; whoever reads gets an
//! ordinary [`Histogram`], or the three figures that people read first.

use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::buckets::{Buckets, Precision};

/// Buckets of a [`Recorder`] that get their memory together, 256 bytes of it. One listener's values mostly lie in three or
/// four such pages, of 40 that there may be.
const PAGE: usize = 64;

/// Counts of recorded values, in hdrhistogram's buckets, filled by one thread.
///
/// There must be one recording thread at a time; more than one lose counts, and nothing worse: [`SharedRecorder`] is
/// for those. A value above the maximum counts as the maximum, while [`max`](Recorder::max) keeps it as it was. A
/// bucket holds up to 4,294,967,295 values, over a year of 100 a second, and then counts no more.
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
    pages: Box<[OnceLock<Box<Page>>]>,
    buckets: Buckets,
    max: AtomicU64,
}

type Page = [AtomicU32; PAGE];

impl Recorder {
    /// An empty recorder for values from 0 to `max_trackable`, both included. It takes 16 bytes for each 64 buckets, half
    /// a kilobyte for a million at two digits, and 256 more for each of these that values have fallen into.
    ///
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram can't lay out.
    #[must_use]
    pub fn new(max_trackable: u64, precision: Precision) -> Self {
        let buckets = Buckets::new(max_trackable, precision);
        let pages = (0..buckets.count().div_ceil(PAGE)).map(|_| OnceLock::new()).collect();
        Self { pages, buckets, max: AtomicU64::new(0) }
    }

    /// Counts `value` once. Never waits; allocates only the first time that a value is near this one.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` so many times, likewise.
    #[inline]
    pub fn record_n(&self, value: u64, times: u64) {
        let index = self.buckets.index_of(value);
        raise(&self.page(index)[index % PAGE], times);
        self.raise_max(value);
    }

    /// Counts each value of a range once, at the cost of a count for each bucket. Likewise.
    pub fn record_each(&self, values: RangeInclusive<u64>) {
        let (mut from, last) = values.into_inner();
        if from > last {
            return;
        }
        let (mut index, highest) = (self.buckets.index_of(from), self.buckets.index_of(last));
        while index <= highest {
            let end = highest.min(index / PAGE * PAGE + PAGE - 1);
            let counts = &self.page(index)[index % PAGE..=end % PAGE];
            if end < self.buckets.singles() {
                counts.iter().for_each(|count| raise(count, 1));
                from = end as u64 + 1;
            } else {
                for (index, count) in (index..).zip(counts) {
                    let next =
                        if index == highest { last.saturating_add(1) } else { self.buckets.lowest_in(index + 1) };
                    raise(count, next - from);
                    from = next;
                }
            }
            index = end + 1;
        }
        self.raise_max(last);
    }

    /// The largest value so far, exactly; 0 if there was none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// What was recorded so far.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        self.buckets.histogram(self.counts())
    }

    /// Median, 99th percentile and largest value, in the unit of what was recorded; `None` if nothing was.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.buckets, self.counts(), self.max())
    }

    /// The counts of buckets that have memory.
    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        let pages = self.pages.iter().enumerate().filter_map(|(page, counts)| Some((page, counts.get()?)));
        pages.flat_map(|(page, counts)| {
            let counts = counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
            (page * PAGE..).zip(counts)
        })
    }

    /// The page of a bucket.
    #[inline]
    fn page(&self, index: usize) -> &Page {
        self.pages[index / PAGE].get_or_init(|| Box::new([const { AtomicU32::new(0) }; PAGE]))
    }

    #[inline]
    fn raise_max(&self, value: u64) {
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }
}

/// One thread at a time does this, so it is a load and a store, not a locked addition.
#[inline]
fn raise(count: &AtomicU32, by: u64) {
    let sum = u64::from(count.load(Ordering::Relaxed)).saturating_add(by);
    count.store(sum.min(u64::from(u32::MAX)) as u32, Ordering::Relaxed);
}

/// Counts of recorded values, in hdrhistogram's buckets, filled by any number of threads: three locked additions a
/// value, and 8 bytes a bucket, which no program's life overflows.
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
    /// An empty recorder for values from 0 to `max_trackable`, both included.
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

    /// Records `scale(number)` for each number of a range, `times` each, at the cost of a count for each bucket: a range
    /// of millions takes no longer than a histogram has buckets. `scale` must not decrease. The sum of the values in a
    /// bucket is taken as if they rose evenly.
    ///
    /// ```
    /// use aircheck_engine::{Precision, SharedRecorder};
    ///
    /// let micros = SharedRecorder::new(1_000_000, Precision::TwoDigits);
    /// micros.record_scaled(0..=100, 1, |blocks| blocks * 10_000);
    /// assert_eq!((micros.histogram().len(), micros.max(), micros.sum()), (101, 1_000_000, 50_500_000));
    /// ```
    pub fn record_scaled(&self, numbers: RangeInclusive<u64>, times: u64, scale: impl Fn(u64) -> u64) {
        let (mut from, last) = numbers.into_inner();
        while from <= last && times > 0 {
            let index = self.buckets.index_of(scale(from));
            // The last number of this bucket: `inside` is in it, what is after `last_possible` is not.
            let (mut inside, mut last_possible) = (from, last);
            while inside < last_possible {
                let middle = inside + (last_possible - inside).div_ceil(2);
                if self.buckets.index_of(scale(middle)) == index {
                    inside = middle;
                } else {
                    last_possible = middle - 1;
                }
            }
            let (lowest, highest, count) = (scale(from), scale(inside), inside - from + 1);
            let sum = (u128::from(lowest) + u128::from(highest)) * u128::from(count) * u128::from(times) / 2;
            self.sum.fetch_add(sum as u64, Ordering::Relaxed);
            self.counts[index].fetch_add(count * times, Ordering::Release);
            self.max.fetch_max(highest, Ordering::Relaxed);
            let Some(next) = inside.checked_add(1) else { return };
            from = next;
        }
    }

    /// The largest value so far, exactly; 0 if there was none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// The sum of all values, exactly; read after [`histogram`](Self::histogram), it has all of those in it.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// What was recorded so far.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        self.buckets.histogram(self.counts())
    }

    /// Median, 99th percentile and largest value, in the unit of what was recorded; `None` if nothing was.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.buckets, self.counts(), self.max())
    }

    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().map(|count| count.load(Ordering::Acquire)).enumerate()
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

impl Summary {
    /// Of counts, each with its bucket, in order. What hdrhistogram would say, without a histogram of 20 KB being made for
    /// it, four times for each listener in a list that may have a thousand.
    fn of(buckets: Buckets, counts: impl Iterator<Item = (usize, u64)>, max: u64) -> Option<Self> {
        let counts: Vec<(usize, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        let total = counts.iter().map(|(_, count)| count).sum::<u64>();
        let at = |quantile: f64| {
            let rank = ((quantile * total as f64).ceil() as u64).max(1);
            let mut passed = 0;
            let reached = counts.iter().find(|(_, count)| {
                passed += count;
                passed >= rank
            });
            // A bucket is reported by its highest value, which may exceed the largest one seen.
            reached.map_or(max, |(bucket, _)| (buckets.lowest_in(bucket + 1) - 1).min(max))
        };
        (total > 0).then(|| Self { count: total, p50: at(0.5), p99: at(0.99), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // What fails is printed; a file of seeds would only hold what broken code was tried with.
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_hold_what_hdrhistogram_would(values in prop::collection::vec(0u64..1_000_000, 1..500)) {
            let recorder = Recorder::new(1_000_000, Precision::TwoDigits);
            let shared = SharedRecorder::new(1_000_000, Precision::TwoDigits);
            let mut reference = Histogram::<u64>::new_with_bounds(1, 1_000_000, 2).unwrap();
            for &value in &values {
                recorder.record(value);
                shared.record(value);
                reference.record(value).unwrap();
            }
            for read in [recorder.histogram(), shared.histogram()] {
                prop_assert_eq!(read.len(), reference.len());
                for quantile in [0.0, 0.25, 0.5, 0.9, 0.99, 1.0] {
                    prop_assert_eq!(read.value_at_quantile(quantile), reference.value_at_quantile(quantile));
                }
            }
            let max = *values.iter().max().unwrap();
            for summary in [recorder.summary(), shared.summary()] {
                let at = |quantile| reference.value_at_quantile(quantile).min(max);
                let expected = Summary { count: reference.len(), p50: at(0.5), p99: at(0.99), max };
                prop_assert_eq!(summary, Some(expected));
            }
            prop_assert_eq!(recorder.max(), max);
            prop_assert_eq!(shared.sum(), values.iter().sum::<u64>());
        }

        #[test]
        fn a_range_counts_like_its_values_one_by_one(first in 0u64..3000, count in 0u64..3000) {
            let (at_once, singly) = (Recorder::new(2000, Precision::OneDigit), Recorder::new(2000, Precision::OneDigit));
            at_once.record_each(first..=first + count);
            (first..=first + count).for_each(|value| singly.record(value));
            prop_assert_eq!(at_once.histogram(), singly.histogram());
            prop_assert_eq!(at_once.max(), singly.max());
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
