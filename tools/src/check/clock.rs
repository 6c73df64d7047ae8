//! The server's clock, seen from here. Each question and its answer bound the offset between the two clocks from both
//! sides; the quickest round trip bounds it best.

use std::collections::VecDeque;
use std::time::Duration;

/// Round trips that are kept: half a minute of one a second.
const MAX_ROUND_TRIPS: usize = 32;
/// Drift of two ordinary clocks in seconds a second. The error of a round trip grows at this rate.
const CLOCK_DRIFT: f64 = 100e-6;
/// The first questions come fast, so that the time is well known within half a second.
const FIRST_QUESTIONS: u32 = 8;
const FIRST_QUESTION_INTERVAL: Duration = Duration::from_millis(50);
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// How far the server's clock is ahead of ours, as far as that is known. All times are in seconds; ours count from any
/// moment, and never jump.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    round_trips: VecDeque<RoundTrip>,
    questions: u32,
}

/// The server's time minus ours, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offset {
    /// Seconds to add to our time.
    pub(crate) seconds: f64,
    /// The most by which it may be wrong: half the round trip, and the drift of the clocks since.
    pub(crate) error_seconds: f64,
}

#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    offset: f64,
    error: f64,
    at: f64,
}

impl RoundTrip {
    fn error_at(&self, now: f64) -> f64 {
        self.error + CLOCK_DRIFT * (now - self.at).max(0.0)
    }
}

impl ServerClock {
    /// Notes that a question is sent, and returns when to send the next one.
    pub(crate) fn ask(&mut self) -> Duration {
        self.questions = self.questions.saturating_add(1);
        if self.questions < FIRST_QUESTIONS { FIRST_QUESTION_INTERVAL } else { QUESTION_INTERVAL }
    }

    /// Learns from an answer: the server's clock said `server`, the question was sent at `asked`, and the answer came
    /// at `answered`.
    pub(crate) fn learn(&mut self, asked: f64, server: f64, answered: f64) {
        // An answer without a question would bound the offset by nothing.
        if !(0.0..=answered).contains(&asked) || !server.is_finite() {
            return;
        }
        let fresh =
            RoundTrip { offset: server - (asked + answered) / 2.0, error: (answered - asked) / 2.0, at: answered };
        // If two cannot both be right, one of the clocks was set, or stood still while its machine slept.
        self.round_trips.retain(|old| (old.offset - fresh.offset).abs() <= old.error_at(answered) + fresh.error);
        if self.round_trips.len() == MAX_ROUND_TRIPS {
            self.round_trips.pop_front();
        }
        self.round_trips.push_back(fresh);
    }

    /// Returns the best estimate at `now`, or `None` before the first answer.
    pub(crate) fn offset(&self, now: f64) -> Option<Offset> {
        let best = self.round_trips.iter().min_by(|a, b| a.error_at(now).total_cmp(&b.error_at(now)))?;
        Some(Offset { seconds: best.offset, error_seconds: best.error_at(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_round_trip_wins() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.offset(0.0), None);
        // The server is 1000 s ahead; the answers are late by 30, 1 and 80 ms, all of it on the way back.
        for (asked, late) in [(1.0, 0.03), (2.0, 0.001), (3.0, 0.08)] {
            clock.learn(asked, asked + 1000.0, asked + late);
        }
        let offset = clock.offset(3.1).unwrap();
        assert!((offset.seconds - 999.9995).abs() < 1e-9, "{offset:?}");
        assert!((offset.error_seconds - 0.0005 - 1.099 * CLOCK_DRIFT).abs() < 1e-9, "{offset:?}");
        assert!((offset.seconds - 1000.0).abs() <= offset.error_seconds, "the truth lies within the error");
    }

    #[test]
    fn a_clock_that_was_set_is_learned_again() {
        let mut clock = ServerClock::default();
        clock.learn(1.0, 1001.0, 1.001);
        clock.learn(2.0, 5002.0, 2.1);
        assert!((clock.offset(2.1).unwrap().seconds - 4999.95).abs() < 1e-6);
    }

    #[test]
    fn an_old_round_trip_gives_way_to_a_slower_new_one() {
        let mut clock = ServerClock::default();
        clock.learn(0.0, 1000.0, 0.002);
        clock.learn(100.0, 1100.001, 100.004);
        assert!((clock.offset(100.1).unwrap().seconds - 999.999).abs() < 1e-6);
    }

    #[test]
    fn answers_without_a_question_are_ignored() {
        let mut clock = ServerClock::default();
        for (asked, server) in [(f64::NAN, 1.0), (-1.0, 1.0), (9.0, 1.0), (1.0, f64::INFINITY)] {
            clock.learn(asked, server, 2.0);
        }
        assert_eq!(clock.offset(2.0), None);
    }
}
