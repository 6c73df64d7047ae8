//! The bytes on their way to one listener's socket.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::sync::Arc;

use aircheck_engine::{Batch, Item, Loss, Timestamp};
use bytes::Bytes;
use mio::net::TcpStream;

use crate::delivery::socket::in_flight::InFlight;
use crate::delivery::tls::{ALERT_BYTES, Tls};
use crate::rendition::container::framing::{Framing, GapFill};
use crate::rendition::container::ogg::Weights;
use crate::rendition::packet::{self, MAX_RECORD_BYTES, Numbered, Packet, Wire, push_frame};

/// Bytes that are read from a socket at a time. Listeners send next to nothing.
pub(super) const READ_BYTES: usize = 4096;

/// A socket, and the pieces that it has not taken yet. A healthy listener has none, and takes no memory for them.
#[derive(Debug)]
pub(super) struct Output {
    stream: TcpStream,
    wire: Wire,
    is_full: bool,
    tls: Option<Box<Tls>>,
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
    /// The records of a connection with TLS, and where those of each packet end in them.
    sealed: Vec<u8>,
    sealed_ends: Vec<usize>,
}

/// Memory for what comes from a socket, and for what TLS makes of it. All listeners of a shard take turns with it.
#[derive(Debug)]
pub(super) struct InputBytes {
    read: Box<[u8; READ_BYTES]>,
    opened: Vec<u8>,
}

impl Default for InputBytes {
    fn default() -> Self {
        Self { read: Box::new([0; READ_BYTES]), opened: Vec::new() }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Read<'i> {
    pub(super) bytes: &'i [u8],
    /// Whether the socket may have more.
    pub(super) may_have_more: bool,
}

/// Bytes to write.
#[derive(Debug)]
enum Piece {
    /// A listener's own bytes, with which `blocks` blocks are complete, all of them lost for the same reason or none. With TLS, they are records
    /// if `is_sealed`; all other pieces become such once it is their turn, because records are made in the order in which they are
    /// sent.
    Own { bytes: Bytes, blocks: u64, loss: Option<Loss>, records: u32, is_sealed: bool },
    /// A packet as it is.
    Shared(Arc<Item<Packet>>),
    /// The same bytes in place of each of these lost blocks.
    Silence { bytes: Bytes, numbers: Range<u64> },
    /// The record that says that nothing follows.
    End,
}

impl Output {
    pub(super) fn new(stream: TcpStream, tls: Option<Box<Tls>>, wire: Wire) -> Self {
        Self { stream, wire, is_full: false, tls, waiting: None }
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
        self.add(Piece::own(bytes));
    }

    /// Adds the end of a connection with TLS.
    pub(super) fn finish(&mut self, in_flight: &mut InFlight) {
        if self.tls.is_some() {
            in_flight.hand_other(in_flight.handed_next(), ALERT_BYTES);
            self.add(Piece::End);
        }
    }

