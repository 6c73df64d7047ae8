//! Pings of a WebSocket listener, as receipts: a pong is sent when all before the ping has been read.

use std::time::Duration;

use aircheck_engine::Timestamp;

/// Between two pings. Only one is on its way at a time.
const PING_INTERVAL: Duration = Duration::from_millis(250);
/// A ping that has arrived and is not answered for so long has not been read. Programs may read at intervals.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
/// With so many late answers in a row, a program reads slowly. A single one comes from a program that reads again after a pause.
const MIN_LATE: u8 = 2;

/// The pings of one connection.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// Bytes of the connection before the ping that is not answered, and with it.
    waiting: Option<(u64, u64)>,
    /// When that ping was first seen to be acknowledged.
    arrived_at: Option<Timestamp>,
    /// Since when looks have found bytes from there that are not read here. The answer may be among them.
    input_since: Option<Timestamp>,
    /// When the last one was sent.
    sent_at: Timestamp,
    /// Bytes before the last ping that was answered, and when that was.
    answered: Option<(u64, Timestamp)>,
    /// Answers in a row that were late, as far as they count.
    late_answers: u8,
    /// How fast the program has read from the last answer but one to the last.
    bytes_per_second: f64,
}

impl Pings {
    /// Returns whether a ping is due.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.waiting.is_none() && now.since(self.sent_at) >= PING_INTERVAL
    }

    /// Notes a ping behind `before` bytes of the connection, which ends at `end`.
    pub(super) fn sent(&mut self, before: u64, end: u64, now: Timestamp) {
        (self.waiting, self.arrived_at, self.input_since, self.sent_at) = (Some((before, end)), None, None, now);
    }

    /// Takes a pong. Returns whether it answers the ping behind `before` bytes.
    pub(super) fn answered(&mut self, before: u64, now: Timestamp) -> bool {
        if self.waiting.is_none_or(|(waiting, _)| waiting != before) {
            return false;
        }
        let came_at = self.input_since.unwrap_or(now);
        let is_late = self.arrived_at.is_some_and(|at| came_at.since(at) >= ANSWER_TIMEOUT);
        self.late_answers = if is_late { MIN_LATE.min(self.late_answers + 1) } else { 0 };
        if let Some((bytes, at)) = self.answered {
            self.bytes_per_second = (before - bytes) as f64 / now.since(at).max(PING_INTERVAL).as_secs_f64();
        }
        (self.waiting, self.arrived_at, self.answered) = (None, None, Some((before, now)));
        true
    }

    /// Returns whether an answer is due.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns whether a look is due that shows if the ping has arrived.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        self.answered.is_some() && self.waiting.is_some() && now.since(self.sent_at) >= ANSWER_TIMEOUT
    }

    /// Returns how many of the `most` bytes since the last proof are unread; `None` if no ping was ever answered. `acked` bytes have
    /// arrived. `has_input` tells whether bytes from there are not read here: the answer may wait for its shard.
    ///
    /// A program that answers at once has read everything. One that does not has read nothing since its last answer, or, if it answers
    /// all of them late, goes on at the pace between its last two, but not past the ping that it has yet to answer.
    pub(super) fn unread(&mut self, acked: u64, most: u64, has_input: bool, now: Timestamp) -> Option<u64> {
        let (_, answered_at) = self.answered?;
        let arrived = self.waiting.filter(|(_, end)| *end <= acked);
        if arrived.is_some() {
            self.arrived_at.get_or_insert(now);
        }
        self.input_since = has_input.then(|| self.input_since.unwrap_or(now));
        let is_overdue = !has_input && self.arrived_at.is_some_and(|at| now.since(at) >= ANSWER_TIMEOUT);
        let behind_ping = arrived.map_or(0, |(before, _)| acked - before);
        Some(if self.late_answers == MIN_LATE {
            let read = self.bytes_per_second * now.since(answered_at).as_secs_f64();
            most.saturating_sub(read as u64).max(behind_ping).min(most)
        } else if is_overdue {
            most
        } else {
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    #[test]
    fn a_ping_that_has_arrived_is_late_until_it_is_answered() {
        let mut pings = Pings::default();
        assert!(pings.is_due(at(0)));
        assert_eq!(pings.unread(900, 900, false, at(0)), None);
        pings.sent(1000, 1010, at(0));
        assert!(!pings.is_due(at(1000)), "one is on its way");
        assert_eq!(pings.unread(1010, 1010, false, at(900)), None, "it has never answered one");
        assert!(!pings.answered(999, at(950)) && pings.answered(1000, at(950)) && !pings.answered(1000, at(950)));
        assert!(pings.is_due(at(1000)) && !pings.is_due(at(249)));

        pings.sent(5000, 5010, at(1000));
        assert_eq!(pings.unread(5009, 4009, false, at(2000)), Some(0), "the network holds it");
        assert!(pings.wants_look(at(1200)) && !pings.wants_look(at(1199)));
        assert_eq!(pings.unread(5010, 4010, false, at(2100)), Some(0));
        assert_eq!(pings.unread(6000, 5000, false, at(2299)), Some(0));
        assert_eq!(pings.unread(6000, 5000, false, at(2300)), Some(5000));
        assert!(pings.answered(5000, at(2400)));
        assert_eq!(pings.unread(6000, 1000, false, at(2400)), Some(0), "it may have made a pause");
    }

    #[test]
    fn an_answer_that_waits_here_is_not_late() {
        let mut pings = Pings::default();
        for (sent, ping) in [(0, 1000), (1000, 2000), (2000, 3000), (3000, 4000)] {
            pings.sent(ping, ping + 10, at(sent));
            assert!(pings.unread(ping + 10, 1010, false, at(sent + 1)).is_none_or(|unread| unread == 0));
            assert!(pings.unread(ping + 500, 1500, true, at(sent + 100)).is_none_or(|unread| unread == 0));
            assert!(pings.unread(ping + 500, 1500, true, at(sent + 800)).is_none_or(|unread| unread == 0));
            assert!(pings.answered(ping, at(sent + 900)));
            assert_eq!(pings.late_answers, 0);
        }
        // It came late, as a look shows that found nothing.
        pings.sent(5000, 5010, at(4000));
        assert_eq!(pings.unread(5010, 1010, true, at(4001)), Some(0), "something else");
        assert_eq!(pings.unread(5010, 1010, false, at(4300)), Some(1010));
        assert_eq!(pings.unread(5010, 1010, true, at(4310)), Some(0));
        assert!(pings.answered(5000, at(4320)));
        assert_eq!(pings.late_answers, 1);
    }

    #[test]
    fn what_a_slow_program_has_read_is_known_between_its_answers() {
        /// Bytes in a millisecond, and the part of them that is read.
        const BYTES: u64 = 15;
        for percent in [20, 50, 90, 98] {
            let (mut pings, mut ping) = (Pings::default(), 0);
            let mut proven = 0;
            for millis in 0..30_000 {
                let (acked, read) = (BYTES * millis, BYTES * millis * percent / 100);
                if pings.is_waiting() && read >= ping {
                    assert!(pings.answered(ping, at(millis)));
                    proven = ping;
                }
                if pings.is_due(at(millis)) {
                    ping = acked;
                    pings.sent(ping, ping, at(millis));
                }
                if millis % 100 == 0 {
                    let unread = pings.unread(acked, acked - proven, false, at(millis)).unwrap_or(0);
                    let error = unread.abs_diff(acked - read);
                    let is_known = acked - read > 500 * BYTES && pings.late_answers == MIN_LATE;
                    assert!(!is_known || error < 60 * BYTES, "{percent} % after {millis} ms: {error} bytes wrong");
                    assert!(millis < 15_000 || percent == 98 || is_known, "{percent} % after {millis} ms");
                }
            }
        }
    }

    #[test]
    fn a_slow_program_that_stops_has_not_read_past_the_ping_that_it_has_yet_to_answer() {
        let mut pings = Pings::default();
        for (sent, ping) in [(0, 1000), (1000, 2000), (2000, 3000)] {
            pings.sent(ping, ping + 10, at(sent));
            let _ = pings.unread(ping + 10, 10, false, at(sent + 10));
            assert!(pings.answered(ping, at(sent + 900)));
        }
        // 1000 bytes a second since then.
        assert_eq!(pings.unread(4000, 1000, false, at(3400)), Some(500));
        pings.sent(4000, 4010, at(3400));
        assert_eq!(pings.unread(4010, 1010, false, at(3410)), Some(500));
        assert_eq!(pings.unread(9000, 6000, false, at(9000)), Some(5000));
        assert!(pings.answered(4000, at(9100)));
        pings.sent(9000, 9010, at(9100));
        assert!(pings.answered(9000, at(9110)), "at once");
        assert_eq!(pings.unread(9010, 10, false, at(9120)), Some(0));
    }
}
