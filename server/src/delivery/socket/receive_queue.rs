//! The model of the receive queue of a listener's machine (`Recv-Q` of `ss`): how many received bytes the listener's program has not
//! read. It is an interval and an estimate within it.
//!
//! - The upper bound is what came after the last proof ([`ReadProof`]): a row of prompt acknowledgements, or an answer to a ping. Where
//!   nothing can be proven, it is everything.
//! - The lower bound is what the window shows ([`ReceiveWindow`]), less all that narrows a window for other reasons.
//! - The estimate follows the lower bound, until tests are late. If the window then narrows as it does for a program that reads
//!   nothing, it is all that came since the first late one. If the window opens now and then, the program reads, and how wide it
//!   opens shows how much is left ([`Drain`] for samples).

mod drain;
mod level;
mod segment_size;

use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::ping::Pings;
use crate::delivery::socket::read_proof::{MIN_HELD_TESTS, ReadProof, Reading};
use crate::delivery::socket::receive_window::{
    CHANGE_BYTES, COPIED_BYTES, DEFAULT_BUFFER_BYTES, LARGE_WINDOW_BYTES, ReceiveWindow,
};
use crate::delivery::socket::tcp_info::TcpInfo;
use drain::Drain;
use level::Level;
use segment_size::SegmentSize;

/// Packets that a kernel merges into one piece of memory, which it frees when all of it is read (`MAX_SKB_FRAGS`, and its
/// head).
const MERGED_PACKETS: u64 = 18;
/// Unread bytes for each byte that is missing from a window, in tenths, with packets of 1 to 1.5 KB: 15 to 17 were seen.
const UNREAD_TENTHS: u64 = 16;
/// The fewest, of a program that reads nothing.
const MIN_UNREAD_TENTHS: u64 = 13;
/// The window of a program that reads nothing narrows by at least this part of what comes, in hundredths, after the first
/// [`HIDDEN_BYTES`]: 55 to 65 were seen with packets of 1250 and 1700 bytes, 48 with 960 and 1160 in turns, 31 with a few longer ones
/// among them.
const NARROWING_HUNDREDTHS: u64 = 40;
/// Unread bytes that a window need not show.
const HIDDEN_BYTES: u64 = 2500;
/// A kernel that counts the memory of segments anew offers this part less, with nothing unread (`scaling_ratio`).
const RECOUNTED_PART: u64 = 4;
/// A window that has stayed the same while so many bytes came lacks nothing for those that came before, if it never was seen with everything
/// read: that of a program that reads nothing would have narrowed by a third of them. A path whose queue grows and shrinks, as one of 1
/// Mbit/s for several listeners does, makes tests late, and the first of its windows was wider.
const UNPROVEN_STEADY_BYTES: u32 = 8 * 1024;
/// A window need not narrow at all: short packets leave no trace, and a program may have set a buffer of megabytes. Then this many tests
/// in a row must be late by the far kernel's timer, each at another moment of the program's own intervals.
const MIN_TESTS: u8 = 64;
/// Where tests wait for the listener's turn, a late one says nothing about more packets than this. Of a program that reads nothing,
/// four or five of 25 packets are late tests; of one that reads now and then, those may be the only ones for long.
const TESTED_PACKETS: u64 = 6;
/// The most pages of Opus that a small buffer receives, in halves of the widest window that it ever offered: 1.4 times as much was seen.
const MAX_RECEIVED_HALVES: u64 = 3;
/// Of samples, it receives twice that window at most, less so many bytes: 1.0 times its window was seen with 2 KiB, 1.5 times with 4, 1.7
/// with 8, 1.8 with 16 and 32, in packets of 967 to 9600 bytes. In a few packets, this difference is what counts: the kernel of a slow
/// program with 4 KiB keeps its window closed until nearly everything is read.
const FIRST_SAMPLES_BYTES: u64 = 2048;
/// The time after which a listener of dense packets that has read everything, and whose window is open, is looked at again: in packets of
/// 10 ms, before every other one.
const OPEN_LOOK_INTERVAL: Duration = Duration::from_millis(15);
/// So many late tests in a row show that a window that narrows does so for unread bytes.
const MIN_LATE_TESTS: u8 = 2;

