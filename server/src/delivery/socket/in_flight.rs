//! Bytes in flight: handed to a listener's connection, and not yet read by its program. They are in the shard, in the
//! kernel's send queue, or in the receive buffer of the listener's machine.
//!
//! No packet is remembered for each listener. The encoder's log knows where each packet ends in the bytes of all packets,
//! and the bytes of a connection are parts of those, with others between them: heads, notices, silence. So a position in
//! the bytes of the connection leads to a sequence number.
//!
//! With TLS, the bytes of a connection are those of its records. Each packet has records of its own, and a record is longer
//! than what it carries by an overhead that never changes, so that positions lead to sequence numbers as they do without TLS.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::{Loss, Timestamp};

use crate::delivery::socket::hold::Wait;
use crate::delivery::socket::receive_queue::{ReceiveQueue, Unread};
use crate::delivery::socket::tcp_info::TcpInfo;
use crate::rendition::packet::{Packet, RecordOverhead, Wire};
use crate::rendition::packet_log::PacketLog;

/// Parts that are followed one by one. Beyond it the oldest ones become one, and positions in that are not known.
const MAX_PARTS: usize = 128;

/// Time between two decisions whether the listener's machine or the network keeps bytes here. It is the machine if the kernel
/// waited for its receive window for a quarter of this span while little was in flight, or while that window is small.
/// Waiting alone says nothing: on a slow link, all that the window permits is in flight.
const WINDOW_LIMIT_INTERVAL: Duration = Duration::from_millis(200);

/// The bytes in flight of one listener.
#[derive(Debug)]
pub(crate) struct InFlight {
    log: Arc<PacketLog>,
    wire: Wire,
    /// What TLS adds to each record.
    overhead: RecordOverhead,
    /// The last part, and those before it that may still be in flight.
    last: Part,
    earlier: Vec<Part>,
    /// Where the last byte that was handed over ends in the bytes of the connection, and the last that the kernel took.
    handed: u64,
    written: u64,
    written_at: Timestamp,
    /// Blocks that are written in full.
    written_blocks: u64,
    missing_blocks: u64,
    /// Those of them that did not come from another server.
    missing_on_hop: u64,
    /// Bytes of the last packet, and the number of its blocks.
    packet: (u32, u32),
    acked: u64,
    unread: Unread,
    /// One past the sequence number of the last block that was read for certain, and of the last that was handed over.
    proven: u64,
    handed_next: u64,
    window: u64,
    queue: ReceiveQueue,
    /// Bytes at which one of [`marks`](Self::marks) stood still from one look to the next, and the sequence number to which each
    /// leads: the log forgets it while a listener pauses for minutes.
    known: Option<Box<[(u64, u64); 3]>>,
    /// A byte that was not acknowledged at a look, and when it was written; byte 0 if there was none.
    mark: (u64, Timestamp),
    /// Where the last measured byte was.
    measured: u64,
    /// The time of the last decision on the window's limit, and the total time in which the window had kept bytes here by then.
    limited: Option<(Timestamp, Duration)>,
    /// The most memory that a Unix socket took for 1024 bytes since all was read: that depends on their packets.
    memory_of_kibibyte: u32,
    /// Whether little was in flight at some moment since then.
    was_idle: bool,
    /// The last decision: whether the listener's machine kept bytes here.
    was_window_limited: bool,
}

/// Bytes of one kind that follow each other on a connection.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where it starts in the bytes of the connection.
    start: u64,
    /// The sequence number that a listener has reached who has read everything before this part.
    reached: u64,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    /// Bytes that bring the listener no further.
    Other,
    /// Packets that follow each other in the encoder's bytes, from `start` there. The first one ends at `first_end`.
    Packets { start: u64, first_end: u64 },
    /// Silence in place of lost blocks, each of so many bytes.
    Silence { block_bytes: u64 },
}

/// Progress of a listener. Each position is one past the sequence number of the last block that got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Acknowledged by the listener's machine.
    pub(crate) acked: u64,
    /// Read by the listener's program: for certain, probably, and at most.
    pub(crate) read_at_least: u64,
    pub(crate) read: u64,
    pub(crate) read_at_most: u64,
}

