//! The cost of reading the clock, to be subtracted from times that were measured with it.

use std::time::{Duration, Instant};

/// Enough for a steady median, within a millisecond.
const READINGS: usize = 10_001;

/// Returns the median time between two readings of the clock in a row, which is what timing an empty piece of code
/// shows.
#[must_use]
pub fn clock_cost() -> Duration {
    let mut spans: Vec<Duration> = (0..READINGS)
        .map(|_| {
            let start = Instant::now();
            start.elapsed()
        })
        .collect();
    spans.sort_unstable();
    spans[READINGS / 2]
}