/// Unread bytes of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    /// At least so many.
    pub(super) least: u64,
    /// Probably so many.
    pub(super) estimate: u64,
    /// At most so many.
    pub(super) most: u64,
}

/// What the looks at one connection have shown of its far end's receive queue.
#[derive(Debug, Default)]
pub(super) struct ReceiveQueue {
    pub(super) proof: ReadProof,
    /// Those of a WebSocket.
    pings: Option<Box<Pings>>,
    window: ReceiveWindow,
    level: Level,
    drain: Drain,
    segment_size: SegmentSize,
    /// The window when everything had been read, or when it opened since.
    open: u32,
    /// The widest window since everything was read.
    raised: u32,
    /// While acknowledgements come late.
    late: Option<Box<Late>>,
}

/// What came while acknowledgements were late.
#[derive(Debug)]
struct Late {
    /// The bytes that had been acknowledged promptly, probably, before the first late one.
    from: u64,
    /// The bytes that had been acknowledged before those that the window would show, if they are unread.
    narrows_from: u64,
    /// Acknowledged and unread bytes when the window last opened.
    opened: Option<(u64, u64)>,
    /// Whether tests have waited for the listener's turn since then, so that a window may have opened between two looks.
    is_thin: bool,
    /// Whether packets were held at the last look.
    is_held: bool,
    /// Whether the window has opened since packets are held.
    has_level: bool,
}

impl Late {
    /// Returns whether a window of held packets may be at its level. That of a program that reads nothing is below it, and so is one that
    /// is half closed.
    fn may_be_level(&self, proof: &ReadProof) -> bool {
        let reads_nothing = self.opened.is_none() && proof.lates() >= MIN_HELD_TESTS;
        proof.held_bytes().is_some() && !reads_nothing && !proof.is_half_closed()
    }
}

impl ReceiveQueue {
    /// Returns whether the listener's program has set a smaller receive buffer than the system's default.
    pub(super) fn is_small(&self) -> bool {
        self.proof.is_small()
    }

    /// Notes a write of `bytes` bytes up to `end`, `gap` after the one before, of packets of about `packet_bytes`.
    pub(super) fn wrote(&mut self, end: u64, bytes: u64, packet_bytes: u64, gap: Duration, now: Timestamp) {
        self.segment_size.sent(end, bytes.min(self.proof.segment_bytes()));
        self.proof.wrote(end, bytes, packet_bytes, gap, now);
    }

    /// Takes what the kernel says now. Packets have about `packet_bytes`.
    pub(super) fn look(&mut self, socket: &TcpInfo, packet_bytes: u64, now: Timestamp) -> Unread {
        let acked = socket.acked_bytes;
        // Packets that were held are one segment.
        let packet_bytes = self.proof.held_bytes().unwrap_or(packet_bytes);
        let before = self.proof.seen();
        let has_proof = self.proof.judge(socket, now);
        let most = acked.saturating_sub(self.proof.proven());
        if let Some(window) = socket.window_bytes {
            self.follow(acked, window, before.1, packet_bytes, has_proof, now);
        }
        let by_pings = self.pings.as_mut().and_then(|pings| pings.unread(acked, most, socket.has_input, now));
        match (by_pings, socket.window_bytes) {
            (Some(estimate), _) => Unread { least: 0, estimate, most },
            (None, None) => Unread { least: 0, estimate: 0, most },
            (None, Some(window)) => {
                let unread = self.unread((acked, window), before, packet_bytes, most, now);
                if self.proof.may_have_lost_window(socket) { Unread { least: 0, ..unread } } else { unread }
            }
        }
    }