impl InFlight {
    /// Makes the record of a connection that carries the packets of `log` as `wire`.
    pub(crate) fn new(log: Arc<PacketLog>, wire: Wire) -> Self {
        Self {
            log,
            wire,
            overhead: RecordOverhead::default(),
            last: Part { start: 0, reached: 0, content: Content::Other },
            earlier: Vec::new(),
            handed: 0,
            written: 0,
            written_at: Timestamp::default(),
            written_blocks: 0,
            missing_blocks: 0,
            missing_on_hop: 0,
            packet: (0, 1),
            acked: 0,
            unread: Unread::default(),
            proven: 0,
            handed_next: 0,
            window: u64::MAX,
            queue: ReceiveQueue::default(),
            known: None,
            mark: (0, Timestamp::default()),
            measured: 0,
            limited: None,
            memory_of_kibibyte: 0,
            was_idle: false,
            was_window_limited: false,
        }
    }

    /// Begins after the `written` bytes of the connection that other responses took. Its records have this `overhead`.
    pub(crate) fn begin(&mut self, written: u64, overhead: RecordOverhead, now: Timestamp) {
        self.overhead = overhead;
        (self.handed, self.written, self.acked, self.measured) = (written, written, written, written);
        self.queue.proof.begin(written, now);
        self.last.start = written;
    }

    /// Hands over a packet that brings the listener past `numbers`, which may begin with lost blocks.
    pub(crate) fn hand_packet(&mut self, numbers: Range<u64>, blocks: u64, packet: &Packet) {
        let bytes = packet.sealed_len(self.wire, self.overhead);
        let end = packet.ends().sealed(self.wire, self.overhead);
        let follows = match self.last.content {
            Content::Packets { start, .. } => start + (self.handed - self.last.start) == end - bytes,
            Content::Other | Content::Silence { .. } => false,
        };
        if !follows {
            self.begin_part(numbers.start, Content::Packets { start: end - bytes, first_end: end });
        }
        self.handed += bytes;
        self.handed_next = numbers.end;
        // For figures that are nearly right; a packet is far shorter than these bounds.
        self.packet = (u32::try_from(bytes).unwrap_or(u32::MAX), u32::try_from(blocks).unwrap_or(u32::MAX));
    }

    /// Hands over silence of `block_bytes` bytes in place of each of these lost blocks.
    pub(crate) fn hand_silence(&mut self, numbers: &Range<u64>, block_bytes: usize) {
        let block_bytes = self.overhead.sealed(block_bytes);
        self.begin_part(numbers.start, Content::Silence { block_bytes });
        self.handed += block_bytes * (numbers.end - numbers.start);
        self.handed_next = numbers.end;
    }

    /// Hands over other bytes. `next` is the sequence number that follows.
    pub(crate) fn hand_other(&mut self, next: u64, bytes: usize) {
        self.hand_sealed(next, self.overhead.sealed(bytes));
    }

    /// Hands over other bytes of the connection, the overhead of their records included.
    pub(crate) fn hand_sealed(&mut self, next: u64, bytes: u64) {
        self.begin_part(next, Content::Other);
        self.handed += bytes;
        self.handed_next = next;
    }

    /// Returns what TLS adds to each record.
    pub(crate) fn overhead(&self) -> RecordOverhead {
        self.overhead
    }

    /// Notes that TLS has put `bytes` bytes of its own in front of the byte `at`, between two records: a change of keys.
    pub(crate) fn insert_control(&mut self, at: u64, bytes: u64) {
        let reached = self.position(at, self.handed_next);
        let mut parts = std::mem::take(&mut self.earlier);
        parts.push(self.last);
        let after = parts.partition_point(|part| part.start < at);
        let mut rest = parts.split_off(after);
        if let Some(Part { start, content, .. }) = parts.last().copied()
            && rest.first().map_or(self.handed, |part| part.start) > at
        {
            let content = match content {
                // The packet before `at` has ended there, so none of what is left of the part is a first one that is cut.
                Content::Packets { start: from, first_end } => {
                    Content::Packets { start: from + (at - start), first_end: first_end.min(from + (at - start)) }
                }
                Content::Other | Content::Silence { .. } => content,
            };
            rest.insert(0, Part { start: at, reached, content });
        }
        self.handed += bytes;
        parts.push(Part { start: at, reached, content: Content::Other });
        parts.extend(rest.into_iter().map(|part| Part { start: part.start + bytes, ..part }));
        self.last = parts.pop().unwrap_or(self.last);
        self.earlier = parts;
        self.bound_parts();
    }

    fn begin_part(&mut self, reached: u64, content: Content) {
        if self.handed == self.queue.proof.proven() {
            self.proven = reached;
        }
        let part = Part { start: self.handed, reached, content };
        let before = std::mem::replace(&mut self.last, part);
        if before.start < part.start {
            self.earlier.push(before);
        }
        self.bound_parts();
    }

