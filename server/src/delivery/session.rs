//! A listener in its shard: takes packets out of its ring as its limit of lag permits, writes them to its socket, and reads
//! what comes from there.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use aircheck_api::LeaveReason;
use aircheck_engine::{Consumer, Gap, Timestamp, TryRecvError, prefetch};
use mio::net::TcpStream;
use tokio::sync::watch;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::delivery::client_messages::close_frame;
use crate::delivery::input::{Answer, Input};
use crate::delivery::listener::Listener;
use crate::delivery::listeners::Registration;
use crate::delivery::look_budget::LookBudget;
use crate::delivery::mailbox::Assignment;
use crate::delivery::output::{InputBytes, Output, OwnBytes, Read, framed};
use crate::delivery::socket::hold::Wait;
use crate::delivery::socket::options::{SocketBuffer, end_pauses, outlast_pauses};
use crate::delivery::stale::NextPacket;
use crate::delivery::standing::Decision;
use crate::delivery::tls::{Tls, TlsFailure};
use crate::delivery::waits::RoundWaits;
use crate::rendition::container::framing::{Framing, GapFill};
use crate::rendition::doorbell::Doorbell;
use crate::rendition::encoders::{Subscription, Tail};
use crate::rendition::packet::{self, Packet, RecordOverhead, Wire};
use crate::rendition::packet_log::PacketLog;

/// With so many packets in the ring of a listener that keeps up, the shard is late, and takes them together. It does not do so
/// lightly: several in one write open the receive window as single ones do not, which can look like unread sound for minutes.
/// With pages of 100 ms, that is 0.8 s.
const MIN_RUN: usize = 8;
/// Packets that are taken together. Those that the socket then does not take are past the listener's limit of lag, so a
/// listener gets one at a time whose socket was full, and one that starts in the past; so does one that gets samples as they
/// are, because its receive window is taken at its word.
const MAX_RUN: usize = 64;
/// With so many pieces to write, no more messages are read.
const MAX_WAITING: usize = 16;

/// The last bytes of a chunked response.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The answer to a request that follows a stream on the same connection.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 75\r\n\r\n{\"error\":\"a stream is the last response of its connection (open another)\"}\n";

/// Memory that a shard's sessions share.
#[derive(Debug)]
pub(super) struct Scratch {
    own: OwnBytes,
    input: InputBytes,
    /// The looks at their connections.
    looks: LookBudget,
    /// The waits in their rings that are not recorded yet.
    pub(super) waits: RoundWaits,
    /// Packets that were written together with others since this was last taken.
    pub(super) gathered: u64,
}