    /// Follows the window from the one `before`, and since when acknowledgements come late.
    fn follow(&mut self, acked: u64, window: u64, before: u64, packet_bytes: u64, has_proof: bool, now: Timestamp) {
        if has_proof {
            (self.open, self.raised) = (window as u32, window as u32);
            self.window.settle(acked, window);
        }
        if self.proof.lates() == 0 {
            self.late = None;
            self.raised = self.raised.max(window as u32);
        } else if self.late.is_none() {
            // Those before the first test of held ones were acknowledged promptly in any case, and left no trace in the window.
            let is_held = self.proof.held_bytes().is_some();
            let from = match (self.proof.has_proof(), is_held) {
                (false, _) => self.proof.last_prompt(),
                (true, true) => self.proof.proven().midpoint(acked),
                (true, false) => acked.saturating_sub(self.proof.late_packets() * packet_bytes),
            };
            let narrows_from = if is_held { acked } else { from };
            self.late = Some(Box::new(Late {
                from: from.max(self.proof.proven()),
                narrows_from,
                opened: None,
                is_thin: false,
                is_held: false,
                has_level: false,
            }));
        }
        if let Some(late) = &mut self.late {
            late.is_thin |= self.proof.is_postponed();
            let is_held = self.proof.held_bytes().is_some();
            if !late.is_held && late.may_be_level(&self.proof) {
                // The far kernel counts the memory of longer segments anew, and its window takes a while to find its level.
                (self.raised, late.narrows_from, late.has_level) = (window as u32, acked, false);
            }
            late.is_held = is_held;
        }
        let is_unproven_level = !self.proof.has_proof() && self.proof.is_steady_for(UNPROVEN_STEADY_BYTES);
        if is_unproven_level && !self.is_traceless(window, packet_bytes) {
            self.raised = window as u32;
            if let Some(late) = &mut self.late {
                (late.from, late.narrows_from) = (acked, acked);
            }
        }
        if window >= before + CHANGE_BYTES {
            self.open = window as u32;
        }
        if window > before && packet_bytes < COPIED_BYTES {
            self.level.open(acked);
        }
        let was_at_level = self.level.is_at(before);
        if self.is_dense(packet_bytes) && !self.is_small() {
            self.drain.follow((acked, window), before, packet_bytes, now);
        }
        if has_proof {
            self.level.prove(acked, window);
            self.drain.settle(acked, window, now);
            self.proof.settle();
        } else if self.level.follow(acked, window, before) {
            // Nothing is missing from a level.
            self.raised = window as u32;
            if let Some(late) = &mut self.late {
                late.narrows_from = acked;
            }
            self.window.settle(acked, window);
            self.drain.settle(acked, window, now);
            self.proof.settle();
        } else if was_at_level && !self.level.is_at(window) {
            self.level.leave(acked, window, packet_bytes);
        }
    }

