//! A listener in its shard: takes packets out of its ring as its limit of lag permits, and writes them to its socket.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use aircheck_api::{ClientText, Clock, LeaveReason, ServerText};
use aircheck_engine::{Consumer, End, Gap, Item, RecvError, Timestamp};
use bytes::Bytes;
use mio::net::TcpStream;
use tokio::sync::watch;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::delivery::client_messages::{ClientMessage, ClientMessages, close_answer, close_frame};
use crate::delivery::heard::HeardReports;
use crate::delivery::listener::Listener;
use crate::delivery::listeners::Registration;
use crate::delivery::mailbox::Assignment;
use crate::delivery::socket::options::SocketBuffer;
use crate::delivery::standing::Decision;
use crate::mount::throttle::Throttle;
use crate::rendition::container::framing::{Framing, GapFill};
use crate::rendition::doorbell::Doorbell;
use crate::rendition::encoders::{Subscription, Tail};
use crate::rendition::packet::{self, Packet, Wire, push_frame};
use crate::rendition::packet_log::PacketLog;

/// Bytes that are read from a socket at a time. Listeners send next to nothing.
pub(super) const READ_BYTES: usize = 4096;
/// Packets that are taken from a ring at a time. Those that the socket then does not take are past the listener's limit
/// of lag, so a listener whose socket was full gets one at a time.
const MAX_RUN: usize = 64;
/// With so many pieces to write, no more messages are read: a gap, the messages of a block, and answers.
const MAX_QUEUE: usize = 16;

/// The last bytes of a chunked response.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The answer to a request that follows a stream on the same connection.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 75\r\n\r\n{\"error\":\"a stream is the last response of its connection (open another)\"}\n";

/// Memory that a shard's sessions share.
#[derive(Debug)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    input: Box<[u8; READ_BYTES]>,
    /// Packets that were written together with others since this was last taken.
    pub(super) gathered: u64,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { bytes: Vec::new(), input: Box::new([0; READ_BYTES]), gathered: 0 }
    }
}

/// What the shard has to do after a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing, until there is a packet or the socket takes more.
    Idle,
    /// Check it again in a moment.
    Check,
    /// Everything is written: take leave of the far end.
    Over,
    /// Close the connection.
    Gone,
}

/// One listener's connection, its packets, and what is on the way from those to that.
#[derive(Debug)]
pub struct Session {
    /// Dropped before `registration`, so that the account is final when the listener is taken off the list.
    packets: Consumer<Packet>,
    tail: Tail,
    log: Arc<PacketLog>,
    doorbell: Arc<Doorbell>,
    registration: Registration,
    stream: TcpStream,
    wire: Wire,
    framing: Framing,
    /// Pieces that are to be written before more is taken from the ring; empty unless the socket is full.
    queue: VecDeque<Piece>,
    /// How many bytes of the first piece are written.
    offset: usize,
    input: Input,
    /// Whether the socket takes no more bytes.
    is_blocked: bool,
    /// Whether the socket was full since the ring was last empty.
    is_slow: bool,
    /// Whether the listener is held.
    is_held: bool,
    /// Whether the socket may have more input than was read.
    has_input: bool,
    /// The end of the ring, once it is reached and not written yet.
    ended: Option<End>,
    /// Whether the last piece is in the queue.
    is_over: bool,
    /// The end of the server waits until this is dropped.
    _open: watch::Receiver<bool>,
    assignment: Assignment,
}

/// Bytes to write.
#[derive(Debug)]
enum Piece {
    /// A listener's own bytes, with which `blocks` blocks are complete.
    Own { bytes: Bytes, blocks: u64 },
    /// A packet as it is.
    Shared(Arc<Item<Packet>>),
    /// The same bytes in place of each of these lost blocks.
    Silence { bytes: Bytes, numbers: Range<u64> },
}

/// What the listener sends.
#[derive(Debug)]
enum Input {
    /// Something, though its response is the last of its connection, or nothing.
    Http { has_more: bool },
    /// The body of its request, or nothing. It is passed over, with all that follows it.
    Body,
    /// Messages.
    WebSocket(Box<Messages>),
}

