//! A histogram that one thread fills while others read it, without waiting on either side.
//!
//! hdrhistogram's own concurrent recorder grows on the recording thread (205 µs at worst) and hangs its reader while the
//! recorder idles. So the counts are atomics here, on hdrhistogram's bucket edges. A reader gets an ordinary
//! `hdrhistogram::Histogram`, or a [`Summary`].

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::buckets::{Buckets, Precision};
use crate::summary::Summary;

/// Most pages of a [`Histogram`], so that their places fit into one cache line. Pages are as short as that permits.
const MAX_PAGES: usize = 64;
/// log2 of the fewest buckets of a page: 32 bytes of counts. Rare values lie far apart, and each takes a page.
const MIN_PAGE_BITS: u32 = 3;
/// Counts that the first value allocates, beside the places: eight of the shortest pages.
const FIRST_COUNTS: usize = 64;
/// The place of a page without counts. Its counts would lie beyond all chunks.
const NO_PLACE: u8 = u8::MAX;

/// Counts of recorded values, in hdrhistogram's buckets, filled by one thread.
///
/// Only one thread may record at a time. Several would lose counts, but do no other harm; use a
/// [`SharedHistogram`](crate::SharedHistogram) there. A value above the maximum counts as the maximum, while
/// [`max`](Histogram::max) returns it as it was. A bucket stops counting at 4,294,967,295 values: over a year of 100 a
/// second.
///
/// An empty histogram takes 40 bytes. The first value allocates 352: the places of the pages, and 64 counts, which are eight
/// pages of 8 buckets. When values have come in more pages than there are, the counts double. Pages are longer only where
/// 64 of them are too few for all buckets: 32 buckets for a million at two digits.
///
/// ```
/// use aircheck_engine::{Precision, Histogram};
///
/// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
/// for blocks in 1..=100 {
///     lag.record(blocks);
/// }
/// assert_eq!(lag.summary().map(|summary| (summary.count, summary.p50, summary.max)), Some((100, 50, 100)));
/// ```
#[derive(Debug)]
pub struct Histogram {
    // Not as `Buckets`, whose padding would make a listener's counts longer than two cache lines.
    max_trackable: u64,
    precision: Precision,
    /// log2 of the buckets of a page. Here, so that it is there before the pages are fetched.
    page_bits: u8,
    /// The page of the last value, and its place among those with counts. A value near the last one then costs a cache line
    /// less: the places are not fetched.
    last: AtomicU16,
    max: AtomicU64,
    pages: OnceLock<Box<Pages>>,
}

/// The counts of a histogram that has values. Buckets lie in pages, and only pages with values have counts.
#[derive(Debug)]
struct Pages {
    /// The place of each page among those with counts, or [`NO_PLACE`].
    places: [AtomicU8; MAX_PAGES],
    /// Places that are given out.
    given: Mutex<u8>,
    more: OnceLock<Box<Chunk>>,
    /// The counts of the first places, here and not in a chunk: one cache line less to fetch.
    first: [AtomicU32; FIRST_COUNTS],
}

/// Counts of the places after the first ones, and the next chunk. A chunk has as many counts as all before it together.
#[derive(Debug)]
struct Chunk {
    counts: Box<[AtomicU32]>,
    next: OnceLock<Box<Chunk>>,
}

impl Histogram {
    /// Creates an empty histogram for values from 0 to `max_trackable`, both included. Allocates nothing.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// assert_eq!(Histogram::new(1_000_000, Precision::TwoDigits).max(), 0);
    /// ```
    ///
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram cannot lay out.
    #[must_use]
    pub fn new(max_trackable: u64, precision: Precision) -> Self {
        let buckets = Buckets::new(max_trackable, precision).count();
        let page_bits = buckets.div_ceil(MAX_PAGES).next_power_of_two().ilog2().max(MIN_PAGE_BITS) as u8;
        // No page has this number.
        let last = AtomicU16::new(u16::from_le_bytes([u8::MAX, NO_PLACE]));
        Self { max_trackable, precision, page_bits, last, max: AtomicU64::new(0), pages: OnceLock::new() }
    }

