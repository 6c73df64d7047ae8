//! Proofs that a listener's program has read everything, from when its machine acknowledges.
//!
//! Linux acknowledges a small segment at once when the program's read has emptied the receive queue, and otherwise after 40 ms or
//! a round trip (`tcp_cleanup_rbuf`, `tcp_send_delayed_ack`). So a segment that arrives alone and is acknowledged promptly was
//! read, with everything before it. Acknowledgements tell which arrived alone, over a path of any length: if one ends exactly
//! where a segment begins, that segment was not there yet. If the next one ends exactly where it ends, the acknowledgement is that
//! of this segment and of no later one.
//!
//! Once a program has read everything, one look shows as much: if as many segments have come back as were written since the look before,
//! each was acknowledged by itself, the last one too.
//!
//! Such a segment that is acknowledged late, or together with a later one, was not read at once. That says less: the program may have
//! read it a moment later.
//!
//! A prompt acknowledgement proves nothing while the far kernel acknowledges everything at once: the first segments, those after a
//! pause or after one that came twice, and while it raises its limits (`tcp_grow_window`), which may take minutes with a receive buffer
//! of megabytes. This shows in the window, after up to four segments. Writes of several segments are acknowledged at once if the
//! window does not narrow. They prove something only once the window has stayed the same for long enough.

use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::hold::{HOLD, Holds, MIN_INTERVAL, Wait};
use crate::delivery::socket::receive_window::{
    CHANGE_BYTES, COPIED_BYTES, DEFAULT_BUFFER_BYTES, DENSE_BYTES_PER_SECOND, LARGE_WINDOW_BYTES,
    MIN_DEFAULT_WINDOW_BYTES,
};
use crate::delivery::socket::tcp_info::TcpInfo;

/// After a pause of this and a round trip, the far kernel acknowledges at once: its retransmission timeout is 200 ms more than its smoothed
/// round trip, or longer (`__tcp_set_rto`). The pause may also be that of a path on which others have filled the queue, which shows in the
/// acknowledgements.
const MAX_TEST_GAP: Duration = Duration::from_millis(180);
/// The longest gap between two writes that counts for their interval, in intervals.
const MAX_LONGER_GAP: u32 = 2;
/// Writes that may be acknowledged at once, read or not (`TCP_MAX_QUICKACKS` is 16).
const QUICK_ACKS: u8 = 20;
/// Writes that are no test after the window has widened: while a kernel raises its limits, it acknowledges each segment at once, and
/// the last steps may be too small to show.
const WIDENING_ACKS: u8 = 4;
/// Bytes that must be acknowledged after a prompt segment, without a wider window, until it proves something: the first steps of
/// a kernel that raises its limits are too small to show, by the largest unit of a window that was seen.
const CONFIRMING_BYTES: u64 = 1024;
/// An acknowledgement is prompt if it takes no longer than this and the shortest round trip. The kernel tells times of
/// acknowledgements to 1 to 10 ms.
const PROMPT: Duration = Duration::from_millis(24);
/// An acknowledgement is late if it takes so much longer than the shortest round trip: that of the timer, less the kernel's tick.
const LATE: Duration = Duration::from_millis(34);
/// On so short a path, a segment that is acknowledged together with a later one was not read at once after less.
const SHORT_ROUND_TRIP: Duration = Duration::from_millis(4);
const SHORT_PROMPT: Duration = Duration::from_millis(8);
/// By how much Linux delays acknowledgements, to its tick: for a round trip, if that is longer.
const ACK_DELAY: Duration = Duration::from_millis(42);
/// Prompt tests in a row that prove something, while none was late or the window has not widened since the proof before.
const PROMPTS: u8 = 2;
/// The same after such a test: a program that reads at its own intervals reads a test promptly now and then.
const UNSURE_PROMPTS: u8 = 5;
/// The same with a window of megabytes, whose kernel may raise its limits without a trace.
const LARGE_WINDOW_PROMPTS: u8 = 12;
/// The longest time between two of them.
const MAX_PROMPT_GAP: Duration = Duration::from_secs(3);
/// A test that is later than any timer takes back so many of those before it: the machine was busy.
const BUSY_TESTS: u8 = 4;
/// Between two tests of a listener that reads.
const TEST_INTERVAL: Duration = Duration::from_millis(900);
/// Between two looks that count acknowledgements.
const COUNT_INTERVAL: Duration = Duration::from_millis(450);
/// After so much time, and so many writes, without a result the one before them says nothing any more.
const MAX_RESULT_AGE: Duration = Duration::from_secs(3);
const MAX_WRITES: u8 = 30;
/// Packets of a program wait only if so many tests in a row were late: it may have had something else to do.
const MIN_LATE: u8 = 3;
/// After so many late tests in a row of a stream that is held, single packets between held ones change nothing.
pub(super) const MIN_HELD_TESTS: u8 = 12;
/// The late tests that count on after one prompt test: so few that the rows of [`MIN_HELD_TESTS`] and more begin anew.
const MAX_LATE_AFTER_PROMPT: u8 = 6;
/// Short packets are held if so many were, as soon as few writes are left that may be acknowledged at once. If none were left, the
/// first late acknowledgement of a single packet would make this kernel send it again, and the far one acknowledge the next ones at once.
const MIN_HOLD_LATE: u8 = 2;
const HELD_QUICK_ACKS: u8 = 6;
/// On so short a path, an acknowledgement that took longer was not sent at once. The kernel tells its time to 4 ms, or 10.
const AT_ONCE: Duration = Duration::from_millis(4);
/// The part of its interval for which a packet of a program that does not read at once waits is none, a fifth, and so on, in turns.
/// A program that reads at its own intervals, with the same phase as the packets come, would never read one promptly.
const DELAY_PARTS: u32 = 5;
/// A fifth is no more than this, so that packets are not too far apart for tests.
const MAX_DELAY_STEP: Duration = Duration::from_millis(20);
/// The window of a program that reads nothing narrows by a third of this while so many bytes come in segments of an Ethernet, so if it
/// stays the same, these bytes were read.
const STEADY_BYTES: u32 = 32 * 1024;
/// So many more show that a window which has become narrower stays there.
const NARROW_STEADY_BYTES: u32 = 4 * STEADY_BYTES;

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The program had read everything.
    Prompt,
    /// The program did not read at once.
    Late,
}