#[derive(Debug, Default)]
struct Messages {
    incoming: ClientMessages,
    heard: HeardReports,
    complaints: Throttle,
}

/// A listener that has joined, and the bytes with which its response begins.
#[derive(Debug)]
pub struct Joined {
    /// The listener.
    pub registration: Registration,
    /// Its ring and encoder.
    pub subscription: Subscription,
    /// How its connection carries packets.
    pub wire: Wire,
    /// The framing of its stream.
    pub framing: Framing,
    /// How much of the stream may wait in the kernel.
    pub socket_buffer: SocketBuffer,
    /// The head of the response, and whatever goes before the stream.
    pub head: Vec<u8>,
    /// Whether its request has a body, which may not have come yet.
    pub has_body: bool,
    /// Its place in a shard.
    pub assignment: Assignment,
}

impl Joined {
    /// Makes the session of the listener, for its shard. `stream` is non-blocking, and has carried `written` bytes before;
    /// `read` was read from it already. The end of the server waits for `open` to be dropped.
    #[must_use]
    pub fn into_session(
        self,
        stream: std::net::TcpStream,
        written: u64,
        read: &[u8],
        open: watch::Receiver<bool>,
    ) -> Session {
        let Self { registration, subscription, wire, mut framing, socket_buffer, mut head, has_body, assignment } =
            self;
        let Subscription { packets, tail, log, doorbell, .. } = subscription;
        socket_buffer.bound(&stream);
        let stream = TcpStream::from_std(stream);
        registration.listener().attach(stream.as_raw_fd(), written);
        if let Some(header) = framing.header() {
            push_framed(&mut head, wire, packet::BINARY, &header);
        }
        let input = match wire {
            Wire::WebSocket => Input::WebSocket(Box::default()),
            Wire::Chunked | Wire::Plain if has_body => Input::Body,
            Wire::Chunked | Wire::Plain => Input::Http { has_more: false },
        };
        let mut session = Session {
            packets,
            tail,
            log,
            doorbell,
            registration,
            stream,
            wire,
            framing,
            queue: VecDeque::new(),
            offset: 0,
            input,
            is_blocked: false,
            is_slow: false,
            is_held: false,
            has_input: false,
            ended: None,
            is_over: false,
            _open: open,
            assignment,
        };
        session.push_own(head.into());
        if !read.is_empty() {
            session.receive(read, Timestamp::now());
        }
        session
    }
}

impl Session {
    /// Returns the listener.
    pub(super) fn listener(&self) -> &Arc<Listener> {
        self.registration.listener()
    }

    /// Returns the number of its shard.
    pub(super) fn shard(&self) -> usize {
        self.assignment.mailbox().number()
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// Returns whether new packets change nothing: the socket is full, or the listener is held.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_blocked || self.is_held
    }

    /// Ends the listener, whose account is final then, and returns its connection.
    pub(super) fn into_stream(self) -> TcpStream {
        self.listener().detach();
        self.stream
    }

    /// Takes what the poller says about the socket.
    pub(super) fn take_event(&mut self, is_readable: bool, is_writable: bool, scratch: &mut Scratch) -> Outcome {
        let now = Timestamp::now();
        let was_blocked = self.is_blocked;
        if is_writable {
            self.is_blocked = false;
        }
        if is_readable && self.read(now, scratch).is_err() {
            return Outcome::Gone;
        }
        let has_reply = !self.queue.is_empty();
        if !self.is_blocked && (was_blocked || has_reply) { self.visit(now, scratch) } else { self.outcome() }
    }

    /// Looks again at a listener that is held, or has sent more than was read.
    pub(super) fn check(&mut self, scratch: &mut Scratch) -> Outcome {
        let now = Timestamp::now();
        self.is_held = false;
        if self.has_input && self.read(now, scratch).is_err() {
            return Outcome::Gone;
        }
        self.visit(now, scratch)
    }