    /// Counts `value` once. Never waits; allocates only for the first value in a page.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
    /// lag.record(7);
    /// assert_eq!(lag.max(), 7);
    /// ```
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` the given number of times. Never waits; allocates only for the first value in a page.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
    /// lag.record_n(7, 100);
    /// assert_eq!(lag.summary().map(|summary| summary.count), Some(100));
    /// ```
    #[inline]
    pub fn record_n(&self, value: u64, times: u64) {
        let index = self.buckets().index_of(value);
        let pages = self.pages();
        let (page, offset) = (index >> self.page_bits, index & self.page_mask());
        let place = self.place_of(page, pages);
        let count = pages.first.get((usize::from(place) << self.page_bits) + offset);
        raise(count.unwrap_or_else(|| pages.later_count(page, offset, self.page_bits)), times);
        self.raise_max(value);
    }

    /// Counts each value of a range once. Costs one addition for each bucket, however long the range is. Never waits;
    /// allocates only for the first value in a page.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
    /// lag.record_each(1..=1000);
    /// assert_eq!(lag.summary().map(|summary| (summary.count, summary.max)), Some((1000, 1000)));
    /// ```
    pub fn record_each(&self, values: RangeInclusive<u64>) {
        let (first, last) = values.into_inner();
        if first > last {
            return;
        }
        if first == last {
            return self.record(first);
        }
        let (buckets, pages, mask) = (self.buckets(), self.pages(), self.page_mask());
        let (lowest, highest) = (buckets.index_of(first), buckets.index_of(last));
        for page in lowest >> self.page_bits..=highest >> self.page_bits {
            // The buckets of the range that are in this page.
            let page_start = page << self.page_bits;
            let (start, end) = (lowest.max(page_start), highest.min(page_start | mask));
            let counts = &pages.counts_of(page, self.page_bits)[start & mask..=end & mask];
            // Each of these buckets has one value.
            if end < buckets.singles() && last <= self.max_trackable {
                counts.iter().for_each(|count| raise(count, 1));
            } else {
                for (index, count) in (start..).zip(counts) {
                    raise(count, buckets.values_in(index, first, last));
                }
            }
        }
        self.raise_max(last);
    }

    /// Returns the largest value so far, exactly; 0 if there is none.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// let lag = Histogram::new(100, Precision::OneDigit);
    /// lag.record(12_345);
    /// assert_eq!(lag.max(), 12_345);
    /// ```
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Returns the values so far as an ordinary histogram. Needs the feature `hdrhistogram`.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
    /// lag.record_each(1..=100);
    /// # #[cfg(feature = "hdrhistogram")]
    /// assert_eq!(lag.to_hdrhistogram().value_at_quantile(0.5), 50);
    /// ```
    #[cfg(any(test, feature = "hdrhistogram"))]
    #[must_use]
    pub fn to_hdrhistogram(&self) -> hdrhistogram::Histogram<u64> {
        self.buckets().histogram(self.counts())
    }

