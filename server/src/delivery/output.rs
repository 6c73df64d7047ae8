//! The bytes on their way to one listener's socket.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use aircheck_engine::{Batch, Item, Timestamp};
use bytes::Bytes;
use mio::net::TcpStream;

use crate::delivery::socket::in_flight::InFlight;
use crate::rendition::container::framing::{Framing, GapFill};
use crate::rendition::container::ogg::Weights;
use crate::rendition::packet::{self, Numbered, Packet, Wire, push_frame};

/// A socket, and the pieces that it has not taken yet. A healthy listener has none, and takes no memory for them.
#[derive(Debug)]
pub(super) struct Output {
    stream: TcpStream,
    wire: Wire,
    is_full: bool,
    waiting: Option<Box<Waiting>>,
}

/// Pieces that wait: one at least.
#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    /// How many bytes of the first piece are written.
    offset: usize,
}

/// Memory in which packets get a listener's own numbers. All listeners of a shard take turns with it.
#[derive(Debug, Default)]
pub(super) struct OwnBytes {
    bytes: Vec<u8>,
    /// Where each packet of the run ends in them.
    ends: Vec<usize>,
    weights: Weights,
}

/// Bytes to write.
#[derive(Debug)]
enum Piece {
    /// A listener's own bytes, with which `blocks` blocks are complete, all of them missing ones or none.
    Own { bytes: Bytes, blocks: u64, is_missing: bool },
    /// A packet as it is.
    Shared(Arc<Item<Packet>>),
    /// The same bytes in place of each of these lost blocks.
    Silence { bytes: Bytes, numbers: Range<u64> },
}

impl Output {
    pub(super) fn new(stream: TcpStream, wire: Wire) -> Self {
        Self { stream, wire, is_full: false, waiting: None }
    }

