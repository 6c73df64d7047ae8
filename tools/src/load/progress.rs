//! The status line of `load`.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::measures::ListenerKind;
use crate::units::{self, nanos};

/// A run as it is, with the measurements of the last second.
pub(crate) struct Progress<'a> {
    pub(crate) elapsed: Duration,
    /// Listeners that have a stream, in the order of [`ListenerKind::ALL`].
    pub(crate) streaming: [u64; 3],
    pub(crate) wanted: u64,
    pub(crate) bytes_per_second: f64,
    /// Blocks that healthy listeners lost since the beginning.
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    pub(crate) latency: &'a Histogram<u64>,
    pub(crate) stalls: u64,
}

impl Progress<'_> {
    /// Returns the line, the most important first: a narrow terminal cuts off the rest.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}  {}", units::stopwatch(self.elapsed), self.streaming.iter().sum::<u64>());
        line += &format!(" of {}", units::count(self.wanted, "listener"));
        line += &format!("  {} lost", self.lost);
        if !self.latency.is_empty() {
            let [p50, p99] = [0.5, 0.99].map(|quantile| nanos(self.latency.value_at_quantile(quantile)));
            line += &format!("  latency {p50}, p99 {p99}");
        }
        if self.stalls > 0 {
            line += &format!("  {}", units::count(self.stalls, "stall"));
        }
        line += &format!("  {}/s", units::bytes(self.bytes_per_second as u64));
        for kind in [ListenerKind::Slow, ListenerKind::Frozen] {
            let count = self.streaming[kind as usize];
            if count > 0 {
                line += &format!("  {count} {}", kind.label());
            }
        }
        if self.refused > 0 {
            line += &format!("  {} refused", self.refused);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_only_what_there_is() {
        let mut latency = Histogram::new(2).unwrap();
        let elapsed = Duration::from_secs(12);
        let mut progress = Progress {
            elapsed,
            streaming: [50, 0, 0],
            wanted: 50,
            bytes_per_second: 9.6e6,
            lost: 0,
            refused: 0,
            latency: &Histogram::new(2).unwrap(),
            stalls: 0,
        };
        assert_eq!(progress.line(), "00:12  50 of 50 listeners  0 lost  9.6 MB/s");
        latency.record(1000).unwrap();
        progress = Progress { latency: &latency, stalls: 2, refused: 3, streaming: [44, 2, 1], ..progress };
        assert_eq!(
            progress.line(),
            "00:12  47 of 50 listeners  0 lost  latency 1.00 us, p99 1.00 us  2 stalls  9.6 MB/s  2 slow  1 frozen  \
             3 refused"
        );
    }
}