    fn bound_parts(&mut self) {
        while self.earlier.len() > MAX_PARTS {
            self.earlier.remove(1);
            self.earlier[0].content = Content::Other;
        }
    }

    /// Counts bytes that the kernel took.
    pub(crate) fn wrote(&mut self, bytes: usize, now: Timestamp) {
        let bytes = bytes as u64;
        self.written += bytes;
        let packet_bytes = self.packet.0.into();
        self.queue.wrote(self.written, bytes, packet_bytes, now.since(self.written_at), now);
        self.written_at = now;
    }

    /// Returns whether the kernel is to be asked before the next write, because that shows what was read.
    pub(crate) fn wants_look(&self, now: Timestamp) -> bool {
        self.queue.wants_look(now)
    }

    /// Returns whether the kernel is to be asked before the next write although it would not be if the program read at once.
    pub(crate) fn wants_more_looks(&self, now: Timestamp) -> bool {
        self.queue.wants_more_looks(now)
    }

    /// Returns whether a look before the next write may begin a test.
    pub(crate) fn is_test_near(&self) -> bool {
        self.queue.proof.is_test_near()
    }

    /// Returns whether that may be the first test of all.
    pub(crate) fn is_first_test_near(&self) -> bool {
        self.queue.proof.is_first_test_near()
    }

    /// Postpones such looks until the listener's turn, or permits them again.
    pub(crate) fn postpone_looks(&mut self, are_postponed: bool) {
        self.queue.proof.postpone(are_postponed);
    }

    /// Returns whether the listener's program had read everything at the last test, and its window need not be followed now.
    pub(crate) fn reads_promptly(&self, now: Timestamp) -> bool {
        self.queue.reads_promptly(self.packet.0.into(), now)
    }

    /// Counts blocks that are written in full.
    pub(crate) fn wrote_blocks(&mut self, blocks: u64) {
        self.written_blocks += blocks;
    }

    /// Counts missing blocks in whose place something is written in full.
    pub(crate) fn wrote_missing(&mut self, blocks: u64, loss: Loss) {
        self.missing_blocks += blocks;
        if loss == Loss::Hop {
            self.missing_on_hop += blocks;
        }
    }

    /// Returns the number of missing blocks in whose place something is written in full.
    pub(crate) fn missing_blocks(&self) -> u64 {
        self.missing_blocks
    }

    /// Returns the number of those among them that did not come from another server.
    pub(crate) fn missing_on_hop(&self) -> u64 {
        self.missing_on_hop
    }

    /// Returns the number of blocks that are written in full.
    pub(crate) fn written_blocks(&self) -> u64 {
        self.written_blocks
    }

    /// Returns how many bytes of the connection the kernel has taken.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns when the kernel last took bytes.
    pub(crate) fn written_at(&self) -> Timestamp {
        self.written_at
    }

    /// Returns whether a WebSocket listener is to be pinged, so that its answer shows what it has read.
    pub(crate) fn is_ping_due(&self, now: Timestamp) -> bool {
        self.queue.is_ping_due(now)
    }

    /// Returns whether the answer to a ping is due.
    pub(crate) fn is_answer_due(&self) -> bool {
        self.queue.is_answer_due()
    }

    /// Returns how many bytes were handed over, which the next ping is to carry.
    pub(crate) fn handed(&self) -> u64 {
        self.handed
    }

    /// Returns one past the sequence number of the last block that was handed over.
    pub(crate) fn handed_next(&self) -> u64 {
        self.handed_next
    }

    /// Notes that the last bytes that were handed over, behind `before`, are a ping.
    pub(crate) fn pinged(&mut self, before: u64, now: Timestamp) {
        self.queue.pinged(before, self.handed, now);
    }

    /// Takes a pong that carries `before`. Returns whether it answers a ping, and so proves what was read.
    pub(crate) fn take_pong(&mut self, before: u64, now: Timestamp) -> bool {
        let is_answer = self.queue.answered(before, now);
        if is_answer {
            self.proven = self.proven.max(self.position(before, self.handed_next));
        }
        is_answer
    }

    /// Returns how many bytes of the connection are proven to be read. They only grow.
    pub(crate) fn proven_bytes(&self) -> u64 {
        self.queue.proof.proven()
    }

    /// Returns when the newest block was captured that is proven to be read.
    pub(crate) fn newest_proven_at(&self) -> Option<Timestamp> {
        self.log.captured_at(self.proven.checked_sub(1)?)
    }

