//! Frames of FLAC in one listener's stream: numbered from 0 on, so that a player shows the time since it joined.

use std::io::Write as _;

use crate::rendition::codec::flac::frame::{Frame, distance};
use crate::rendition::packet::{Packet, Wire};

/// The numbers of one listener's frames. The frames of lost blocks keep theirs, so a gap shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameNumbering {
    /// The number of the first frame in the encoder's stream, once it is written.
    first: Option<u32>,
}

impl FrameNumbering {
    /// Appends `packet` as it goes over `wire`, with the listener's numbers, in as many bytes as the packet has: where the numbers
    /// take fewer, the length of the chunk gets more zeros before it. So positions on the connection are those in the encoder's bytes.
    ///
    /// A packet keeps the encoder's numbers if it has no chunk around it, as in HTTP/1.0, and if the listener's take more bytes
    /// because the encoder's have started again.
    pub fn append(&self, packet: &Packet, wire: Wire, bytes: &mut Vec<u8>) {
        let (shared, range) = (packet.bytes(wire), packet.payload(wire));
        let (payload, number) = (&shared[range.clone()], |frame: &Frame| self.number(packet, frame));
        let own_bytes: usize = packet.frames().iter().map(|frame| frame.bytes_with(number(frame))).sum();
        if wire != Wire::Chunked || own_bytes == 0 || own_bytes > payload.len() {
            return bytes.extend_from_slice(shared);
        }
        const LINE_END: &[u8] = b"\r\n";
        let digits = range.start - LINE_END.len() + payload.len() - own_bytes;
        // Writing to a vector can't fail.
        let _ = write!(bytes, "{own_bytes:0digits$x}\r\n");
        packet.frames().iter().for_each(|frame| frame.append_with(number(frame), payload, bytes));
        bytes.extend_from_slice(LINE_END);
    }

    /// Counts a packet that is written.
    pub fn advance(&mut self, packet: &Packet) {
        self.first = self.first.or_else(|| packet.frames().first().map(Frame::number));
    }

    /// Returns the listener's number of a frame in `packet`.
    fn number(&self, packet: &Packet, frame: &Frame) -> u32 {
        let first = self.first.or_else(|| packet.frames().first().map(Frame::number));
        distance(first.unwrap_or_default(), frame.number())
    }
}