    /// Returns the median, the 99th percentile and the largest value; `None` if there are no values.
    ///
    /// ```
    /// use aircheck_engine::{Histogram, Precision};
    ///
    /// let lag = Histogram::new(1_000_000, Precision::TwoDigits);
    /// assert!(lag.summary().is_none());
    /// lag.record_each(1..=100);
    /// assert_eq!(lag.summary().map(|summary| (summary.p50, summary.p99)), Some((50, 99)));
    /// ```
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.buckets(), self.counts(), self.max())
    }

    /// Iterates over the buckets that are allocated, in order, with their counts.
    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        let bits = self.page_bits;
        let pages = self.pages.get().into_iter().flat_map(move |pages| {
            let given = (0..MAX_PAGES).filter_map(move |page| Some((page << bits, pages.given_counts_of(page, bits)?)));
            given.flat_map(|(first, counts)| (first..).zip(counts))
        });
        pages.map(|(index, count)| (index, u64::from(count.load(Ordering::Relaxed))))
    }

    /// Returns the pages, allocated if they were not.
    #[inline]
    fn pages(&self) -> &Pages {
        self.pages.get_or_init(|| Box::new(Pages::new(self.page_bits)))
    }

    /// Returns the place of a page among those with counts, or [`NO_PLACE`].
    #[inline]
    fn place_of(&self, page: usize, pages: &Pages) -> u8 {
        let [last, place] = self.last.load(Ordering::Relaxed).to_le_bytes();
        if usize::from(last) == page {
            return place;
        }
        let place = pages.places[page].load(Ordering::Acquire);
        if place != NO_PLACE {
            self.last.store(u16::from_le_bytes([page as u8, place]), Ordering::Relaxed);
        }
        place
    }

    #[inline]
    fn buckets(&self) -> Buckets {
        Buckets::new(self.max_trackable, self.precision)
    }

    /// Returns the mask of a bucket's number inside its page.
    #[inline]
    fn page_mask(&self) -> usize {
        (1 << self.page_bits) - 1
    }

    #[inline]
    fn raise_max(&self, value: u64) {
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }
}

impl Pages {
    #[cold]
    fn new(bits: u8) -> Self {
        Self {
            places: [const { AtomicU8::new(NO_PLACE) }; MAX_PAGES],
            // Where a page is longer than all of `first`, its place is taken.
            given: Mutex::new(u8::from(1 << bits > FIRST_COUNTS)),
            more: OnceLock::new(),
            first: [const { AtomicU32::new(0) }; FIRST_COUNTS],
        }
    }

    /// Returns the number of a page's first count, from the first count of [`first`](Self::first) on.
    #[inline]
    fn start_of(&self, page: usize, bits: u8) -> usize {
        usize::from(self.places[page].load(Ordering::Acquire)) << bits
    }

    /// Returns the counts of a page, allocated if they were not.
    #[inline]
    fn counts_of(&self, page: usize, bits: u8) -> &[AtomicU32] {
        self.given_counts_of(page, bits).unwrap_or_else(|| self.give(page, bits))
    }

    /// Returns a count that is not in [`first`](Self::first). Out of line, to keep the path of the others short.
    #[inline(never)]
    fn later_count(&self, page: usize, offset: usize, bits: u8) -> &AtomicU32 {
        &self.counts_of(page, bits)[offset]
    }

    /// Returns the counts of a page if it has some.
    #[inline]
    fn given_counts_of(&self, page: usize, bits: u8) -> Option<&[AtomicU32]> {
        let start = self.start_of(page, bits);
        self.first.get(start..start + (1 << bits)).or_else(|| self.later_counts(start, bits))
    }

    /// Returns the counts of a page that has none in [`first`](Self::first).
    fn later_counts(&self, start: usize, bits: u8) -> Option<&[AtomicU32]> {
        let (mut start, mut next) = (start - FIRST_COUNTS, &self.more);
        loop {
            let chunk = next.get()?;
            if start < chunk.counts.len() {
                return chunk.counts.get(start..start + (1 << bits));
            }
            (start, next) = (start - chunk.counts.len(), &chunk.next);
        }
    }

    /// Gives a page the next place. The lock is free, because one thread records; it keeps the places apart if several
    /// do nevertheless. Readers do not take it.
    #[cold]
    fn give(&self, page: usize, bits: u8) -> &[AtomicU32] {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if self.places[page].load(Ordering::Acquire) == NO_PLACE {
            let end = usize::from(*given + 1) << bits;
            let (mut counts, mut next) = (FIRST_COUNTS, &self.more);
            while counts < end {
                let chunk = next.get_or_init(|| Box::new(Chunk::new(counts)));
                (counts, next) = (2 * counts, &chunk.next);
            }
            // After its chunk, which a reader looks for.
            self.places[page].store(*given, Ordering::Release);
            *given += 1;
        }
        self.given_counts_of(page, bits).expect("the page has a place now")
    }
}

