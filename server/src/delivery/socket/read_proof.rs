//! Proofs that a listener's program has read everything, from when its machine acknowledges.
//!
//! Linux acknowledges a small segment at once when the program's read has emptied the receive buffer, and otherwise after 40 ms
//! (`tcp_cleanup_rbuf` and `tcp_send_delayed_ack`). So a segment that was on its way alone and is acknowledged promptly was
//! read, with everything before it. One that is acknowledged late was not read at once, which says less: the program may
//! have read it later.
//!
//! A prompt acknowledgement proves nothing while the far kernel acknowledges everything at once: with the first segments, after a
//! pause, after a lost segment, with segments less than 40 ms apart (seen: up to 50 KB of unread sound, acknowledged
//! promptly, in packets of 10 ms), with data of more than one segment, and while it raises its window, which takes minutes with a
//! receive buffer of megabytes. Such writes are no test. A window that gets narrower by an acknowledgement may hide that it is
//! raised, so the test shows nothing then.

use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::hold::{Holds, Wait};
use crate::delivery::socket::tcp_info::TcpInfo;

/// Time since the write before, from which a write can be a test. The far kernel's timer of 40 ms has expired by then.
const MIN_TEST_GAP: Duration = Duration::from_millis(48);
/// After a longer pause, the far kernel acknowledges at once: its retransmission timeout is 200 ms or more.
const MAX_TEST_GAP: Duration = Duration::from_millis(180);
/// Writes that may be acknowledged at once, read or not (`TCP_MAX_QUICKACKS` is 16).
const QUICK_ACKS: u8 = 20;
/// The last of them are held, if packets come in quick succession. Without that, the far kernel would run out of
/// quick acknowledgements between them: its first late one would make this kernel send a packet again (a tail loss probe), for which
/// it acknowledges the next [`TCP_MAX_QUICKACKS`](QUICK_ACKS) at once.
const HELD_QUICK_ACKS: u8 = 6;
/// Writes that are no test after the window has become wider than ever, by that acknowledgement or an earlier one. While a kernel
/// raises its window (`tcp_grow_window`), it acknowledges each segment at once; the last step may be too small to show.
const WIDENING_ACKS: u8 = 3;
/// In this sixteenth of its first window, which is the first one after that, a kernel raises its limits, and acknowledges some
/// segments at once: seen with the 65,536th byte, of programs that left a second unread.
const RAISING_SIXTEENTH: u64 = 16;
/// An acknowledgement is prompt if it takes no longer than this and the shortest round trip. The kernel tells times of
/// acknowledgements to 1 to 10 ms.
const PROMPT: Duration = Duration::from_millis(24);
/// A prompt acknowledgement proves something if another one was prompt within this time before. A kernel that raises its limits may
/// acknowledge a single one at once, without a trace in its window: seen after 64 KB, of programs that had not read it all.
const MAX_PROMPT_GAP: Duration = Duration::from_secs(3);
/// So many prove it, the first of them with it.
const PROMPTS: u8 = 2;
/// So many prove it of a program that has left [`MANY_LATE`] tests in a row unread. Such a program may read for a moment, and its
/// kernel then raises its limits.
const LATE_PROMPTS: u8 = 3;
const MANY_LATE: u8 = 10;
/// An acknowledgement is late if it takes so much longer than the shortest round trip.
const LATE: Duration = Duration::from_millis(30);
/// A test that is later than any timer takes back so many of those before it.
const BUSY_TESTS: u8 = 4;
/// Between two tests of a listener that reads.
const TEST_INTERVAL: Duration = Duration::from_millis(900);
/// After so many writes without a result, the result before them says nothing any more.
const MAX_WRITES: u8 = 30;
/// The same for a stream that is held once in [`TEST_INTERVAL`].
const MAX_HELD_WRITES: u8 = 200;
/// Packets of a program wait only if so many tests in a row were late: it may have had something else to do.
const MIN_LATE: u8 = 3;
/// The part of its interval for which a packet of a program that does not read at once waits is none, a fifth, and so on, in turns.
/// A program that reads at its own intervals, with the same phase as the packets come, would never read one promptly.
const DELAY_PARTS: u32 = 5;
/// A fifth is no more than this, so that packets are not too far apart for tests.
const MAX_DELAY_STEP: Duration = Duration::from_millis(20);

