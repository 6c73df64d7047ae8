//! The last waits of a listener's packets in its ring, which are not recorded yet.
//!
//! A histogram takes cache lines that a visit needs for nothing else. So the waits of several visits go into it together.

use crate::delivery::own_histograms::{Measure, OwnHistograms};

/// Waits that go into the histogram together: half a cache line.
const MAX_WAITS: usize = 8;

/// Waits in microseconds.
#[derive(Debug, Default)]
pub(super) struct Waits {
    micros: [u32; MAX_WAITS],
    count: u8,
}

impl Waits {
    /// Adds a wait. If there is no more place, all are recorded. A wait of more than 71 minutes counts as that.
    pub(super) fn push(&mut self, micros: u64, histograms: &mut OwnHistograms) {
        self.micros[usize::from(self.count)] = micros.min(u32::MAX.into()) as u32;
        self.count += 1;
        if usize::from(self.count) == MAX_WAITS {
            self.settle(histograms);
        }
    }

    /// Records the waits that are here.
    pub(super) fn settle(&mut self, histograms: &mut OwnHistograms) {
        let count = std::mem::take(&mut self.count);
        self.micros[..count.into()].iter().for_each(|micros| histograms.record(Measure::Queue, (*micros).into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_recorded_once() {
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
}
