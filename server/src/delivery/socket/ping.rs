//! Pings of a WebSocket listener, as receipts: a pong is sent when all before the ping has been read.

use std::time::Duration;

use aircheck_engine::Timestamp;

/// Between two pings. Only one is on its way at a time.
const PING_INTERVAL: Duration = Duration::from_millis(250);
/// A ping that has arrived and is not answered for so long has not been read. Programs may read at intervals.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// The pings of one connection.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// Bytes of the connection before the ping that is not answered, and with it.
    waiting: Option<(u64, u64)>,
    /// When that ping was first seen to be acknowledged.
    arrived_at: Option<Timestamp>,
    /// When the last one was sent.
    sent_at: Timestamp,
    /// Whether pings are answered.
    is_answered: bool,
}

impl Pings {
    /// Returns whether a ping is due.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.waiting.is_none() && now.since(self.sent_at) >= PING_INTERVAL
    }

    /// Notes a ping behind `before` bytes of the connection, which ends at `end`.
    pub(super) fn sent(&mut self, before: u64, end: u64, now: Timestamp) {
        (self.waiting, self.arrived_at, self.sent_at) = (Some((before, end)), None, now);
    }

    /// Takes a pong. Returns whether it answers the ping behind `before` bytes.
    pub(super) fn answered(&mut self, before: u64) -> bool {
        let is_answer = self.waiting.is_some_and(|(waiting, _)| waiting == before);
        if is_answer {
            (self.waiting, self.is_answered) = (None, true);
        }
        is_answer
    }

    /// Returns whether an answer is due.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns whether a look is due that shows if the ping has arrived.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        self.is_answered && self.waiting.is_some() && now.since(self.sent_at) >= ANSWER_TIMEOUT
    }

    /// Returns whether the program has not read for a moment, by a ping that has arrived and is not answered; `None` if it never
    /// answered one. `acked` bytes have arrived. With `has_input`, the answer may be here and wait for its shard.
    pub(super) fn is_late(&mut self, acked: u64, has_input: bool, now: Timestamp) -> Option<bool> {
        if !self.is_answered {
            return None;
        }
        if self.waiting.is_some_and(|(_, end)| end <= acked) {
            let arrived_at = *self.arrived_at.get_or_insert(now);
            return Some(!has_input && now.since(arrived_at) >= ANSWER_TIMEOUT);
        }
        Some(false)
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
        assert_eq!(pings.is_late(900, false, at(0)), None);
        pings.sent(1000, 1010, at(0));
        assert!(!pings.is_due(at(1000)), "one is on its way");
        assert_eq!(pings.is_late(1010, false, at(900)), None, "it has never answered one");
        assert!(!pings.answered(999) && pings.answered(1000) && !pings.answered(1000));
        assert!(pings.is_due(at(1000)) && !pings.is_due(at(249)));

        pings.sent(5000, 5010, at(1000));
        assert_eq!(pings.is_late(5009, false, at(2000)), Some(false), "the network holds it");
        assert!(pings.wants_look(at(1200)) && !pings.wants_look(at(1199)));
        assert_eq!(pings.is_late(5010, false, at(2100)), Some(false));
        assert_eq!(pings.is_late(6000, false, at(2299)), Some(false));
        assert_eq!(pings.is_late(6000, true, at(2300)), Some(false), "what came from there is not read here");
        assert_eq!(pings.is_late(6000, false, at(2300)), Some(true));
        assert!(pings.answered(5000));
        assert_eq!(pings.is_late(6000, false, at(2400)), Some(false));
    }
}