    /// Reads once from the socket.
    ///
    /// # Errors
    ///
    /// When the listener has closed the connection, and when TLS finds a record that is not genuine.
    pub(super) fn read<'i>(&mut self, input: &'i mut InputBytes) -> io::Result<Read<'i>> {
        let InputBytes { read, opened } = input;
        let Some(tls) = &mut self.tls else {
            let bytes = read_some(&self.stream, &mut read[..])?;
            // A full buffer may not have been all of it.
            return Ok(Read { bytes: &read[..bytes], may_have_more: bytes == READ_BYTES });
        };
        opened.clear();
        // What came before the shard had the connection.
        let mut is_open = tls.open(&[], opened)?;
        let mut may_have_more = true;
        if is_open && opened.is_empty() {
            let bytes = read_some(&self.stream, &mut read[..])?;
            may_have_more = bytes == READ_BYTES;
            match tls.open(&read[..bytes], opened) {
                Ok(still_open) => is_open = still_open,
                Err(error) => {
                    // The far end learns why, if the socket takes it.
                    let _ = write(&self.stream, &tls.take_alert());
                    return Err(error);
                }
            }
        }
        if !is_open && opened.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Read { bytes: opened, may_have_more: may_have_more || !is_open })
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
        next: u64,
        own: &mut OwnBytes,
        now: Timestamp,
    ) -> io::Result<()> {
        let is_own = run.iter().any(|item| framing.is_own(item));
        let OwnBytes { bytes, ends, weights, sealed, sealed_ends } = own;
        let mut bytes = make_own(framing, run, self.wire, weights, bytes, ends);
        hand_over(in_flight, run, ends, next, self.wire);
        let tls = self.tls.as_mut().filter(|_| self.waiting.is_none());
        let is_sealed = tls.is_some();
        if let Some(tls) = tls {
            seal(tls, in_flight, run, (bytes, ends), (sealed, sealed_ends))?;
            bytes = &sealed[..];
            std::mem::swap(ends, sealed_ends);
        }
        let mut written = if self.waiting.is_none() { self.write(bytes)? } else { 0 };
        in_flight.wrote(written, now);
        let mut start = 0;
        for (item, &end) in run.iter().zip(&*ends) {
            let blocks = item.stamp.blocks();
            if self.waiting.is_none() && written >= end - start {
                written -= end - start;
                count(in_flight, blocks, item.loss());
            } else {
                let is_first = self.waiting.is_none();
                let waiting = self.add(if is_own || is_sealed {
                    let records = item.records_of(end - start) as u32;
                    let bytes = Bytes::copy_from_slice(&bytes[start..end]);
                    Piece::Own { bytes, blocks, loss: item.loss(), records, is_sealed }
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
        {
            if let Some(tls) = &mut self.tls {
                waiting.seal_first(tls, in_flight, self.wire)?;
            }
            let Some(piece) = waiting.pieces.front() else { break };
            let bytes = match piece {
                Piece::Own { bytes, .. } | Piece::Silence { bytes, .. } => &bytes[..],
                Piece::Shared(item) => item.bytes(self.wire),
                Piece::End => &[],
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

impl Piece {
    /// Makes a piece of bytes that complete no block.
    fn own(bytes: Bytes) -> Self {
        let records = bytes.len().div_ceil(MAX_RECORD_BYTES) as u32;
        Self::Own { bytes, blocks: 0, loss: None, records, is_sealed: false }
    }
}

impl Waiting {
    /// Makes records of the first piece.
    fn seal_first(&mut self, tls: &mut Tls, in_flight: &mut InFlight, wire: Wire) -> io::Result<()> {
        let Some(piece) = self.pieces.front_mut() else { return Ok(()) };
        let mut sealed = Vec::new();
        let (control, blocks, loss) = match piece {
            Piece::Own { is_sealed: true, .. } => return Ok(()),
            Piece::Own { bytes, blocks, loss, records, .. } => {
                (tls.seal(bytes, u64::from(*records), &mut sealed)?, *blocks, *loss)
            }
            Piece::Shared(item) => {
                let control = tls.seal(item.bytes(wire), item.records(), &mut sealed)?;
                (control, item.stamp.blocks(), item.loss())
            }
            Piece::Silence { bytes, .. } => {
                let records = bytes.len().div_ceil(MAX_RECORD_BYTES) as u64;
                (tls.seal(bytes, records, &mut sealed)?, 0, None)
            }
            Piece::End => {
                tls.seal_end(&mut sealed)?;
                (0, 0, None)
            }
        };
        if control > 0 {
            in_flight.insert_control(in_flight.written(), control);
        }
        let sealed = Piece::Own { bytes: sealed.into(), blocks, loss, records: 0, is_sealed: true };
        match piece {
            Piece::Silence { numbers, .. } if numbers.end - numbers.start > 1 => {
                numbers.start += 1;
                self.pieces.push_front(sealed);
            }
            _ => *piece = sealed,
        }
        Ok(())
    }

    /// Counts the first piece, which is written, and removes it unless it is repeated.
    fn finish_piece(&mut self, in_flight: &mut InFlight) {
        self.offset = 0;
        match self.pieces.front_mut() {
            Some(Piece::Own { blocks, loss, .. }) => count(in_flight, *blocks, *loss),
            Some(Piece::Shared(item)) => count(in_flight, item.stamp.blocks(), item.loss()),
            Some(Piece::Silence { numbers, .. }) => {
                numbers.start += 1;
                if !numbers.is_empty() {
                    return;
                }
            }
            Some(Piece::End) | None => {}
        }
        self.pieces.pop_front();
    }
}

/// Returns the bytes of a run as the listener gets them, made in `own` unless they are those of a packet. `ends` says where each packet
/// ends in them; the first one may have the header of the stream before it.
fn make_own<'b>(
    framing: &mut Framing,
    run: &'b Batch<'_, Packet>,
    wire: Wire,
    weights: &mut Weights,
    own: &'b mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> &'b [u8] {
    own.clear();
    ends.clear();
    if let Some(item) = run.iter().next().filter(|item| run.items() == 1 && !framing.is_own(item)) {
        ends.push(item.bytes(wire).len());
        return item.bytes(wire);
    }
    let header = framing.take_header();
    for item in run.iter() {
        framing.append(item, wire, weights, own);
        framing.advance(item);
        ends.push(own.len());
    }
    if let (Some(header), Some(end)) = (header, ends.first().copied()) {
        let with_header = with_header(wire, &header, &own[..end]);
        ends.iter_mut().for_each(|later| *later += with_header.len() - end);
        own.splice(..end, with_header);
    }
    own
}

/// Hands over a run whose packets end at `ends`. What a packet has before it, a header or metadata, is none of its bytes.
fn hand_over(in_flight: &mut InFlight, run: &Batch<'_, Packet>, ends: &[usize], mut next: u64, wire: Wire) {
    let (mut start, overhead) = (0, in_flight.overhead());
    for (item, end) in run.iter().zip(ends) {
        let of_own = overhead.sealed_in(end - start, item.records_of(end - start));
        let other = of_own - item.sealed_len(wire, overhead);
        if other > 0 {
            in_flight.hand_sealed(next, other);
        }
        in_flight.hand_packet(next..item.stamp.next(), item.stamp.blocks(), item);
        next = item.stamp.next();
        start = *end;
    }
}

/// Makes records of a run, each packet with its own.
fn seal(
    tls: &mut Tls,
    in_flight: &mut InFlight,
    run: &Batch<'_, Packet>,
    (bytes, ends): (&[u8], &[usize]),
    (sealed, sealed_ends): (&mut Vec<u8>, &mut Vec<usize>),
) -> io::Result<()> {
    sealed.clear();
    sealed_ends.clear();
    let mut start = 0;
    for (item, end) in run.iter().zip(ends) {
        let at = in_flight.written() + sealed.len() as u64;
        let control = tls.seal(&bytes[start..*end], item.records_of(end - start), sealed)?;
        if control > 0 {
            in_flight.insert_control(at, control);
        }
        sealed_ends.push(sealed.len());
        start = *end;
    }
    Ok(())
}

/// Counts blocks of a packet that is written in full.
fn count(in_flight: &mut InFlight, blocks: u64, loss: Option<Loss>) {
    match loss {
        Some(loss) => in_flight.wrote_missing(blocks, loss),
        None => in_flight.wrote_blocks(blocks),
    }
}

/// Reads once.
fn read_some(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
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