    /// Returns what is unread of the `most` bytes since the last proof, by the acknowledged bytes and the window at this look and at the
    /// one `before`.
    fn unread(&mut self, seen: (u64, u64), before: (u64, u64), packet_bytes: u64, most: u64, now: Timestamp) -> Unread {
        let (acked, window) = seen;
        let is_small = self.is_small();
        let observed = self.window.observe(acked, window, packet_bytes, is_small);
        let least = self.least(window, packet_bytes).min(most);
        let is_late = self.are_tests_late() || self.level.is_far(window);
        let is_dense = self.is_dense(packet_bytes);
        let is_paged = self.proof.is_paged() && !is_dense;
        // A kernel takes back what it offered beyond its default during a burst, with nothing unread, so tests must tell.
        let is_wide = window.max(self.level.window()) > DEFAULT_BUFFER_BYTES;
        self.proof.suspect(is_wide && is_dense && observed > 0);
        // A window of megabytes that was never seen with everything read may stand anywhere.
        let is_vague = (window >= LARGE_WINDOW_BYTES && !self.level.is_proven())
            || (is_wide && self.level.is_proven() && !self.are_tests_late());
        // It follows each opening of the window from the first late test on, although it counts from the twelfth on only.
        let of_late_tests = if is_dense { 0 } else { self.estimate(seen, before, packet_bytes, most) };
        // Of a program that was never seen to read, what came while its kernel offered the first window is unread, too.
        let of_unseen = if self.window.is_first() { acked } else { observed };
        // What the window of samples lacks counts if tests are late, or if everything was read at its level.
        let counts = is_dense && (is_late || (self.level.is_proven() && !self.proof.has_resent()));
        let is_drained = is_dense && (self.drain.was_full() || (counts && !is_vague));
        let of_slow = if is_drained { self.drain.unread(seen, packet_bytes, now) } else { None };
        let estimate = match (of_slow, self.proof.result()) {
            // Its window has opened below its level.
            (Some(unread), _) => unread,
            (_, Some(Reading::Late)) if is_paged && self.proof.lates() > 0 => of_late_tests,
            // Each test since the last late one was prompt, although too few were for a proof. A small buffer's window finds its level
            // again after it was closed.
            (_, Some(Reading::Late)) if is_paged && !self.proof.is_half_closed() => 0,
            // A buffer with room for less than a packet is full.
            _ if packet_bytes >= COPIED_BYTES && window < packet_bytes && !self.proof.has_prompt() => of_unseen,
            // Of a program that was never seen to read, all may be unread, wherever its window stands.
            _ if is_dense && !self.proof.has_prompt() && self.proof.lates() >= self.min_unsettled_tests(window) => {
                of_unseen
            }
            _ if is_vague || !self.level.is_known() => 0,
            _ if is_dense && is_late && !self.proof.has_prompt() => of_unseen,
            _ if counts => observed.min(self.level.since(acked)),
            // There was no test since then, because a small buffer is soon half full.
            (_, Some(Reading::Prompt)) if is_small && self.proof.is_half_closed() => observed,
            // It had read everything a moment ago.
            (_, Some(Reading::Prompt)) => 0,
            // A window wanders by half, in short packets that are read at intervals.
            _ if is_late && (packet_bytes >= COPIED_BYTES || self.level.is_closing(window)) => {
                self.level.unread(acked, window)
            }
            _ => 0,
        };
        Unread { least, estimate: estimate.min(self.capacity(packet_bytes)).clamp(least, most), most }
    }

    /// Returns how many unread bytes the listener's machine has room for, if its program has set a small buffer.
    fn capacity(&self, packet_bytes: u64) -> u64 {
        match self.proof.open_window() {
            _ if !self.is_small() => u64::MAX,
            widest if self.is_dense(packet_bytes) => 2 * widest - FIRST_SAMPLES_BYTES.min(widest),
            widest => widest * MAX_RECEIVED_HALVES / 2,
        }
    }

    /// Returns how many tests in a row must be late for a window without a level to count. A program that reads each 100 ms fails twelve
    /// in a row now and then, and a kernel that takes back megabytes does so for many seconds.
    fn min_unsettled_tests(&self, window: u64) -> u8 {
        if window >= LARGE_WINDOW_BYTES { MIN_TESTS } else { MIN_HELD_TESTS }
    }

    /// Returns whether so many tests in a row were late that a window may narrow for unread bytes.
    fn are_tests_late(&self) -> bool {
        self.proof.lates() >= MIN_LATE_TESTS
    }

    /// Returns whether unread packets may leave no trace in the window: they are copied, it is that of megabytes, or the far kernel counts its
    /// memory anew because of held ones.
    fn is_traceless(&self, window: u64, packet_bytes: u64) -> bool {
        packet_bytes < COPIED_BYTES || window >= LARGE_WINDOW_BYTES || self.proof.held_bytes().is_some()
    }

    /// Returns whether each packet shows in the window.
    fn is_dense(&self, packet_bytes: u64) -> bool {
        packet_bytes >= COPIED_BYTES && (!self.proof.is_paged() || self.proof.has_dense_pages(packet_bytes))
    }

