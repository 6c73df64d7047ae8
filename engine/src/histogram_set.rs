//! Several histograms of one owner, small enough for thousands of owners.
//!
//! An owner's values fall into few buckets: those of a listener that keeps up into some eighty, of five histograms. A
//! [`Histogram`](crate::Histogram) for each would take pages of counts for them, and the places of these pages. Here the
//! counts of all histograms are one list of the buckets that have values, in one allocation.

use std::ops::RangeInclusive;

use crate::buckets::{Buckets, Precision};
use crate::prefetch::prefetch;
use crate::summary::Summary;

/// Bits of a bucket's number. Two digits for a million need some 1,800 buckets, one digit for an hour in microseconds some
/// 460.
const BUCKET_BITS: u32 = 12;
/// The most histograms of a set: the bits that a bucket's number leaves of 16.
const MAX_HISTOGRAMS: usize = 1 << (u16::BITS - BUCKET_BITS);
/// Buckets for which memory is allocated at a time. Doubling would leave up to half of the list unused.
const GROWTH: usize = 16;

/// The largest value that a histogram of a set distinguishes, and its resolution. A larger value counts as that one.
pub type Layout = (u64, Precision);

/// `N` histograms with hdrhistogram's buckets, filled and read by an owner that has them for itself. A histogram is
/// addressed by its index among the layouts.
///
/// A bucket with values takes 4 bytes, with more than 65,535 values 8, and stops counting at 4,294,967,295.
///
/// ```
/// use aircheck_engine::{HistogramSet, Layout, Precision};
///
/// const LAYOUTS: [Layout; 2] = [(1_000_000, Precision::TwoDigits), (1_000, Precision::OneDigit)];
/// let mut set = HistogramSet::new(&LAYOUTS);
/// set.record_each(0, 1..=100, 1);
/// set.record(1, 7);
/// assert_eq!(set.summary(0).map(|lag| (lag.count, lag.p50, lag.max)), Some((100, 50, 100)));
/// assert_eq!(set.summary(1).map(|gaps| (gaps.count, gaps.max)), Some((1, 7)));
/// ```
#[derive(Debug)]
pub struct HistogramSet<const N: usize> {
    layouts: &'static [Layout; N],
    maxima: [u64; N],
    /// The buckets that have values, in the order of their keys. Few have so many that their count takes two parts.
    counts: Vec<Count>,
}

/// How many values a bucket has, or the lower part of that: if a part with the same key follows, it is the higher one.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// The number of the histogram, and that of the bucket in it.
    key: u16,
    part: u16,
}

impl<const N: usize> HistogramSet<N> {
    /// Makes empty histograms for values from 0 on. Allocates nothing.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// assert!(HistogramSet::new(&LAYOUTS).summary(0).is_none());
    /// ```
    ///
    /// # Panics
    ///
    /// If there are more than 16 layouts, if one has more than 4,096 buckets, or if its largest value is below 2.
    #[must_use]
    pub fn new(layouts: &'static [Layout; N]) -> Self {
        assert!(N <= MAX_HISTOGRAMS, "a set of {N} histograms is larger than {MAX_HISTOGRAMS}");
        for (max, precision) in layouts {
            let buckets = Buckets::new(*max, *precision).count();
            assert!(buckets <= 1 << BUCKET_BITS, "a histogram of {buckets} buckets is too large for a set");
        }
        Self { layouts, maxima: [0; N], counts: Vec::new() }
    }

