//! The last waits of packets in the rings of listeners, which are not recorded yet: of one listener, and of all in a round.
//!
//! A listener's histogram takes cache lines that a visit needs for nothing else, so the waits of several visits go into it
//! together. The histogram of all listeners takes three locked additions for a value. In a round, a packet has waited equally
//! long in all rings, so that is one value, many times.

use std::sync::Arc;

use crate::delivery::histograms::StageHistograms;
use crate::delivery::own_histograms::{Measure, OwnHistograms};

/// Waits of a listener that go into its histogram together. With the other fields, that is 36 bytes.
const MAX_WAITS: usize = 14;
/// A listener's waits are told to so many microseconds, rounded up. They are measured once for a round, which takes longer with a hundred
/// listeners, and each bucket takes memory of each listener: told to a microsecond, those of 10 ms packets lay in a hundred buckets.
const RESOLUTION_MICROS: u64 = 100;

/// The last waits of one listener.
#[derive(Debug, Default)]
pub(super) struct Waits {
    buckets: [u16; MAX_WAITS],
    count: u8,
    /// The longest one, in microseconds.
    max: u32,
}

impl Waits {
    /// Adds a wait. If there is no more place, all are recorded. The longest wait counts as 71 minutes at most.
    pub(super) fn push(&mut self, micros: u64, histograms: &mut OwnHistograms) {
        let micros = micros.min(u32::MAX.into());
        self.buckets[usize::from(self.count)] =
            histograms.bucket_of(Measure::Queue, micros.next_multiple_of(RESOLUTION_MICROS));
        self.count += 1;
        self.max = self.max.max(micros as u32);
        if usize::from(self.count) == MAX_WAITS {
            self.settle(histograms);
        }
    }

    /// Records the waits that are here.
    pub(super) fn settle(&mut self, histograms: &mut OwnHistograms) {
        let count = usize::from(std::mem::take(&mut self.count));
        histograms.record_buckets(Measure::Queue, &mut self.buckets[..count], std::mem::take(&mut self.max).into());
    }
}

/// Equal waits of packets in the rings of several listeners. Must be [settled](Self::settle) at the end of a
/// round.
#[derive(Debug, Default)]
pub(super) struct RoundWaits {
    histograms: Option<Arc<StageHistograms>>,
    micros: u64,
    times: u64,
}

impl RoundWaits {
    /// Counts a wait. If it differs from those before, these are recorded.
    pub(super) fn push(&mut self, micros: u64, histograms: &Arc<StageHistograms>) {
        let is_same = self.histograms.as_ref().is_some_and(|before| Arc::ptr_eq(before, histograms));
        if !is_same || micros != self.micros {
            self.settle();
            self.micros = micros;
            if !is_same {
                self.histograms = Some(Arc::clone(histograms));
            }
        }
        self.times += 1;
    }

    /// Records the waits that are here.
    pub(super) fn settle(&mut self) {
        let times = std::mem::take(&mut self.times);
        if let Some(histograms) = self.histograms.as_ref().filter(|_| times > 0) {
            histograms.queue_micros.record_scaled(self.micros..=self.micros, times, |micros| micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_of_a_listener_is_recorded_once() {
        let mut histograms = OwnHistograms::default();
        let count = |histograms: &OwnHistograms| histograms.summary(Measure::Queue).map_or(0, |waits| waits.count);
        let mut waits = Waits::default();
        (1..MAX_WAITS as u64).for_each(|micros| waits.push(micros, &mut histograms));
        assert_eq!(count(&histograms), 0, "there is place for one more");
        waits.push(u64::MAX, &mut histograms);
        let summary = histograms.summary(Measure::Queue).unwrap();
        assert_eq!((summary.count, summary.max), (MAX_WAITS as u64, u32::MAX.into()));
        waits.push(5, &mut histograms);
        waits.settle(&mut histograms);
        waits.settle(&mut histograms);
        assert_eq!(count(&histograms), MAX_WAITS as u64 + 1);
    }

    #[test]
    fn a_wait_of_a_listener_is_told_to_a_tenth_of_a_millisecond() {
        let (mut histograms, mut waits) = (OwnHistograms::default(), Waits::default());
        [1, 30, 40, 101, 170].into_iter().for_each(|micros| waits.push(micros, &mut histograms));
        waits.settle(&mut histograms);
        let summary = histograms.summary(Measure::Queue).unwrap();
        assert!((100..100 + 100 / 16).contains(&summary.p50), "rounded up, and to a sixteenth: {summary:?}");
        assert_eq!((summary.p99, summary.max), (170, 170), "the longest exactly");
    }

    #[test]
    fn each_wait_of_a_round_is_recorded_once() {
        let (first, second) = (Arc::<StageHistograms>::default(), Arc::default());
        let summary = |histograms: &StageHistograms| histograms.queue_micros.summary();
        let mut waits = RoundWaits::default();
        waits.settle();
        (0..1000).for_each(|_| waits.push(70, &first));
        assert_eq!(summary(&first), None, "they are equal so far");
        waits.push(90, &first);
        assert_eq!(summary(&first).map(|waits| (waits.count, waits.max)), Some((1000, 70)));
        waits.push(90, &second);
        assert_eq!(summary(&first).map(|waits| (waits.count, waits.max)), Some((1001, 90)));
        waits.settle();
        waits.settle();
        assert_eq!(summary(&second).map(|waits| (waits.count, waits.max)), Some((1, 90)));
        assert_eq!(first.queue_micros.sum(), 1000 * 70 + 90);
    }
}
