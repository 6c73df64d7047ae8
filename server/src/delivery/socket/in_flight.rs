//! The packets between a listener's ring and its ear, as far as they can be followed: in hyper, in the kernel's send
//! queue, in the receive buffer of the listener's machine. From their sequence numbers follows how far the listener
//! is behind, whatever it lost between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::receive_window::ReceiveWindow;
use crate::delivery::socket::tracked_stream::TrackedState;

/// Most packets that are followed singly: 40 s of 10 ms blocks, 160 KB. Beyond it, every other one is let go, and
/// positions are only known to two packets.
const PACKETS_MOST: usize = 4096;

/// Over such a span it is told whether the listener's machine or the way to it keeps bytes here: its machine, if the
/// kernel waited for its window for a quarter of the time while little was on its way, or while that window is a small
/// one. Waiting alone says nothing: behind a slow link, all that a window permits is on its way.
const LIMITED_SPAN: Duration = Duration::from_millis(200);

/// One packet that was handed over.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// One past its sequence number.
    next: u64,
    /// Where it ends in the connection's bytes; not known before hyper has written it all.
    end_byte: Option<u64>,
    taken_at: Timestamp,
    /// Blocks that are written with it: none with silence, and several with one that the encoder completed late.
    blocks: u64,
}

/// The packets of one listener that have not been read yet.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    packets: VecDeque<Packet>,
    /// How many of them, from the front, have left this machine.
    left: usize,
    /// One past the sequence number of the last packet that has left, and of the last that was read.
    left_next: u64,
    read_next: u64,
    /// Where the last packet ends, by what hyper was given: without the framing that hyper adds.
    written_byte: u64,
    /// Length of the last packet.
    packet_bytes: u64,
    acked_byte: u64,
    unread: ReceiveWindow,
    unread_bytes: u64,
    window_bytes: u64,
    /// Blocks handed over, not counting silence.
    written_total: u64,
    /// When it was last looked at how long the window had kept bytes here, and how long that was.
    limited: Option<(Timestamp, Duration)>,
    /// Since then, there was a moment when little was on its way.
    was_still: bool,
    /// In the span before that, it was the listener's machine that kept bytes here.
    is_kept_back: bool,
}

/// Where the packets are that were taken from the ring, in sequence numbers. Each is one past the last that got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Left this machine: acknowledged by the listener's.
    pub(crate) left: u64,
    /// Read by the listener's program.
    pub(crate) read: u64,
}

impl InFlight {
    /// Follows the packets to where they are now, and tells `departed` how long each that has left was on its way
    /// through hyper and the kernel.
    pub(crate) fn advance(&mut self, wire: &TrackedState, now: Timestamp, mut departed: impl FnMut(Duration)) {
        self.flushed(wire.flushed_bytes);
        let Some(socket) = wire.socket else { return };
        self.acked_byte = socket.acked_bytes;
        self.unread_bytes =
            socket.window_bytes.map_or(0, |window| self.unread.observe(socket.acked_bytes, window, self.packet_bytes));
        self.window_bytes = socket.window_bytes.unwrap_or(u64::MAX);
        let (looked_at, limited) = *self.limited.get_or_insert((now, socket.window_limited));
        self.was_still |= 4 * socket.flying_bytes <= self.window_bytes + self.unread_bytes;
        let span = now.since(looked_at);
        if span >= LIMITED_SPAN {
            let is_own = self.was_still || self.unread.is_small();
            self.is_kept_back = is_own && 4 * socket.window_limited.saturating_sub(limited) > span;
            self.limited = Some((now, socket.window_limited));
            self.was_still = false;
        }
        // The last acknowledgement was then; earlier ones are not dated, so what they cover may seem to have left later.
        let left_at = now - socket.since_ack;
        while let Some(packet) = self.packets.get(self.left).filter(|packet| packet.is_within(self.acked_byte)) {
            departed(left_at.since(packet.taken_at));
            self.left_next = packet.next;
            self.left += 1;
        }
        let read_byte = self.acked_byte - self.unread_bytes;
        while self.left > 0 && self.packets[0].is_within(read_byte) {
            self.read_next = self.packets[0].next;
            self.packets.pop_front();
            self.left -= 1;
        }
    }

