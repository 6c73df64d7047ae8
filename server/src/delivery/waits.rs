//! The last waits of a listener's packets in its ring, which are not recorded yet.
//!
//! A histogram takes cache lines that a visit needs for nothing else. So the waits of several visits go into it together.

use aircheck_engine::Histogram;

/// Waits that go into the histogram together: half a cache line.
const MAX_WAITS: usize = 8;

/// Waits in microseconds.
#[derive(Debug, Default)]
pub(super) struct Waits {
    micros: [u32; MAX_WAITS],
    count: usize,
}

impl Waits {
    /// Adds a wait. If there is no more place, all are recorded. A wait of more than 71 minutes counts as that.
    pub(super) fn push(&mut self, micros: u64, histogram: &Histogram) {
        self.micros[self.count] = micros.min(u32::MAX.into()) as u32;
        self.count += 1;
        if self.count == MAX_WAITS {
            self.settle(histogram);
        }
    }

    /// Records the waits that are here.
    pub(super) fn settle(&mut self, histogram: &Histogram) {
        let count = std::mem::take(&mut self.count);
        self.micros[..count].iter().for_each(|micros| histogram.record((*micros).into()));
    }
}

#[cfg(test)]
mod tests {
    use aircheck_engine::Precision;

    use super::*;

    #[test]
    fn each_wait_is_recorded_once() {
        let histogram = Histogram::new(1000, Precision::OneDigit);
        let recorded = || histogram.to_hdrhistogram().len();
        let mut waits = Waits::default();
        (1..MAX_WAITS as u64).for_each(|micros| waits.push(micros, &histogram));
        assert_eq!(recorded(), 0, "there is place for one more");
        waits.push(u64::MAX, &histogram);
        assert_eq!((recorded(), histogram.max()), (MAX_WAITS as u64, u32::MAX.into()));
        waits.push(5, &histogram);
        waits.settle(&histogram);
        waits.settle(&histogram);
        assert_eq!(recorded(), MAX_WAITS as u64 + 1);
        assert_eq!(histogram.to_hdrhistogram().count_at(5), 2);
    }
}
