//! When to look at the capture ring again: the callback wakes nobody, so the dispatcher predicts the next block.

use std::time::Duration;

use crate::Timestamp;

/// A block that was there at the first look came some time before that. The next look is so much earlier, and each one
/// after it by twice as much, until one is too early: then it is known again when blocks come.
const ADVANCE: Duration = Duration::from_micros(20);
/// And at most this part of the period: one that comes with jitter is not looked for half a period too early.
const ADVANCE_PART: u32 = 8;
/// First wait after a look that came too early.
const MIN_RETRY_INTERVAL: Duration = Duration::from_micros(20);
/// Longest wait while blocks are late: a source that has fallen silent costs 200 looks a second.
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Each retry waits this part of the lateness so far. So what waiting adds is at most an eighth of how late the
/// device was anyway, and a long silence does not keep the processor busy.
const RETRY_PART: u32 = 8;

/// Predicts when the next block comes. Measured against waking from the callback, it costs the capture thread nothing.
///
/// That the last block was *seen* at some time does not say that it *came* then: predicting from there, one late look
/// would make all later ones as late, and half a period would be lost on average. So it feels its way to the moment when
/// blocks come, and sees a punctual one some 20 us after it is there.
#[derive(Debug)]
pub(crate) struct PollSchedule {
    period: Duration,
    due: Timestamp,
    advance: Duration,
    /// A look since then came too early.
    looked_in_vain: bool,
}

impl PollSchedule {
    /// For blocks that come every `period`.
    pub(crate) fn new(period: Duration, now: Timestamp) -> Self {
        Self { period, due: now + period, advance: ADVANCE, looked_in_vain: false }
    }

    /// A block was there.
    pub(crate) fn came(&mut self, now: Timestamp) {
        if self.looked_in_vain {
            self.due = now + self.period;
            self.advance = ADVANCE;
        } else {
            self.advance = self.advance.min(self.period / ADVANCE_PART);
            self.due = now + (self.period - self.advance);
            self.advance *= 2;
        }
        self.looked_in_vain = false;
    }

    /// No block was there: how long to wait before the next look.
    pub(crate) fn pause(&mut self, now: Timestamp) -> Duration {
        if now < self.due {
            return self.due.since(now);
        }
        self.looked_in_vain = true;
        (now.since(self.due) / RETRY_PART).clamp(MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);

    #[test]
    fn it_sleeps_until_the_block_is_due_and_then_looks_ever_more_rarely() {
        let start = Timestamp::from_nanos(1_000_000_000);
        let mut schedule = PollSchedule::new(PERIOD, start);
        let due = start + PERIOD;
        assert_eq!(schedule.pause(start), PERIOD);
        assert_eq!(schedule.pause(due), MIN_RETRY_INTERVAL);
        assert_eq!(schedule.pause(due + Duration::from_millis(8)), Duration::from_millis(1));
        assert_eq!(schedule.pause(due + Duration::from_secs(60)), MAX_RETRY_INTERVAL);
    }

    /// How late each of `blocks` blocks is seen that come every period, `phase` after the first look was due, by a
    /// thread that wakes `slack` after it wanted to; and how many looks that takes.
    fn lateness(blocks: u32, phase: Duration, slack: impl Fn(u32) -> Duration) -> (Vec<Duration>, u32) {
        let start = Timestamp::from_nanos(1_000_000_000);
        let mut schedule = PollSchedule::new(PERIOD, start);
        let (mut now, mut seen, mut looks) = (start, Vec::new(), 0);
        while seen.len() < blocks as usize {
            let number = seen.len() as u32;
            let came = start + phase + PERIOD * number;
            looks += 1;
            if now >= came {
                seen.push(now.since(came));
                schedule.came(now);
            } else {
                now = now + schedule.pause(now) + slack(number);
            }
        }
        (seen, looks)
    }

    #[test]
    fn one_late_look_does_not_make_all_later_ones_late() {
        let micros = Duration::from_micros;
        for phase in (0..10).map(Duration::from_millis) {
            // Once it is kept from running for 7 ms.
            let slack = |number| if number == 100 { Duration::from_millis(7) } else { micros(5) };
            let (seen, looks) = lateness(200, phase, slack);
            assert!(seen[20..100].iter().chain(&seen[120..]).all(|late| *late < micros(60)), "{phase:?}: {seen:?}");
            assert!(looks < 5 * 200, "{looks} looks");
        }
    }
}
