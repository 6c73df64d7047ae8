//! hdrhistogram's layout of buckets: which bucket holds a value.

#[cfg(any(test, feature = "hdrhistogram"))]
use hdrhistogram::Histogram;

/// Resolution of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// One significant digit: buckets at most 1/16 of their value wide.
    OneDigit,
    /// Two significant digits: buckets at most 1/128 of their value wide.
    TwoDigits,
}

impl Precision {
    #[cfg(any(test, feature = "hdrhistogram"))]
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

/// The buckets for values from 0 to a maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    max_trackable: u64,
    precision: Precision,
}

impl Buckets {
    /// # Panics
    ///
    /// If `max_trackable` is below 2, which hdrhistogram cannot lay out.
    #[inline]
    pub(crate) fn new(max_trackable: u64, precision: Precision) -> Self {
        assert!(max_trackable >= 2, "a histogram must reach 2 at least");
        Self { max_trackable, precision }
    }

    /// Returns the number of buckets.
    pub(crate) fn count(self) -> usize {
        self.index_of(self.max_trackable) + 1
    }

    /// Returns the bucket of a value. A value above the maximum goes into the maximum's. Buckets hold one value each up to
    /// twice the half count; after that, each power of two has a half count of them.
    #[inline]
    pub(crate) fn index_of(self, value: u64) -> usize {
        let value = value.min(self.max_trackable);
        let half = self.precision.half_magnitude();
        if value >> (half + 1) == 0 {
            return value as usize;
        }
        let power = u64::BITS - (half + 1) - value.leading_zeros();
        ((power as usize) << half) + (value >> power) as usize
    }

    /// Returns how many of the first buckets hold a single value each: their own number.
    #[inline]
    pub(crate) fn singles(self) -> usize {
        2 << self.precision.half_magnitude()
    }

    /// Returns the lowest value of a bucket: the inverse of [`index_of`](Self::index_of).
    pub(crate) fn lowest_in(self, index: usize) -> u64 {
        let half = self.precision.half_magnitude();
        let power = (index >> half).saturating_sub(1);
        ((index - (power << half)) as u64) << power
    }

    /// Returns the highest value of a bucket.
    pub(crate) fn highest_in(self, index: usize) -> u64 {
        // The bucket after the last one of all begins at 2^64, which is 0.
        self.lowest_in(index + 1).wrapping_sub(1)
    }

    /// Returns how many values from `first` to `last` a bucket holds, of which it holds at least one. The last bucket holds
    /// those above the maximum, too.
    #[inline]
    pub(crate) fn values_in(self, index: usize, first: u64, last: u64) -> u64 {
        let is_last = index == self.index_of(self.max_trackable);
        let highest = if is_last { u64::MAX } else { self.highest_in(index) };
        last.min(highest) - first.max(self.lowest_in(index)) + 1
    }

    /// Makes an ordinary histogram of counts, each with its bucket.
    #[cfg(any(test, feature = "hdrhistogram"))]
    pub(crate) fn histogram(self, counts: impl Iterator<Item = (usize, u64)>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, self.max_trackable, self.precision.digits())
            .expect("bounds were checked in `new`");
        for (index, count) in counts.filter(|(_, count)| *count > 0) {
            histogram.record_n(self.lowest_in(index), count).expect("an index comes from a value within the bounds");
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_lie_on_hdrhistogram_s_edges(value in 0u64..1 << 40, fine in any::<bool>()) {
            let precision = if fine { Precision::TwoDigits } else { Precision::OneDigit };
            let buckets = Buckets::new(1 << 41, precision);
            let reference = Histogram::<u64>::new_with_bounds(1, 1 << 41, precision.digits()).unwrap();
            prop_assert_eq!(buckets.lowest_in(buckets.index_of(value)), reference.lowest_equivalent(value));
        }
    }
}