    /// Writes what is to be written, as far as the socket takes it.
    pub(super) fn visit(&mut self, now: Timestamp, scratch: &mut Scratch) -> Outcome {
        if self.listener().must_hang_up() {
            let remote = self.listener().remote();
            tracing::info!(%remote, "closed the connection of a listener that did not read the end of its stream");
            return Outcome::Gone;
        }
        loop {
            while !self.queue.is_empty() && !self.is_blocked {
                if self.write_piece(now).is_err() {
                    return Outcome::Gone;
                }
            }
            if self.is_blocked {
                return self.outcome();
            }
            if self.is_over {
                return Outcome::Over;
            }
            if let Some(end) = self.ended.take() {
                self.push_end(end.gap);
                continue;
            }
            match self.send_next(now, scratch) {
                Ok(true) => {}
                Ok(false) => return self.outcome(),
                Err(_) => return Outcome::Gone,
            }
        }
    }

    fn outcome(&self) -> Outcome {
        if self.is_held || self.has_input { Outcome::Check } else { Outcome::Idle }
    }

    /// Takes packets from the ring and writes them, or the end. Returns whether there was one.
    fn send_next(&mut self, now: Timestamp, scratch: &mut Scratch) -> io::Result<bool> {
        let listener = self.registration.listener();
        match listener.decide(now) {
            Decision::Deliver => {}
            Decision::SkipToLive => self.packets.skip_to_newest(),
            Decision::End => listener.end_as_too_late(),
            Decision::Hold => {
                self.is_held = true;
                listener.note_full_socket();
                return Ok(false);
            }
        }
        let (wire, framing) = (self.wire, &mut self.framing);
        let max_run = if self.is_slow { 1 } else { MAX_RUN };
        let run = match self.packets.try_recv_run(now, max_run) {
            Ok(run) => run,
            Err(RecvError::Empty) => {
                self.is_slow = false;
                return Ok(false);
            }
            Err(RecvError::Ended(end)) => {
                self.ended = Some(end);
                return Ok(true);
            }
        };
        let (items, lag, gap) = (run.items(), run.lag_items, run.gap);
        let first = run.iter().next().map(|item| item.stamp).unwrap_or_default();
        let mut start = gap.map_or(first.first(), |gap| gap.from);
        let fill = gap.map_or(GapFill::Nothing, |gap| {
            listener.record_gap(gap.blocks);
            framing.fill(gap)
        });
        if items > 1 && !self.is_slow {
            scratch.gathered += items as u64 - 1;
        }
        let mut downstream = listener.downstream();
        let end = run.iter().last().map_or(start, |item| item.stamp.next());
        listener.record_taken(&mut downstream, start..end, lag, now.since(first.dispatched_at), now);
        match fill {
            GapFill::Nothing => {}
            GapFill::Notice(notice) => {
                let bytes = framed(wire, packet::TEXT, &notice);
                downstream.in_flight.hand_other(start, bytes.len());
                self.queue.push_back(Piece::Own { bytes, blocks: 0 });
            }
            GapFill::Silence(silence, numbers) => {
                let bytes = framed(wire, packet::BINARY, &silence);
                downstream.in_flight.hand_silence(&numbers, bytes.len());
                start = numbers.end;
                self.queue.push_back(Piece::Silence { bytes, numbers });
            }
        }
        if let Input::WebSocket(messages) = &mut self.input {
            run.iter().for_each(|item| messages.heard.sent(item.stamp));
        }
        if !self.queue.is_empty() {
            // Behind other pieces, which come first.
            for item in run.iter() {
                let piece = if framing.is_renumbered() {
                    let mut bytes = item.bytes(wire).to_vec();
                    framing.renumber(item, wire, &mut bytes);
                    framing.advance(item);
                    Piece::Own { bytes: bytes.into(), blocks: item.stamp.blocks() }
                } else {
                    Piece::Shared(Arc::clone(item))
                };
                self.queue.push_back(piece);
                downstream.in_flight.hand_packet(start..item.stamp.next(), item.stamp.blocks(), item);
                start = item.stamp.next();
            }
            return Ok(true);
        }
        let bytes = if items == 1 && !framing.is_renumbered() {
            run.iter().next().map_or(&[][..], |item| item.bytes(wire))
        } else {
            scratch.bytes.clear();
            for item in run.iter() {
                let begin = scratch.bytes.len();
                scratch.bytes.extend_from_slice(item.bytes(wire));
                framing.renumber(item, wire, &mut scratch.bytes[begin..]);
                framing.advance(item);
            }
            &scratch.bytes
        };
        for item in run.iter() {
            downstream.in_flight.hand_packet(start..item.stamp.next(), item.stamp.blocks(), item);
            start = item.stamp.next();
        }
        let mut written = match (&self.stream).write(bytes) {
            Ok(written) => written,
            Err(error) if is_full(&error) => 0,
            Err(error) => return Err(error),
        };
        downstream.in_flight.wrote(written, now);
        if written == bytes.len() {
            downstream.in_flight.wrote_blocks(run.iter().map(|item| item.stamp.blocks()).sum());
            return Ok(true);
        }
        // The rest waits in the queue.
        let mut begin = 0;
        for item in run.iter() {
            let length = item.bytes(wire).len();
            if self.queue.is_empty() && written >= length {
                written -= length;
                downstream.in_flight.wrote_blocks(item.stamp.blocks());
            } else {
                let piece = if framing.is_renumbered() {
                    let bytes = Bytes::copy_from_slice(&bytes[begin..begin + length]);
                    Piece::Own { bytes, blocks: item.stamp.blocks() }
                } else {
                    Piece::Shared(Arc::clone(item))
                };
                if self.queue.is_empty() {
                    self.offset = written;
                }
                self.queue.push_back(piece);
            }
            begin += length;
        }
        drop(downstream);
        (self.is_blocked, self.is_slow) = (true, true);
        listener.note_full_socket();
        Ok(true)
    }

