//! Silence of a listener's machine: the time for which it has answered nothing, although an answer was due.
//!
//! A machine whose program does not read is not silent. Its window is closed, so the kernel sends probes of that window, and
//! each is answered. The pause between two probes grows to [`MAX_PROBE_INTERVAL`] or, before Linux 6.15, to two minutes. So
//! the time since the last acknowledgement proves nothing by itself: it counts only while bytes are in flight, or while
//! probes have had no answer.

use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::tcp_info::TcpInfo;

/// A machine is gone this long after its last answer. Longer than a change of Wi-Fi cells or a laptop's short sleep, shorter
/// than the 15 minutes that TCP itself would wait.
pub const GONE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest pause between two retransmissions or probes, where the kernel can be told. It leaves four of them in
/// [`GONE_TIMEOUT`], so that the loss of one or two is no proof that the machine is gone.
pub const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// An answer must have been due for so much of [`GONE_TIMEOUT`]. A machine that has nothing to answer is not silent.
const MIN_DUE: Duration = GONE_TIMEOUT.saturating_sub(MAX_PROBE_INTERVAL);
/// Unanswered probes that prove it: a single one may have been lost. Bytes in flight need no such count, because they are sent
/// five times or more in [`MIN_DUE`].
const MIN_PROBES: u32 = 2;

/// The silence of the machine at the far end of one connection, followed from look to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    /// When the machine last acknowledged anything.
    answered_at: Timestamp,
    /// The first look after that at which an answer was due.
    due_since: Option<Timestamp>,
    /// Whether what was sent since then is enough to prove that the machine is gone.
    is_certain: bool,
}

impl Silence {
    /// Takes the state of the connection at `now`.
    pub fn observe(&mut self, socket: &TcpInfo, now: Timestamp) {
        let is_due = socket.in_flight_bytes > 0 || socket.probes > 0;
        self.answered_at = now - socket.since_ack;
        let due_since = self.due_since.filter(|since| *since >= self.answered_at).unwrap_or(now);
        self.due_since = is_due.then_some(due_since);
        self.is_certain = socket.in_flight_bytes > 0 || socket.probes >= MIN_PROBES;
    }

    /// Returns for how long an answer has been due. It is zero if none is, or if the machine has answered since the look
    /// before.
    #[must_use]
    pub fn span(&self, now: Timestamp) -> Duration {
        self.due_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Returns whether the machine counts as gone.
    #[must_use]
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.is_certain && self.span(now) >= MIN_DUE && now.since(self.answered_at) >= GONE_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    /// Looks at a connection ten times a second from `from` to `to`, in milliseconds, and returns when its machine first counts
    /// as gone. `state` gives the time of the last acknowledgement, the bytes in flight and the unanswered probes.
    fn gone_at(silence: &mut Silence, from: u64, to: u64, state: impl Fn(u64) -> (u64, u64, u32)) -> Option<u64> {
        (from..to).step_by(100).find(|&now| {
            let (acked_at, in_flight_bytes, probes) = state(now);
            let since_ack = Duration::from_millis(now - acked_at);
            silence.observe(&TcpInfo { since_ack, in_flight_bytes, probes, ..TcpInfo::default() }, at(now));
            silence.is_gone(at(now))
        })
    }

    #[test]
    fn a_machine_with_bytes_in_flight_is_gone_a_minute_after_its_last_answer() {
        let mut silence = Silence::default();
        let reading = |now| (now - 5, 1000, 0);
        assert_eq!(gone_at(&mut silence, 1000, 200_000, reading), None, "it answers all the time");
        assert_eq!(silence.span(at(199_900)), Duration::ZERO);
        let unanswered = |_| (200_000, 30_000, 0);
        assert_eq!(gone_at(&mut silence, 200_000, 300_000, unanswered), Some(260_000));
    }

    #[test]
    fn a_machine_that_answers_probes_is_not_gone_however_long_the_pause_between_them() {
        // One probe each two minutes, answered within 40 ms, as before Linux 6.15.
        let probed = |now: u64| {
            let (sent_at, since) = (now - now % 120_000, now % 120_000);
            if since < 40 { (sent_at - 120_000 + 40, 0, 1) } else { (sent_at + 40, 0, 0) }
        };
        assert_eq!(gone_at(&mut Silence::default(), 120_000, 1_200_000, probed), None);
        // The answer to one of them is lost.
        let lost = |now: u64| if now < 360_000 { (120_040, 0, u32::from(now >= 240_000)) } else { (360_040, 0, 0) };
        assert_eq!(gone_at(&mut Silence::default(), 121_000, 360_000, lost), None, "one probe is no proof");
    }

    #[test]
    fn a_machine_with_a_closed_window_is_gone_a_minute_after_its_last_answer() {
        // Probes come each 15 s, and none after the first is answered.
        let probed = |now: u64| (15_000, 0, (now / 15_000 - 1) as u32);
        assert_eq!(gone_at(&mut Silence::default(), 15_000, 200_000, probed), Some(75_000));
    }

    #[test]
    fn silence_counts_from_when_an_answer_is_due() {
        let mut silence = Silence::default();
        // The source is silent for ten minutes.
        assert_eq!(gone_at(&mut silence, 1000, 600_000, |_| (1000, 0, 0)), None);
        // Then sound is sent, and is acknowledged within 3 s.
        assert_eq!(gone_at(&mut silence, 600_000, 603_000, |_| (1000, 960, 0)), None);
        assert_eq!(silence.span(at(603_000)), Duration::from_secs(3));
        assert_eq!(gone_at(&mut silence, 603_000, 604_000, |_| (602_990, 0, 0)), None);
        assert_eq!(silence.span(at(604_000)), Duration::ZERO);
    }
}
