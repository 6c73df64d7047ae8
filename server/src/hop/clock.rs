//! The clock of another server, by round trips: the quickest of the last ones bounds how far apart two clocks are.

use std::collections::VecDeque;
use std::time::Duration;

use aircheck_engine::Timestamp;

/// Round trips that are kept: the last minutes, at one in five seconds.
const KEPT: usize = 32;
/// By how much two clocks part while a round trip grows old: twice what an ordinary quartz is off.
const DRIFT_PPM: u64 = 100;
/// The farthest that times are moved for a block, so that they never go backwards and no latency jumps.
const MAX_STEP_NANOS: i64 = 100_000;
/// A larger difference is not followed in small steps: another publisher has another clock.
const MAX_SLEW_NANOS: i64 = 1_000_000_000;
/// Blocks of which the quickest stands for a round trip where there is none.
const QUICKEST_BLOCKS: u32 = 500;

/// A round trip to another server.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    at: Timestamp,
    /// Added to a time of the other server, it is the time here.
    offset_nanos: i64,
    /// Half of the time that the messages were on their way: the offset is right to that.
    error_nanos: u64,
}

/// An estimate of how far the clock of this server is ahead of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Added to a time of the other server, it is the time here, in ns.
    pub nanos: i64,
    /// The estimate is right to this many ns.
    pub error_nanos: u64,
}

/// The clock of another server.
#[derive(Debug, Default)]
pub struct RemoteClock {
    trips: VecDeque<RoundTrip>,
    /// The offset of the quickest block so far, for as long as there is no round trip, and how many blocks that was.
    quickest: Option<(i64, u32)>,
    /// The offset that times are mapped by, which follows the estimate, and whether it is one of round trips.
    applied: Option<(i64, bool)>,
}

impl RemoteClock {
    /// Notes a round trip: a request was sent at `sent`, came at `remote_received` by the other server's clock, which answered
    /// at `remote_sent`, and the answer came at `received`.
    pub fn observe(&mut self, sent: Timestamp, remote_received: u64, remote_sent: u64, received: Timestamp) {
        let away =
            received.since(sent).saturating_sub(Duration::from_nanos(remote_sent.saturating_sub(remote_received)));
        let there = (remote_received / 2).wrapping_add(remote_sent / 2);
        let here = (sent.as_nanos() / 2).wrapping_add(received.as_nanos() / 2);
        if self.trips.len() == KEPT {
            self.trips.pop_front();
        }
        let error_nanos = u64::try_from(away.as_nanos() / 2).unwrap_or(u64::MAX);
        self.trips.push_back(RoundTrip { at: received, offset_nanos: here.wrapping_sub(there) as i64, error_nanos });
    }

    /// Forgets everything: the other server is another one.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Returns the best estimate at `now`; `None` before the first round trip.
    #[must_use]
    pub fn offset(&self, now: Timestamp) -> Option<Offset> {
        let aged = |trip: &RoundTrip| {
            let aging = now.since(trip.at).as_nanos() * u128::from(DRIFT_PPM) / 1_000_000;
            trip.error_nanos.saturating_add(u64::try_from(aging).unwrap_or(u64::MAX))
        };
        let best = self.trips.iter().min_by_key(|trip| aged(trip))?;
        Some(Offset { nanos: best.offset_nanos, error_nanos: aged(best) })
    }

    /// Returns by how much times are moved at `now`, and how exact that is; `None` before the first round trip.
    #[must_use]
    pub fn applied(&self, now: Timestamp) -> Option<Offset> {
        let best = self.offset(now)?;
        // The first round trip is followed at once.
        let nanos = self.applied.filter(|(_, is_measured)| *is_measured).map_or(best.nanos, |(applied, _)| applied);
        let error_nanos = best.error_nanos.saturating_add(nanos.abs_diff(best.nanos));
        Some(Offset { nanos, error_nanos })
    }