/// The state of the connection when the kernel was last asked.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    at: Timestamp,
    acked: u64,
    window: u32,
    segment_bytes: u32,
    round_trip_micros: u32,
    /// How long ago the last acknowledgement came, and for how long the far kernel may have delayed it, as far as that is known.
    since_ack_millis: u16,
    ack_delay_millis: u16,
    /// Whether no more writes were not acknowledged than are on their way.
    is_acked: bool,
    /// Whether all was acknowledged, the last write promptly.
    is_acked_promptly: bool,
}

/// A write whose acknowledgement tells whether it was read.
#[derive(Clone, Copy, Debug, Default)]
struct Test {
    /// Where its last byte ends; zero if there is no test.
    end: u64,
    written_at: Timestamp,
    bytes: u32,
    /// The receive window then.
    window: u32,
    /// Whether it has arrived alone, for certain.
    is_alone: bool,
    /// The write after it: where its last byte ends, zero if there was none yet, and when it was written.
    next: (u64, Timestamp),
    /// Whether the count of acknowledgements is to show that. Such a test is replaced by that of the next write until the next look.
    is_counted: bool,
}

/// The proofs of one connection.
#[derive(Debug, Default)]
pub(super) struct ReadProof {
    /// Bytes of the connection that were read, and when that was proven.
    proven: u64,
    proven_at: Timestamp,
    /// Whether there was a proof.
    has_proof: bool,
    /// Bytes that were read, if the window does not widen; zero if there is no such proof.
    unconfirmed: u64,
    /// Where the last test ended that was prompt; zero if there was none since the window last widened.
    last_prompt: u64,
    /// Writes that are no test yet.
    quick_acks: u8,
    retransmits: u32,
    /// Whether this kernel has sent a segment again since the last proof, because one was lost.
    has_resent: bool,
    /// The widest receive window so far, or that at which it has settled since.
    open: u32,
    /// Whether it ever was as wide as each default buffer is at first. After losses, that of such a buffer is narrower for good.
    was_wide: bool,
    /// Since how many acknowledged bytes the window has been this wide, or nearly; the low bits of that.
    steady_from: u32,
    steady: u32,
    /// Whether it had narrowed before.
    has_narrowed: bool,
    test: Test,
    look: Look,
    /// Where the last write ended, and when it was.
    written: u64,
    written_at: Timestamp,
    /// Segments that had come from there at the last look at which all was acknowledged, and the writes since then.
    received_segments: u32,
    unseen_writes: u8,
    holds: Holds,
    /// Whether the next packets are to wait, and whether those of the last write did.
    must_wait: bool,
    has_waited: bool,
    /// Bytes of the last write.
    write_bytes: u32,
    /// How many tests in a row were prompt, each within [`MAX_PROMPT_GAP`] of the one before.
    prompts: u8,
    /// Whether a test was late or the window has widened since the last proof.
    is_unsure: bool,
    /// Whether the next write is to be a test in any case.
    is_suspected: bool,
    /// Whether tests wait for the listener's turn, but for those of one that reads.
    is_postponed: bool,
    result: Option<Reading>,
    /// When it was known, and how many writes there were since.
    result_at: Timestamp,
    writes: u8,
    /// How many tests in a row were late.
    lates: u8,
    /// How many packets had been acknowledged late when the first of these was over, with that one.
    late_packets: u8,
}