/// Tests whose acknowledgement is awaited at a time. On a longer way, the oldest ones are given up.
const MAX_TESTS: usize = 4;

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The program had read everything.
    Prompt,
    /// The program did not read at once.
    Late,
}

/// What the kernel said when it was last asked.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    at: Timestamp,
    /// Bytes that had been acknowledged.
    acked: u64,
    segment_bytes: u64,
    round_trip: Option<Duration>,
    window: u64,
    /// Whether much of the receive window is closed. Then each read may be acknowledged at once, because it opens the window
    /// (`tcp_cleanup_rbuf`).
    is_half_closed: bool,
}

/// A write whose acknowledgement tells whether it was read.
#[derive(Clone, Copy, Debug, Default)]
struct Test {
    /// Where its last byte ends; zero if there is no test.
    end: u64,
    written_at: Timestamp,
    /// The receive window then.
    window: u64,
}

/// The proofs of one connection.
#[derive(Debug, Default)]
pub(super) struct ReadProof {
    /// Bytes of the connection that were read, and when that was proven.
    proven: u64,
    proven_at: Timestamp,
    /// How many proofs there were.
    proofs: u32,
    /// Writes that are no test yet.
    quick_acks: u8,
    retransmits: u32,
    /// The first receive window.
    first_window: u64,
    /// The widest one so far.
    open: u64,
    /// Time between the last two writes that did not wait.
    interval: Duration,
    /// Whether the last write came long enough after the one before, and not too long.
    is_spaced: bool,
    /// Whether it came too long after. Of writes like this, none can be a test.
    is_sparse: bool,
    /// Tests whose acknowledgement is awaited, the newest one first.
    tests: [Test; MAX_TESTS],
    look: Look,
    holds: Holds,
    /// How the next packets are to wait, and how those of the last write did.
    wait: Wait,
    waited: Wait,
    /// Bytes of the last write.
    write_bytes: u64,
    /// When an acknowledgement was last prompt.
    prompt_at: Timestamp,
    /// How many were, each within [`MAX_PROMPT_GAP`] of the one before.
    prompts: u8,
    /// Whether [`MANY_LATE`] tests in a row were late since the last proof.
    was_late: bool,
    result: Option<Reading>,
    /// Writes since then.
    writes: u8,
    /// How many tests in a row were late by the far kernel's timer.
    timer_acks: u8,
    /// How many packets came late by the first of these tests.
    late_packets: u64,
}

impl ReadProof {
    /// Begins after `written` bytes of the connection, which other responses took.
    pub(super) fn begin(&mut self, written: u64, now: Timestamp) {
        (self.proven, self.proven_at, self.quick_acks) = (written, now, QUICK_ACKS);
    }

    /// Returns how many bytes of the connection the program has read for certain.
    pub(super) fn proven(&self) -> u64 {
        self.proven
    }

    /// Returns how many times the program was seen to have read everything.
    pub(super) fn proofs(&self) -> u32 {
        self.proofs
    }

    /// Returns the widest receive window so far.
    pub(super) fn widest_window(&self) -> u64 {
        self.open
    }

    /// Returns the result of the last test; `None` if there was none lately.
    pub(super) fn result(&self) -> Option<Reading> {
        let max_writes = if self.holds.is_live() { MAX_HELD_WRITES } else { MAX_WRITES };
        self.result.filter(|_| self.writes <= max_writes)
    }

    /// Permits that packets in quick succession are held for a moment.
    pub(super) fn permit_holds(&mut self) {
        self.holds.permit();
    }