    /// Where hyper has written everything it was given, the last packet ends there.
    fn flushed(&mut self, flushed_bytes: Option<u64>) {
        if let (Some(flushed), Some(last)) = (flushed_bytes, self.packets.back_mut()) {
            last.end_byte.get_or_insert(flushed);
        }
    }

    /// Returns the number of blocks that hyper has written in full, `flushed_bytes` being where it has nothing left.
    pub(crate) fn written_blocks(&mut self, flushed_bytes: Option<u64>) -> u64 {
        self.flushed(flushed_bytes);
        let pending = self.packets.back().filter(|last| last.end_byte.is_none()).map_or(0, |last| last.blocks);
        self.written_total - pending
    }

    /// A packet of `bytes` bytes goes to hyper, which has written everything before it: `written_bytes`. It brings the
    /// listener from one sequence number to another, over what is lost before it too; of them it brings `blocks`.
    pub(crate) fn write(&mut self, numbers: Range<u64>, bytes: usize, blocks: u64, written_bytes: u64, now: Timestamp) {
        self.written_total += blocks;
        if let Some(last) = self.packets.back_mut() {
            last.end_byte.get_or_insert(written_bytes);
        }
        self.written_byte = written_bytes + bytes as u64;
        self.packet_bytes = bytes as u64;
        if self.left == self.packets.len() {
            self.left_next = numbers.start;
        }
        if self.packets.is_empty() {
            self.read_next = numbers.start;
        }
        if self.packets.len() >= PACKETS_MOST {
            self.thin_out();
        }
        self.packets.push_back(Packet { next: numbers.end, end_byte: None, taken_at: now, blocks });
    }

    /// How far the packets got, `taken` being one past the last that was taken from the ring.
    pub(crate) fn reached(&self, taken: u64) -> Reached {
        let left = if self.left == self.packets.len() { taken } else { self.left_next };
        let read = if self.packets.is_empty() { taken } else { self.read_next };
        Reached { left, read }
    }

    /// Packets that have not left this machine.
    pub(crate) fn socket_packets(&self) -> u64 {
        (self.packets.len() - self.left) as u64
    }

    /// Packets that have, and are unread.
    pub(crate) fn unread_packets(&self) -> u64 {
        self.left as u64
    }

    /// Bytes that have not left this machine.
    pub(crate) fn queued_bytes(&self) -> u64 {
        if self.left == self.packets.len() { 0 } else { self.written_byte.saturating_sub(self.acked_byte) }
    }

    /// Whether it is the listener's machine that keeps bytes here: more is unread than it would still take in, or the
    /// kernel says that it would have sent more if it might.
    pub(crate) fn is_window_limited(&self) -> bool {
        self.is_kept_back || self.unread_bytes > self.window_bytes
    }

