//! A histogram that one thread fills while others read it, without waiting on either side.
//!
//! hdrhistogram's own concurrent recorder grows on the recording thread (205 µs at worst) and hangs its reader while the
//! recorder idles. So the counts are atomics here, on hdrhistogram's bucket edges. A reader gets an ordinary
//! [`hdrhistogram::Histogram`], or a [`Summary`].

use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::buckets::{Buckets, Precision};
use crate::summary::Summary;

/// Buckets of a [`Histogram`] that are allocated together, as a page of 256 bytes. The values of one listener mostly lie
/// in three or four of the 40 pages.
const PAGE_BUCKETS: usize = 64;

/// Counts of recorded values, in hdrhistogram's buckets, filled by one thread.
///
/// Only one thread may record at a time. Several would lose counts, but do no other harm; use a
/// [`SharedHistogram`](crate::SharedHistogram) there. A value above the maximum counts as the maximum, while
/// [`max`](Histogram::max) returns it as it was. A bucket stops counting at 4,294,967,295 values: over a year of 100 a
/// second.
///
/// ```
/// use aircheck_engine::{Precision, Histogram};
///
/// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
/// for blocks in 1..=100 {
///     lag.record(blocks);
/// }
/// assert_eq!(lag.to_hdrhistogram().value_at_quantile(0.5), 50);
/// assert_eq!(lag.max(), 100);
/// ```
#[derive(Debug)]
pub struct Histogram {
    pages: Box<[OnceLock<Box<Page>>]>,
    buckets: Buckets,
    max: AtomicU64,
}

type Page = [AtomicU32; PAGE_BUCKETS];

impl Histogram {
    /// Creates an empty histogram for values from 0 to `max_trackable`, both included. It takes 16 bytes for each page of
    /// 64 buckets (half a kilobyte for a million at two digits), and 256 more for each page with values.
    ///
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram cannot lay out.
    #[must_use]
    pub fn new(max_trackable: u64, precision: Precision) -> Self {
        let buckets = Buckets::new(max_trackable, precision);
        let pages = (0..buckets.count().div_ceil(PAGE_BUCKETS)).map(|_| OnceLock::new()).collect();
        Self { pages, buckets, max: AtomicU64::new(0) }
    }

    /// Counts `value` once. Never waits; allocates only for the first value in a page.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` the given number of times. Never waits; allocates only for the first value in a page.
    #[inline]
    pub fn record_n(&self, value: u64, times: u64) {
        let index = self.buckets.index_of(value);
        raise(&self.page(index)[index % PAGE_BUCKETS], times);
        self.raise_max(value);
    }

    /// Counts each value of a range once. Costs one addition for each bucket, however long the range is. Never waits;
    /// allocates only for the first value in a page.
    pub fn record_each(&self, values: RangeInclusive<u64>) {
        let (mut from, last) = values.into_inner();
        if from > last {
            return;
        }
        let (mut index, highest) = (self.buckets.index_of(from), self.buckets.index_of(last));
        while index <= highest {
            let end = highest.min(index / PAGE_BUCKETS * PAGE_BUCKETS + PAGE_BUCKETS - 1);
            let counts = &self.page(index)[index % PAGE_BUCKETS..=end % PAGE_BUCKETS];
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

    /// Returns the largest value so far, exactly; 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Returns the values so far as an ordinary histogram.
    #[must_use]
    pub fn to_hdrhistogram(&self) -> hdrhistogram::Histogram<u64> {
        self.buckets.histogram(self.counts())
    }

    /// Returns the median, the 99th percentile and the largest value; `None` if there are no values.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.buckets, self.counts(), self.max())
    }

    /// Iterates over the buckets that are allocated, with their counts.
    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        let pages = self.pages.iter().enumerate().filter_map(|(page, counts)| Some((page, counts.get()?)));
        pages.flat_map(|(page, counts)| {
            let counts = counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
            (page * PAGE_BUCKETS..).zip(counts)
        })
    }

    /// Returns the page of a bucket, allocated if it was not.
    #[inline]
    fn page(&self, index: usize) -> &Page {
        self.pages[index / PAGE_BUCKETS].get_or_init(|| Box::new([const { AtomicU32::new(0) }; PAGE_BUCKETS]))
    }

    #[inline]
    fn raise_max(&self, value: u64) {
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }
}

/// Adds to a count with a load and a store. Only one thread does this at a time, so no locked addition is needed.
#[inline]
fn raise(count: &AtomicU32, by: u64) {
    let sum = u64::from(count.load(Ordering::Relaxed)).saturating_add(by);
    count.store(sum.min(u64::from(u32::MAX)) as u32, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedHistogram;
    use proptest::prelude::*;

    proptest! {
        // A failing case is printed. A file of seeds would only collect cases of code that was broken on purpose.
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_histograms_agree_with_hdrhistogram(values in prop::collection::vec(0u64..1_000_000, 1..500)) {
            let histogram = Histogram::new(1_000_000, Precision::TwoDigits);
            let shared = SharedHistogram::new(1_000_000, Precision::TwoDigits);
            let mut reference = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1_000_000, 2).unwrap();
            for &value in &values {
                histogram.record(value);
                shared.record(value);
                reference.record(value).unwrap();
            }
            for read in [histogram.to_hdrhistogram(), shared.to_hdrhistogram()] {
                prop_assert_eq!(read.len(), reference.len());
                for quantile in [0.0, 0.25, 0.5, 0.9, 0.99, 1.0] {
                    prop_assert_eq!(read.value_at_quantile(quantile), reference.value_at_quantile(quantile));
                }
            }
            let max = *values.iter().max().unwrap();
            for summary in [histogram.summary(), shared.summary()] {
                let at = |quantile| reference.value_at_quantile(quantile).min(max);
                let expected = Summary { count: reference.len(), p50: at(0.5), p99: at(0.99), max };
                prop_assert_eq!(summary, Some(expected));
            }
            prop_assert_eq!(histogram.max(), max);
            prop_assert_eq!(shared.sum(), values.iter().sum::<u64>());
        }

        #[test]
        fn a_range_counts_like_its_values_one_by_one(first in 0u64..3000, count in 0u64..3000) {
            let (at_once, singly) = (Histogram::new(2000, Precision::OneDigit), Histogram::new(2000, Precision::OneDigit));
            at_once.record_each(first..=first + count);
            (first..=first + count).for_each(|value| singly.record(value));
            prop_assert_eq!(at_once.to_hdrhistogram(), singly.to_hdrhistogram());
            prop_assert_eq!(at_once.max(), singly.max());
        }
    }

    #[test]
    fn a_value_above_the_maximum_counts_in_the_last_bucket() {
        let histogram = Histogram::new(1000, Precision::OneDigit);
        histogram.record(5000);
        assert_eq!(histogram.to_hdrhistogram().len(), 1);
        assert_eq!(histogram.max(), 5000);
    }

    #[test]
    fn an_empty_histogram_has_no_summary() {
        assert_eq!(Histogram::new(10, Precision::OneDigit).summary(), None);
    }
}
