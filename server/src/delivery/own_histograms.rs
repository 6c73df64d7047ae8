//! The histograms of one listener, for its row.

use aircheck_engine::{HistogramSet, Layout, Precision, Summary};

use crate::delivery::histograms::{MAX_GAP_BLOCKS, MAX_MICROS};

/// A listener's lags are distinguished up to this many blocks: eleven minutes of 10 ms.
const MAX_LAG_BLOCKS: u64 = 1 << 16;
/// In the order of [`Measure`]. To a sixteenth, because there may be thousands of these: after a pause of the machine, the lags of
/// 300 blocks lie in 85 buckets, and with two digits each would have its own.
const LAYOUTS: [Layout; 6] = [
    (MAX_LAG_BLOCKS, Precision::OneDigit),
    (MAX_MICROS, Precision::OneDigit),
    (MAX_MICROS, Precision::OneDigit),
    (MAX_MICROS, Precision::OneDigit),
    (MAX_MICROS, Precision::OneDigit),
    (MAX_GAP_BLOCKS, Precision::OneDigit),
];

/// A histogram of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    /// The lag without the requested part, in blocks.
    Lag,
    /// Stage `queue`, in microseconds.
    Queue,
    /// Stage `socket`.
    Socket,
    /// Stage `read`, of a listener whose machine proves it.
    Read,
    /// Stage `ear`, of a listener whose player reports it.
    Ear,
    /// Lengths of its gaps, in blocks. Not the engine's: a hole at the source is several items there, and one gap to a listener.
    Gap,
}

/// The histograms of one listener.
#[derive(Debug)]
pub(super) struct OwnHistograms(HistogramSet<{ LAYOUTS.len() }>);

impl Default for OwnHistograms {
    fn default() -> Self {
        Self(HistogramSet::new(&LAYOUTS))
    }
}

impl OwnHistograms {
    /// Asks the processor to fetch them.
    pub(super) fn prefetch(&self) {
        self.0.prefetch();
    }

    /// Counts a value.
    pub(super) fn record(&mut self, measure: Measure, value: u64) {
        self.0.record(measure as usize, value);
    }

    /// Returns the bucket of a value, for [`record_buckets`](Self::record_buckets).
    pub(super) fn bucket_of(&self, measure: Measure, value: u64) -> u16 {
        self.0.bucket_of(measure as usize, value)
    }

    /// Counts a value in each of these buckets, which are sorted then. The largest value is `max`.
    pub(super) fn record_buckets(&mut self, measure: Measure, buckets: &mut [u16], max: u64) {
        self.0.record_buckets(measure as usize, buckets, max);
    }

    /// Counts each lag of a range so many times.
    pub(super) fn record_lags(&mut self, blocks: std::ops::RangeInclusive<u64>, times: u64) {
        self.0.record_each(Measure::Lag as usize, blocks, times);
    }

    /// Returns the figures of a histogram; `None` if it has no values.
    pub(super) fn summary(&self, measure: Measure) -> Option<Summary> {
        self.0.summary(measure as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_three_seconds_takes_half_a_kibibyte() {
        let mut histograms = OwnHistograms::default();
        histograms.record_lags(0..=300, 1);
        assert!(histograms.0.bytes() <= 85 * 6 + 100, "{}", histograms.0.bytes());
        let lag = histograms.summary(Measure::Lag).unwrap();
        assert_eq!((lag.count, lag.max), (301, 300), "the largest is exact");
        assert!((150..=150 + 150 / 16).contains(&lag.p50), "{lag:?}");
        histograms.record_lags(31..=31, 1000);
        assert_eq!(histograms.summary(Measure::Lag).unwrap().p50, 31, "short ones are exact");
    }
}