    /// Returns the bytes of the last write, if its packets were held.
    pub(super) fn held_bytes(&self) -> Option<u64> {
        self.holds.is_holding().then_some(self.write_bytes)
    }

    /// Returns how the next packets are to wait, so that one write of them is a test, and another one than the test before.
    pub(super) fn wait(&self) -> Wait {
        self.wait
    }

    fn next_wait(&self) -> Wait {
        let delay = self.delay();
        if self.holds.is_holding() {
            Wait::All(self.holds.span(self.look.round_trip.unwrap_or_default()))
        } else if delay.is_zero() {
            Wait::Not
        } else {
            Wait::Next(delay)
        }
    }

    /// Returns how long the next packet is to wait. Packets that come in quick succession do not, because they would come too close
    /// to the next ones.
    fn delay(&self) -> Duration {
        let is_long = self.interval >= MIN_TEST_GAP;
        if self.result() == Some(Reading::Late) && self.timer_acks >= MIN_LATE && is_long {
            (self.interval / DELAY_PARTS).min(MAX_DELAY_STEP) * (u32::from(self.timer_acks) % DELAY_PARTS)
        } else {
            Duration::ZERO
        }
    }

    /// Returns whether the far kernel acknowledges everything at once, as it does after a loss.
    pub(super) fn is_quick(&self) -> bool {
        self.quick_acks > 0
    }

    /// Returns how many tests in a row were late by the timer of a Linux kernel, about.
    pub(super) fn timer_acks(&self) -> u8 {
        self.timer_acks
    }

    /// Returns how many packets had been acknowledged late when the first late test was over, with that one.
    pub(super) fn late_packets(&self) -> u64 {
        self.late_packets
    }

