//! The packets between a listener's ring and its ear, as far as they can be followed: in hyper, in the kernel's send
//! queue, in the receive buffer of the listener's machine. From their sequence numbers follows how far the listener
//! is behind, whatever it lost between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::unread::Unread;
use crate::wire::WireState;

/// Most packets that are followed singly: 40 s of 10 ms blocks, 96 KB. Beyond it, every other one is let go, and
/// positions are only known to two packets.
const PACKETS_MOST: usize = 4096;

/// One packet that was handed over.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// One past its sequence number.
    next: u64,
    /// Where it ends in the connection's bytes; not known before hyper has written it all.
    end_byte: Option<u64>,
    taken_at: Timestamp,
}

/// The packets of one listener that have not been read yet.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    packets: VecDeque<Packet>,
    /// How many of them, from the front, have left this machine.
    left: usize,
    /// One past the sequence number of the last packet that has left, and of the last that was read.
    left_next: u64,
    read_next: u64,
    /// Where the last packet ends, by what hyper was given: without the framing that hyper adds.
    handed_byte: u64,
    acked_byte: u64,
    unread: Unread,
    unread_bytes: u64,
    window_bytes: u64,
}

/// Where the packets are that were taken from the ring, in sequence numbers. Each is one past the last that got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Left this machine: acknowledged by the listener's.
    pub(crate) left: u64,
    /// Read by the listener's program.
    pub(crate) read: u64,
}

impl Journey {
    /// Follows the packets to where they are now, and tells `departed` how long each that has left was on its way
    /// through hyper and the kernel.
    pub(crate) fn advance(&mut self, wire: &WireState, now: Timestamp, mut departed: impl FnMut(Duration)) {
        // hyper has written everything it was given.
        if let (Some(flushed), Some(last)) = (wire.flushed_bytes, self.packets.back_mut()) {
            last.end_byte.get_or_insert(flushed);
        }
        let Some(socket) = wire.socket else { return };
        self.acked_byte = socket.acked_bytes;
        self.unread_bytes =
            socket.window_bytes.map_or(0, |window| self.unread.observe(socket.acked_bytes, window, now));
        self.window_bytes = socket.window_bytes.unwrap_or(u64::MAX);
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

    /// A packet of `bytes` bytes goes to hyper, which has written everything before it: `written_bytes`. It brings the
    /// listener from one sequence number to another, over what is lost before it too.
    pub(crate) fn hand_over(&mut self, numbers: Range<u64>, bytes: usize, written_bytes: u64, now: Timestamp) {
        self.handed_byte = written_bytes + bytes as u64;
        if self.left == self.packets.len() {
            self.left_next = numbers.start;
        }
        if self.packets.is_empty() {
            self.read_next = numbers.start;
        }
        if self.packets.len() >= PACKETS_MOST {
            self.thin_out();
        }
        self.packets.push_back(Packet { next: numbers.end, end_byte: None, taken_at: now });
    }

    /// How far the packets got, `taken` being one past the last that was taken from the ring.
    pub(crate) fn reached(&self, taken: u64) -> Reached {
        let left = if self.left == self.packets.len() { taken } else { self.left_next };
        let read = if self.packets.is_empty() { taken } else { self.read_next };
        Reached { left, read }
    }

    /// Bytes that have not left this machine.
    pub(crate) fn queued_bytes(&self) -> u64 {
        if self.left == self.packets.len() { 0 } else { self.handed_byte.saturating_sub(self.acked_byte) }
    }

    /// Whether more is unread than the listener's machine would still take in.
    pub(crate) fn is_closing(&self) -> bool {
        self.unread_bytes > self.window_bytes
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
