//! Packets in flight: taken from a listener's ring, and not yet read by its program. They are in hyper, in the kernel's
//! send queue, or in the receive buffer of the listener's machine. Their sequence numbers say how far the listener is
//! behind, including the losses between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::receive_window::ReceiveWindow;
use crate::delivery::socket::tracked_stream::TrackedState;

/// Packets that are followed one by one: 40 s of 10 ms blocks, 160 KB. Beyond it every other one is dropped, and positions
/// are known to two packets.
const MAX_PACKETS: usize = 4096;

/// Time between two decisions whether the listener's machine or the network keeps bytes here. It is the machine if the kernel
/// waited for its receive window for a quarter of this span while little was in flight, or while that window is small.
/// Waiting alone says nothing: on a slow link, all that the window permits is in flight.
const WINDOW_LIMIT_INTERVAL: Duration = Duration::from_millis(200);

/// One packet that was written.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// One past its sequence number.
    next: u64,
    /// Where it ends in the bytes of the connection; unknown until hyper has written all of it.
    end_byte: Option<u64>,
    taken_at: Timestamp,
    /// Blocks that it carries: none if it is silence, and several if the encoder completed it late.
    blocks: u64,
}

/// The packets in flight of one listener.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    packets: VecDeque<Packet>,
    /// Number of packets, from the front, that are acknowledged.
    acked: usize,
    /// One past the sequence number of the last acknowledged packet, and of the last packet that was read.
    acked_next: u64,
    read_next: u64,
    /// Where the last packet ends, without the chunk framing that hyper adds.
    written_byte: u64,
    /// Length of the last packet.
    packet_bytes: u64,
    acked_byte: u64,
    receive_window: ReceiveWindow,
    unread_bytes: u64,
    window_bytes: u64,
    /// Blocks given to hyper, without silence.
    written_total: u64,
    /// The time of the last decision on the window's limit, and the total time in which the window had kept bytes here by then.
    limited: Option<(Timestamp, Duration)>,
    /// Whether little was in flight at some moment since then.
    was_idle: bool,
    /// The last decision: whether the listener's machine kept bytes here.
    was_window_limited: bool,
}

/// Progress of a listener's packets. Each position is one past the sequence number of the last packet that got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Acknowledged by the listener's machine.
    pub(crate) acked: u64,
    /// Read by the listener's program.
    pub(crate) read: u64,
}

impl InFlight {
    /// Follows the packets to where they are now, and calls `on_acked` for each newly acknowledged packet with the time
    /// that it spent in hyper, the kernel and the network.
    pub(crate) fn advance(&mut self, state: &TrackedState, now: Timestamp, mut on_acked: impl FnMut(Duration)) {
        self.note_end(state.flushed_bytes);
        let Some(socket) = state.socket else { return };
        self.acked_byte = socket.acked_bytes;
        self.unread_bytes = socket
            .window_bytes
            .map_or(0, |window| self.receive_window.observe(socket.acked_bytes, window, self.packet_bytes));
        self.window_bytes = socket.window_bytes.unwrap_or(u64::MAX);
        let (looked_at, limited) = *self.limited.get_or_insert((now, socket.window_limited));
        self.was_idle |= 4 * socket.in_flight_bytes <= self.window_bytes + self.unread_bytes;
        let span = now.since(looked_at);
        if span >= WINDOW_LIMIT_INTERVAL {
            let is_own = self.was_idle || self.receive_window.is_small();
            self.was_window_limited = is_own && 4 * socket.window_limited.saturating_sub(limited) > span;
            self.limited = Some((now, socket.window_limited));
            self.was_idle = false;
        }
        // Only the last acknowledgement is dated. Packets that earlier ones cover may seem to have taken longer.
        let acked_at = now - socket.since_ack;
        while let Some(packet) = self.packets.get(self.acked).filter(|packet| packet.is_within(self.acked_byte)) {
            on_acked(acked_at.since(packet.taken_at));
            self.acked_next = packet.next;
            self.acked += 1;
        }
        let read_byte = self.acked_byte - self.unread_bytes;
        while self.acked > 0 && self.packets[0].is_within(read_byte) {
            self.read_next = self.packets[0].next;
            self.packets.pop_front();
            self.acked -= 1;
        }
    }

