//! How a listener's reading has gone on lately: since when it has not read, and whether its lag grows. Time is an argument.

use std::time::Duration;

use aircheck_engine::Timestamp;

/// A smaller step of what was read is no reading: estimates waver by a packet or two.
const MIN_STEP: Duration = Duration::from_millis(200);
/// Nor is a step of less than this share of the time in which it came, in percent: the more is unread, the more estimates waver.
const MIN_STEP_PERCENT: u32 = 5;
/// Growth of the lag is the same in two spans of this length, so that a single pause is not taken for a slow listener.
const GROWTH_SPAN: Duration = Duration::from_secs(4);
/// After so long without a look, the growth in that time says nothing.
const MAX_GROWTH_SPAN: Duration = Duration::from_secs(8);

/// A number of blocks, and when it was seen; [`NEVER`] if it was not. Shorter than an `Option`.
type Seen = (u64, Timestamp);

const NEVER: Seen = (0, Timestamp::from_nanos(0));

/// The reading of one listener.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// One past the last block that was read when reading last went on.
    read: Seen,
    /// Lags in blocks, each [`GROWTH_SPAN`] or more after the one before.
    lags: [Seen; 3],
}

/// The reading of a listener at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// How long it has not read; zero while its machine holds nothing that is unread.
    pub not_read_for: Duration,
    /// By how much its lag has grown in each second; `None` if it has not grown steadily.
    pub growth: Option<f64>,
}

impl Progress {
    /// Takes a look: the listener has read up to `read`, `unread` blocks of `block` wait in its machine, and it is `lag` blocks
    /// behind.
    pub(super) fn look(&mut self, read: u64, unread: u64, lag: u64, block: Duration, now: Timestamp) -> Reading {
        Reading { not_read_for: self.look_at_read(read, unread, block, now), growth: self.look_at_lag(lag, block, now) }
    }

    fn look_at_read(&mut self, read: u64, unread: u64, block: Duration, now: Timestamp) -> Duration {
        if self.read == NEVER {
            self.read = (read, now);
        }
        let (last, at) = self.read;
        let blocks = |count: u64| block.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let min_step = MIN_STEP.max(now.since(at) * MIN_STEP_PERCENT / 100);
        if unread == 0 || blocks(read.saturating_sub(last)) > min_step {
            self.read = (read, now);
            return Duration::ZERO;
        }
        if read < last {
            // Earlier looks took it for further than it was. It stopped at this block, when that was the newest.
            self.read = (read, at - blocks(last - read));
        }
        now.since(self.read.1)
    }

    fn look_at_lag(&mut self, lag: u64, block: Duration, now: Timestamp) -> Option<f64> {
        let [_, middle, newest] = self.lags;
        // Long, where no lag was seen yet.
        let since = now.since(newest.1);
        if since > MAX_GROWTH_SPAN {
            self.lags = [NEVER, NEVER, (lag, now)];
        } else if since >= GROWTH_SPAN {
            self.lags = [middle, newest, (lag, now)];
        }
        let [first, middle, newest] = self.lags;
        if first == NEVER {
            return None;
        }
        let growth = |(from, start): Seen, (to, end): Seen| {
            (to as f64 - from as f64) * block.as_secs_f64() / end.since(start).as_secs_f64()
        };
        let is_steady = growth(first, middle) > 0.0 && growth(middle, newest) > 0.0 && lag >= newest.0;
        is_steady.then(|| growth(first, newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((100_000 + millis) * 1_000_000)
    }

    /// Looks ten times a second until `end`, at a listener that has read `read` blocks of the live sound at each moment.
    fn look(progress: &mut Progress, millis: std::ops::Range<u64>, read: impl Fn(u64) -> u64) -> Reading {
        let mut reading = Reading::default();
        for now in millis.step_by(100) {
            let (head, read) = (now / 10, read(now));
            reading = progress.look(read, head - read, head - read, BLOCK, at(now));
        }
        reading
    }

    #[test]
    fn a_listener_that_stops_has_not_read_since_then() {
        let mut progress = Progress::default();
        let live = look(&mut progress, 0..2000, |now| now / 10);
        assert_eq!(live, Reading::default());
        let frozen = look(&mut progress, 2000..14_100, |_| 190);
        assert_eq!(frozen.not_read_for, Duration::from_millis(12_100));
        let back = look(&mut progress, 14_100..14_300, |now| now / 10);
        assert_eq!(back, Reading::default());
    }

    #[test]
    fn an_estimate_that_wavers_is_no_reading() {
        let mut progress = Progress::default();
        look(&mut progress, 0..2000, |now| now / 10);
        let frozen = look(&mut progress, 2000..8000, |now| 180 + now / 100 % 15);
        assert!(frozen.not_read_for >= Duration::from_secs(5), "{frozen:?}");
        let frozen = look(&mut progress, 8000..20_000, |now| 180 + now / 100 % 30);
        assert!(frozen.not_read_for >= Duration::from_secs(17), "{frozen:?}");
    }

    #[test]
    fn what_was_taken_for_read_by_mistake_is_counted_from_when_it_stopped() {
        let mut progress = Progress::default();
        look(&mut progress, 0..5000, |now| now / 10);
        // It had stopped at 3 s, which shows two seconds later.
        let frozen = look(&mut progress, 5000..5100, |_| 300);
        assert_eq!(frozen.not_read_for, Duration::from_millis(1900 + 100));
    }

    #[test]
    fn a_slow_reader_s_lag_grows_at_its_pace() {
        let mut progress = Progress::default();
        let slow = look(&mut progress, 0..20_000, |now| now / 10 * 92 / 100);
        assert!((slow.growth.unwrap() - 0.08).abs() < 0.01, "{slow:?}");
        assert!(slow.not_read_for < Duration::from_millis(500), "{slow:?}");
    }

    #[test]
    fn a_pause_is_no_slow_reading() {
        let mut progress = Progress::default();
        look(&mut progress, 0..6000, |now| now / 10);
        look(&mut progress, 6000..8000, |_| 599);
        for end in 9..30 {
            let late = look(&mut progress, (end - 1) * 1000..end * 1000, |now| now / 10 - 200);
            assert_eq!(late.growth, None, "at {end} s");
        }
    }

    #[test]
    fn growth_over_a_time_without_looks_is_not_known() {
        let mut progress = Progress::default();
        look(&mut progress, 0..20_000, |now| now / 10 * 9 / 10);
        let lag = progress.look(5000, 1000, 1000, BLOCK, at(60_000));
        assert_eq!(lag.growth, None);
    }
}