    /// Returns how the connection carries packets.
    pub(super) fn wire(&self) -> Wire {
        self.wire
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Returns the number of pieces that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.pieces.len())
    }

    /// Returns whether the socket takes no more bytes at the moment.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Notes that the socket takes bytes again.
    pub(super) fn set_writable(&mut self) {
        self.is_full = false;
    }

    /// Adds bytes of the listener's own. `next` is the sequence number that follows.
    pub(super) fn push(&mut self, in_flight: &mut InFlight, next: u64, bytes: Bytes) {
        in_flight.hand_other(next, bytes.len());
        self.add(Piece::Own { bytes, blocks: 0, is_missing: false });
    }

    /// Adds a ping that carries how many bytes go before it. Its answer shows that they were read.
    pub(super) fn push_ping(&mut self, in_flight: &mut InFlight, now: Timestamp) {
        let before = in_flight.handed();
        let mut ping = Vec::new();
        push_frame(&mut ping, packet::PING, &before.to_be_bytes());
        self.push(in_flight, in_flight.handed_next(), ping.into());
        in_flight.pinged(before, now);
    }

    /// Adds the replacement of lost blocks, from the number `next` on. Returns the number that follows it.
    pub(super) fn push_fill(&mut self, in_flight: &mut InFlight, next: u64, fill: GapFill) -> u64 {
        match fill {
            GapFill::Nothing => next,
            GapFill::Notice(notice) => {
                self.push(in_flight, next, framed(self.wire, packet::TEXT, &notice).into());
                next
            }
            GapFill::Silence(silence, numbers) => {
                let (bytes, end) = (Bytes::from(framed(self.wire, packet::BINARY, &silence)), numbers.end);
                in_flight.hand_silence(&numbers, bytes.len());
                self.add(Piece::Silence { bytes, numbers });
                end
            }
        }
    }

    /// Writes packets at once, or adds them behind the pieces that wait. `next` is the number that the listener has reached
    /// before them.
    pub(super) fn send(
        &mut self,
        in_flight: &mut InFlight,
        framing: &mut Framing,
        run: &Batch<'_, Packet>,
        mut next: u64,
        own: &mut OwnBytes,
        now: Timestamp,
    ) -> io::Result<()> {
        let header = framing.take_header();
        let is_own = header.is_some() || framing.is_own();
        own.bytes.clear();
        own.ends.clear();
        let bytes = match run.iter().next() {
            Some(item) if run.items() == 1 && !is_own => item.bytes(self.wire),
            _ => {
                for item in run.iter() {
                    framing.append(item, self.wire, &mut own.weights, &mut own.bytes);
                    framing.advance(item);
                    own.ends.push(own.bytes.len());
                }
                if let (Some(header), Some(end)) = (header, own.ends.first().copied()) {
                    let with_header = with_header(self.wire, &header, &own.bytes[..end]);
                    own.ends.iter_mut().for_each(|later| *later += with_header.len() - end);
                    own.bytes.splice(..end, with_header);
                }
                &own.bytes
            }
        };
        let mut start = 0;
        for (index, item) in run.iter().enumerate() {
            // The header and metadata go before the packet.
            let other = own.ends.get(index).map_or(0, |end| end - start - item.bytes(self.wire).len());
            if other > 0 {
                in_flight.hand_other(next, other);
            }
            in_flight.hand_packet(next..item.stamp.next(), item.stamp.blocks(), item);
            next = item.stamp.next();
            start += other + item.bytes(self.wire).len();
        }
        let mut written = if self.waiting.is_none() { self.write(bytes)? } else { 0 };
        in_flight.wrote(written, now);
        let mut start = 0;
        for (index, item) in run.iter().enumerate() {
            let blocks = item.stamp.blocks();
            let end = own.ends.get(index).copied().unwrap_or(bytes.len());
            if self.waiting.is_none() && written >= end - start {
                written -= end - start;
                count(in_flight, blocks, item.is_missing());
            } else {
                let is_first = self.waiting.is_none();
                let waiting = self.add(if is_own {
                    let bytes = Bytes::copy_from_slice(&bytes[start..end]);
                    Piece::Own { bytes, blocks, is_missing: item.is_missing() }
                } else {
                    Piece::Shared(Arc::clone(item))
                });
                if is_first {
                    waiting.offset = written;
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Writes the pieces that wait, as far as the socket takes them.
    pub(super) fn flush(&mut self, in_flight: &mut InFlight, now: Timestamp) -> io::Result<()> {
        while !self.is_full
            && let Some(waiting) = &mut self.waiting
            && let Some(piece) = waiting.pieces.front()
        {
            let bytes = match piece {
                Piece::Own { bytes, .. } | Piece::Silence { bytes, .. } => &bytes[..],
                Piece::Shared(item) => item.bytes(self.wire),
            };
            let left = bytes.len() - waiting.offset;
            let written = write(&self.stream, &bytes[waiting.offset..])?;
            in_flight.wrote(written, now);
            waiting.offset += written;
            self.is_full = written < left;
            if !self.is_full {
                waiting.finish_piece(in_flight);
            }
            if waiting.pieces.is_empty() {
                self.waiting = None;
            }
        }
        Ok(())
    }

    fn add(&mut self, piece: Piece) -> &mut Waiting {
        let waiting = self.waiting.get_or_insert_default();
        waiting.pieces.push_back(piece);
        waiting
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = write(&self.stream, bytes)?;
        self.is_full = written < bytes.len();
        Ok(written)
    }
}

impl Waiting {
    /// Counts the first piece, which is written, and removes it unless it is repeated.
    fn finish_piece(&mut self, in_flight: &mut InFlight) {
        self.offset = 0;
        match self.pieces.front_mut() {
            Some(Piece::Own { blocks, is_missing, .. }) => count(in_flight, *blocks, *is_missing),
            Some(Piece::Shared(item)) => count(in_flight, item.stamp.blocks(), item.is_missing()),
            Some(Piece::Silence { numbers, .. }) => {
                numbers.start += 1;
                if !numbers.is_empty() {
                    return;
                }
            }
            None => {}
        }
        self.pieces.pop_front();
    }
}

/// Counts blocks of a packet that is written in full.
fn count(in_flight: &mut InFlight, blocks: u64, is_missing: bool) {
    if is_missing { in_flight.wrote_missing(blocks) } else { in_flight.wrote_blocks(blocks) }
}

/// Writes as many bytes as the socket takes. A connection that carries fewer than it was given is full, and the poller says
/// when it no longer is.
fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            written => return written,
        }
    }
}

/// Returns a framed packet with the header of its stream before its own bytes, in the same chunk.
fn with_header(wire: Wire, header: &[u8], packet: &[u8]) -> Vec<u8> {
    const LINE_END: &[u8] = b"\r\n";
    let payload = match wire {
        Wire::Chunked => {
            let start = packet.windows(LINE_END.len()).position(|bytes| bytes == LINE_END);
            start.map_or(packet, |start| &packet[start + LINE_END.len()..packet.len() - LINE_END.len()])
        }
        Wire::Plain | Wire::WebSocket => packet,
    };
    framed(wire, packet::BINARY, &[header, payload].concat())
}

/// Frames a listener's own bytes: as a chunk, as a message of this kind, or not at all.
pub(super) fn framed(wire: Wire, kind: u8, payload: &[u8]) -> Vec<u8> {
    match wire {
        Wire::Chunked => Packet::chunk(payload, Numbered::Nothing).bytes(wire).to_vec(),
        Wire::Plain => payload.to_vec(),
        Wire::WebSocket => {
            let mut bytes = Vec::new();
            push_frame(&mut bytes, kind, payload);
            bytes
        }
    }
}