    /// Notes that the listener's player has heard all blocks before `next`.
    pub(crate) fn heard(&mut self, next: u64) {
        self.proven = self.proven.max(next);
    }

    /// Permits that packets in quick succession are held for a moment, for the sake of what their acknowledgement shows.
    pub(crate) fn permit_holds(&mut self) {
        self.queue.proof.permit_holds();
    }

    /// Returns how the next packets are to wait, for the sake of what their acknowledgement shows.
    pub(crate) fn wait(&self) -> Wait {
        self.queue.proof.wait()
    }

    /// Follows the bytes to where they are now. Returns the time from the kernel to the listener's machine, if this look
    /// shows one: of the last byte written if all are acknowledged, else of the last byte at an earlier look.
    pub(crate) fn advance(&mut self, socket: &TcpInfo, now: Timestamp) -> Option<Duration> {
        let before = self.marks();
        self.acked = socket.acked_bytes;
        let proven_before = self.proven_bytes();
        self.unread = self.queue.look(socket, self.packet.0.into(), now);
        let proven = self.proven_bytes();
        if proven > proven_before {
            self.proven = self.proven.max(self.position(proven, self.handed_next));
        }
        self.window = socket.window_bytes.unwrap_or(u64::MAX);
        self.look_at_window(socket, now);
        let read = self.acked.saturating_sub(self.unread.estimate);
        if !self.earlier.is_empty() {
            self.forget_read(read);
        }
        self.remember(before);
        self.measure(now - socket.since_ack)
    }

    /// Follows the bytes of a Unix socket, of which the far end's program has not read those that take `memory`. All that is written is
    /// there. If nothing takes memory, all of it was read. Otherwise the most memory that its bytes have taken since then, when few or
    /// none of them were read, leads to their number.
    pub(crate) fn advance_local(&mut self, memory: u64, now: Timestamp) {
        let before = self.marks();
        self.acked = self.written;
        if memory == 0 {
            self.queue.proof.prove(self.written, now);
            self.proven = self.proven.max(self.position(self.written, self.handed_next));
            self.memory_of_kibibyte = 0;
        }
        let most = self.written.saturating_sub(self.proven_bytes());
        if most > 0 {
            let of_kibibyte = (memory * 1024).div_ceil(most);
            // One that has read a part takes less.
            self.memory_of_kibibyte = self.memory_of_kibibyte.max(u32::try_from(of_kibibyte).unwrap_or(u32::MAX));
        }
        let estimate = (memory * 1024).checked_div(self.memory_of_kibibyte.into()).unwrap_or(0).min(most);
        self.unread = Unread { least: 0, estimate, most };
        // A full socket is full of what its program has not read.
        self.was_window_limited = estimate > 0;
        if !self.earlier.is_empty() {
            self.forget_read(self.acked - estimate);
        }
        self.remember(before);
    }

    /// Forgets the parts before the one that has the byte `read`.
    fn forget_read(&mut self, read: u64) {
        if self.last.start <= read {
            self.earlier = Vec::new();
        } else {
            let started = self.earlier.partition_point(|part| part.start <= read);
            self.earlier.drain(..started.saturating_sub(1));
        }
    }

    /// Returns the last acknowledged byte, the last one that is probably read, and that can be at most, by the last look.
    fn marks(&self) -> [u64; 3] {
        let Unread { least, estimate, .. } = self.unread;
        [self.acked, self.acked.saturating_sub(estimate), self.acked.saturating_sub(least)]
    }

    /// Remembers where the marks stand that have not moved since the look before.
    fn remember(&mut self, before: [u64; 3]) {
        for (index, (byte, before)) in self.marks().into_iter().zip(before).enumerate() {
            if byte == before
                && self.known.as_ref().is_none_or(|known| byte != known[index].0)
                && byte < self.handed
                && let Some(next) = self.next_at(byte)
            {
                self.known.get_or_insert_default()[index] = (byte, next);
            }
        }
    }

    /// Returns the time that a byte took whose acknowledgement has come, the last one at `acked_at`: to a millisecond, because the kernel's
    /// tick is no finer.
    fn measure(&mut self, acked_at: Timestamp) -> Option<Duration> {
        let newest = (self.written, self.written_at);
        let (byte, written_at) = if self.acked >= self.written { newest } else { self.mark };
        let is_acked = self.acked >= byte && byte > self.measured;
        if is_acked {
            self.measured = byte;
        }
        let millis = || (acked_at.since(written_at).as_secs_f64() * 1000.0).round();
        is_acked.then(|| Duration::from_millis(millis() as u64))
    }