    /// Returns whether the next write is to be preceded by a look.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        // Each step of a window that widens at the start counts.
        let is_next_a_test = self.is_spaced || self.holds.is_holding();
        let is_start = self.quick_acks > 0 && !self.is_sparse;
        self.has_test() || is_start || (is_next_a_test && self.is_due(now))
    }

    fn has_test(&self) -> bool {
        self.tests[0].end > 0
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.is_late() || now.since(self.proven_at) >= TEST_INTERVAL
    }

    fn is_late(&self) -> bool {
        self.result == Some(Reading::Late)
    }

    /// Notes a write of `bytes` bytes up to `end`, `gap` after the one before. It can be a test if the kernel was asked just before
    /// it.
    pub(super) fn wrote(&mut self, end: u64, bytes: u64, gap: Duration, now: Timestamp) {
        if bytes == 0 {
            return;
        }
        let (before, waited) = (self.waited, self.wait);
        self.waited = waited;
        if before == Wait::Not && waited == Wait::Not {
            self.interval = gap;
            self.holds.set_packet(bytes, gap);
        }
        self.holds.count_write();
        self.write_bytes = bytes;
        self.writes = self.writes.saturating_add(1);
        self.is_sparse = gap > MAX_TEST_GAP;
        if self.is_sparse {
            self.quick_acks = QUICK_ACKS;
        } else {
            self.quick_acks = self.quick_acks.saturating_sub(1);
        }
        self.is_spaced = gap >= MIN_TEST_GAP && self.quick_acks == 0;
        let look = self.look;
        let is_possible = look.at == now && self.is_spaced && self.is_due(now);
        if is_possible && look.is_half_closed {
            // The results before it go on to count.
            self.writes = 0;
        } else if is_possible && look.acked + bytes == end && bytes <= look.segment_bytes {
            self.tests.rotate_right(1);
            self.tests[0] = Test { end, written_at: now, window: look.window };
        } else if matches!(waited, Wait::All(_)) && self.quick_acks == 0 {
            self.holds.fail();
        }
        let is_wanted = self.quick_acks <= HELD_QUICK_ACKS && (self.has_test() || self.is_due(now));
        self.holds.decide(is_wanted, look.segment_bytes, look.round_trip.unwrap_or(Duration::MAX));
        self.wait = self.next_wait();
    }

    /// Takes what the kernel says now. Returns whether this proves that the program has read everything up to
    /// [`proven`](Self::proven).
    pub(super) fn judge(&mut self, socket: &TcpInfo, now: Timestamp) -> bool {
        let window = socket.window_bytes.unwrap_or(u64::MAX);
        self.look = Look {
            at: now,
            acked: socket.acked_bytes,
            segment_bytes: socket.segment_bytes,
            round_trip: socket.min_round_trip,
            window,
            is_half_closed: window.saturating_mul(10) < self.open * 6,
        };
        if self.open > 0 && socket.window_bytes > Some(self.open) {
            self.quick_acks = (self.quick_acks + 1).clamp(WIDENING_ACKS, QUICK_ACKS);
            self.tests = Default::default();
        }
        if self.open == 0 {
            self.first_window = socket.window_bytes.unwrap_or_default();
        }
        self.open = self.open.max(socket.window_bytes.unwrap_or_default());
        if self.retransmits != socket.retransmits {
            self.retransmits = socket.retransmits;
            (self.quick_acks, self.tests) = (QUICK_ACKS, Default::default());
        }
        let Some(round_trip) = socket.min_round_trip.filter(|_| self.has_test()) else { return false };
        let acked = socket.acked_bytes;
        let test = self.tests.iter().find(|test| test.end == acked).copied();
        let oldest_waiting = self.tests.iter().rfind(|test| test.end > acked).copied();
        // Newer ones are before older ones.
        self.tests.iter_mut().filter(|test| test.end <= acked).for_each(|test| *test = Test::default());
        if oldest_waiting.is_some_and(|test| now.since(test.written_at) >= round_trip + LATE) {
            self.set_result(Reading::Late);
        }
        // Its acknowledgement was the last one only if no other has come since.
        let Some(Test { end, written_at, window: open }) = test else { return false };
        let delay = (now - socket.since_ack).since(written_at).saturating_sub(round_trip);
        if delay <= PROMPT && 16 * end / self.first_window.max(1) == RAISING_SIXTEENTH {
            return false;
        }
        if delay <= PROMPT {
            let is_recent = now.since(self.prompt_at) <= MAX_PROMPT_GAP;
            self.prompts = if is_recent { self.prompts.saturating_add(1) } else { 1 };
            self.prompt_at = now;
            let is_confirmed = self.prompts >= if self.was_late { LATE_PROMPTS } else { PROMPTS };
            // Even one shows that it may not be frozen.
            self.timer_acks = self.timer_acks.min(1);
            if window < open || !is_confirmed {
                if window < open && self.holds.is_holding() {
                    self.holds.fail();
                }
                return false;
            }
            self.prove(end, now);
            self.set_result(Reading::Prompt);
            return true;
        }
        if delay >= LATE {
            self.set_result(Reading::Late);
            if self.timer_acks == 0 {
                self.late_packets = late_packets(socket.round_trip.saturating_sub(round_trip), delay);
            }
            // On a long way, the far kernel's timer is its round trip (`tcp_send_delayed_ack`).
            let is_timer = delay <= 2 * LATE.max(round_trip);
            // A later one may be that of a machine that was busy for a moment.
            self.timer_acks =
                if is_timer { self.timer_acks.saturating_add(1) } else { self.timer_acks.saturating_sub(BUSY_TESTS) };
            if self.timer_acks >= MANY_LATE {
                (self.was_late, self.prompts) = (true, 0);
            }
        }
        false
    }

    fn set_result(&mut self, result: Reading) {
        (self.result, self.writes) = (Some(result), 0);
    }

    /// Notes that the program has read this many bytes of the connection.
    pub(super) fn prove(&mut self, read: u64, now: Timestamp) {
        self.proven = self.proven.max(read);
        self.proven_at = now;
        self.proofs = self.proofs.saturating_add(1);
        (self.timer_acks, self.was_late) = (0, false);
    }
}