impl Scratch {
    /// Makes that of one shard.
    pub(super) fn new() -> Self {
        Self {
            own: OwnBytes::default(),
            input: InputBytes::default(),
            looks: LookBudget::of_shard(),
            waits: RoundWaits::default(),
            gathered: 0,
        }
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

/// One listener's ring, its connection, and the bytes on their way from one to the other.
#[derive(Debug)]
pub struct Session {
    /// Dropped before `registration`, so that the account is final when the listener is taken off the list.
    packets: Consumer<Packet>,
    tail: Tail,
    log: Arc<PacketLog>,
    doorbell: Arc<Doorbell>,
    registration: Registration,
    framing: Framing,
    output: Output,
    input: Input,
    /// Whether it has a limit of lag. Noted here, so that no cache line of the listener is fetched to find none.
    has_max_lag: bool,
    /// Whether its ring was empty after a packet, since it started and since its socket was last full.
    keeps_up: bool,
    /// Whether the listener is held.
    is_held: bool,
    /// Blocks of a gap that goes on: the source has not delivered the last packets.
    open_gap: u64,
    /// How the next packets wait, and until when: their acknowledgement then shows more of what the listener's program reads.
    wait: Wait,
    waits_until: Option<Timestamp>,
    /// Whether the socket may have more input than was read.
    has_input: bool,
    /// Whether the last piece is on its way.
    is_over: bool,
    /// The end of the server waits until this is dropped.
    _open: watch::Receiver<bool>,
    assignment: Assignment,
}

/// What was taken from a ring.
enum Taken {
    /// Packets.
    Some,
    /// Nothing: the ring is empty, or the listener is held.
    Nothing,
    /// The end, after this gap.
    End(Option<Gap>),
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
    /// The head of the response, and all else that goes before the stream.
    pub head: Vec<u8>,
    /// Whether its request has a body, which may not have come yet.
    pub has_body: bool,
    /// Its place in a shard.
    pub assignment: Assignment,
}

/// A connection that becomes a listener's.
#[derive(Debug)]
pub struct Connection {
    /// Its socket, which does not block.
    pub stream: std::net::TcpStream,
    /// Its TLS, if it has that.
    pub tls: Option<Box<Tls>>,
    /// How many bytes the socket has taken already.
    pub written: u64,
}

impl Joined {
    /// Makes the session of the listener, for its shard. `read` was read from its connection already. The end of the server waits
    /// for `open` to be dropped.
    #[must_use]
    pub fn into_session(self, connection: Connection, read: &[u8], open: watch::Receiver<bool>) -> Session {
        let Connection { stream, tls, written } = connection;
        let Self { registration, subscription, wire, framing, mut socket_buffer, head, has_body, assignment } = self;
        let Subscription { packets, tail, log, doorbell, .. } = subscription;
        let overhead = tls.as_ref().map_or(RecordOverhead::default(), |tls| tls.overhead());
        socket_buffer.packet_bytes = overhead.sealed(socket_buffer.packet_bytes as usize);
        socket_buffer.bound(&stream);
        outlast_pauses(&stream);
        let stream = TcpStream::from_std(stream);
        registration.listener().attach(stream.as_raw_fd(), written, overhead);
        let has_max_lag = registration.listener().limits().max_lag.is_some();
        let mut session = Session {
            packets,
            tail,
            log,
            doorbell,
            registration,
            framing,
            output: Output::new(stream, tls, wire),
            input: Input::new(wire, has_body),
            has_max_lag,
            keeps_up: false,
            is_held: false,
            open_gap: 0,
            wait: Wait::Not,
            waits_until: None,
            has_input: false,
            is_over: false,
            _open: open,
            assignment,
        };
        session.push(head);
        if !read.is_empty() {
            session.take_input(read, Timestamp::now());
        }
        // TLS may have opened more than was asked for.
        session.has_input = overhead != RecordOverhead::default();
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
        self.output.stream()
    }

    pub(super) fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// Asks the processor to fetch what a visit reads besides the session itself.
    pub(super) fn prefetch(&self) {
        self.packets.prefetch();
        prefetch(&**self.listener());
    }

    /// Asks the processor to fetch the place of its next packet, once what [`prefetch`](Self::prefetch) asked for is there.
    pub(super) fn prefetch_next(&self) {
        self.packets.prefetch_next();
    }

    /// Returns whether there are packets in its ring.
    pub(super) fn has_packets(&self) -> bool {
        self.packets.queued_items() > 0
    }

    /// Returns whether new packets change nothing: the socket is full, or the listener is held.
    pub(super) fn is_waiting(&self, now: Timestamp) -> bool {
        let is_over = self.waits_until.is_some_and(|until| until <= now);
        self.output.is_full() || (self.is_held && !is_over)
    }

    /// Ends the listener, whose account is final then, and returns its connection.
    pub(super) fn into_stream(self) -> TcpStream {
        self.listener().detach();
        let stream = self.output.into_stream();
        end_pauses(&stream);
        stream
    }

    /// Reads and writes as the poller says that the socket permits.
    pub(super) fn take_event(&mut self, is_readable: bool, is_writable: bool, scratch: &mut Scratch) -> Outcome {
        let now = Timestamp::now();
        let was_full = self.output.is_full();
        if is_writable {
            self.output.set_writable();
        }
        if is_readable && let Err(error) = self.read(now, scratch) {
            return self.broken(&error, now);
        }
        let has_answer = self.output.waiting() > 0;
        if was_full || has_answer { self.visit(now, scratch, true) } else { self.outcome() }
    }

    /// Visits a listener that is to end.
    pub(super) fn visit_for_end(&mut self, scratch: &mut Scratch) -> Outcome {
        if self.listener().must_hang_up() {
            if self.listener().leave_reason() == LeaveReason::Gone {
                return Outcome::Gone;
            }
            let remote = self.listener().client();
            tracing::info!(%remote, "closed the connection of a listener that did not read the end of its stream");
            return Outcome::Gone;
        }
        self.visit(Timestamp::now(), scratch, true)
    }

    /// Looks again at a listener that is held, or has sent more than was read.
    pub(super) fn check(&mut self, scratch: &mut Scratch) -> Outcome {
        let now = Timestamp::now();
        self.is_held = false;
        if self.has_input
            && let Err(error) = self.read(now, scratch)
        {
            return self.broken(&error, now);
        }
        self.visit(now, scratch, true)
    }

    /// Writes the pieces that wait and the packets of the ring, as far as the socket takes them. With `looks_for_end`, also looks
    /// for the end of the stream; that is another cache line for each listener, so a round for a packet does without.
    pub(super) fn visit(&mut self, now: Timestamp, scratch: &mut Scratch, looks_for_end: bool) -> Outcome {
        loop {
            if self.output.waiting() > 0 {
                let in_flight = &mut self.registration.listener().downstream().in_flight;
                let flushed = self.output.flush(in_flight, Timestamp::now());
                if let Err(error) = flushed {
                    return self.broken(&error, now);
                }
            }
            if self.output.is_full() {
                self.keeps_up = false;
                self.listener().note_full_socket(now);
                return self.outcome();
            }
            if self.is_over {
                return Outcome::Over;
            }
            match self.send_next(now, scratch) {
                Ok(Taken::Some) if looks_for_end || self.output.waiting() > 0 || self.packets.queued_items() > 0 => {}
                Ok(Taken::Some) => {
                    self.keeps_up = true;
                    return self.outcome();
                }
                Ok(Taken::Nothing) => return self.outcome(),
                Ok(Taken::End(gap)) => self.end(gap),
                Err(error) => return self.broken(&error, now),
            }
        }
    }

    /// Ends a listener whose connection has failed. The kernel may have ended that because the listener's machine is gone, and TLS
    /// may have because it cannot go on.
    fn broken(&self, error: &io::Error, now: Timestamp) -> Outcome {
        use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};

        if matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable) {
            self.listener().end(LeaveReason::Gone, now);
        }
        if let Some(failure) = TlsFailure::of(error) {
            self.listener().end(LeaveReason::Tls, now);
            let remote = self.listener().client();
            tracing::info!(%remote, "ended a listener: {failure}");
        }
        Outcome::Gone
    }