    /// Remembers the last byte, if it is not acknowledged and no other such byte is remembered.
    pub(crate) fn set_mark(&mut self) {
        if self.mark.0 <= self.acked {
            self.mark = if self.acked < self.written { (self.written, self.written_at) } else { Default::default() };
        }
    }

    fn look_at_window(&mut self, socket: &TcpInfo, now: Timestamp) {
        let (looked_at, limited) = *self.limited.get_or_insert((now, socket.window_limited));
        self.was_idle |= socket.in_flight_bytes.saturating_mul(4) <= self.window.saturating_add(self.unread.estimate);
        let span = now.since(looked_at);
        if span >= WINDOW_LIMIT_INTERVAL {
            let is_own = self.was_idle || self.queue.is_small();
            self.was_window_limited = is_own && 4 * socket.window_limited.saturating_sub(limited) > span;
            self.limited = Some((now, socket.window_limited));
            self.was_idle = false;
        }
    }

    /// Returns how far the bytes got. `taken` is one past the sequence number that was last taken from the ring.
    pub(crate) fn reached(&self, taken: u64) -> Reached {
        let acked = self.position(self.acked, taken);
        // A player may report what has not arrived.
        let proven = self.proven.min(acked);
        let before = |unread| match unread {
            0 => acked,
            _ if unread >= self.acked - self.queue.proof.proven().min(self.acked) => proven,
            _ => self.position(self.acked.saturating_sub(unread), taken).max(proven),
        };
        let Unread { least, estimate, most } = self.unread;
        Reached { acked, read_at_least: before(most), read: before(estimate), read_at_most: before(least) }
    }

    /// Returns one past the sequence number of the last block that lies before `byte` of the connection.
    fn position(&self, byte: u64, taken: u64) -> u64 {
        if byte >= self.handed {
            return taken;
        }
        let forgotten = || {
            let before = self.known.iter().flat_map(|known| known.iter()).filter(|(known, _)| *known <= byte);
            before.map(|(_, next)| *next).fold(self.part_at(byte).reached, u64::max)
        };
        self.next_at(byte).unwrap_or_else(forgotten).min(taken)
    }

    /// Returns the part that has `byte` of the connection.
    fn part_at(&self, byte: u64) -> &Part {
        if byte >= self.last.start {
            &self.last
        } else {
            let after = self.earlier.partition_point(|part| part.start <= byte);
            self.earlier.get(after.saturating_sub(1)).unwrap_or(&self.last)
        }
    }

    /// Returns one past the sequence number of the last block that lies before `byte` of the connection; `None` if its packet has
    /// left the log.
    fn next_at(&self, byte: u64) -> Option<u64> {
        let part = self.part_at(byte);
        let within = byte.saturating_sub(part.start);
        match part.content {
            Content::Other => Some(part.reached),
            Content::Silence { block_bytes } => Some(part.reached + within / block_bytes),
            Content::Packets { start, first_end } if start + within < first_end => Some(part.reached),
            Content::Packets { start, .. } => self.log.next_at(start + within, self.wire, self.overhead),
        }
    }

    /// Returns the number of bytes that were handed over and are not acknowledged.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.handed.saturating_sub(self.acked)
    }

    /// Returns the number of bytes that are acknowledged and probably unread.
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.unread.estimate
    }

    /// Returns the bytes of so many blocks, by the last packet.
    pub(crate) fn bytes_of(&self, blocks: u64) -> u64 {
        let (bytes, packet_blocks) = self.packet;
        blocks * u64::from(bytes) / u64::from(packet_blocks.max(1))
    }

    /// Returns whether the listener's machine keeps bytes here: more is unread there than it would still take, or the
    /// kernel has waited for its window.
    pub(crate) fn is_window_limited(&self) -> bool {
        self.was_window_limited || self.unread.estimate > self.window
    }

    /// Returns how many blocks of `block` are on their way at a time, to a listener that keeps up: those of the shortest round
    /// trip and a packet. Where that is shorter than a block, none are.
    pub(crate) fn on_its_way(&self, block: Duration) -> u64 {
        let blocks = self.queue.proof.round_trip().as_nanos() / block.as_nanos().max(1);
        if blocks == 0 { 0 } else { blocks as u64 + u64::from(self.packet.1) }
    }

    /// Returns since when bytes wait for their acknowledgement, as far as the looks show it.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        (self.mark.0 > self.acked).then_some(self.mark.1)
    }
}