impl Chunk {
    fn new(counts: usize) -> Self {
        Self { counts: (0..counts).map(|_| AtomicU32::new(0)).collect(), next: OnceLock::new() }
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

    /// Returns the bytes that a histogram has allocated.
    fn heap(histogram: &Histogram) -> usize {
        let Some(pages) = histogram.pages.get() else { return 0 };
        let chunks = std::iter::successors(pages.more.get(), |chunk| chunk.next.get());
        let chunks = chunks.map(|chunk| size_of_val(&*chunk.counts) + size_of::<Chunk>()).sum::<usize>();
        size_of::<Pages>() + chunks
    }

    #[test]
    fn a_histogram_is_small_until_values_spread() {
        assert!(size_of::<Histogram>() <= 48, "{}", size_of::<Histogram>());
        let micros = Histogram::new(1 << 26, Precision::OneDigit);
        assert_eq!(heap(&micros), 0);
        micros.record(20);
        assert!(heap(&micros) <= 352, "{}", heap(&micros));
        // Sixteen pages: four up to 31, and two for each power of two after that.
        (0..2048).for_each(|value| micros.record(value));
        assert!(heap(&micros) <= 352 + 256 + 32, "{}", heap(&micros));
        // 100 blocks lie in four pages of 32 buckets.
        let lag = Histogram::new(1 << 20, Precision::TwoDigits);
        lag.record_each(0..=63);
        assert!(heap(&lag) <= 352, "{}", heap(&lag));
        lag.record_each(0..=99);
        assert!(heap(&lag) <= 352 + 256 + 32, "{}", heap(&lag));
    }

    #[test]
    fn every_value_has_a_bucket_up_to_the_largest() {
        for (max, precision) in
            [(2, Precision::OneDigit), (u64::MAX, Precision::OneDigit), (u64::MAX, Precision::TwoDigits)]
        {
            let histogram = Histogram::new(max, precision);
            histogram.record_each(0..=1 << 20);
            (0..64).for_each(|power| histogram.record(1 << power));
            histogram.record(u64::MAX);
            assert_eq!(histogram.counts().map(|(_, count)| count).sum::<u64>(), (1 << 20) + 1 + 64 + 1);
            assert_eq!(histogram.max(), u64::MAX);
            // The last bucket of all ends at the largest number.
            histogram.record_n(u64::MAX, 1 << 30);
            assert_eq!(histogram.summary().map(|summary| (summary.p50, summary.p99)), Some((max, max)));
        }
    }

    #[test]
    fn a_reader_sees_whole_counts_while_pages_are_added() {
        let histogram = Histogram::new(1 << 26, Precision::TwoDigits);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..26).rev().for_each(|power| histogram.record_n(1 << power, 1 << power)));
            let mut before = 0;
            while before + 1 < 1 << 26 {
                let counts: Vec<_> = histogram.counts().filter(|(_, count)| *count > 0).collect();
                for &(index, count) in &counts {
                    assert_eq!(histogram.buckets().lowest_in(index), count, "a count is in the bucket of its value");
                }
                let sum = counts.iter().map(|(_, count)| count).sum();
                assert!(sum >= before, "{sum} after {before}");
                before = sum;
            }
        });
    }

    #[test]
    fn two_recording_threads_do_not_mix_their_pages() {
        for _ in 0..300 {
            let histogram = Histogram::new(1 << 26, Precision::OneDigit);
            let together = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for start in [16, 24] {
                    let (histogram, together) = (&histogram, &together);
                    scope.spawn(move || {
                        together.wait();
                        (0..22).for_each(|power| histogram.record(start << ((power + start) % 22)));
                    });
                }
            });
            let counts: Vec<_> = histogram.counts().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counts.len(), 44, "each value is in a bucket of its own: {counts:?}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_summary() {
        assert_eq!(Histogram::new(10, Precision::OneDigit).summary(), None);
    }
}