    /// Notes where the last packet ends, once hyper has written everything that it was given.
    fn note_end(&mut self, flushed_bytes: Option<u64>) {
        if let (Some(flushed), Some(last)) = (flushed_bytes, self.packets.back_mut()) {
            last.end_byte.get_or_insert(flushed);
        }
    }

    /// Returns the number of blocks that hyper has written in full, `flushed_bytes` being where it has nothing left.
    pub(crate) fn written_blocks(&mut self, flushed_bytes: Option<u64>) -> u64 {
        self.note_end(flushed_bytes);
        let pending = self.packets.back().filter(|last| last.end_byte.is_none()).map_or(0, |last| last.blocks);
        self.written_total - pending
    }

    /// Adds a packet of `bytes` bytes that hyper gets now. hyper has written everything before it, which is
    /// `written_bytes`. The packet brings the listener past `numbers`, which may begin with lost blocks, and carries
    /// `blocks` blocks.
    pub(crate) fn write(&mut self, numbers: Range<u64>, bytes: usize, blocks: u64, written_bytes: u64, now: Timestamp) {
        self.written_total += blocks;
        if let Some(last) = self.packets.back_mut() {
            last.end_byte.get_or_insert(written_bytes);
        }
        self.written_byte = written_bytes + bytes as u64;
        self.packet_bytes = bytes as u64;
        if self.acked == self.packets.len() {
            self.acked_next = numbers.start;
        }
        if self.packets.is_empty() {
            self.read_next = numbers.start;
        }
        if self.packets.len() >= MAX_PACKETS {
            self.thin_out();
        }
        self.packets.push_back(Packet { next: numbers.end, end_byte: None, taken_at: now, blocks });
    }

    /// Returns how far the packets got. `taken` is one past the sequence number that was last taken from the ring.
    pub(crate) fn reached(&self, taken: u64) -> Reached {
        let acked = if self.acked == self.packets.len() { taken } else { self.acked_next };
        let read = if self.packets.is_empty() { taken } else { self.read_next };
        Reached { acked, read }
    }

    /// Returns the number of packets that are not acknowledged.
    pub(crate) fn socket_packets(&self) -> u64 {
        (self.packets.len() - self.acked) as u64
    }

    /// Returns the number of packets that are acknowledged and unread.
    pub(crate) fn unread_packets(&self) -> u64 {
        self.acked as u64
    }

    /// Returns the number of bytes that are not acknowledged.
    pub(crate) fn queued_bytes(&self) -> u64 {
        if self.acked == self.packets.len() { 0 } else { self.written_byte.saturating_sub(self.acked_byte) }
    }

    /// Returns whether the listener's machine keeps bytes here: more is unread there than it would still take, or the
    /// kernel has waited for its window.
    pub(crate) fn is_window_limited(&self) -> bool {
        self.was_window_limited || self.unread_bytes > self.window_bytes
    }

    /// Returns when the oldest unacknowledged packet was taken from the ring.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        self.packets.get(self.acked).map(|packet| packet.taken_at)
    }

    /// Drops every other packet of the acknowledged ones, or of all if none is acknowledged.
    fn thin_out(&mut self) {
        let until = if self.acked > 1 { self.acked } else { self.packets.len() };
        let mut index = 0;
        self.packets.retain(|_| {
            index += 1;
            index > until || index % 2 == 0
        });
        if self.acked > 1 {
            self.acked /= 2;
        }
    }
}

