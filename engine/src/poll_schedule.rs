//! The times at which the dispatcher polls the capture ring: a callback cannot wake it, so it predicts the next block.

use std::time::Duration;

use crate::Timestamp;

/// A block that is there at the first poll came some time before. The next poll is earlier by this, and each one after it
/// by twice as much, until one is too early: that poll shows when blocks come.
const MIN_ADVANCE: Duration = Duration::from_micros(20);
/// Largest advance, as a part of the period: a block with jitter is not polled for half a period too early.
const MAX_ADVANCE_PART: u32 = 8;
/// First wait after a poll that was too early.
const MIN_RETRY_INTERVAL: Duration = Duration::from_micros(20);
/// Longest wait while blocks are late: a silent source costs 200 polls a second.
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Each retry waits this part of the lateness so far. So waiting adds at most an eighth to the device's own lateness,
/// and a long silence does not keep the processor busy.
const RETRY_PART: u32 = 8;

/// Predicts when the next block comes. Unlike a wake-up from the callback, this costs the capture thread nothing.
///
/// The time at which a block was *seen* is not the time at which it *came*. A prediction from the former would make all
/// polls as late as the latest one, and add half a period on average. So the schedule searches for the moment at which
/// blocks come, and finds a punctual block some 20 us after that.
#[derive(Debug)]
pub(crate) struct PollSchedule {
    period: Duration,
    due: Timestamp,
    advance: Duration,
    /// Whether a poll for the current block was too early.
    was_early: bool,
}

impl PollSchedule {
    /// Creates a schedule for blocks that come every `period`.
    pub(crate) fn new(period: Duration, now: Timestamp) -> Self {
        Self { period, due: now + period, advance: MIN_ADVANCE, was_early: false }
    }

    /// Notes that a poll found a block.
    pub(crate) fn came(&mut self, now: Timestamp) {
        if self.was_early {
            self.due = now + self.period;
            self.advance = MIN_ADVANCE;
        } else {
            self.advance = self.advance.min(self.period / MAX_ADVANCE_PART);
            self.due = now + (self.period - self.advance);
            self.advance *= 2;
        }
        self.was_early = false;
    }

    /// Notes that a poll found no block. Returns how long to wait before the next poll.
    pub(crate) fn pause(&mut self, now: Timestamp) -> Duration {
        if now < self.due {
            return self.due.since(now);
        }
        self.was_early = true;
        (now.since(self.due) / RETRY_PART).clamp(MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);

    #[test]
    fn it_sleeps_until_the_block_is_due_and_then_polls_less_and_less_often() {
        let start = Timestamp::from_nanos(1_000_000_000);
        let mut schedule = PollSchedule::new(PERIOD, start);
        let due = start + PERIOD;
        assert_eq!(schedule.pause(start), PERIOD);
        assert_eq!(schedule.pause(due), MIN_RETRY_INTERVAL);
        assert_eq!(schedule.pause(due + Duration::from_millis(8)), Duration::from_millis(1));
        assert_eq!(schedule.pause(due + Duration::from_secs(60)), MAX_RETRY_INTERVAL);
    }

    /// Simulates blocks that come every period, `phase` after the first poll, and a thread that wakes `slack` too late.
    /// Returns the lateness at which each block is seen, and the number of polls.
    fn lateness(blocks: u32, phase: Duration, slack: impl Fn(u32) -> Duration) -> (Vec<Duration>, u32) {
        let start = Timestamp::from_nanos(1_000_000_000);
        let mut schedule = PollSchedule::new(PERIOD, start);
        let (mut now, mut seen, mut polls) = (start, Vec::new(), 0);
        while seen.len() < blocks as usize {
            let number = seen.len() as u32;
            let came = start + phase + PERIOD * number;
            polls += 1;
            if now >= came {
                seen.push(now.since(came));
                schedule.came(now);
            } else {
                now = now + schedule.pause(now) + slack(number);
            }
        }
        (seen, polls)
    }

    #[test]
    fn one_late_poll_does_not_make_all_later_ones_late() {
        let micros = Duration::from_micros;
        for phase in (0..10).map(Duration::from_millis) {
            // Once, the thread does not run for 7 ms.
            let slack = |number| if number == 100 { Duration::from_millis(7) } else { micros(5) };
            let (seen, polls) = lateness(200, phase, slack);
            assert!(seen[20..100].iter().chain(&seen[120..]).all(|late| *late < micros(60)), "{phase:?}: {seen:?}");
            assert!(polls < 5 * 200, "{polls} polls");
        }
    }
}
