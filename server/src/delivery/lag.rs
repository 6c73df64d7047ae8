//! One lag for each block that was due to a listener, whether it was taken or not.
//!
//! A histogram of delivered blocks never shows a stall: while it lasts nothing is delivered, and after it the listener
//! skips to live. (Gil Tene calls this coordinated omission.) So a lost block counts with the lag that the listener had
//! when the block was due, and an overdue block counts at the next look. No block counts twice.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use aircheck_engine::Timestamp;

/// A listener that has taken nothing for this long stands still: blocks that have become due meanwhile are overdue.
const STALL_TIMEOUT: Duration = Duration::from_millis(100);
/// Requested lag is over once the listener has been less behind for this long. A player that fills its own buffer first
/// reads faster than the sound goes, and then as fast; the server does not see the content of that buffer.
const BURST_TIMEOUT: Duration = Duration::from_secs(5);

/// The blocks of one listener that have been counted, and its requested lag. Lags are in blocks.
#[derive(Debug)]
pub(crate) struct Lags {
    /// The first block that was live when the listener joined. The blocks before it were never due.
    live_from: u64,
    /// One past the last block that has been counted.
    counted: u64,
    /// The rest of the requested lag. It only shrinks: lag that comes back was not requested.
    burst: u64,
    /// The largest lag since a moment, and that moment.
    max_lag: (u64, Timestamp),
    /// The next block to be taken, and since when it has been the next.
    next: (u64, Timestamp),
}

impl Lags {
    /// Makes the lags of a listener that starts now with block `first` and requested to be `burst` blocks behind.
    pub(crate) fn new(first: u64, burst: u64, now: Timestamp) -> Self {
        Self { live_from: first + burst, counted: first, burst, max_lag: (0, now), next: (first, now) }
    }

    /// Returns the rest of the requested lag.
    pub(crate) fn burst(&self) -> u64 {
        self.burst
    }

    /// Returns the requested part of the present lag `lag`.
    pub(crate) fn burst_of(&mut self, lag: u64, now: Timestamp) -> u64 {
        self.max_lag.0 = self.max_lag.0.max(lag);
        if now.since(self.max_lag.1) >= BURST_TIMEOUT {
            self.burst = self.burst.min(self.max_lag.0);
            self.max_lag = (lag, now);
        }
        self.burst.min(lag)
    }

    /// Records that block `numbers.end - 1` was taken, with a lag of `lag` at that moment. The blocks before it in `numbers`
    /// are lost. The listener had read up to `read`.
    pub(crate) fn record_taken(
        &mut self,
        numbers: Range<u64>,
        lag: u64,
        read: u64,
        now: Timestamp,
        mut record: impl FnMut(RangeInclusive<u64>, u64),
    ) {
        let last = numbers.end - 1;
        self.due(numbers.start.max(self.counted)..last, read, &mut record);
        let burst = self.burst_of(lag, now);
        if last >= self.counted {
            record(lag - burst..=lag - burst, 1);
        }
        self.counted = self.counted.max(numbers.end);
    }

    /// Records the blocks that are overdue. `next` is the block to be taken next, and `head` the one to be published next.
    pub(crate) fn record_overdue(
        &mut self,
        next: u64,
        head: u64,
        read: u64,
        now: Timestamp,
        mut record: impl FnMut(RangeInclusive<u64>, u64),
    ) {
        if self.next.0 != next {
            self.next = (next, now);
        } else if now.since(self.next.1) >= STALL_TIMEOUT {
            self.due(next.max(self.counted)..head, read, &mut record);
            self.counted = self.counted.max(head);
        }
    }

    /// Records the blocks that became due while the listener had read up to `read`. However many they are, that is two
    /// calls: those within its requested lag, with a lag of 0, and the rest, each one block later than the last.
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
        lags.record_taken(0..1, 0, 0, START, |_, _| {});
        lags.record_taken(1..end, 0, 1, at(10), |lags, times| calls.push((lags, times)));
        // The first 49 were live before it came, and requested. The one that it took is not late.
        assert_eq!(calls, [(0..=0, 1), (1..=end - 52, 1), (0..=0, 1)]);
    }

    #[test]
    fn a_stall_that_ends_in_a_skip_counts_in_full() {
        let mut lags = Lags::new(0, 0, START);
        let mut seen = Vec::new();
        lags.record_taken(0..1, 0, 0, START, |lags, times| push(&mut seen, lags, times));
        // Five blocks are lost, and the sixth is taken live.
        lags.record_taken(1..7, 0, 1, at(60), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 0]);
    }

    #[test]
    fn a_stall_counts_while_it_lasts_and_only_once() {
        let mut lags = Lags::new(0, 0, START);
        let mut seen = Vec::new();
        lags.record_taken(0..1, 0, 0, START, |lags, times| push(&mut seen, lags, times));
        lags.record_overdue(1, 1, 1, at(10), |lags, times| push(&mut seen, lags, times));
        lags.record_overdue(1, 6, 1, at(60), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen, [0], "too early to be overdue");
        lags.record_overdue(1, 11, 1, at(110), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        lags.record_overdue(1, 13, 1, at(130), |lags, times| push(&mut seen, lags, times));
        // The queued blocks are taken late after all, and then those that were not counted yet.
        for number in 1..14 {
            lags.record_taken(number..number + 1, 13 - number, number, at(130), |lags, times| {
                push(&mut seen, lags, times)
            });
        }
        assert_eq!(seen[11..], [11, 12, 0], "13 blocks were counted when they were due");
    }

    #[test]
    fn lag_that_was_asked_for_does_not_count() {
        let mut lags = Lags::new(100, 50, START);
        let mut seen = Vec::new();
        // It fills its own buffer first, and then takes a block for each new one, as far behind as it asked to be.
        lags.record_taken(100..130, 19, 100, at(1), |lags, times| push(&mut seen, lags, times));
        for number in 130..1130 {
            lags.record_taken(number..number + 1, 49, number, at(number * 10), |lags, times| {
                push(&mut seen, lags, times)
            });
        }
        assert_eq!(seen, [0; 1001]);
        // It falls ten blocks further behind.
        lags.record_taken(1130..1131, 59, 1130, at(11_310), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen[1001], 10);
        // It catches up with live sound. Lag some time after that was not requested.
        for number in 1131..2131 {
            lags.record_taken(number..number + 1, 0, number, at(number * 10), |_, _| {});
        }
        lags.record_taken(2131..2132, 5, 2131, at(21_320), |lags, times| push(&mut seen, lags, times));
        assert_eq!(seen[1002], 5);
    }
}
