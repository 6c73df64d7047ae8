//! How long after its capture sound reached a stage, in numbers that a summary can be made of.

use hdrhistogram::Histogram;

use crate::check::clock::Offset;

/// Highest latency told apart, in microseconds: an hour. What is above counts as that.
const MAX_MICROS: u64 = 3_600_000_000;
/// A thousandth, of a few hundred kilobytes.
const DIGITS: u8 = 3;
const MICROS: f64 = 1e6;

/// The latencies of all blocks at one stage.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// Only bounds that make no sense would leave it out.
    micros: Option<Histogram<u64>>,
    last: Option<Latency>,
}

/// One latency, and by how much it may be wrong, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// From the capture of a block's first sample.
    pub(crate) seconds: f64,
    /// What is not known of the server's clock.
    pub(crate) error_seconds: f64,
}

/// Half of all are up to `p50`, and so on; in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) p50: f64,
    /// All but one of a hundred are not above.
    pub(crate) p99: f64,
    /// The largest.
    pub(crate) max: f64,
    /// By how much each may be wrong.
    pub(crate) error_seconds: f64,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { micros: Histogram::new_with_bounds(1, MAX_MICROS, DIGITS).ok(), last: None }
    }

    /// Enters what was captured at `captured_at`, Unix seconds by the server's clock, and reached the stage at `at`,
    /// seconds by our own.
    pub(crate) fn enter(&mut self, captured_at: f64, at: f64, offset: Offset) {
        let seconds = at + offset.seconds - captured_at;
        self.last = Some(Latency { seconds, error_seconds: offset.error_seconds });
        // Before its capture nothing arrives: what looks like it is the clocks' error.
        if let Some(micros) = &mut self.micros {
            micros.saturating_record((seconds.max(0.0) * MICROS) as u64);
        }
    }

    /// The newest.
    pub(crate) fn last(&self) -> Option<Latency> {
        self.last
    }

    /// How they spread, with the error as it is now.
    pub(crate) fn spread(&self) -> Option<Spread> {
        let (micros, last) = (self.micros.as_ref()?, self.last?);
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / MICROS;
        let max = micros.max() as f64 / MICROS;
        Some(Spread { p50: at(0.5), p99: at(0.99), max, error_seconds: last.error_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: Offset = Offset { seconds: 1_790_000_000.0, error_seconds: 0.001 };

    #[test]
    fn latencies_are_told_by_the_server_s_clock() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.spread(), None);
        for block in 0..100 {
            let captured_at = f64::from(block) / 100.0;
            let late = if block == 50 { 0.5 } else { 0.02 };
            latencies.enter(OFFSET.seconds + captured_at, captured_at + late, OFFSET);
        }
        let spread = latencies.spread().unwrap();
        assert!((spread.p50 - 0.02).abs() < 1e-4 && (spread.max - 0.5).abs() < 1e-3, "{spread:?}");
        assert_eq!(spread.error_seconds, 0.001);
        assert!((latencies.last().unwrap().seconds - 0.02).abs() < 1e-6);
    }

    #[test]
    fn nothing_arrives_before_its_capture() {
        let mut latencies = Latencies::new();
        latencies.enter(OFFSET.seconds + 1.0, 0.9995, OFFSET);
        assert_eq!(latencies.spread().unwrap().max, 0.0);
    }
}