    /// Returns the least that can be unread by what is missing from the window.
    fn least(&self, window: u64, packet_bytes: u64) -> u64 {
        if packet_bytes < COPIED_BYTES || !self.are_tests_late() {
            return 0;
        }
        let open = u64::from(self.open);
        let kept = (MERGED_PACKETS * packet_bytes * 10 / UNREAD_TENTHS).min(open / 2);
        open.saturating_sub(window).saturating_sub(kept + open / RECOUNTED_PART)
    }

    /// Returns whether a ping is due.
    pub(super) fn is_ping_due(&self, now: Timestamp) -> bool {
        self.pings.as_ref().is_none_or(|pings| pings.is_due(now))
    }

    /// Returns whether the answer to a ping is due.
    pub(super) fn is_answer_due(&self) -> bool {
        self.pings.as_ref().is_some_and(|pings| pings.is_waiting())
    }

    /// Notes a ping behind `before` bytes of the connection, which ends at `end`.
    pub(super) fn pinged(&mut self, before: u64, end: u64, now: Timestamp) {
        self.pings.get_or_insert_default().sent(before, end, now);
    }

    /// Takes the answer to a ping behind `before` bytes of the connection. Returns whether it proves that these were read.
    pub(super) fn answered(&mut self, before: u64, now: Timestamp) -> bool {
        let is_answer = self.pings.as_mut().is_some_and(|pings| pings.answered(before, now));
        if is_answer {
            self.proof.prove(before, now);
        }
        is_answer
    }

    /// Returns whether the listener's program had read everything at the last test, so that its window need not be followed now. Where
    /// packets of about `packet_bytes` show in the window, it is followed in any case, but not at each of them while it stays at its level.
    pub(super) fn reads_promptly(&self, packet_bytes: u64, now: Timestamp) -> bool {
        let is_open = self.proof.is_sure() && self.proof.is_acked() && self.level.is_at(self.proof.seen().1);
        let is_followed = is_open && now.since(self.proof.looked_at()) < OPEN_LOOK_INTERVAL;
        self.proof.result() == Some(Reading::Prompt) && (is_followed || !self.is_dense(packet_bytes))
    }