/// Returns how many acknowledgements in a row were late by `delay`, after prompt ones, when the average is late by `average`. Each
/// counts for an eighth (RFC 6298, section 2), so that 7/8 of the rest is still missing after each.
fn late_packets(average: Duration, delay: Duration) -> u64 {
    let missing = 1.0 - (average.as_secs_f64() / delay.as_secs_f64()).min(0.95);
    (missing.ln() / 0.875_f64.ln()).round().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1000;

    /// A connection whose writes are all acknowledged, and looked at before the next one.
    struct Connection {
        proof: ReadProof,
        now: Timestamp,
        socket: TcpInfo,
        bytes: u64,
        looks_before: bool,
        /// By how much each acknowledgement widens the window; as the complement, by how much it narrows it.
        window_step: u64,
    }

    impl Connection {
        /// Makes one whose next write is the first test.
        fn new() -> Self {
            let socket = TcpInfo {
                window_bytes: Some(64_000),
                min_round_trip: Some(Duration::from_millis(80)),
                segment_bytes: 1448,
                ..TcpInfo::default()
            };
            let mut connection = Self {
                proof: ReadProof::default(),
                now: Timestamp::from_nanos(1 << 40),
                socket,
                bytes: BYTES,
                looks_before: true,
                window_step: 0,
            };
            connection.proof.begin(0, connection.now);
            let proofs = (1..QUICK_ACKS).filter(|_| connection.write(100, 80)).count();
            assert_eq!(proofs, 0, "while the far kernel acknowledges everything at once");
            connection
        }

        /// Writes a packet `gap` ms after the one before, which is acknowledged after `delay` ms, and looks then. Returns whether that
        /// proves anything.
        fn write(&mut self, gap: u64, delay: u64) -> bool {
            self.now = self.now + Duration::from_millis(gap);
            if self.looks_before {
                self.proof.judge(&self.socket, self.now);
            }
            let end = self.socket.acked_bytes + self.bytes;
            self.proof.wrote(end, self.bytes, Duration::from_millis(gap), self.now);
            self.socket.acked_bytes = end;
            self.socket.window_bytes = self.socket.window_bytes.map(|window| window.wrapping_add(self.window_step));
            self.socket.since_ack = Duration::from_millis(3);
            self.proof.judge(&self.socket, self.now + Duration::from_millis(delay + 3))
        }

        /// Returns how many of 40 writes prove something.
        fn proofs(&mut self, gap: u64, delay: u64) -> usize {
            (0..40).filter(|_| self.write(gap, delay)).count()
        }
    }

    #[test]
    fn a_prompt_acknowledgement_proves_that_everything_was_read() {
        let mut connection = Connection::new();
        // Once in 900 ms.
        assert_eq!(connection.proofs(100, 80), 4);
        assert_eq!(connection.proof.result(), Some(Reading::Prompt));
        assert_eq!(connection.proofs(100, 95), 4, "of a link whose delay varies");
        assert!(connection.proof.proven() >= 90 * BYTES);
    }

    #[test]
    fn a_late_acknowledgement_proves_nothing() {
        let mut connection = Connection::new();
        assert_eq!(connection.proofs(100, 121), 0);
        assert_eq!((connection.proof.proven(), connection.proof.result()), (0, Some(Reading::Late)));
        assert!(connection.proof.timer_acks() >= 30, "{}", connection.proof.timer_acks());
        let proofs = [(); 3].map(|()| connection.write(100, 80));
        assert_eq!(proofs, [false, false, true], "it reads again: a single one proves nothing after a while");
        assert_eq!(connection.proof.result(), Some(Reading::Prompt));
    }

    #[test]
    fn what_a_kernel_acknowledges_at_once_anyway_is_no_test() {
        assert_eq!(Connection::new().proofs(10, 80), 0, "less than 40 ms apart");
        assert_eq!(Connection::new().proofs(250, 80), 0, "after a pause longer than its timeout");
        let mut large = Connection { bytes: 1449, ..Connection::new() };
        assert_eq!(large.proofs(100, 80), 0, "in more than one segment");
        let mut fresh = Connection::new();
        let proofs = [(); 3].map(|()| fresh.write(100, 80));
        assert_eq!(proofs, [false, true, false], "the first of all; then the test is over");
        let mut lossy = Connection::new();
        lossy.socket.retransmits += 1;
        assert_eq!((1..QUICK_ACKS).filter(|_| lossy.write(100, 80)).count(), 0, "after a loss");
        assert!(lossy.proofs(100, 80) > 0);
        let mut widening = Connection::new();
        widening.window_step = 2920;
        assert_eq!(widening.proofs(100, 80), 0, "while the window widens");
        widening.window_step = 0;
        let writes_before = (1..40).find(|_| widening.write(100, 80));
        assert_eq!(writes_before, Some(4), "soon after it is as wide as it gets");
        let mut narrowing = Connection::new();
        narrowing.window_step = 0_u64.wrapping_sub(128);
        assert_eq!(narrowing.proofs(100, 80), 0, "while the window narrows by what comes");
        let mut narrow = Connection::new();
        narrow.socket.window_bytes = Some(38_000);
        assert_eq!(narrow.proofs(100, 80), 0, "of a window that each read opens");
        let mut unseen = Connection { looks_before: false, ..Connection::new() };
        assert_eq!(unseen.proofs(100, 80), 0, "behind bytes that may wait for their acknowledgement");
    }

    #[test]
    fn packets_in_quick_succession_are_held_until_one_write_is_a_test() {
        let mut connection = Connection::new();
        connection.socket.min_round_trip = Some(Duration::from_micros(20));
        connection.proof.permit_holds();
        // Writes packets of 200 bytes each 10 ms, or those of 50 ms together.
        let mut write = |delay: u64| {
            let is_held = matches!(connection.proof.wait(), Wait::All(_));
            connection.bytes = if is_held { 1000 } else { 200 };
            let is_proven = connection.write(if is_held { 50 } else { 10 }, if is_held { delay } else { 0 });
            (is_held, is_proven, connection.proof.timer_acks())
        };
        let of_reader: Vec<_> = (0..1000).map(|_| write(0)).collect();
        let held = of_reader.iter().filter(|(is_held, ..)| *is_held).count();
        let proofs = of_reader.iter().filter(|(_, is_proven, _)| *is_proven).count();
        assert!((10..14).contains(&proofs), "{proofs} proofs in 11 s");
        assert!(held <= 2 * proofs + 2, "{held} writes were held for {proofs} proofs");
        // It reads nothing any more: soon, all writes are held.
        let of_frozen: Vec<_> = (0..120).map(|_| write(42)).collect();
        assert!(of_frozen[100..].iter().all(|(is_held, ..)| *is_held), "{of_frozen:?}");
        assert!(of_frozen[119].2 >= 20, "{of_frozen:?}");
        let of_back: Vec<_> = (0..20).map(|_| write(0)).collect();
        assert!(of_back[..5].iter().any(|(_, is_proven, _)| *is_proven) && !of_back[19].0, "{of_back:?}");
    }

    #[test]
    fn the_average_round_trip_tells_how_many_were_late() {
        // As it was seen on loopback, 0.4 and 0.9 s after a program had stopped reading: 42 and 43 ms late each.
        assert_eq!(late_packets(Duration::from_micros(18_082), Duration::from_millis(43)), 4);
        assert_eq!(late_packets(Duration::from_micros(29_940), Duration::from_millis(43)), 9);
        assert_eq!(late_packets(Duration::ZERO, Duration::from_millis(40)), 1);
        assert_eq!(
            late_packets(Duration::from_millis(50), Duration::from_millis(40)),
            22,
            "the average cannot be longer"
        );
    }
}
