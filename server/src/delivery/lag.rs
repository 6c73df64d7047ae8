//! One lag for each block that a listener was due: taken when the block was, or when it should have been.
//!
//! Who records the lag of what is delivered, and nothing else, never hears of a stall: while it lasts nothing is
//! delivered, and after it the listener skips to live. (Gil Tene calls this coordinated omission.) So a block that is
//! lost counts with the lag that the listener had when the block was due, and so does one that is overdue, as soon as
//! somebody looks. No block counts twice.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use aircheck_engine::Timestamp;

/// A listener that has taken nothing for so long stands still: what has become due meanwhile is overdue.
const STILL: Duration = Duration::from_millis(100);
/// Lag that was asked for is over once a listener has not had it for so long. A player that fills its own buffer first
/// reads faster than the sound goes, and then as fast; what it has read is not seen from here.
const SETTLED: Duration = Duration::from_secs(5);

/// Which blocks of one listener have been counted, and how much of its lag it asked for. Lags are in blocks.
#[derive(Debug)]
pub(crate) struct Lags {
    /// The first block that was live when the listener came: those before it were never due.
    live_from: u64,
    /// One past the last block that has been counted.
    counted: u64,
    /// What is left of the lag that was asked for. It only ever shrinks: lag that comes back is not the one asked for.
    burst: u64,
    /// The largest lag since then, for so long.
    most: (u64, Timestamp),
    /// The next block to be taken, and since when it has been that.
    still: (u64, Timestamp),
}

impl Lags {
    /// For a listener that starts with block `first`, so many blocks behind on its own wish, now.
    pub(crate) fn new(first: u64, burst: u64, now: Timestamp) -> Self {
        Self { live_from: first + burst, counted: first, burst, most: (0, now), still: (first, now) }
    }

    /// How much was asked for of a lag that the listener has now.
    pub(crate) fn asked_for(&mut self, lag: u64, now: Timestamp) -> u64 {
        self.most.0 = self.most.0.max(lag);
        if now.since(self.most.1) >= SETTLED {
            self.burst = self.burst.min(self.most.0);
            self.most = (lag, now);
        }
        self.burst.min(lag)
    }

    /// Block `numbers.end - 1` was taken, with `lag` when it was; those before it in `numbers` are lost. What was
    /// read by then ended at `read`.
    pub(crate) fn taken(
        &mut self,
        numbers: Range<u64>,
        lag: u64,
        read: u64,
        now: Timestamp,
        mut record: impl FnMut(RangeInclusive<u64>, u64),
    ) {
        let last = numbers.end - 1;
        self.due(numbers.start.max(self.counted)..last, read, &mut record);
        let asked_for = self.asked_for(lag, now);
        if last >= self.counted {
            record(lag - asked_for..=lag - asked_for, 1);
        }
        self.counted = self.counted.max(numbers.end);
    }

    /// Somebody looks: `next` is the block to be taken next, and `head` the one to be published next.
    pub(crate) fn looked_at(
        &mut self,
        next: u64,
        head: u64,
        read: u64,
        now: Timestamp,
        mut record: impl FnMut(RangeInclusive<u64>, u64),
    ) {
        if self.still.0 != next {
            self.still = (next, now);
        } else if now.since(self.still.1) >= STILL {
            self.due(next.max(self.counted)..head, read, &mut record);
            self.counted = self.counted.max(head);
        }
    }

    /// Records the blocks that became due while the listener had read up to `read`. However many they are, that is two
    /// calls: those that it had asked to be behind, with a lag of 0, and the rest, each one block later than the last.
    fn due(&self, numbers: Range<u64>, read: u64, record: &mut impl FnMut(RangeInclusive<u64>, u64)) {
        let first = numbers.start.max(self.live_from);
        let late_from = (read + self.burst).max(first).min(numbers.end.max(first));
        if late_from > first {
            record(0..=0, late_from - first);
        }
        if late_from < numbers.end {
            record(late_from + 1 - read - self.burst..=numbers.end - read - self.burst, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000);

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    fn push(seen: &mut Vec<u64>, lags: RangeInclusive<u64>, times: u64) {
        (0..times).for_each(|_| seen.extend(lags.clone()));
    }

    #[test]
    fn a_gap_of_years_is_recorded_at_once() {
        let mut lags = Lags::new(0, 50, START);
        let mut calls = Vec::new();
        let end = 1 << 50;
        lags.taken(0..1, 0, 0, START, |_, _| {});
        lags.taken(1..end, 0, 1, at(10), |lags, times| calls.push((lags, times)));
        // The first 49 were live before it came, and asked for. The one that it took is not late.
        assert_eq!(calls, [(0..=0, 1), (1..=end - 52, 1), (0..=0, 1)]);
    }

    #[test]
    fn a_stall_that_ends_in_a_skip_shows_in_full() {
        let mut lags = Lags::new(0, 0, START);
        let mut seen = Vec::new();
        lags.taken(0..1, 0, 0, START, |lags, times| push(&mut seen, lags, times));
        // Five blocks are lost, and the sixth is taken live.
        lags.taken(1..7, 0, 1, at(60), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 0]);
    }

    #[test]
    fn a_stall_shows_while_it_lasts_and_counts_once() {
        let mut lags = Lags::new(0, 0, START);
        let mut seen = Vec::new();
        lags.taken(0..1, 0, 0, START, |lags, times| push(&mut seen, lags, times));
        lags.looked_at(1, 1, 1, at(10), |lags, times| push(&mut seen, lags, times));
        lags.looked_at(1, 6, 1, at(60), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen, [0], "that may be a moment's delay");
        lags.looked_at(1, 11, 1, at(110), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        lags.looked_at(1, 13, 1, at(130), |lags, times| push(&mut seen, lags, times));
        // What was queued comes late after all, and then what was not counted yet.
        for number in 1..14 {
            lags.taken(number..number + 1, 13 - number, number, at(130), |lags, times| push(&mut seen, lags, times));
        }
        assert_eq!(seen[11..], [11, 12, 0], "13 blocks were counted when they were due");
    }

    #[test]
    fn lag_that_was_asked_for_is_nobody_s_fault() {
        let mut lags = Lags::new(100, 50, START);
        let mut seen = Vec::new();
        // It fills a buffer of its own first, and then takes a block for each new one, as far behind as it wished to be.
        lags.taken(100..130, 19, 100, at(1), |lags, times| push(&mut seen, lags, times));
        for number in 130..1130 {
            lags.taken(number..number + 1, 49, number, at(number * 10), |lags, times| push(&mut seen, lags, times));
        }
        assert_eq!(seen, [0; 1001]);
        // It falls ten blocks further behind.
        lags.taken(1130..1131, 59, 1130, at(11_310), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen[1001], 10);
        // It catches up with live sound: if it lags some time after that, nobody asked for it.
        for number in 1131..2131 {
            lags.taken(number..number + 1, 0, number, at(number * 10), |_, _| {});
        }
        lags.taken(2131..2132, 5, 2131, at(21_320), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen[1002], 5);
    }
}