impl ReadProof {
    /// Begins after `written` bytes of the connection, which other responses took.
    pub(super) fn begin(&mut self, written: u64, now: Timestamp) {
        (self.proven, self.proven_at, self.quick_acks) = (written, now, QUICK_ACKS);
        self.is_unsure = true;
    }

    /// Returns how many bytes of the connection were acknowledged at the last look, and the receive window then.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.look.acked, self.look.window.into())
    }

    /// Returns when the kernel was last asked.
    pub(super) fn looked_at(&self) -> Timestamp {
        self.look.at
    }

    /// Returns how many bytes of the connection the program has read for certain.
    pub(super) fn proven(&self) -> u64 {
        self.proven
    }

    /// Returns how many bytes of the connection the program has probably read, because one test was prompt.
    pub(super) fn last_prompt(&self) -> u64 {
        self.last_prompt.max(self.proven)
    }

    /// Returns whether any test was prompt, which is taken back if the window widens before that is proven.
    pub(super) fn has_prompt(&self) -> bool {
        self.last_prompt > 0 || self.has_proof
    }

    /// Returns whether the program was ever seen to have read everything.
    pub(super) fn has_proof(&self) -> bool {
        self.has_proof
    }

    /// Returns the result of the last test; `None` if there was none lately.
    pub(super) fn result(&self) -> Option<Reading> {
        let is_old = self.writes > MAX_WRITES && self.look.at.since(self.result_at) > MAX_RESULT_AGE;
        self.result.filter(|_| !is_old)
    }

    /// Returns whether this kernel has sent a segment again since the last proof, because one was lost. Then others may have waited for it at
    /// the far end, whose window is narrower for a while.
    pub(super) fn has_resent(&self) -> bool {
        self.has_resent
    }

    /// Returns whether the far window may be wider than this kernel knows: what says so was lost, and the next probe of a closed window, which
    /// may take minutes, has not told it yet.
    pub(super) fn may_have_lost_window(&self, socket: &TcpInfo) -> bool {
        socket.retransmits > 0 && self.is_pause(socket.since_ack)
    }

    /// Permits that packets in quick succession are held for a moment.
    pub(super) fn permit_holds(&mut self) {
        self.holds.permit();
    }

    /// Returns the bytes of the last write, if its packets were held.
    pub(super) fn held_bytes(&self) -> Option<u64> {
        self.holds.is_holding().then_some(u64::from(self.write_bytes))
    }

    /// Returns whether writes come as far apart as pages do, each of them a test at another moment of the program's own intervals.
    pub(super) fn is_paged(&self) -> bool {
        let were_held = self.holds.is_live() && self.lates >= MIN_HELD_TESTS;
        self.holds.is_holding() || were_held || self.interval() >= HOLD
    }

    /// Returns whether these pages of about `page_bytes` are those of samples, so many that each change of the window shows something.
    pub(super) fn has_dense_pages(&self, page_bytes: u64) -> bool {
        let bytes = DENSE_BYTES_PER_SECOND as f64 * self.interval().as_secs_f64();
        !self.holds.is_holding() && page_bytes as f64 >= bytes
    }

    /// Returns how the next packets are to wait, so that one write of them is a test, and another one than the test before.
    pub(super) fn wait(&self) -> Wait {
        let delay = self.delay();
        if self.holds.is_holding() {
            Wait::All(self.holds.span(self.round_trip()))
        } else if delay.is_zero() {
            Wait::Not
        } else {
            Wait::Next(delay)
        }
    }

    /// Returns how long the next packet is to wait. Packets that come in quick succession do not, because they would come too close
    /// to the next ones, nor do those that are no tests, because tests wait for the listener's turn.
    fn delay(&self) -> Duration {
        if self.is_late() && self.lates >= MIN_LATE && self.interval() >= HOLD && !self.is_postponed {
            (self.interval() / DELAY_PARTS).min(MAX_DELAY_STEP) * (u32::from(self.lates) % DELAY_PARTS)
        } else {
            Duration::ZERO
        }
    }

    /// Returns how many tests in a row were late.
    pub(super) fn lates(&self) -> u8 {
        self.lates
    }

    /// Makes a test of the next write if `is_suspected`, because the window says that the program does not read.
    pub(super) fn suspect(&mut self, is_suspected: bool) {
        self.is_suspected = is_suspected;
    }

    /// Returns how many packets had been acknowledged late when the first late test was over, with that one.
    pub(super) fn late_packets(&self) -> u64 {
        self.late_packets.into()
    }

    /// Returns whether the next write is to be preceded by a look.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        if self.test.is_counted {
            return self.is_due(now) || now.since(self.look.at) >= COUNT_INTERVAL;
        }
        let is_settling = self.is_settling() && !self.is_postponed;
        self.has_test() || self.is_confirmation_near() || is_settling || self.is_due(now)
    }

    /// Returns whether the next look may confirm the last prompt test, or show that the window has widened since.
    fn is_confirmation_near(&self) -> bool {
        let is_near = self.written >= self.unconfirmed + CONFIRMING_BYTES;
        self.unconfirmed > 0 && (is_near || !self.is_only_unconfirmed())
    }

    /// Returns whether nothing has spoken against the last prompt tests since the last proof, and all that is missing is a look some
    /// short packets later.
    fn is_only_unconfirmed(&self) -> bool {
        self.unconfirmed > 0 && !self.is_unsure && self.interval() < HOLD
    }

    /// Returns whether the next write is to be preceded by a look that one to a program which reads would not have.
    pub(super) fn wants_more_looks(&self, now: Timestamp) -> bool {
        !self.is_calm() && (self.is_settling() || self.wants_test(now))
    }

    /// Postpones tests until the listener's turn, or permits them again. A test that was begun goes on, and so do those of a program
    /// that reads.
    pub(super) fn postpone(&mut self, is_postponed: bool) {
        self.is_postponed = is_postponed;
    }

    /// Returns whether tests wait for the listener's turn.
    pub(super) fn is_postponed(&self) -> bool {
        self.is_postponed
    }

    /// Returns whether the next write may be a test: the far kernel does not acknowledge it at once in any case.
    pub(super) fn is_test_near(&self) -> bool {
        self.quick_acks <= 1
    }

    /// Returns whether the next write may be the first test of all. It does not wait for a turn: the receive window of a program that
    /// never reads is soon half closed, and then nothing can be tested any more.
    pub(super) fn is_first_test_near(&self) -> bool {
        self.result.is_none() && self.is_test_near()
    }

    /// Returns whether the first tests are near, which a window that widens puts off.
    fn is_settling(&self) -> bool {
        (1..=WIDENING_ACKS + 1).contains(&self.quick_acks)
    }

    /// Returns whether looks are few: the program reads, and the next write may be a test.
    fn is_calm(&self) -> bool {
        self.is_sure() && self.is_test_near()
    }

    /// Returns whether there is a test to which looks belong before and after its write.
    fn has_test(&self) -> bool {
        self.test.end > 0 && !self.test.is_counted
    }

    /// Returns whether a count of acknowledgements can show that the last write was read.
    fn can_count(&self) -> bool {
        self.is_sure()
            && self.quick_acks == 0
            && self.interval() >= HOLD
            && self.unseen_writes < u8::MAX
            && !self.is_half_closed()
    }

    /// Returns whether the last test has shown that everything was read, and nothing spoke against it since the last proof.
    pub(super) fn is_sure(&self) -> bool {
        self.result() == Some(Reading::Prompt) && !self.is_unsure
    }

    /// Returns whether everything but what was on its way had been acknowledged at the last look.
    pub(super) fn is_acked(&self) -> bool {
        self.look.is_acked
    }

    /// Returns whether everything had been acknowledged at the last look, and the last write promptly.
    pub(super) fn is_acked_promptly(&self) -> bool {
        self.look.is_acked_promptly
    }

    fn is_due(&self, now: Timestamp) -> bool {
        (!self.is_postponed || self.is_calm()) && self.wants_test(now)
    }

    fn wants_test(&self, now: Timestamp) -> bool {
        // A row of prompt tests is not interrupted.
        let is_wanted = self.is_late()
            || self.is_suspected
            || (self.is_unsure && self.prompts > 0)
            || (now.since(self.proven_at) >= TEST_INTERVAL && !self.is_only_unconfirmed());
        is_wanted && !self.is_after_pause()
    }

    /// Returns whether there was a pause before the last write, as before each page of half a second, or a segment was sent again: the far
    /// kernel acknowledges the next ones at once.
    fn is_after_pause(&self) -> bool {
        self.quick_acks == QUICK_ACKS
    }

    fn is_late(&self) -> bool {
        self.result() == Some(Reading::Late)
    }

    /// Returns whether the listener's program has set a smaller receive buffer than the system's default.
    pub(super) fn is_small(&self) -> bool {
        !self.was_wide
    }

    /// Returns the widest receive window so far, or that at which it has settled since.
    pub(super) fn open_window(&self) -> u64 {
        self.open.into()
    }

    /// Returns whether much of the receive window is closed. Then each read may be acknowledged at once, because it opens the
    /// window (`tcp_cleanup_rbuf`). One that is wider than a default buffer may be what is left of an offer during a burst.
    pub(super) fn is_half_closed(&self) -> bool {
        let (window, open) = (u64::from(self.look.window), u64::from(self.open));
        open <= DEFAULT_BUFFER_BYTES && window * 10 < open * 6
    }

    /// Takes the receive window for open that it has now, because it has settled there. That of a small buffer is left out: it is soon
    /// closed, and its widest window tells how much it receives.
    pub(super) fn settle(&mut self) {
        if self.was_wide {
            self.open = self.look.window;
        }
    }

    /// Returns the time between writes that did not wait, on average.
    fn interval(&self) -> Duration {
        self.holds.interval()
    }

    /// Returns the time between writes after another one that came `gap` after the one before. Neither a few pauses, each with the
    /// packets that waited behind it, make pages of packets, nor does a full socket, which takes a part of one, make it shorter.
    fn interval_after(&self, gap: Duration) -> Duration {
        let interval = self.interval();
        if interval.is_zero() || gap < MIN_INTERVAL {
            return if interval.is_zero() { gap } else { interval };
        }
        (interval * 7 + gap.min(MAX_LONGER_GAP * interval)) / 8
    }

    /// Returns the shortest round trip, as of the last look.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.look.round_trip_micros.into())
    }

    /// Returns whether the path is short.
    fn is_short_path(&self) -> bool {
        self.round_trip() < SHORT_ROUND_TRIP
    }

    /// Returns the most bytes that one segment carries, as of the last look.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.look.segment_bytes.into()
    }

    /// Notes a write of `bytes` bytes up to `end`, `gap` after the one before, of packets of about `packet_bytes`.
    pub(super) fn wrote(&mut self, end: u64, bytes: u64, packet_bytes: u64, gap: Duration, now: Timestamp) {
        if bytes == 0 {
            return;
        }
        let waited = self.must_wait;
        if !waited && !self.has_waited {
            self.holds.set_packet(packet_bytes, self.interval_after(gap.min(MAX_TEST_GAP)));
        }
        self.has_waited = waited;
        self.write_bytes = bytes as u32;
        self.writes = self.writes.saturating_add(1);
        self.quick_acks = if self.is_pause(gap) { QUICK_ACKS } else { self.quick_acks.saturating_sub(1) };
        let is_single = bytes <= self.segment_bytes();
        self.unseen_writes = if is_single { self.unseen_writes.saturating_add(1) } else { u8::MAX };
        // A look since the write before shows whether this one arrives alone.
        let is_looked_at = self.look.at >= self.written_at;
        (self.written, self.written_at) = (end, now);
        if self.has_test() && self.test.next.0 == 0 {
            self.test.next = (end, now);
        }
        let test = Test { end, written_at: now, bytes: bytes as u32, window: self.look.window, ..Test::default() };
        let can_test = self.quick_acks == 0 && is_looked_at && self.is_due(now);
        if self.is_half_closed() && (can_test || self.is_late()) {
            // Nothing can be tested, so the results before go on to count.
            (self.writes, self.result_at) = (0, now);
        } else if can_test && !self.has_test() {
            self.test = Test { is_alone: self.look.acked + bytes == end, ..test };
        } else if self.can_count() && !self.has_test() {
            self.test = Test { is_counted: true, ..test };
        }
        let is_wanted = self.is_late() && self.lates >= MIN_HOLD_LATE && self.quick_acks <= HELD_QUICK_ACKS;
        self.holds.decide(is_wanted, self.segment_bytes(), self.round_trip());
        self.must_wait = self.wait() != Wait::Not;
    }

    /// Takes what the kernel says now. Returns whether this proves that the program has read everything up to
    /// [`proven`](Self::proven).
    pub(super) fn judge(&mut self, socket: &TcpInfo, now: Timestamp) -> bool {
        // A window has 30 bits at most (RFC 7323, section 2.3).
        let (acked, window) = (socket.acked_bytes, socket.window_bytes.unwrap_or_default() as u32);
        let has_widened = self.open > 0 && window > self.look.window;
        self.open = self.open.max(window);
        self.was_wide |= u64::from(window) >= MIN_DEFAULT_WINDOW_BYTES;
        if self.have_acks_paused(socket, now) {
            self.quick_acks = QUICK_ACKS;
            self.give_up();
        }
        if self.is_acked_by_read(socket, now) {
            self.lates = self.lates_after_prompt();
        }
        self.look = Look {
            at: now,
            acked,
            window,
            segment_bytes: socket.segment_bytes as u32,
            round_trip_micros: socket.min_round_trip.unwrap_or_default().as_micros() as u32,
            since_ack_millis: u16::try_from(socket.since_ack.as_millis()).unwrap_or(u16::MAX),
            ack_delay_millis: if acked == self.look.acked { self.look.ack_delay_millis } else { 0 },
            is_acked: false,
            is_acked_promptly: false,
        };
        if acked >= self.written {
            let delay = self.delay_since(self.written_at, socket, now);
            self.look.is_acked_promptly = delay <= PROMPT;
            self.look.ack_delay_millis = delay.min(ACK_DELAY).as_millis() as u16;
        }
        let on_their_way = 1 + self.look.round_trip_micros / self.interval().as_micros().max(1) as u32;
        self.look.is_acked =
            self.written.saturating_sub(acked) <= u64::from(on_their_way) * u64::from(self.write_bytes);
        self.look_at_steadiness(acked, window);
        if has_widened {
            self.quick_acks = self.quick_acks.max(WIDENING_ACKS);
            self.last_prompt = 0;
            self.give_up();
        }
        if self.retransmits != socket.retransmits {
            self.retransmits = socket.retransmits;
            // A late acknowledgement makes this kernel send a segment again on a short path, and the far one acknowledge sixteen at once,
            // after which the next is late. On a longer one, a segment was lost, which says nothing of the program.
            let is_short = self.is_short_path();
            let is_late = self.has_test() && self.test.is_alone && self.quick_acks == 0;
            let is_late_again = (1..=HELD_QUICK_ACKS).contains(&self.quick_acks);
            self.has_resent |= !is_short;
            self.quick_acks = QUICK_ACKS;
            self.give_up();
            if is_short && (is_late || is_late_again) {
                self.note_late(socket, ACK_DELAY, now);
            }
        }
        if socket.min_round_trip.is_none() {
            return false;
        }
        let is_counted = self.test.is_counted;
        let prompt = if is_counted { self.judge_counted(socket, now) } else { self.judge_test(socket, now) };
        if acked >= self.written {
            (self.received_segments, self.unseen_writes) = (socket.received_segments, 0);
        }
        if self.unconfirmed == 0 {
            self.unconfirmed = prompt;
        }
        let is_confirmed = self.unconfirmed > 0 && acked >= self.unconfirmed + CONFIRMING_BYTES;
        if is_confirmed {
            let next = if is_counted { prompt } else { 0 };
            let read = std::mem::replace(&mut self.unconfirmed, next);
            self.prove(read, now);
        }
        is_confirmed
    }

    /// Returns whether the far kernel acknowledges at once after such a gap between two segments.
    fn is_pause(&self, gap: Duration) -> bool {
        gap > MAX_TEST_GAP + self.round_trip()
    }

    /// Returns whether the last acknowledgement at the look before and the first one after it were so far apart that their segments were, too,
    /// the first of which may have come before its acknowledgement went. If more than one write was acknowledged since, the first one came
    /// after that look, at some time.
    fn have_acks_paused(&self, socket: &TcpInfo, now: Timestamp) -> bool {
        let came = socket.acked_bytes.saturating_sub(self.look.acked);
        let since_ack = Duration::from_millis(self.look.since_ack_millis.into());
        let pause = match came {
            0 => return false,
            _ if came <= u64::from(self.write_bytes) => (now - socket.since_ack).since(self.look.at - since_ack),
            _ => since_ack,
        };
        let ack_delay = Duration::from_millis(self.look.ack_delay_millis.into());
        self.look.acked > 0 && self.is_pause(pause + ack_delay)
    }

    /// Returns whether the last packets were acknowledged neither at once nor by the far kernel's timer, so that a read has done it. Where late
    /// acknowledgements make this kernel send a segment again, the last few of those that the far one then acknowledges at once are no
    /// tests, and without this only the late ones among them would count.
    fn is_acked_by_read(&self, socket: &TcpInfo, now: Timestamp) -> bool {
        let acked = socket.acked_bytes;
        let is_last = (1..=HELD_QUICK_ACKS).contains(&self.quick_acks) && self.is_short_path();
        let is_whole = acked > self.look.acked && acked >= self.written && self.retransmits == socket.retransmits;
        if !is_last || !is_whole || self.holds.is_holding() {
            return false;
        }
        let bytes = u64::from(self.write_bytes.max(1));
        let packets = (acked - self.look.acked + bytes / 2) / bytes;
        let delay = self.delay_since(self.written_at, socket, now);
        delay >= AT_ONCE && delay + self.interval() * (packets.max(1) - 1) as u32 <= PROMPT
    }

    /// Returns how many late tests in a row count on after one prompt test.
    fn lates_after_prompt(&self) -> u8 {
        (self.lates / 2).min(MAX_LATE_AFTER_PROMPT)
    }

    /// Gives up the test and the row of prompt ones.
    fn give_up(&mut self) {
        self.test = Test::default();
        (self.prompts, self.unconfirmed, self.is_unsure) = (0, 0, true);
    }

    fn look_at_steadiness(&mut self, acked: u64, window: u32) {
        if u64::from(window.abs_diff(self.steady)) >= CHANGE_BYTES {
            self.has_narrowed = window < self.steady;
            (self.steady_from, self.steady) = (acked as u32, window);
        }
    }

    /// Returns whether a prompt acknowledgement of several segments shows that they were read.
    fn is_steady(&self) -> bool {
        self.is_steady_for(if self.has_narrowed { NARROW_STEADY_BYTES } else { STEADY_BYTES })
    }

    /// Returns whether the window has stayed the same while so many bytes came.
    pub(super) fn is_steady_for(&self, bytes: u32) -> bool {
        (self.look.acked as u32).wrapping_sub(self.steady_from) >= bytes
    }

    /// Judges the last write, if each write since the last look was acknowledged by itself. Returns the same as
    /// [`judge_test`](Self::judge_test).
    fn judge_counted(&mut self, socket: &TcpInfo, now: Timestamp) -> u64 {
        if self.look.acked < self.written {
            return 0;
        }
        let received = socket.received_segments.wrapping_sub(self.received_segments);
        self.test.is_counted = false;
        self.test.is_alone = received == u32::from(self.unseen_writes);
        // Unread bytes narrow the window, unless it widens for another reason.
        let is_narrower = self.look.window < self.test.window;
        let is_prompt = self.ack_delay(socket, now) <= PROMPT;
        if !self.test.is_alone || (is_narrower && is_prompt) {
            self.test = Test::default();
        }
        self.judge_test(socket, now)
    }

    /// Returns how much longer than the shortest round trip the acknowledgement of the test took, if no other has come since.
    fn ack_delay(&self, socket: &TcpInfo, now: Timestamp) -> Duration {
        self.delay_since(self.test.written_at, socket, now)
    }

    /// Returns how much longer than the shortest round trip the last acknowledgement took of what was written then.
    fn delay_since(&self, written_at: Timestamp, socket: &TcpInfo, now: Timestamp) -> Duration {
        (now - socket.since_ack).since(written_at).saturating_sub(self.round_trip())
    }

    /// Returns whether the last acknowledgement is that of the test and of the write after it, promptly after this one. A program that reads
    /// has its kernel acknowledge every other segment so while the connection is a dialogue for that kernel, as after a handshake of TLS.
    /// So does the kernel of one that reads nothing, if its window does not narrow.
    fn is_prompt_pair(&self, socket: &TcpInfo, now: Timestamp) -> bool {
        let (end, written_at) = self.test.next;
        let is_traced = u64::from(self.test.bytes) >= COPIED_BYTES && u64::from(self.open) < LARGE_WINDOW_BYTES;
        let is_pair = self.test.is_alone && end > 0 && self.look.acked == end;
        is_pair && is_traced && self.delay_since(written_at, socket, now) <= self.short_prompt()
    }

    /// Returns within which delay an acknowledgement of several segments shows that they were read at once.
    fn short_prompt(&self) -> Duration {
        if self.is_short_path() { SHORT_PROMPT } else { PROMPT }
    }

    /// Judges the test that was written last, once its acknowledgement is there. Returns where it ends if it is one of a row of prompt ones
    /// that proves something, else zero.
    fn judge_test(&mut self, socket: &TcpInfo, now: Timestamp) -> u64 {
        let Test { end, written_at, bytes, window, .. } = self.test;
        if end == 0 {
            return 0;
        }
        let acked = self.look.acked;
        if acked + u64::from(bytes) == end {
            self.test.is_alone = true;
        }
        let round_trip = self.round_trip();
        if acked < end {
            if self.test.is_alone && now.since(written_at) >= round_trip + LATE {
                self.set_result(Reading::Late, now);
            }
            return 0;
        }
        let delay = self.ack_delay(socket, now);
        let has_come_alone = self.test.is_alone;
        let is_alone = has_come_alone && acked == end;
        let is_pair = self.is_prompt_pair(socket, now) && self.is_steady();
        self.test = Test::default();
        if !is_alone && !is_pair {
            // Together with a later one, or between two looks.
            if has_come_alone && delay > self.short_prompt() {
                self.note_late(socket, ACK_DELAY, now);
            } else {
                (self.prompts, self.is_unsure) = (0, true);
            }
        } else if is_pair || delay <= PROMPT {
            let is_recent = now.since(self.result_at) <= MAX_PROMPT_GAP;
            self.prompts = if is_recent { self.prompts.saturating_add(1) } else { 1 };
            self.result_at = now;
            let min_prompts = match self.is_unsure {
                false => PROMPTS,
                true if self.is_paged() && u64::from(self.open) >= LARGE_WINDOW_BYTES => LARGE_WINDOW_PROMPTS,
                true => UNSURE_PROMPTS,
            };
            let is_row = self.prompts >= min_prompts;
            if self.look.window < window {
                // Narrower by what came, which may hide that the kernel raises its limits.
                self.prompts = 0;
            }
            let is_single = u64::from(bytes) <= socket.segment_bytes;
            if !is_single && !self.is_steady() {
                return 0;
            }
            // Two in a row show that it may not be frozen. One may be of a kernel that raises its limits, without a trace in a window
            // that unread bytes have narrowed; where these would leave no trace, one has to be enough.
            let is_traceless = u64::from(bytes) < COPIED_BYTES && !self.holds.is_holding();
            self.lates = if self.prompts > 1 || is_traceless { 0 } else { self.lates_after_prompt() };
            self.last_prompt = acked;
            if is_row {
                self.set_result(Reading::Prompt, now);
                return acked;
            }
        } else if delay >= LATE {
            // On a long way, the far kernel's timer is its round trip (`tcp_send_delayed_ack`).
            let is_timer = delay <= 2 * LATE.max(round_trip);
            if is_timer {
                self.note_late(socket, delay, now);
            } else {
                self.lates = self.lates.saturating_sub(BUSY_TESTS);
                self.set_result(Reading::Late, now);
            }
        }
        0
    }

    fn note_late(&mut self, socket: &TcpInfo, delay: Duration, now: Timestamp) {
        if self.lates == 0 {
            let average = socket.round_trip.saturating_sub(self.round_trip());
            self.late_packets = late_packets(average, delay) as u8;
        }
        self.lates = self.lates.saturating_add(1);
        (self.prompts, self.unconfirmed, self.is_unsure) = (0, 0, true);
        self.set_result(Reading::Late, now);
    }

    fn set_result(&mut self, result: Reading, now: Timestamp) {
        (self.result, self.result_at, self.writes) = (Some(result), now, 0);
    }

    /// Notes that the program has read this many bytes of the connection.
    pub(super) fn prove(&mut self, read: u64, now: Timestamp) {
        self.proven = self.proven.max(read);
        self.proven_at = now;
        self.has_proof = true;
        (self.lates, self.late_packets, self.is_unsure, self.has_resent) = (0, 0, false, false);
    }
}

/// Returns how many acknowledgements in a row were late by `delay`, after prompt ones, when the average is late by `average`. Each
/// counts for an eighth (RFC 6298, section 2), so that 7/8 of the rest is still missing after each.
fn late_packets(average: Duration, delay: Duration) -> u64 {
    let missing = 1.0 - (average.as_secs_f64() / delay.as_secs_f64()).min(0.95);
    (missing.ln() / 0.875_f64.ln()).round().max(1.0) as u64
}

#[cfg(test)]
mod tests;