    /// Returns whether the kernel is to be asked before the next write, because that shows what was read.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        self.proof.wants_look(now) || (!self.proof.is_postponed() && self.awaits_answer(now))
    }

    /// Returns whether the kernel is to be asked before the next write although it would not be if the program read at once.
    pub(super) fn wants_more_looks(&self, now: Timestamp) -> bool {
        self.proof.wants_more_looks(now) || self.awaits_answer(now)
    }

    /// Returns whether a look is due that shows if a ping has arrived.
    fn awaits_answer(&self, now: Timestamp) -> bool {
        self.pings.as_ref().is_some_and(|pings| pings.wants_look(now))
    }

    /// Returns how much is unread of the `most` bytes since the last proof, when packets are acknowledged late.
    fn estimate(&mut self, seen: (u64, u64), before: (u64, u64), packet_bytes: u64, most: u64) -> u64 {
        let ((acked, window), (acked_before, window_before)) = (seen, before);
        let is_traceless = self.is_traceless(window, packet_bytes);
        let Some(late) = &mut self.late else { return 0 };
        let is_held = self.proof.held_bytes().is_some();
        let is_wider = window >= window_before + CHANGE_BYTES && acked_before > self.proof.proven();
        let is_recounted = is_wider && is_held && self.segment_size.has_grown(acked_before, acked);
        let is_opening = is_wider && !is_recounted;
        let may_be_level = is_wider && late.may_be_level(&self.proof);
        // An acknowledgement before the far kernel's timer shows that all was read just now.
        let is_level = may_be_level && is_opening && (!late.has_level || self.proof.is_acked_promptly());
        let is_raised = window > self.raised.into() || (may_be_level && is_recounted) || is_level;
        // One that was narrower than before, and then is wider, has opened.
        let was_narrow = is_opening && window_before + CHANGE_BYTES <= self.raised.into();
        if is_raised {
            // That the kernel raises its window, or counts its memory anew, is no sign that the program reads.
            // What it offers to one that does, beyond its default, it takes back.
            let is_passing = window > DEFAULT_BUFFER_BYTES && late.opened.is_some() && !is_level;
            if !is_passing {
                self.raised = window as u32;
            }
            late.narrows_from = acked;
            if is_level || was_narrow || late.opened.is_some() {
                (late.opened, late.has_level) = (Some((acked, 0)), true);
            }
        } else if is_recounted {
            // What was missing from the window still is. Pages are longer than others now and then while they are read.
            self.raised += (window - window_before) as u32;
        }
        let narrowed = u64::from(self.raised).saturating_sub(window + recounted(self.raised.into()));
        // A step of the window shows no more than the last packet, for all of which half of its bytes stand: as many bytes as it has
        // may reach into one before it.
        let last_packet = packet_bytes / 2;
        let by_window =
            if narrowed <= CHANGE_BYTES { narrowed.min(last_packet) } else { narrowed * UNREAD_TENTHS / 10 };
        let of_window = by_window.min(most);
        if is_opening && !is_raised {
            late.opened = Some((acked, of_window));
        }
        // It had read until the first packet that was acknowledged late.
        let mut late_bytes = acked.saturating_sub(late.from).min(most);
        if late.is_thin {
            let tested = u64::from(self.proof.lates()) * TESTED_PACKETS * packet_bytes;
            late_bytes = late_bytes.min(tested.max(of_window));
        }
        if let Some((opened_at, unread)) = late.opened {
            // It goes on reading as it did from the proof until the window opened. If it did, the next piece would be free by now.
            let since = acked - opened_at;
            let before = (most - since).max(1);
            let piece = MERGED_PACKETS * packet_bytes;
            let is_refuted = since * (before - unread.min(before)) > piece * before * 13 / 10;
            return if is_refuted {
                of_window
            } else {
                (unread + since * unread / before).max(of_window.saturating_sub(piece))
            };
        }
        if is_held && self.proof.lates() < MIN_HELD_TESTS {
            if narrowed < CHANGE_BYTES {
                // What came in short packets left no trace.
                late.narrows_from = acked;
            }
            // A program that reads at its own intervals leaves a few of these segments unread, for a moment.
            return narrowed.saturating_sub(CHANGE_BYTES).min(of_window);
        }
        let is_certain = is_traceless && self.proof.lates() >= MIN_TESTS;
        if late_bytes <= HIDDEN_BYTES && !is_certain {
            // The last packet is unread for some time, at least, and alone may narrow the window by 2 KiB. The ones before it need
            // not be unread.
            return late_bytes.min(last_packet);
        }
        let came = late_bytes.min(acked.saturating_sub(late.narrows_from));
        let is_narrowing = narrowed > CHANGE_BYTES && is_narrowing(narrowed, came);
        let shown_at_least = (narrowed * MIN_UNREAD_TENTHS / 10).min(most);
        if is_narrowing || is_certain { late_bytes.max(shown_at_least) } else { of_window }
    }
}

/// Returns by how much a window of so many bytes may narrow although everything is read. A kernel that counts the memory of segments anew
/// changes its window by a 256th of its buffer at a time (`scaling_ratio`): by 32 KiB where that has 8 MiB. It takes nothing back, so the
/// window narrows by each byte that comes, as that of a program that reads nothing.
fn recounted(window: u64) -> u64 {
    if window >= LARGE_WINDOW_BYTES { window / RECOUNTED_PART } else { 0 }
}

/// Returns whether a window that has `narrowed` while so many bytes came narrows as that of a program that reads nothing.
fn is_narrowing(narrowed: u64, came: u64) -> bool {
    narrowed * 100 >= came.saturating_sub(HIDDEN_BYTES) * NARROWING_HUNDREDTHS
}

#[cfg(test)]
mod tests;