    fn outcome(&self) -> Outcome {
        if self.is_held || self.has_input { Outcome::Check } else { Outcome::Idle }
    }

    /// Takes packets from the ring and sends them.
    fn send_next(&mut self, now: Timestamp, scratch: &mut Scratch) -> io::Result<Taken> {
        if let Wait::Next(delay) = self.wait {
            let is_next = self.packets.queued_items() == 1;
            self.waits_until = is_next.then(|| self.waits_until.unwrap_or(now + delay));
        }
        if self.waits_until.is_some_and(|until| now < until) {
            self.is_held = true;
            return Ok(Taken::Nothing);
        }
        if self.waits_until.take().is_some() {
            self.is_held = false;
        }
        let Self { packets, registration, framing, output, input, open_gap, .. } = self;
        let listener = registration.listener();
        let decision = if self.has_max_lag { listener.decide(now) } else { Decision::Deliver };
        match decision {
            Decision::Deliver => {}
            Decision::SkipToLive => packets.skip_to_newest(),
            Decision::End => listener.end(LeaveReason::MaxLag, now),
            Decision::Hold => {
                self.is_held = true;
                listener.note_backlog(true);
                return Ok(Taken::Nothing);
            }
        }
        let is_late = packets.queued_items() >= MIN_RUN && self.keeps_up && !listener.is_dense();
        let may_run = is_late || matches!(self.wait, Wait::All(_));
        let run = packets.try_recv_batch(now, if may_run { MAX_RUN } else { 1 });
        let run = match run {
            Ok(run) => run,
            Err(TryRecvError::Empty) => return Ok(Taken::Nothing),
            Err(TryRecvError::Ended(end)) => return Ok(Taken::End(end.gap)),
        };
        let mut fill = GapFill::Nothing;
        if let Some(gap) = run.gap {
            *open_gap += gap.items;
            fill = framing.fill(gap);
        }
        for item in run.iter() {
            if item.loss().is_some() {
                *open_gap += item.stamp.blocks();
            } else if *open_gap > 0 {
                listener.record_gap(std::mem::take(open_gap));
            }
        }
        let open_gap = *open_gap;
        if is_late {
            scratch.gathered += run.items() as u64 - 1;
        }
        run.iter().for_each(|item| input.sent(item.stamp));
        let first = run.iter().next().map_or(0, |item| item.stamp.first());
        let next_packet = NextPacket { gap: run.gap, first, is_newest: run.lag_items < run.blocks() };
        let stale = input.stale_notice(next_packet, listener);
        let mut downstream = listener.downstream();
        downstream.open_gap = open_gap;
        let start = listener.record_taken(&mut downstream, &run, now, &mut scratch.waits, &mut scratch.looks);
        if matches!(fill, GapFill::Silence(..))
            && let Some(header) = framing.take_header()
        {
            output.push(&mut downstream.in_flight, start, framed(output.wire(), packet::BINARY, &header).into());
        }
        let next = output.push_fill(&mut downstream.in_flight, start, fill);
        if let Some(text) = stale {
            let bytes = framed(output.wire(), packet::TEXT, text.as_bytes());
            output.push(&mut downstream.in_flight, next, bytes.into());
        }
        // The time of this write, not that of the round: it tells how late its acknowledgement comes.
        output.send(&mut downstream.in_flight, framing, &run, next, &mut scratch.own, Timestamp::now())?;
        self.wait = downstream.in_flight.wait();
        if let Wait::All(span) = self.wait {
            self.waits_until = Some(now + span);
        }
        if output.wire() == Wire::WebSocket && downstream.in_flight.is_ping_due(now) {
            output.push_ping(&mut downstream.in_flight, now);
        }
        Ok(Taken::Some)
    }