    /// When the packet was taken that has waited longest to leave this machine.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        self.packets.get(self.left).map(|packet| packet.taken_at)
    }

    /// Lets go every other packet of those that have left, or of all if none has.
    fn thin_out(&mut self) {
        let until = if self.left > 1 { self.left } else { self.packets.len() };
        let mut index = 0;
        self.packets.retain(|_| {
            index += 1;
            index > until || index % 2 == 0
        });
        if self.left > 1 {
            self.left /= 2;
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

    /// hyper has written up to `flushed`, and the far machine has taken in `acked` and offers `window`.
    fn wire(flushed: u64, acked: u64, window: u64) -> TrackedState {
        let socket = TcpInfo {
            acked_bytes: acked,
            window_bytes: Some(window),
            since_ack: Duration::from_millis(2),
            flying_bytes: 0,
            window_limited: Duration::ZERO,
        };
        TrackedState { flushed_bytes: Some(flushed), socket: Some(socket) }
    }

    const WINDOW: u64 = 65_536;

    #[test]
    fn a_packet_has_left_when_its_last_byte_is_acknowledged() {
        let mut in_flight = InFlight::default();
        in_flight.advance(&wire(100, 100, WINDOW), at(0), |_| panic!("there is none"));
        assert_eq!(in_flight.reached(5), Reached { left: 5, read: 5 }, "nothing is on its way");
        // hyper sends it in a frame of its own, 7 bytes more than was handed over.
        in_flight.write(5..6, 960, 1, 100, at(0));
        assert_eq!(in_flight.queued_bytes(), 960);
        let busy = TrackedState { flushed_bytes: None, ..wire(0, 500, WINDOW) };
        in_flight.advance(&busy, at(1), |_| panic!("it is in hyper"));
        assert_eq!(in_flight.reached(6), Reached { left: 5, read: 5 });
        in_flight.advance(&wire(1067, 1066, WINDOW), at(2), |_| panic!("a byte is missing"));
        assert_eq!(in_flight.waiting_since(), Some(at(0)));
        let mut spans = Vec::new();
        in_flight.advance(&wire(1067, 1067, WINDOW), at(12), |span| spans.push(span));
        assert_eq!(spans, [Duration::from_millis(10)], "it was acknowledged 2 ms before this look");
        assert_eq!(in_flight.reached(6), Reached { left: 6, read: 6 });
        assert_eq!((in_flight.queued_bytes(), in_flight.waiting_since()), (0, None));
    }

    #[test]
    fn what_is_unread_is_behind_and_so_is_what_was_lost_before_it() {
        let mut in_flight = InFlight::default();
        in_flight.advance(&wire(0, 0, WINDOW), at(0), |_| {});
        for number in 0..10_u64 {
            in_flight.write(number..number + 1, 1000, 1, number * 1000, at(number));
            let end = (number + 1) * 1000;
            // From the fifth on, nobody reads.
            let window = WINDOW - (number + 1).saturating_sub(5) * 1000;
            in_flight.advance(&wire(end, end, window), at(number), |_| {});
        }
        assert_eq!(in_flight.reached(10), Reached { left: 10, read: 5 });
        // Twenty are lost; the next one is sent, not acknowledged.
        in_flight.write(10..31, 1000, 1, 10_000, at(31));
        in_flight.advance(&wire(11_000, 10_000, WINDOW - 5000), at(32), |_| {});
        assert_eq!(in_flight.reached(31), Reached { left: 10, read: 5 });
        in_flight.advance(&wire(11_000, 11_000, WINDOW - 6000), at(33), |_| {});
        assert_eq!(in_flight.reached(31), Reached { left: 31, read: 5 });
        in_flight.advance(&wire(11_000, 11_000, WINDOW), at(34), |_| {});
        assert_eq!(in_flight.reached(31), Reached { left: 31, read: 31 });
        // Two in a row, with no look between.
        in_flight.write(31..32, 1000, 1, 11_000, at(40));
        in_flight.write(32..33, 1000, 1, 12_000, at(40));
        in_flight.advance(&wire(13_000, 12_000, WINDOW), at(41), |_| {});
        assert_eq!(in_flight.reached(33), Reached { left: 32, read: 32 });
    }

    #[test]
    fn more_packets_than_are_followed_blur_positions_and_nothing_else() {
        let mut in_flight = InFlight::default();
        in_flight.advance(&wire(0, 0, WINDOW), at(0), |_| {});
        let sent = 3 * PACKETS_MOST as u64;
        for number in 0..sent {
            in_flight.write(number..number + 1, 10, 1, number * 10, at(number));
            in_flight.advance(&wire((number + 1) * 10, 0, WINDOW), at(number), |_| {});
            assert!(in_flight.packets.len() <= PACKETS_MOST);
        }
        for acked in [0, sent * 5, sent * 10] {
            in_flight.advance(&wire(sent * 10, acked, WINDOW), at(sent), |_| {});
            let left = in_flight.reached(sent).left;
            assert!(left <= acked / 10 && left + 8 >= acked / 10, "{left} of {acked}");
        }
    }
}