    /// Asks the processor to fetch the counts. Worthwhile before something else that takes a microsecond, after which values are counted in one
    /// set of thousands.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.prefetch();
    /// // Here the kernel is asked for the value.
    /// set.record(0, 7);
    /// ```
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&*self.counts);
    }

    /// Counts `value` once in the histogram with this index.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 2] = [(1_000, Precision::OneDigit), (1_000, Precision::TwoDigits)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.record(1, 7);
    /// assert_eq!((set.max(0), set.max(1)), (0, 7));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    #[inline]
    pub fn record(&mut self, histogram: usize, value: u64) {
        self.record_n(histogram, value, 1);
    }

    /// Counts `value` the given number of times.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.record_n(0, 7, 100);
    /// assert_eq!(set.summary(0).map(|summary| summary.count), Some(100));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    pub fn record_n(&mut self, histogram: usize, value: u64, times: u64) {
        if times > 0 {
            self.add(histogram, self.buckets(histogram).index_of(value), times, self.counts.len());
            self.maxima[histogram] = self.maxima[histogram].max(value);
        }
    }

    /// Returns the number of the bucket of a value, for [`record_buckets`](Self::record_buckets).
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let set = HistogramSet::new(&LAYOUTS);
    /// assert_eq!(set.bucket_of(0, 500), set.bucket_of(0, 501));
    /// assert_ne!(set.bucket_of(0, 500), set.bucket_of(0, 600));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    #[inline]
    #[must_use]
    pub fn bucket_of(&self, histogram: usize, value: u64) -> u16 {
        self.buckets(histogram).index_of(value) as u16
    }

    /// Counts a value in each of these buckets, which are of this histogram. The largest of the values is `max`. Sorts the
    /// buckets, so that equal ones take one search, and those that follow each other none.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// let mut buckets = [7, 501, 500].map(|value| set.bucket_of(0, value));
    /// set.record_buckets(0, &mut buckets, 501);
    /// assert_eq!(set.summary(0).map(|summary| (summary.count, summary.max)), Some((3, 501)));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    pub fn record_buckets(&mut self, histogram: usize, buckets: &mut [u16], max: u64) {
        self.prefetch();
        buckets.sort_unstable();
        let mut next = self.counts.len();
        for equal in buckets.chunk_by(|bucket, following| bucket == following) {
            next = self.add(histogram, equal[0].into(), equal.len() as u64, next) + 1;
        }
        self.maxima[histogram] = self.maxima[histogram].max(max);
    }

    /// Counts each value of a range `times` times. Costs one addition for each bucket, however long the range is.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.record_each(0, 1..=10, 2);
    /// assert_eq!(set.summary(0).map(|summary| summary.count), Some(20));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    pub fn record_each(&mut self, histogram: usize, values: RangeInclusive<u64>, times: u64) {
        let (first, last) = values.into_inner();
        if first > last || times == 0 {
            return;
        }
        let buckets = self.buckets(histogram);
        let mut next = self.counts.len();
        for index in buckets.index_of(first)..=buckets.index_of(last) {
            let count = buckets.values_in(index, first, last).saturating_mul(times);
            next = self.add(histogram, index, count, next) + 1;
        }
        self.maxima[histogram] = self.maxima[histogram].max(last);
    }

    /// Returns the largest value so far, exactly; 0 if there is none.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.record(0, 12_345);
    /// assert_eq!(set.max(0), 12_345);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    #[must_use]
    pub fn max(&self, histogram: usize) -> u64 {
        self.maxima[histogram]
    }

    /// Returns the values so far as an ordinary histogram. Needs the feature `hdrhistogram`.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.record(0, 7);
    /// # #[cfg(feature = "hdrhistogram")]
    /// assert_eq!(set.to_hdrhistogram(0).len(), 1);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    #[cfg(any(test, feature = "hdrhistogram"))]
    #[must_use]
    pub fn to_hdrhistogram(&self, histogram: usize) -> hdrhistogram::Histogram<u64> {
        self.buckets(histogram).histogram(self.counts_of(histogram))
    }

    /// Returns the median, the 99th percentile and the largest value; `None` if there are no values.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::TwoDigits)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// set.record_each(0, 1..=100, 1);
    /// assert_eq!(set.summary(0).map(|summary| (summary.p50, summary.p99)), Some((50, 99)));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no histogram with this index.
    #[must_use]
    pub fn summary(&self, histogram: usize) -> Option<Summary> {
        Summary::of(self.buckets(histogram), self.counts_of(histogram), self.maxima[histogram])
    }

    /// Returns the bytes that are allocated for counts.
    ///
    /// ```
    /// use aircheck_engine::{HistogramSet, Layout, Precision};
    ///
    /// const LAYOUTS: [Layout; 1] = [(1_000, Precision::OneDigit)];
    /// let mut set = HistogramSet::new(&LAYOUTS);
    /// assert_eq!(set.bytes(), 0);
    /// set.record(0, 7);
    /// assert!(set.bytes() < 200, "one bucket takes 4 bytes, and room is made for a few");
    /// ```
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<Count>()
    }

    /// Adds to a bucket, and returns where in the list it is. `guess` is where it probably is.
    fn add(&mut self, histogram: usize, bucket: usize, by: u64, guess: usize) -> usize {
        let key = key(histogram, bucket);
        let found = match self.counts.get(guess) {
            Some(count) if count.key == key => Ok(guess),
            _ => {
                // Each step of the search would wait for the next line.
                self.prefetch();
                let place = self.counts.partition_point(|count| count.key < key);
                if self.has(place, key) { Ok(place) } else { Err(place) }
            }
        };
        let place = found.unwrap_or_else(|place| {
            self.insert(place, Count { key, part: 0 });
            place
        });
        self.raise(place, by);
        place
    }

    /// Returns whether what is at this place of the list belongs to the bucket with this key.
    fn has(&self, place: usize, key: u16) -> bool {
        self.counts.get(place).is_some_and(|count| count.key == key)
    }

    fn insert(&mut self, place: usize, count: Count) {
        if self.counts.len() == self.counts.capacity() {
            self.counts.reserve_exact(GROWTH);
        }
        self.counts.insert(place, count);
    }

    /// Raises the count whose first part is at this place.
    fn raise(&mut self, place: usize, by: u64) {
        let Count { key, part } = self.counts[place];
        let has_higher = self.has(place + 1, key);
        let higher = if has_higher { self.counts[place + 1].part } else { 0 };
        let sum = whole(part, higher).saturating_add(by).min(u32::MAX.into());
        self.counts[place].part = sum as u16;
        let higher = Count { key, part: (sum >> u16::BITS) as u16 };
        if has_higher {
            self.counts[place + 1] = higher;
        } else if higher.part > 0 {
            self.insert(place + 1, higher);
        }
    }

    /// Iterates over the buckets of a histogram that have values, in order, with their counts.
    fn counts_of(&self, histogram: usize) -> impl Iterator<Item = (usize, u64)> {
        let first = key(histogram, 0);
        let from = self.counts.partition_point(|count| count.key < first);
        let buckets = self.counts[from..].chunk_by(|count, following| count.key == following.key);
        buckets.map_while(move |parts| {
            let bucket = usize::from(parts[0].key - first);
            let higher = parts.get(1).map_or(0, |count| count.part);
            (bucket < 1 << BUCKET_BITS).then_some((bucket, whole(parts[0].part, higher)))
        })
    }

    fn buckets(&self, histogram: usize) -> Buckets {
        let (max, precision) = self.layouts[histogram];
        Buckets::new(max, precision)
    }
}