    /// Maps the time at which a block was captured to this server's clock. The block was sent at `sent_nanos` and came at `now`. Without
    /// a round trip, the quickest of the last blocks counts as having come in no time.
    pub fn map(&mut self, remote_nanos: u64, sent_nanos: u64, now: Timestamp) -> Timestamp {
        let measured = now.as_nanos().wrapping_sub(sent_nanos) as i64;
        let offset = self.offset(now);
        let wanted = match offset {
            Some(offset) => offset.nanos,
            None => match self.quickest {
                Some((quickest, blocks)) if measured >= quickest && blocks < QUICKEST_BLOCKS => {
                    self.quickest = Some((quickest, blocks + 1));
                    quickest
                }
                _ => {
                    self.quickest = Some((measured, 0));
                    measured
                }
            },
        };
        let applied = match self.applied {
            // The first round trip is so much better than what was known before that times follow it at once.
            Some((applied, is_measured))
                if is_measured == offset.is_some()
                    && wanted.saturating_sub(applied).saturating_abs() <= MAX_SLEW_NANOS =>
            {
                applied + (wanted - applied).clamp(-MAX_STEP_NANOS, MAX_STEP_NANOS)
            }
            _ => wanted,
        };
        self.applied = Some((applied, offset.is_some()));
        Timestamp::from_nanos(remote_nanos.wrapping_add_signed(applied))
    }

    /// Returns how long a block was on its way that was sent at `sent_nanos` and came at `now`; `None` before the first round trip.
    #[must_use]
    pub fn hop(&self, sent_nanos: u64, now: Timestamp) -> Option<Duration> {
        let offset = self.offset(now)?;
        let sent_at = Timestamp::from_nanos(sent_nanos.wrapping_add_signed(offset.nanos));
        Some(now.since(sent_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn here(millis: u64) -> Timestamp {
        Timestamp::from_nanos(1_790_000_000_000 * MILLI + millis * MILLI)
    }

    /// The other server's clock is ahead by a tenth of a second.
    fn there(millis: u64) -> u64 {
        here(millis + 100).as_nanos()
    }

    #[test]
    fn the_quickest_round_trip_counts_and_its_error_is_half_of_it() {
        let mut clock = RemoteClock::default();
        assert_eq!(clock.offset(here(0)), None);
        // There in 9 ms, back in 1 ms: the answer is wrong by 4 ms, and says that it may be by 5.
        clock.observe(here(0), there(9), there(19), here(20));
        assert_eq!(clock.offset(here(20)), Some(Offset { nanos: -(104 * MILLI as i64), error_nanos: 5 * MILLI }));
        clock.observe(here(30), there(31), there(31), here(32));
        assert_eq!(clock.offset(here(32)), Some(Offset { nanos: -(100 * MILLI as i64), error_nanos: MILLI }));
        // A slow one changes nothing, and the error grows with its age.
        clock.observe(here(40), there(90), there(90), here(100));
        let offset = clock.offset(here(10_032)).unwrap();
        assert_eq!(offset, Offset { nanos: -(100 * MILLI as i64), error_nanos: 2 * MILLI });
        assert_eq!(clock.hop(there(10_030), here(10_032)), Some(Duration::from_millis(2)));
    }

    #[test]
    fn times_of_another_clock_are_mapped_without_jumps() {
        let mut clock = RemoteClock::default();
        // Without a round trip, the quickest block has come in no time.
        assert_eq!(clock.map(there(0), there(10), here(13)), here(3));
        assert_eq!(clock.map(there(10), there(20), here(22)), here(13) - Duration::from_micros(100));
        clock.observe(here(22), there(23), there(23), here(24));
        assert_eq!(clock.map(there(20), there(30), here(32)), here(20), "with one, times are right at once");
        assert_eq!(clock.applied(here(32)), clock.offset(here(32)));
        // A better one moves them by a tenth of a millisecond a block.
        clock.observe(here(33), there(32), there(32), here(33));
        let wrong_by = clock.applied(here(33)).unwrap().error_nanos;
        assert_eq!(wrong_by, MILLI, "they are still those of the one before");
        let mut last = here(20);
        for n in 3..40 {
            let at = clock.map(there(10 * n), there(10 * n + 10), here(10 * n + 12));
            assert!(at > last && at.since(last) <= Duration::from_micros(10_100), "{n}");
            last = at;
        }
        assert_eq!(last, here(391));
    }
}
