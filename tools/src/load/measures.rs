//! What is measured of all listeners of a kind, in histograms of nanoseconds.

use std::time::Duration;

use crate::report::percentiles;
use hdrhistogram::Histogram;

/// Highest value told apart: an hour. What is above counts as that.
const MOST_NANOS: u64 = 3_600_000_000_000;
/// A hundredth: twice as exact as one machine is from run to run, in 40 KB a histogram.
const DIGITS: u8 = 2;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// From the beginning of the connection to the first byte of the stream.
    FirstByte,
    /// From the capture of a block's first sample to when all of the block was here.
    Latency,
    /// A pause between two reads that is longer than a block by more than [`STALL`].
    Stall,
}

/// A pause is a stall from this much more than a block's length on: longer than a busy machine's scheduler makes
/// anybody wait, and shorter than the buffer of any player.
pub(crate) const STALL: Duration = Duration::from_millis(100);

impl Measure {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::FirstByte, Self::Latency, Self::Stall];

    /// Its tag in a log.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Latency => "latency",
            Self::Stall => "stall",
        }
    }
}

/// A kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads what comes.
    Healthy,
    /// Reads at half the stream's pace.
    Slow,
    /// Reads nothing once all have come.
    Frozen,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::Slow, Self::Frozen];

    /// What it is called.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Frozen => "frozen",
        }
    }
}

/// Everything measured of one kind of listeners.
#[derive(Debug)]
pub(crate) struct Measures {
    /// In the order of [`Measure::ALL`]: since the last roll, and before it.
    recent: [Histogram<u64>; 3],
    before: [Histogram<u64>; 3],
}

/// Half of all are up to `p50`, and so on; in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) p50: u64,
    /// All but one of a hundred are not above; with fewer values than that, the largest.
    pub(crate) p99: u64,
    /// The largest.
    pub(crate) max: u64,
}

impl Measures {
    /// Nothing yet.
    ///
    /// # Errors
    ///
    /// When the bounds of the histograms make no sense, which is a mistake in this file.
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        let empty = Histogram::new_with_bounds(1, MOST_NANOS, DIGITS)?;
        let three = || [empty.clone(), empty.clone(), empty.clone()];
        Ok(Self { recent: three(), before: three() })
    }

    /// Enters a value.
    pub(crate) fn record(&mut self, measure: Measure, span: Duration) {
        self.recent[measure as usize].saturating_record(u64::try_from(span.as_nanos()).unwrap_or(MOST_NANOS));
    }

    /// What was entered since the last roll.
    pub(crate) fn recent(&self, measure: Measure) -> &Histogram<u64> {
        &self.recent[measure as usize]
    }

    /// Begins a new interval.
    pub(crate) fn roll(&mut self) {
        for (before, recent) in self.before.iter_mut().zip(&mut self.recent) {
            // Both have the same bounds, so that nothing can fall out.
            let _ = before.add(&*recent);
            recent.reset();
        }
    }

    /// How all values up to the last roll spread.
    pub(crate) fn spread(&self, measure: Measure) -> Option<Spread> {
        let all = &self.before[measure as usize];
        let max = percentiles::at(all, 1.0)?;
        Some(Spread { p50: all.value_at_quantile(0.5), p99: all.value_at_quantile(0.99), max })
    }

    /// How many values there were up to the last roll.
    pub(crate) fn count(&self, measure: Measure) -> u64 {
        self.before[measure as usize].len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_ends_and_the_whole_stays() {
        let mut measures = Measures::new().unwrap();
        assert_eq!(measures.spread(Measure::Latency), None);
        (1..=100).for_each(|ms| measures.record(Measure::Latency, Duration::from_millis(ms)));
        assert_eq!(measures.recent(Measure::Latency).len(), 100);
        measures.roll();
        assert_eq!(measures.recent(Measure::Latency).len(), 0);
        measures.record(Measure::Latency, Duration::from_secs(7200));
        measures.roll();
        let Spread { p50, p99, max } = measures.spread(Measure::Latency).unwrap();
        assert!((50_000_000..52_000_000).contains(&p50), "{p50}");
        assert!(p99 >= 99_000_000 && max >= MOST_NANOS, "{p99} {max}");
        assert_eq!((measures.count(Measure::Latency), measures.count(Measure::Stall)), (101, 0));
    }
}