    /// Queues the end of the stream.
    fn push_end(&mut self, gap: Option<Gap>) {
        let listener = Arc::clone(self.registration.listener());
        if let Some(gap) = gap {
            listener.record_gap(gap.blocks);
            match self.framing.fill(gap) {
                GapFill::Nothing => {}
                GapFill::Notice(notice) => self.push_own(framed(self.wire, packet::TEXT, &notice)),
                GapFill::Silence(silence, numbers) => {
                    let bytes = framed(self.wire, packet::BINARY, &silence);
                    listener.downstream().in_flight.hand_silence(&numbers, bytes.len());
                    self.queue.push_back(Piece::Silence { bytes, numbers });
                }
            }
        }
        self.is_over = true;
        let mut last = Vec::new();
        let tail = self.tail.get().and_then(Option::as_ref);
        if let Some(end) = self.framing.end(tail) {
            push_framed(&mut last, self.wire, packet::BINARY, &end);
        }
        match (self.wire, &self.input) {
            (Wire::Chunked, input) => {
                last.extend_from_slice(LAST_CHUNK);
                if matches!(input, Input::Http { has_more: true }) {
                    last.extend_from_slice(REFUSAL);
                }
            }
            (Wire::WebSocket, _) => {
                let reason = listener.leave_reason();
                let code = if reason == LeaveReason::Finished { CloseCode::Normal } else { CloseCode::Policy };
                last.extend(close_frame(code, reason.name()));
            }
            _ => {}
        }
        self.push_own(last.into());
    }

    /// Queues bytes that bring the listener no further.
    fn push_own(&mut self, bytes: Bytes) {
        let listener = self.registration.listener();
        let next = listener.tally().snapshot().next_sequence;
        listener.downstream().in_flight.hand_other(next, bytes.len());
        self.queue.push_back(Piece::Own { bytes, blocks: 0 });
    }