#[cfg(test)]
mod tests {
    use aircheck_engine::Stamp;

    use super::*;
    use crate::rendition::packet::{Ends, Numbered};

    const WINDOW: u64 = 65_536;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((1000 + millis) * 1_000_000)
    }

    /// Returns the state in which the listener's machine has acknowledged `acked` bytes, the last 2 ms ago, and offers
    /// `window`.
    fn info(acked: u64, window: u64) -> TcpInfo {
        TcpInfo {
            acked_bytes: acked,
            window_bytes: Some(window),
            since_ack: Duration::from_millis(2),
            ..TcpInfo::default()
        }
    }

    /// Lets a program read `read` bytes and answer a ping behind them, and nothing from then on. `millis` is the time, all
    /// that was handed over is acknowledged, and shows to be unread 200 ms later.
    fn stop_reading(in_flight: &mut InFlight, read: u64, millis: u64) {
        for _ in 0..2 {
            in_flight.pinged(read, at(millis));
            let acked = in_flight.handed;
            in_flight.advance(&info(acked, WINDOW), at(millis));
            if in_flight.queue.proof.proven() < read {
                assert!(in_flight.take_pong(read, at(millis)));
            }
        }
    }

    /// Makes an encoder's packets of `lengths` bytes, each of `blocks` blocks, in a log.
    fn packets(lengths: &[usize], blocks: u64) -> (Arc<PacketLog>, Vec<Packet>) {
        let log = PacketLog::new();
        let mut end = Ends::default();
        let mut made = Vec::new();
        for (index, length) in (1..).zip(lengths) {
            let mut packet = Packet::chunk(&vec![0; *length], Numbered::Nothing);
            end = packet.place(end);
            log.push(Stamp { sequence: index * blocks - 1, ..Stamp::default() }, &packet);
            made.push(packet);
        }
        (log, made)
    }

    /// Returns how far the bytes got, acknowledged and read.
    fn reached(in_flight: &InFlight, taken: u64) -> (u64, u64) {
        let reached = in_flight.reached(taken);
        (reached.acked, reached.read)
    }

    /// Hands over these packets of one block each, and writes them.
    fn write(in_flight: &mut InFlight, packets: &[Packet], numbers: Range<u64>) {
        for number in numbers {
            let packet = &packets[number as usize];
            in_flight.hand_packet(number..number + 1, 1, packet);
            in_flight.wrote(packet.bytes(Wire::Plain).len(), at(number));
        }
    }

    #[test]
    fn a_packet_is_acknowledged_with_its_last_byte() {
        let (log, packets) = packets(&[960; 6], 1);
        let mut in_flight = InFlight::new(log, Wire::Plain);
        in_flight.begin(500, RecordOverhead::default(), at(0));
        assert_eq!(reached(&in_flight, 5), (5, 5), "nothing is on its way");
        in_flight.hand_other(5, 40);
        in_flight.hand_packet(5..6, 1, &packets[5]);
        assert_eq!(in_flight.queued_bytes(), 1000);
        in_flight.wrote(40, at(0));
        assert_eq!(in_flight.advance(&info(540, WINDOW), at(2)), Some(Duration::ZERO), "the head is acknowledged");
        assert_eq!(reached(&in_flight, 6), (5, 5));
        in_flight.wrote(960, at(10));
        assert_eq!(in_flight.advance(&info(1499, WINDOW), at(14)), None, "a byte is missing");
        in_flight.set_mark();
        assert_eq!(reached(&in_flight, 6), (5, 5));
        assert_eq!(in_flight.waiting_since(), Some(at(10)));
        let span = in_flight.advance(&info(1500, WINDOW), at(22));
        assert_eq!(span, Some(Duration::from_millis(10)), "it was acknowledged 2 ms before this look");
        assert_eq!(in_flight.advance(&info(1500, WINDOW), at(32)), None, "it counts once");
        assert_eq!(reached(&in_flight, 6), (6, 6));
        assert_eq!((in_flight.queued_bytes(), in_flight.waiting_since()), (0, None));
    }

    #[test]
    fn unread_packets_count_as_lag_with_the_gap_before_them() {
        let (log, packets) = packets(&[1000; 40], 1);
        let mut in_flight = InFlight::new(log, Wire::Plain);
        in_flight.begin(0, RecordOverhead::default(), at(0));
        write(&mut in_flight, &packets, 0..5);
        in_flight.advance(&info(5000, WINDOW), at(5));
        // From the fifth on, the program does not read.
        stop_reading(&mut in_flight, 5000, 6);
        write(&mut in_flight, &packets, 5..10);
        in_flight.advance(&info(10_000, WINDOW - 5000), at(310));
        assert_eq!(reached(&in_flight, 10), (10, 5));
        // Twenty are lost; the next one is sent, not acknowledged.
        in_flight.hand_packet(10..31, 1, &packets[30]);
        in_flight.wrote(1000, at(331));
        in_flight.advance(&info(10_000, WINDOW - 5000), at(332));
        assert_eq!(reached(&in_flight, 31), (10, 5));
        // Almost all of it is, which brings the listener no further: packets before it were never sent.
        in_flight.advance(&info(10_999, WINDOW - 5999), at(333));
        assert_eq!(reached(&in_flight, 31), (10, 5));
        in_flight.advance(&info(11_000, WINDOW - 6000), at(334));
        assert_eq!(reached(&in_flight, 31), (31, 5));
        assert!(in_flight.take_pong(5000, at(335)));
        in_flight.advance(&info(11_000, WINDOW), at(336));
        assert_eq!(reached(&in_flight, 31), (31, 31));
        // Two in a row, with no look between.
        write(&mut in_flight, &packets, 31..33);
        in_flight.advance(&info(12_000, WINDOW), at(341));
        assert_eq!(reached(&in_flight, 33), (32, 32));
        assert!(in_flight.earlier.is_empty(), "what was read is forgotten");
    }

    #[test]
    fn chunks_pages_and_silence_lead_to_their_blocks() {
        let (log, packets) = packets(&[90, 200, 30], 10);
        let mut in_flight = InFlight::new(log, Wire::Chunked);
        in_flight.begin(0, RecordOverhead::default(), at(0));
        let lengths: Vec<u64> = packets.iter().map(|packet| packet.bytes(Wire::Chunked).len() as u64).collect();
        in_flight.hand_packet(0..10, 10, &packets[0]);
        in_flight.hand_silence(&(10..20), 7);
        in_flight.hand_packet(20..30, 10, &packets[2]);
        let acked = |in_flight: &mut InFlight, bytes| {
            in_flight.advance(&info(bytes, WINDOW), at(1));
            in_flight.reached(30).acked
        };
        assert_eq!(acked(&mut in_flight, lengths[0] - 1), 0);
        assert_eq!(acked(&mut in_flight, lengths[0]), 10);
        assert_eq!(acked(&mut in_flight, lengths[0] + 20), 12);
        assert_eq!(acked(&mut in_flight, lengths[0] + 69), 19);
        assert_eq!(acked(&mut in_flight, lengths[0] + 70 + lengths[2] - 1), 20);
        assert_eq!(acked(&mut in_flight, lengths[0] + 70 + lengths[2]), 30);
        assert_eq!(in_flight.bytes_of(20), 2 * lengths[2]);
    }

    #[test]
    fn a_listener_that_stands_still_keeps_its_position_after_the_log_has_forgotten_it() {
        let (log, packets) = packets(&[960; 100], 1);
        let mut in_flight = InFlight::new(Arc::clone(&log), Wire::Plain);
        write(&mut in_flight, &packets, 0..80);
        // It has acknowledged 80 packets, and read 40 of them.
        in_flight.advance(&info(40 * 960, WINDOW), at(700));
        stop_reading(&mut in_flight, 40 * 960, 700);
        write(&mut in_flight, &packets, 80..100);
        in_flight.advance(&info(80 * 960, WINDOW - 40 * 960), at(1100));
        let before = in_flight.reached(100);
        assert_eq!((before.acked, before.read), (80, 40));
        in_flight.advance(&info(80 * 960, WINDOW - 40 * 960), at(1200));
        let mut end = packets[99].ends();
        for number in 100..10_000 {
            let mut packet = Packet::chunk(&[0; 960], Numbered::Nothing);
            end = packet.place(end);
            log.push(Stamp { sequence: number, ..Stamp::default() }, &packet);
        }
        in_flight.advance(&info(80 * 960, WINDOW - 40 * 960), at(100_000));
        assert_eq!(in_flight.reached(100), before);
        // It reads on.
        assert!(in_flight.take_pong(40 * 960, at(100_050)));
        in_flight.advance(&info(100 * 960, WINDOW), at(100_100));
        assert_eq!(reached(&in_flight, 100), (100, 100));
    }

    #[test]
    fn more_parts_than_are_followed_only_blur_positions() {
        let (log, packets) = packets(&[10; 1000], 1);
        let mut in_flight = InFlight::new(log, Wire::Plain);
        in_flight.begin(0, RecordOverhead::default(), at(0));
        // Every other packet is lost.
        for number in (1..1000).step_by(2) {
            in_flight.hand_packet(number - 1..number + 1, 1, &packets[number as usize]);
            in_flight.wrote(10, at(number));
            assert!(in_flight.earlier.len() <= MAX_PARTS);
        }
        for acked in [0, 1000, 3000, 4500, 4990] {
            in_flight.advance(&info(acked, WINDOW), at(2000));
            let (reached, truth) = (in_flight.reached(1000).acked, acked / 5);
            assert!(reached <= truth, "{reached} of {truth}");
            assert!(truth < 760 || reached == truth, "{reached} of {truth}");
        }
    }

    #[test]
    fn bytes_of_a_unix_socket_are_read_when_they_take_no_memory_and_estimated_by_it_otherwise() {
        let (log, packets) = packets(&[1000; 30], 1);
        let mut in_flight = InFlight::new(log, Wire::Plain);
        in_flight.begin(0, RecordOverhead::default(), at(0));
        let look = |in_flight: &mut InFlight, memory, taken| {
            in_flight.advance_local(memory, at(taken));
            let Reached { acked, read_at_least, read, read_at_most } = in_flight.reached(taken);
            (acked, read_at_least, read, read_at_most)
        };
        write(&mut in_flight, &packets, 0..10);
        assert_eq!(look(&mut in_flight, 0, 10), (10, 10, 10, 10));
        // The program stands still: all is unread, whatever the kernel keeps about it.
        write(&mut in_flight, &packets, 10..20);
        assert_eq!(look(&mut in_flight, 23_040, 20), (20, 10, 10, 20));
        write(&mut in_flight, &packets, 20..30);
        assert_eq!(look(&mut in_flight, 46_080, 30), (30, 10, 10, 30));
        // It has read half of it.
        assert_eq!(look(&mut in_flight, 23_040, 30), (30, 10, 20, 30));
        assert_eq!(look(&mut in_flight, 0, 30), (30, 30, 30, 30));
    }

    #[test]
    fn records_lead_to_their_blocks_and_a_change_of_keys_between_them_to_none() {
        const OVERHEAD: u64 = 22;
        const CONTROL: u64 = 27;

        let (log, packets) = packets(&[960, 20_000, 960, 960, 960], 1);
        let mut in_flight = InFlight::new(log, Wire::Plain);
        in_flight.begin(1000, RecordOverhead(22), at(0));
        in_flight.hand_other(0, 300);
        for number in 0..4 {
            in_flight.hand_packet(number..number + 1, 1, &packets[number as usize]);
        }
        let acked = |in_flight: &mut InFlight, bytes| {
            in_flight.advance(&info(bytes, WINDOW), at(1));
            in_flight.reached(5).acked
        };
        let first = 1000 + 300 + OVERHEAD + 960 + OVERHEAD;
        assert_eq!(acked(&mut in_flight, first - 1), 0, "a record delivers nothing until it is complete");
        assert_eq!(acked(&mut in_flight, first), 1);
        // A long packet has two records.
        let second = first + 20_000 + 2 * OVERHEAD;
        assert_eq!(acked(&mut in_flight, second - 1), 1);
        assert_eq!(acked(&mut in_flight, second), 2);
        // The keys change before the fourth packet, which was handed over already.
        let third = second + 960 + OVERHEAD;
        in_flight.insert_control(third, CONTROL);
        in_flight.hand_packet(4..5, 1, &packets[4]);
        assert_eq!(acked(&mut in_flight, third - 1), 2);
        assert_eq!(acked(&mut in_flight, third), 3);
        let fourth = third + CONTROL + 960 + OVERHEAD;
        assert_eq!(acked(&mut in_flight, third + CONTROL), 3);
        assert_eq!(acked(&mut in_flight, fourth - 1), 3);
        assert_eq!(acked(&mut in_flight, fourth), 4);
        assert_eq!(in_flight.queued_bytes(), 960 + OVERHEAD);
        assert_eq!(acked(&mut in_flight, fourth + 960 + OVERHEAD), 5);
        assert_eq!(in_flight.queued_bytes(), 0);
    }
}