    /// Sends the end of the stream, after this gap.
    fn end(&mut self, gap: Option<Gap>) {
        let wire = self.output.wire();
        let listener = self.registration.listener();
        let open_gap = std::mem::take(&mut self.open_gap) + gap.map_or(0, |gap| gap.items);
        if open_gap > 0 {
            listener.record_gap(open_gap);
        }
        if let Some(header) = self.framing.take_header() {
            // There was no sound to go with it.
            self.push(framed(wire, packet::BINARY, &header));
        }
        let listener = self.registration.listener();
        if let Some(gap) = gap {
            let fill = self.framing.fill(gap);
            self.output.push_fill(&mut listener.downstream().in_flight, gap.from, fill);
        }
        let mut last = Vec::new();
        let tail = self.tail.get().and_then(Option::as_ref);
        if let Some(end) = self.framing.end(tail) {
            last.extend(framed(wire, packet::BINARY, &end));
        }
        match wire {
            Wire::Chunked => {
                last.extend_from_slice(LAST_CHUNK);
                if self.input.has_more() {
                    last.extend_from_slice(REFUSAL);
                }
            }
            Wire::Plain => {}
            Wire::WebSocket => {
                let reason = listener.leave_reason();
                let code = match reason {
                    LeaveReason::Finished | LeaveReason::Removed => CloseCode::Normal,
                    LeaveReason::Failed => CloseCode::Error,
                    _ => CloseCode::Policy,
                };
                last.extend(close_frame(code, reason.name()));
            }
        }
        self.push(last);
        self.finish();
    }

    /// Ends what is sent. With TLS, a record says so, which the network can't forge.
    fn finish(&mut self) {
        let listener = self.registration.listener();
        self.output.finish(&mut listener.downstream().in_flight);
        self.is_over = true;
    }

    /// Sends bytes that bring the listener no further.
    fn push(&mut self, bytes: Vec<u8>) {
        let listener = self.registration.listener();
        let next = listener.stats().snapshot().next_sequence;
        self.output.push(&mut listener.downstream().in_flight, next, bytes.into());
    }

    /// Reads what the listener sends. Fails if it has closed the connection.
    fn read(&mut self, now: Timestamp, scratch: &mut Scratch) -> io::Result<()> {
        self.has_input = true;
        if self.output.waiting() >= MAX_WAITING {
            return Ok(());
        }
        match self.output.read(&mut scratch.input) {
            Ok(Read { bytes, may_have_more }) => {
                self.has_input = may_have_more;
                self.take_input(bytes, now);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.has_input = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn take_input(&mut self, bytes: &[u8], now: Timestamp) {
        if self.is_over {
            return;
        }
        let Answer { bytes, is_last } = self.input.take(bytes, self.registration.listener(), &self.log, now);
        if !bytes.is_empty() {
            self.push(bytes);
        }
        if is_last {
            self.finish();
        }
    }
}