    /// Writes the first piece, as far as the socket takes it.
    fn write_piece(&mut self, now: Timestamp) -> io::Result<()> {
        let listener = self.registration.listener();
        let Some(piece) = self.queue.front_mut() else { return Ok(()) };
        let bytes = match piece {
            Piece::Own { bytes, .. } | Piece::Silence { bytes, .. } => &bytes[..],
            Piece::Shared(item) => item.bytes(self.wire),
        };
        let mut downstream = listener.downstream();
        let in_flight = &mut downstream.in_flight;
        match (&self.stream).write(&bytes[self.offset..]) {
            Ok(written) => {
                in_flight.wrote(written, now);
                self.offset += written;
            }
            Err(error) if is_full(&error) => {
                drop(downstream);
                (self.is_blocked, self.is_slow) = (true, true);
                listener.note_full_socket();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.offset < bytes.len() {
            return Ok(());
        }
        self.offset = 0;
        match piece {
            Piece::Own { blocks, .. } => in_flight.wrote_blocks(*blocks),
            Piece::Shared(item) => in_flight.wrote_blocks(item.stamp.blocks()),
            Piece::Silence { numbers, .. } => {
                numbers.start += 1;
                if !numbers.is_empty() {
                    return Ok(());
                }
            }
        }
        self.queue.pop_front();
        if self.queue.is_empty() {
            // A healthy listener needs none, so it keeps no memory for it.
            self.queue = VecDeque::new();
        }
        Ok(())
    }

    /// Reads what the listener sends. Fails if it has closed the connection.
    fn read(&mut self, now: Timestamp, scratch: &mut Scratch) -> io::Result<()> {
        self.has_input = true;
        if self.queue.len() >= MAX_QUEUE {
            return Ok(());
        }
        match self.stream.read(&mut scratch.input[..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                // A full buffer may not have been all of it.
                self.has_input = read == READ_BYTES;
                self.receive(&scratch.input[..read], now);
                Ok(())
            }
            Err(error) if is_full(&error) => {
                self.has_input = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, bytes: &[u8], now: Timestamp) {
        let messages = match &mut self.input {
            Input::Http { has_more } => {
                *has_more = true;
                return;
            }
            Input::Body => return,
            Input::WebSocket(messages) => messages,
        };
        if self.is_over {
            return;
        }
        messages.incoming.push(bytes);
        while let Input::WebSocket(messages) = &mut self.input
            && !self.is_over
            && let Some(message) = messages.incoming.take()
        {
            match message {
                ClientMessage::Text(text) => self.answer(&text, now),
                // Pings may be answered less often than they come (RFC 6455, section 5.5.3).
                ClientMessage::Ping(_) if self.queue.len() >= MAX_QUEUE => {}
                ClientMessage::Ping(payload) => self.push_frame(packet::PONG, &payload),
                ClientMessage::Close(code) => self.close(close_answer(code)),
                ClientMessage::Refused(code, reason) => self.close(close_frame(code, reason)),
            }
        }
    }

    /// Takes a report or a question of the listener's.
    fn answer(&mut self, text: &str, now: Timestamp) {
        let Input::WebSocket(messages) = &mut self.input else { return };
        let taken = match ClientText::parse(text) {
            Ok(ClientText::Clock(asked)) => {
                let answer = ServerText::Clock(Clock { asked, now: now.unix_seconds() });
                return self.push_frame(packet::TEXT, answer.to_json().as_bytes());
            }
            Ok(ClientText::Heard(heard)) => messages
                .heard
                .latency(heard, now, |sequence| self.log.captured_at(sequence))
                .map(|latency| self.registration.listener().record_heard(latency)),
            Err(complaint) => Err(complaint),
        };
        if let Err(complaint) = taken
            && messages.complaints.pass(now).is_some()
        {
            self.push_frame(packet::TEXT, ServerText::Error(complaint).to_json().as_bytes());
        }
    }

    fn push_frame(&mut self, kind: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, kind, payload);
        self.push_own(bytes.into());
    }

    /// Ends the session with this frame, after the pieces that are queued.
    fn close(&mut self, frame: Vec<u8>) {
        self.push_own(frame.into());
        self.is_over = true;
    }
}

/// Frames the listener's own bytes: as a chunk, as a message, or not at all.
fn framed(wire: Wire, kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    push_framed(&mut bytes, wire, kind, payload);
    bytes.into()
}

fn push_framed(bytes: &mut Vec<u8>, wire: Wire, kind: u8, payload: &[u8]) {
    match wire {
        Wire::Chunked => bytes.extend_from_slice(Packet::chunk(payload, Vec::new()).bytes(wire)),
        Wire::Plain => bytes.extend_from_slice(payload),
        Wire::WebSocket => push_frame(bytes, kind, payload),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
