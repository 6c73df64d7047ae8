//! Holds: pauses in a stream of short packets in quick succession, after which those that waited go out in one write.
//!
//! Short packets in quick succession leave no trace in a receive window, and if their acknowledgements come late, that says little:
//! a program may read them at its own intervals. Writes that are further apart, each after another pause, tell the two apart. So while
//! packets are acknowledged late, all of such a stream goes out so. A program that reads at once is never held for.

use std::time::Duration;

use crate::delivery::socket::receive_window::COPIED_BYTES;

/// How the packets after a write wait, for the sake of what their acknowledgement shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    #[default]
    Not,
    /// The next packet waits for so long after it has come, unless another one comes.
    Next(Duration),
    /// All packets wait until so long after the write, and go out together.
    All(Duration),
}

/// The pause. The far kernel's timer of 40 ms has expired by then, so that writes as far apart as this are each a test of its own.
pub(super) const HOLD: Duration = Duration::from_millis(48);
/// The longest time for which the far kernel delays an acknowledgement, to its tick.
const MAX_ACK_DELAY: Duration = Duration::from_millis(44);
/// Every other pause is longer by this, so that a program that reads at intervals of 100 ms does so soon after one of the writes.
const VARIATION: Duration = Duration::from_millis(10);
/// Packets with a smaller interval are not live, but come out of a ring in which they have waited.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(4);
/// A longer way would take several pauses for one result.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(40);

/// The holds of one connection.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Whether the stream may be held at all.
    is_permitted: bool,
    /// Whether packets are held now.
    is_holding: bool,
    /// How many times the stream was held.
    count: u8,
    /// The time before the last single packet, and its bytes.
    interval_micros: u32,
    packet_bytes: u32,
}

impl Holds {
    /// Permits holds.
    pub(super) fn permit(&mut self) {
        self.is_permitted = true;
    }

    /// Notes that single packets of `bytes` bytes come `interval` apart.
    pub(super) fn set_packet(&mut self, bytes: u64, interval: Duration) {
        (self.interval_micros, self.packet_bytes) = (interval.as_micros() as u32, bytes as u32);
    }

    /// Decides whether packets are held now. `is_wanted` tells whether a result is. Segments have up to `segment_bytes` bytes.
    pub(super) fn decide(&mut self, is_wanted: bool, segment_bytes: u64, round_trip: Duration) {
        self.is_holding = is_wanted && self.is_possible(segment_bytes, round_trip);
        self.count = self.count.wrapping_add(u8::from(self.is_holding));
    }

    /// Returns whether a write after a pause can show anything.
    fn is_possible(&self, segment_bytes: u64, round_trip: Duration) -> bool {
        let packets = HOLD.div_duration_f32(self.interval().max(MIN_INTERVAL)).ceil() as u64;
        self.is_live() && packets * u64::from(self.packet_bytes) <= segment_bytes && round_trip < MAX_ROUND_TRIP
    }

    /// Returns the time between single packets.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_micros(self.interval_micros.into())
    }

    /// Returns whether packets are short, and come in quick succession.
    pub(super) fn is_live(&self) -> bool {
        let is_quick = (MIN_INTERVAL..HOLD).contains(&self.interval());
        self.is_permitted && is_quick && u64::from(self.packet_bytes) < COPIED_BYTES
    }

    /// Returns whether packets are held now.
    pub(super) fn is_holding(&self) -> bool {
        self.is_holding
    }

    /// Returns for how long, on a way of this `round_trip`. A late acknowledgement has come by then.
    pub(super) fn span(&self, round_trip: Duration) -> Duration {
        let span = HOLD.max(round_trip + MAX_ACK_DELAY);
        if self.count.is_multiple_of(2) { span } else { span + VARIATION }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(10);
    const LOOPBACK: Duration = Duration::from_micros(20);

    /// Returns the holds of a stream of packets of so many bytes each 10 ms.
    fn stream(packet_bytes: u64) -> Holds {
        let mut holds = Holds::default();
        holds.permit();
        holds.set_packet(packet_bytes, INTERVAL);
        holds
    }

    /// Returns whether a stream is held for a result.
    fn is_held(mut holds: Holds, segment_bytes: u64, round_trip: Duration) -> bool {
        holds.decide(true, segment_bytes, round_trip);
        holds.is_holding()
    }

    #[test]
    fn packets_are_held_if_those_of_a_pause_fit_into_a_segment() {
        assert!(is_held(stream(200), 1448, LOOPBACK));
        assert!(!is_held(stream(300), 1448, LOOPBACK), "five of them are more than a segment");
        assert!(is_held(stream(300), 65_483, LOOPBACK));
        assert!(!is_held(stream(960), 65_483, LOOPBACK), "the window shows these");
        assert!(!is_held(stream(200), 1448, MAX_ROUND_TRIP));
        let mut slow = stream(200);
        slow.set_packet(200, HOLD);
        assert!(!is_held(slow, 1448, LOOPBACK), "each of them is a test");
        let mut burst = stream(200);
        burst.set_packet(200, Duration::ZERO);
        assert!(!is_held(burst, 1448, LOOPBACK));
        let mut unwanted = stream(200);
        unwanted.is_permitted = false;
        assert!(!is_held(unwanted, 1448, LOOPBACK));
    }
}
