//! The measurements of all listeners of a kind, in histograms of nanoseconds.

use std::time::Duration;

use aircheck_api::Percentiles;
use hdrhistogram::Histogram;

/// Highest value that is told apart: an hour. Higher ones count as that.
const MAX_NANOS: u64 = 3_600_000_000_000;
/// Two digits are a hundredth: twice as exact as one machine is from run to run, in 40 KB a histogram.
const DIGITS: u8 = 2;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// From the start of the connection to the first byte of the stream.
    FirstByte,
    /// From the capture of a block's first sample until the whole block was here.
    Latency,
    /// A pause between two reads that is longer than a block, or a page of Ogg, by more than [`STALL`].
    Stall,
    /// The longest pause between two reads of each listener; one value a listener.
    LongestPause,
}

/// A pause is a stall if it is longer than a block by this: more than a busy machine's scheduler delays a thread, and
/// less than the buffer of any player.
pub(crate) const STALL: Duration = Duration::from_millis(100);

impl Measure {
    /// The measurements that a log has second by second.
    pub(crate) const LOGGED: [Self; 3] = [Self::FirstByte, Self::Latency, Self::Stall];

    /// Returns its tag in a log.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Latency => "latency",
            Self::Stall => "stall",
            Self::LongestPause => "longest_pause",
        }
    }
}

/// How a listener reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// Reads everything at once.
    Healthy,
    /// Reads at half the stream's pace.
    Slow,
    /// Reads nothing once all have connected.
    Frozen,
}

impl ListenerKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::Slow, Self::Frozen];

    /// Returns its name.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Frozen => "frozen",
        }
    }
}

/// All measurements of the listeners of one kind.
#[derive(Debug)]
pub(crate) struct Measures {
    /// Values since the last roll, in the order of [`Measure`].
    recent: [Histogram<u64>; 4],
    /// Values before it.
    before: [Histogram<u64>; 4],
}

impl Measures {
    /// Makes empty histograms.
    ///
    /// # Errors
    ///
    /// If the bounds of the histograms are impossible, which is a mistake in this file.
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        let empty = Histogram::new_with_bounds(1, MAX_NANOS, DIGITS)?;
        let each = || [empty.clone(), empty.clone(), empty.clone(), empty.clone()];
        Ok(Self { recent: each(), before: each() })
    }

    /// Enters a value.
    pub(crate) fn record(&mut self, measure: Measure, span: Duration) {
        self.recent[measure as usize].saturating_record(u64::try_from(span.as_nanos()).unwrap_or(MAX_NANOS));
    }

    /// Returns the values since the last roll.
    pub(crate) fn recent(&self, measure: Measure) -> &Histogram<u64> {
        &self.recent[measure as usize]
    }

    /// Begins a new interval.
    pub(crate) fn roll(&mut self) {
        for (before, recent) in self.before.iter_mut().zip(&mut self.recent) {
            // Both have the same bounds, so no value is out of range.
            let _ = before.add(&*recent);
            recent.reset();
        }
    }

    /// Returns the percentiles of all values up to the last roll, in seconds.
    pub(crate) fn percentiles(&self, measure: Measure) -> Option<Percentiles> {
        let all = &self.before[measure as usize];
        let seconds = |nanos: u64| Some(nanos as f64 / 1e9);
        (!all.is_empty()).then(|| Percentiles {
            p50: seconds(all.value_at_quantile(0.5)),
            p99: seconds(all.value_at_quantile(0.99)),
            max: seconds(all.max()),
        })
    }

    /// Returns the number of values up to the last roll.
    pub(crate) fn count(&self, measure: Measure) -> u64 {
        self.before[measure as usize].len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_includes_intervals_that_have_ended() {
        let mut measures = Measures::new().unwrap();
        assert_eq!(measures.percentiles(Measure::Latency), None);
        (1..=100).for_each(|ms| measures.record(Measure::Latency, Duration::from_millis(ms)));
        assert_eq!(measures.recent(Measure::Latency).len(), 100);
        measures.roll();
        assert_eq!(measures.recent(Measure::Latency).len(), 0);
        measures.record(Measure::Latency, Duration::from_secs(7200));
        measures.roll();
        let Percentiles { p50, p99, max } = measures.percentiles(Measure::Latency).unwrap();
        let [p50, p99, max] = [p50, p99, max].map(Option::unwrap);
        assert!((0.05..0.052).contains(&p50), "{p50}");
        assert!(p99 >= 0.099 && max >= 3600.0, "{p99} {max}");
        assert_eq!((measures.count(Measure::Latency), measures.count(Measure::Stall)), (101, 0));
    }
}
