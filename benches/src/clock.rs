//! What it costs to look at the clock, to be taken off what was timed with it.

use std::time::{Duration, Instant};

/// Enough for a steady median, within a millisecond.
const LOOKS: usize = 10_001;

/// The median time between two readings of the clock in a row: what timing an empty piece of code would show.
#[must_use]
pub fn clock_cost() -> Duration {
    let mut spans: Vec<Duration> = (0..LOOKS)
        .map(|_| {
            let start = Instant::now();
            start.elapsed()
        })
        .collect();
    spans.sort_unstable();
    spans[LOOKS / 2]
}
