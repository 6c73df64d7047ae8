//! Latencies: the time from the capture of sound until it reaches a stage.

use aircheck_api::Percentiles;
use hdrhistogram::Histogram;

use super::clock::Offset;

/// Highest latency that is told apart, in microseconds: an hour. Higher ones count as that.
const MAX_MICROS: u64 = 3_600_000_000;
/// Three digits are a thousandth, and a few hundred kilobytes.
const DIGITS: u8 = 3;
const MICROS: f64 = 1e6;

/// The latencies of all blocks at one stage.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// Absent only if the bounds above were impossible.
    micros: Option<Histogram<u64>>,
    last: Option<Latency>,
}

/// One latency in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// From the capture of a block's first sample.
    pub(crate) seconds: f64,
    /// The most by which it may be wrong, as the server's clock is not known exactly.
    pub(crate) error_seconds: f64,
}

impl Latencies {
    /// Makes an empty collection.
    pub(crate) fn new() -> Self {
        Self { micros: Histogram::new_with_bounds(1, MAX_MICROS, DIGITS).ok(), last: None }
    }

    /// Enters sound that was captured at `captured_at`, in Unix seconds by the server's clock, and reached the stage at
    /// `at`, in seconds by our own.
    pub(crate) fn enter(&mut self, captured_at: f64, at: f64, offset: Offset) {
        let seconds = at + offset.seconds - captured_at;
        self.last = Some(Latency { seconds, error_seconds: offset.error_seconds });
        // Nothing arrives before its capture: what looks like it is the clocks' error.
        if let Some(micros) = &mut self.micros {
            micros.saturating_record((seconds.max(0.0) * MICROS) as u64);
        }
    }

    /// Returns the newest latency.
    pub(crate) fn last(&self) -> Option<Latency> {
        self.last
    }

    /// Returns the percentiles, and by how many seconds each may be wrong; `None` before the first latency.
    pub(crate) fn percentiles(&self) -> Option<(Percentiles, f64)> {
        let (micros, last) = (self.micros.as_ref()?, self.last?);
        let at = |quantile| Some(micros.value_at_quantile(quantile) as f64 / MICROS);
        let max = Some(micros.max() as f64 / MICROS);
        Some((Percentiles { p50: at(0.5), p99: at(0.99), max }, last.error_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: Offset = Offset { seconds: 1_790_000_000.0, error_seconds: 0.001 };

    #[test]
    fn latencies_are_measured_by_the_server_s_clock() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        for block in 0..100 {
            let captured_at = f64::from(block) / 100.0;
            let late = if block == 50 { 0.5 } else { 0.02 };
            latencies.enter(OFFSET.seconds + captured_at, captured_at + late, OFFSET);
        }
        let (Percentiles { p50, max, .. }, error) = latencies.percentiles().unwrap();
        let (p50, max) = (p50.unwrap(), max.unwrap());
        assert!((p50 - 0.02).abs() < 1e-4 && (max - 0.5).abs() < 1e-3, "{p50} {max}");
        assert_eq!(error, 0.001);
        assert!((latencies.last().unwrap().seconds - 0.02).abs() < 1e-6);
    }

    #[test]
    fn nothing_arrives_before_its_capture() {
        let mut latencies = Latencies::new();
        latencies.enter(OFFSET.seconds + 1.0, 0.9995, OFFSET);
        assert_eq!(latencies.percentiles().unwrap().0.max, Some(0.0));
    }
}