/// Returns the count of these parts.
fn whole(lower: u16, higher: u16) -> u64 {
    u64::from(higher) << u16::BITS | u64::from(lower)
}

fn key(histogram: usize, bucket: usize) -> u16 {
    (histogram << BUCKET_BITS | bucket) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYOUTS: [Layout; 3] =
        [(1 << 16, Precision::TwoDigits), (1 << 28, Precision::OneDigit), (1_000_000, Precision::TwoDigits)];

    proptest! {
        // A failing case is printed. A file of seeds would only collect cases of code that was broken on purpose.
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_histogram_agrees_with_hdrhistogram(
            records in prop::collection::vec((0..3usize, 0u64..1_000_000, 0u64..300, prop_oneof![0u64..4, 60_000u64..70_000]), 1..200)
        ) {
            let mut set = HistogramSet::new(&LAYOUTS);
            let mut references = LAYOUTS.map(|(max, precision)| {
                let digits = if precision == Precision::OneDigit { 1 } else { 2 };
                hdrhistogram::Histogram::<u64>::new_with_bounds(1, max, digits).unwrap()
            });
            let mut maxima = [0; 3];
            for (histogram, value, length, times) in records {
                let last = value + length;
                if length == 0 {
                    set.record_n(histogram, value, times);
                } else if length < 20 && times == 1 {
                    let mut buckets: Vec<_> =
                        (value..=last).rev().map(|value| set.bucket_of(histogram, value)).collect();
                    set.record_buckets(histogram, &mut buckets, last);
                } else {
                    set.record_each(histogram, value..=last, times);
                }
                if times > 0 {
                    let (max, _) = LAYOUTS[histogram];
                    (value..=last).for_each(|value| references[histogram].record_n(value.min(max), times).unwrap());
                    maxima[histogram] = last.max(maxima[histogram]);
                }
            }
            for (histogram, reference) in references.iter().enumerate() {
                let seen = set.to_hdrhistogram(histogram);
                prop_assert_eq!(seen.len(), reference.len());
                for quantile in [0.0, 0.25, 0.5, 0.9, 0.99, 1.0] {
                    prop_assert_eq!(seen.value_at_quantile(quantile), reference.value_at_quantile(quantile));
                }
                prop_assert_eq!(set.max(histogram), maxima[histogram]);
                let count = set.summary(histogram).map_or(0, |summary| summary.count);
                prop_assert_eq!(count, reference.len());
            }
            let keys = set.counts.chunk_by(|count, following| count.key == following.key).map(|parts| parts[0].key);
            prop_assert!(keys.is_sorted_by(|before, after| before < after));
            prop_assert!(set.counts.chunk_by(|count, following| count.key == following.key).all(|parts| parts.len() <= 2));
        }
    }

    #[test]
    fn a_bucket_stops_counting_at_the_largest_count() {
        let mut set = HistogramSet::new(&LAYOUTS);
        set.record_n(0, 5, u64::from(u32::MAX) - 1);
        set.record_n(0, 5, 1 << 40);
        set.record(0, 6);
        let counts: Vec<_> = set.counts_of(0).collect();
        assert_eq!(counts, [(5, u32::MAX.into()), (6, 1)]);
    }

    #[test]
    fn the_longest_range_is_recorded_by_its_buckets() {
        let mut set = HistogramSet::new(&LAYOUTS);
        set.record_each(0, 1..=u64::MAX, 1);
        assert_eq!(set.max(0), u64::MAX);
        assert_eq!(set.counts_of(0).count(), Buckets::new(LAYOUTS[0].0, LAYOUTS[0].1).count() - 1, "all but that of 0");
        assert_eq!(set.summary(1), None);
    }

    #[test]
    fn a_set_takes_memory_by_its_buckets() {
        let mut set = HistogramSet::new(&LAYOUTS);
        assert_eq!(set.bytes(), 0);
        set.record_each(0, 0..=79, 1);
        assert!(set.bytes() <= 80 * 4 + GROWTH * 4, "{}", set.bytes());
    }
}