impl Packet {
    fn is_within(&self, bytes: u64) -> bool {
        self.end_byte.is_some_and(|end| end <= bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::socket::tcp_info::TcpInfo;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((1000 + millis) * 1_000_000)
    }

    /// Returns the state in which hyper has written `flushed` bytes, and the listener's machine has acknowledged `acked` and
    /// offers `window`.
    fn state(flushed: u64, acked: u64, window: u64) -> TrackedState {
        let socket = TcpInfo {
            acked_bytes: acked,
            window_bytes: Some(window),
            since_ack: Duration::from_millis(2),
            in_flight_bytes: 0,
            window_limited: Duration::ZERO,
        };
        TrackedState { flushed_bytes: Some(flushed), socket: Some(socket) }
    }

    const WINDOW: u64 = 65_536;

    #[test]
    fn a_packet_is_acknowledged_with_its_last_byte() {
        let mut in_flight = InFlight::default();
        in_flight.advance(&state(100, 100, WINDOW), at(0), |_| panic!("there is none"));
        assert_eq!(in_flight.reached(5), Reached { acked: 5, read: 5 }, "nothing is on its way");
        // hyper sends it in a frame of its own, 7 bytes more than was handed over.
        in_flight.write(5..6, 960, 1, 100, at(0));
        assert_eq!(in_flight.queued_bytes(), 960);
        let busy = TrackedState { flushed_bytes: None, ..state(0, 500, WINDOW) };
        in_flight.advance(&busy, at(1), |_| panic!("it is in hyper"));
        assert_eq!(in_flight.reached(6), Reached { acked: 5, read: 5 });
        in_flight.advance(&state(1067, 1066, WINDOW), at(2), |_| panic!("a byte is missing"));
        assert_eq!(in_flight.waiting_since(), Some(at(0)));
        let mut spans = Vec::new();
        in_flight.advance(&state(1067, 1067, WINDOW), at(12), |span| spans.push(span));
        assert_eq!(spans, [Duration::from_millis(10)], "it was acknowledged 2 ms before this look");
        assert_eq!(in_flight.reached(6), Reached { acked: 6, read: 6 });
        assert_eq!((in_flight.queued_bytes(), in_flight.waiting_since()), (0, None));
    }

    #[test]
    fn unread_packets_count_as_lag_with_the_gap_before_them() {
        let mut in_flight = InFlight::default();
        in_flight.advance(&state(0, 0, WINDOW), at(0), |_| {});
        for number in 0..10_u64 {
            in_flight.write(number..number + 1, 1000, 1, number * 1000, at(number));
            let end = (number + 1) * 1000;
            // From the fifth on, the program does not read.
            let window = WINDOW - (number + 1).saturating_sub(5) * 1000;
            in_flight.advance(&state(end, end, window), at(number), |_| {});
        }
        assert_eq!(in_flight.reached(10), Reached { acked: 10, read: 5 });
        // Twenty are lost; the next one is sent, not acknowledged.
        in_flight.write(10..31, 1000, 1, 10_000, at(31));
        in_flight.advance(&state(11_000, 10_000, WINDOW - 5000), at(32), |_| {});
        assert_eq!(in_flight.reached(31), Reached { acked: 10, read: 5 });
        in_flight.advance(&state(11_000, 11_000, WINDOW - 6000), at(33), |_| {});
        assert_eq!(in_flight.reached(31), Reached { acked: 31, read: 5 });
        in_flight.advance(&state(11_000, 11_000, WINDOW), at(34), |_| {});
        assert_eq!(in_flight.reached(31), Reached { acked: 31, read: 31 });
        // Two in a row, with no look between.
        in_flight.write(31..32, 1000, 1, 11_000, at(40));
        in_flight.write(32..33, 1000, 1, 12_000, at(40));
        in_flight.advance(&state(13_000, 12_000, WINDOW), at(41), |_| {});
        assert_eq!(in_flight.reached(33), Reached { acked: 32, read: 32 });
    }

    #[test]
    fn more_packets_than_are_followed_only_blur_positions() {
        let mut in_flight = InFlight::default();
        in_flight.advance(&state(0, 0, WINDOW), at(0), |_| {});
        let sent = 3 * MAX_PACKETS as u64;
        for number in 0..sent {
            in_flight.write(number..number + 1, 10, 1, number * 10, at(number));
            in_flight.advance(&state((number + 1) * 10, 0, WINDOW), at(number), |_| {});
            assert!(in_flight.packets.len() <= MAX_PACKETS);
        }
        for acked in [0, sent * 5, sent * 10] {
            in_flight.advance(&state(sent * 10, acked, WINDOW), at(sent), |_| {});
            let left = in_flight.reached(sent).acked;
            assert!(left <= acked / 10 && left + 8 >= acked / 10, "{left} of {acked}");
        }
    }
}
