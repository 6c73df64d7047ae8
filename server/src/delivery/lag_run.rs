//! Equal lags, counted in place.
//!
//! A healthy listener has the same lags with each packet. They are counted here until they change or somebody looks, which
//! costs a comparison for each packet in place of an addition in two histograms for each block.

use std::ops::RangeInclusive;

/// The most ranges of lags that one packet has: requested ones, those of the blocks before its last one, and that one's.
const MAX_RANGES: usize = 3;

/// The lags, in blocks, that are counted with one packet. Short, because each packet of each listener reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PacketLags {
    /// First lag, last lag, and how often each from the first to the last is counted; 0 times if there is no such range.
    ranges: [(u32, u32, u32); MAX_RANGES],
}

impl PacketLags {
    /// Adds a range. Returns false if there is no place for it, or its numbers are too large.
    pub(super) fn push(&mut self, lags: RangeInclusive<u64>, times: u64) -> bool {
        let numbers = [*lags.start(), *lags.end(), times].map(u32::try_from);
        let [Ok(first), Ok(last), Ok(times)] = numbers else { return false };
        let free = self.ranges.iter_mut().find(|(.., times)| *times == 0);
        free.map(|free| *free = (first, last, times)).is_some()
    }
}

/// The lags of the last packets, which are equal.
#[derive(Debug, Default)]
pub(super) struct LagRun {
    lags: PacketLags,
    packets: u32,
}

impl LagRun {
    /// Counts the lags of a packet. If they differ from those before, those are recorded.
    pub(super) fn add(&mut self, lags: PacketLags, record: impl FnMut(RangeInclusive<u64>, u64)) {
        if lags != self.lags || self.packets == u32::MAX {
            self.settle(record);
            self.lags = lags;
        }
        self.packets += 1;
    }

    /// Records what is counted here.
    pub(super) fn settle(&mut self, mut record: impl FnMut(RangeInclusive<u64>, u64)) {
        let packets = u64::from(std::mem::take(&mut self.packets));
        for (first, last, times) in self.lags.ranges {
            let times = u64::from(times) * packets;
            if times > 0 {
                record(first.into()..=last.into(), times);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lag_is_recorded_once_and_as_often_as_it_was() {
        let mut recorded = Vec::new();
        let mut run = LagRun::default();
        let mut page = PacketLags::default();
        assert!(page.push(1..=9, 1) && page.push(0..=0, 1));
        let mut late = PacketLags::default();
        assert!(late.push(0..=0, 5) && late.push(1..=4, 1) && late.push(7..=7, 1));
        assert!(!late.push(8..=8, 1), "there are three ranges at most");
        assert!(!PacketLags::default().push(0..=1 << 32, 1), "a gap of a year is recorded at once");
        for lags in [page, page, page, late, page] {
            run.add(lags, |lags, times| recorded.push((lags, times)));
        }
        let pages = [(1..=9, 3), (0..=0, 3)];
        assert_eq!(recorded, [&pages[..], &[(0..=0, 5), (1..=4, 1), (7..=7, 1)]].concat());
        recorded.clear();
        run.settle(|lags, times| recorded.push((lags, times)));
        run.settle(|_, _| panic!("nothing is left"));
        assert_eq!(recorded, [(1..=9, 1), (0..=0, 1)]);
        run.add(page, |_, _| panic!("the same lags go on"));
        run.settle(|lags, times| recorded.push((lags, times)));
        assert_eq!(recorded.len(), 4);
    }
}
