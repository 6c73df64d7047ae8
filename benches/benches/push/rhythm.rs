//! The times at which blocks come, and how long each call takes.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The length of a block.
pub(crate) const BLOCK: Duration = Duration::from_millis(1);
/// The first calls of a turn are not counted: threads start, and the first lap of a ring touches its memory. The longest
/// ring, the capture ring, has 320 blocks.
const WARM_UP: usize = 384;

/// The times at which blocks come.
#[derive(Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) burst: usize,
    pub(crate) every: Duration,
    pub(crate) calls: usize,
}

pub(crate) const RHYTHMS: [Rhythm; 2] = [
    Rhythm { name: "paced", about: "a block each millisecond", burst: 1, every: BLOCK, calls: 2_000 },
    Rhythm {
        name: "bursts",
        about: "64 blocks in a row every 20 ms",
        burst: 64,
        every: Duration::from_millis(20),
        calls: 4_096,
    },
];

impl Rhythm {
    /// Returns the rhythm with a single burst.
    pub(crate) fn short(self) -> Self {
        Self { calls: self.burst, ..self }
    }

    /// Returns the number of blocks in all.
    pub(crate) fn blocks(self) -> u64 {
        (self.calls + WARM_UP) as u64
    }

    /// Calls `push` with the number of each block in this rhythm. Returns the time that the calls took.
    pub(crate) fn run(self, clock: Duration, mut push: impl FnMut(u64)) -> Histogram<u64> {
        let mut histogram = histogram();
        let mut due = Instant::now();
        for number in 0..self.calls + WARM_UP {
            if number.is_multiple_of(self.burst) {
                due += self.every;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let start = Instant::now();
            push(number as u64);
            let nanos = start.elapsed().saturating_sub(clock).as_nanos() as u64;
            if number >= WARM_UP {
                histogram.saturating_record(nanos);
            }
        }
        histogram
    }
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}
