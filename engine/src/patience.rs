//! When to look at the capture ring again: the callback wakes nobody, so the dispatcher predicts the next block.

use std::time::Duration;

use crate::Timestamp;

/// Added to the predicted time, so that a punctual block is there at the first look.
const MARGIN: Duration = Duration::from_micros(15);
/// First wait after a look that came too early.
const RETRY: Duration = Duration::from_micros(20);
/// Longest wait while blocks are late: a source that has fallen silent costs 200 looks a second.
const RETRY_MOST: Duration = Duration::from_millis(5);
/// Each retry waits this part of the lateness so far. So what waiting adds is at most an eighth of how late the
/// device was anyway, and a long silence does not keep the processor busy.
const RETRY_PART: u32 = 8;

/// Predicts when the next block comes. Measured against waking from the callback, it costs the capture thread
/// nothing, and the dispatcher sees a punctual block some 20 us after it is there.
#[derive(Debug)]
pub(crate) struct Patience {
    period: Duration,
    due: Timestamp,
}

impl Patience {
    /// For blocks that come every `period`.
    pub(crate) fn new(period: Duration, now: Timestamp) -> Self {
        Self { period, due: now + period }
    }

    /// A block came.
    pub(crate) fn came(&mut self, now: Timestamp) {
        self.due = now + self.period + MARGIN;
    }

    /// How long to wait before the next look.
    pub(crate) fn pause(&self, now: Timestamp) -> Duration {
        if now < self.due {
            return self.due.since(now);
        }
        (now.since(self.due) / RETRY_PART).clamp(RETRY, RETRY_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_until_the_block_is_due_and_then_looks_ever_more_rarely() {
        let start = Timestamp::from_nanos(1_000_000_000);
        let mut patience = Patience::new(Duration::from_millis(10), start);
        patience.came(start);
        assert_eq!(patience.pause(start), Duration::from_millis(10) + MARGIN);
        let due = start + Duration::from_millis(10) + MARGIN;
        assert_eq!(patience.pause(due), RETRY);
        assert_eq!(patience.pause(due + Duration::from_millis(8)), Duration::from_millis(1));
        assert_eq!(patience.pause(due + Duration::from_secs(60)), RETRY_MOST);
    }
}
