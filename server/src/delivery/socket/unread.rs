//! How many received bytes a listener's program has not read: the best estimate, and bounds that hold in any case.
//!
//! Two things tell: when its machine acknowledges, and how wide a receive window it offers. A prompt acknowledgement proves that
//! everything was read ([`ReadProof`]), so what came after the last proof is the most that can be unread. The window
//! shows the least: what is missing from it, less what a kernel may keep of bytes that were read. While single packets are
//! acknowledged late, the truth is between. If the window has narrowed as it does for a program that reads nothing, the
//! estimate is everything since the last proof; if it opens now and then, the program reads, and how wide it opens shows
//! how much is left. Where no packet can be a test, the window alone must do ([`ReceiveWindow`]).

use std::time::Duration;

use aircheck_engine::Timestamp;

use crate::delivery::socket::ping::Pings;
use crate::delivery::socket::read_proof::{ReadProof, Reading};
use crate::delivery::socket::receive_window::{CHANGE_BYTES, COPIED_BYTES, ReceiveWindow};
use crate::delivery::socket::tcp_info::TcpInfo;

/// Packets that a kernel merges into one piece of memory, which it frees when all of it is read (`MAX_SKB_FRAGS`, and its
/// head).
const MERGED_PACKETS: u64 = 18;
/// Unread bytes for each byte that is missing from a window, in tenths, with packets of 1 to 1.5 KB: 15 to 17 were seen.
const UNREAD_TENTHS: u64 = 16;
/// The window of a program that reads nothing narrows by at least this part of what comes, in hundredths, after the first
/// [`HIDDEN_BYTES`]: 55 to 65 were seen with packets of 1250 and 1700 bytes.
const NARROWING_HUNDREDTHS: u64 = 35;
/// Unread bytes that a window need not show.
const HIDDEN_BYTES: u64 = 2500;
/// A window need not narrow at all: packets under 900 bytes are copied into the memory of the one before, and a program may
/// have set a buffer of megabytes. Then this many tests in a row must be late by the far kernel's timer.
const MIN_TESTS: u8 = 40;
/// After so many late tests in a row, of packets that waited differently each, acknowledgements come late.
const MIN_LATE_TESTS: u8 = 10;

/// After so many late tests in a row of packets that were held, a window that narrows is that of a program that reads nothing. One
/// that reads each 100 ms reads one of five of them within [`PROMPT`](super::read_proof).
const MIN_HELD_TESTS: u8 = 12;

/// Bytes that wait for their acknowledgement are delayed if the average round trip is longer than the shortest by this: of a program
/// that reads nothing it was 24 to 32 ms longer, with packets of 10 ms. Without delay, bytes wait for the way there and back.
const MIN_DELAY: Duration = Duration::from_millis(16);

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

/// What the looks at one connection have shown.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) proof: ReadProof,
    pub(super) pings: Pings,
    window: ReceiveWindow,
    /// The window when everything had been read.
    open: u64,
    /// The narrower one of the last two such windows.
    least_open: u64,
    /// The widest window since then.
    raised: u64,
    /// Acknowledged bytes and the window at the last look.
    last: (u64, u64),
    /// The bytes that had been acknowledged promptly, probably, before acknowledgements came late.
    late_from: Option<u64>,
    /// The bytes that had been acknowledged before those that the window would show, if they are unread.
    narrows_from: u64,
    /// Acknowledged and unread bytes when the window last opened since the last proof.
    opened: Option<(u64, u64)>,
}

impl Sight {
    /// Returns whether the listener's program has set a smaller receive buffer than the system's default.
    pub(super) fn is_small(&self) -> bool {
        self.window.is_small()
    }

    /// Takes what the kernel says now, which has been given `written` bytes. Packets have about `packet_bytes`.
    pub(super) fn look(&mut self, socket: &TcpInfo, written: u64, packet_bytes: u64, now: Timestamp) -> Unread {
        let acked = socket.acked_bytes;
        let window = socket.window_bytes;
        let is_short = packet_bytes < COPIED_BYTES;
        // Packets that were held are one segment.
        let packet_bytes = self.proof.held_bytes().unwrap_or(packet_bytes);
        let was_late = self.proof.timer_acks() > 0;
        if self.proof.judge(socket, now) {
            (self.opened, self.late_from) = (None, None);
            if let Some(window) = window {
                // A kernel may take back what it offered for a moment, and then narrows its window as bytes come.
                self.least_open = self.open.min(window);
                (self.open, self.raised) = (window, window);
                self.window.settle(acked, window);
            }
        }
        if !was_late && self.proof.timer_acks() > 0 {
            let late_from = match self.proof.held_bytes() {
                // Those before the first test were acknowledged promptly in any case, and left no trace in the window.
                Some(_) => self.proof.proven().midpoint(acked),
                None => acked.saturating_sub(self.proof.late_packets() * packet_bytes),
            };
            let narrows_from = if self.proof.held_bytes().is_some() { acked } else { late_from };
            (self.late_from, self.narrows_from) = (Some(late_from), narrows_from);
        }
        let most = acked.saturating_sub(self.proof.proven());
        match self.pings.is_late(acked, now) {
            Some(true) => return Unread { least: 0, estimate: most, most },
            Some(false) => return Unread { least: 0, estimate: 0, most },
            None => {}
        }
        let Some(window) = window else { return Unread { least: 0, estimate: 0, most } };
        let is_delayed = socket.round_trip >= socket.min_round_trip.unwrap_or_default() + MIN_DELAY;
        let is_late = (acked < written && is_delayed) || self.proof.timer_acks() >= self.tests(MIN_LATE_TESTS);
        self.window.set_quick(self.proof.is_quick());
        let observed = self.window.observe(acked, window, packet_bytes, is_late);
        let most = self.window.most(self.proof.widest_window()).map_or(most, |prompt| prompt.min(most));
        let result = self.proof.result();
        // Without proofs, the window may be a fourth narrower than it was, with nothing unread.
        let has_proof = result.is_some() && self.proof.proofs() > 0;
        let open = if has_proof { self.least_open } else { self.window.widest() * 3 / 4 };
        let kept = MERGED_PACKETS * packet_bytes * 10 / UNREAD_TENTHS;
        // A window that narrows says nothing of short packets, unless it is half closed: a kernel that takes back what it offered narrows
        // it by each byte that comes, and those of a program that reads nothing narrow it by less.
        let is_unknown = |open: u64| is_short && window >= open / 2 && !self.window.is_small();
        let least = if is_unknown(open) { 0 } else { open.saturating_sub(window).saturating_sub(kept).min(most) };
        let observed = if is_unknown(self.window.widest()) { 0 } else { observed };
        let estimate = match result.filter(|_| self.proof.proofs() > 0) {
            None => observed,
            // It had read everything a moment ago, and the next packet is a test if something seems to be missing.
            Some(Reading::Prompt) => least,
            Some(Reading::Late) => self.estimate(acked, window, packet_bytes, most),
        };
        self.last = (acked, window);
        Unread { least, estimate: estimate.clamp(least, most), most }
    }

    /// Takes the answer to a ping behind `before` bytes of the connection. Returns whether it proves that these were read.
    pub(super) fn answered(&mut self, before: u64, now: Timestamp) -> bool {
        let is_answer = self.pings.answered(before);
        if is_answer {
            self.proof.prove(before, now);
        }
        is_answer
    }

    /// Returns whether the kernel is to be asked before the next write, because that shows what was read.
    pub(super) fn wants_look(&self, now: Timestamp) -> bool {
        self.proof.wants_look(now) || self.pings.wants_look(now)
    }

    /// Returns how many tests take as long as `count` tests of pages of 100 ms.
    fn tests(&self, count: u8) -> u8 {
        if self.proof.held_bytes().is_some() { 2 * count } else { count }
    }

    /// Returns how much is unread of the `most` bytes since the last proof, when packets are acknowledged late.
    fn estimate(&mut self, acked: u64, window: u64, packet_bytes: u64, most: u64) -> u64 {
        let is_raised = window > self.raised;
        if is_raised {
            // The kernel raises its window, which is no sign that the program reads.
            (self.raised, self.narrows_from) = (window, acked);
        }
        let narrowed = self.raised.saturating_sub(window);
        // A step of the window shows no more than the last packet, for all of which half of its bytes stand: as many bytes as it has
        // may reach into one before it.
        let last_packet = packet_bytes / 2;
        let by_window = if narrowed < CHANGE_BYTES { narrowed.min(last_packet) } else { narrowed * UNREAD_TENTHS / 10 };
        let of_window = by_window.min(most);
        if window >= self.last.1 + CHANGE_BYTES && !is_raised && self.last.0 > self.proof.proven() {
            self.opened = Some((acked, of_window));
        }
        if let Some((opened_at, unread)) = self.opened {
            // It goes on reading as it did from the proof until then. If it did, the next piece would be free by now.
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
        if self.proof.held_bytes().is_some() && self.proof.timer_acks() < MIN_HELD_TESTS {
            // A program that reads at its own intervals leaves a few of these segments unread, for a moment.
            return narrowed.saturating_sub(CHANGE_BYTES).min(of_window);
        }
        // It had read until the first packet that was acknowledged late.
        let late = (self.late_from.map_or(most, |from| acked - from.min(acked))).min(most);
        let is_certain = self.proof.timer_acks() >= self.tests(MIN_TESTS);
        if late <= HIDDEN_BYTES && !is_certain {
            // The last packet is unread for some time, at least, and alone may narrow the window by 2 KiB. The ones before it need
            // not be unread.
            return late.min(last_packet);
        }
        let shown = late.min(acked.saturating_sub(self.narrows_from)).saturating_sub(HIDDEN_BYTES);
        let is_narrowing = narrowed >= CHANGE_BYTES && narrowed * 100 >= shown * NARROWING_HUNDREDTHS;
        if is_narrowing || is_certain { late } else { of_window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 1250;
    const INTERVAL: Duration = Duration::from_millis(100);

    /// A connection on which pages of 1250 bytes go out each 100 ms, as its sender sees it just before each of them.
    struct Pages {
        sight: Sight,
        now: Timestamp,
        socket: TcpInfo,
    }

    impl Pages {
        fn new() -> Self {
            let socket = TcpInfo {
                window_bytes: Some(76 * 1024),
                min_round_trip: Some(Duration::from_micros(10)),
                segment_bytes: 1448,
                ..TcpInfo::default()
            };
            let mut pages = Self { sight: Sight::default(), now: Timestamp::from_nanos(1 << 40), socket };
            pages.sight.proof.begin(0, pages.now);
            pages
        }

        /// Sends a page, which is acknowledged after `delay`. Returns what is known before the next one.
        fn page(&mut self, delay: Duration, window: u64) -> Unread {
            self.sight.proof.wrote(self.socket.acked_bytes + PAGE, PAGE, INTERVAL, self.now);
            self.now = self.now + INTERVAL;
            self.socket.acked_bytes += PAGE;
            self.socket.window_bytes = Some(window);
            self.socket.since_ack = INTERVAL - delay;
            self.socket.round_trip = (self.socket.round_trip * 7 + delay) / 8;
            self.sight.look(&self.socket, self.socket.acked_bytes, PAGE, self.now)
        }

        fn prompt(&mut self) -> Unread {
            self.page(Duration::from_micros(30), 76 * 1024)
        }

        fn late(&mut self, window: u64) -> Unread {
            self.page(Duration::from_millis(42), window)
        }

        /// A program that reads everything for four seconds.
        fn of_reader() -> Self {
            let mut pages = Self::new();
            for _ in 0..40 {
                pages.prompt();
            }
            pages
        }
    }

    #[test]
    fn a_program_that_reads_everything_is_proven_to_once_a_second() {
        let mut pages = Pages::of_reader();
        for _ in 0..100 {
            let Unread { least, estimate, most } = pages.prompt();
            assert_eq!((least, estimate), (0, 0));
            assert!(most <= 11 * PAGE, "{most}");
        }
    }

    /// Windows of programs that had read everything, in KiB, at each page of 1250 bytes from then on, as they were recorded on
    /// Linux 6.18 over loopback and Ethernet: of one that reads nothing any more, of one that reads half of what comes, and of one
    /// that reads nine tenths.
    const FROZEN: [u64; 90] = [
        76, 76, 75, 74, 74, 73, 72, 71, 71, 70, 69, 68, 68, 67, 66, 66, 65, 64, 63, 62, 61, 61, 60, 59, 59, 58, 57, 56,
        56, 55, 54, 53, 53, 52, 51, 50, 49, 49, 48, 47, 46, 46, 45, 44, 43, 43, 42, 41, 41, 40, 39, 38, 37, 36, 35, 34,
        33, 32, 32, 31, 30, 30, 29, 28, 27, 27, 26, 25, 24, 23, 23, 22, 21, 20, 20, 19, 18, 17, 17, 16, 15, 14, 14, 13,
        12, 11, 10, 10, 9, 8,
    ];
    const HALF_PACE: [u64; 90] = [
        76, 76, 75, 74, 74, 73, 72, 71, 71, 70, 69, 68, 68, 67, 66, 66, 65, 64, 63, 62, 61, 61, 60, 59, 59, 58, 57, 56,
        56, 55, 54, 53, 53, 52, 64, 63, 62, 61, 61, 60, 59, 59, 58, 57, 56, 56, 55, 54, 53, 53, 52, 51, 50, 49, 49, 48,
        47, 46, 46, 45, 44, 43, 43, 42, 41, 41, 52, 51, 50, 49, 49, 48, 47, 46, 46, 45, 44, 43, 43, 42, 41, 41, 40, 39,
        38, 37, 36, 35, 34, 33,
    ];
    const NINE_TENTHS: [u64; 90] = [
        76, 76, 75, 74, 74, 73, 72, 71, 71, 70, 69, 68, 68, 67, 66, 66, 65, 64, 63, 75, 74, 74, 73, 72, 71, 71, 70, 69,
        68, 68, 67, 66, 66, 65, 64, 63, 62, 74, 73, 72, 71, 71, 70, 69, 68, 68, 67, 66, 66, 65, 64, 63, 62, 61, 61, 60,
        72, 71, 71, 70, 69, 68, 68, 67, 66, 66, 65, 64, 63, 62, 61, 61, 60, 59, 71, 70, 69, 68, 68, 67, 66, 66, 65, 64,
        63, 62, 61, 61, 60, 59,
    ];

    /// Plays back `windows` of a program that leaves `unread` bytes of each page. Returns the largest error of the estimate after each
    /// of the first `pages` pages, in bytes.
    fn largest_error(windows: &[u64], unread: u64, from: usize) -> u64 {
        let mut pages = Pages::of_reader();
        let mut largest = 0;
        for (page, window) in (1..).zip(windows) {
            let seen = pages.late(window * 1024);
            let truth = page as u64 * unread;
            assert!((seen.least..=seen.most).contains(&truth), "{truth} after {page} pages: {seen:?}");
            if page >= from {
                largest = largest.max(seen.estimate.abs_diff(truth));
            }
        }
        largest
    }

    #[test]
    fn all_that_came_since_is_unread_if_nothing_is_read() {
        let error = largest_error(&FROZEN, PAGE, 10);
        assert!(error <= 2 * PAGE, "{error}");
    }

    #[test]
    fn a_window_that_opens_shows_how_much_a_slow_program_has_read() {
        // The first piece of memory is read, and free, after 34 and 19 pages.
        let half = largest_error(&HALF_PACE, PAGE / 2, 36);
        assert!(half <= 8 * PAGE, "{half}");
        let most = largest_error(&NINE_TENTHS, PAGE / 10, 21);
        assert!(most <= 5 * PAGE, "{most}");
    }

    #[test]
    fn a_program_that_reads_again_has_nothing_unread() {
        let mut pages = Pages::of_reader();
        for window in FROZEN {
            pages.late(window * 1024);
        }
        // While its window is half closed there is no test, and the first two prove nothing.
        pages.prompt();
        pages.prompt();
        pages.prompt();
        let seen = pages.prompt();
        assert_eq!((seen.least, seen.estimate), (0, 0), "{seen:?}");
        assert!(seen.most <= 2 * PAGE, "{seen:?}");
    }

    #[test]
    fn the_first_late_acknowledgements_are_no_backlog_while_the_window_is_open() {
        // Whenever the first test comes after a program has begun to read at its own intervals.
        for read in 0..10 {
            let mut pages = Pages::of_reader();
            for _ in 0..read {
                pages.prompt();
            }
            for page in 1..5 {
                let seen = pages.late(76 * 1024);
                assert!(seen.estimate <= PAGE, "{page} after {read}: {seen:?}");
            }
        }
    }

    #[test]
    fn late_acknowledgements_alone_are_no_backlog_until_there_are_many() {
        let mut pages = Pages::of_reader();
        // Its window never narrows, as of a large buffer, or of a program that reads at its own intervals.
        for page in 1..=60 {
            let seen = pages.late(76 * 1024);
            match page {
                4..40 => assert_eq!(seen.estimate, 0, "after {page}"),
                50.. => assert!(seen.estimate.abs_diff(page * PAGE) <= 2 * PAGE, "after {page}: {seen:?}"),
                _ => {}
            }
            assert!(seen.most >= page * PAGE);
        }
        pages.prompt();
        pages.prompt();
        assert_eq!(pages.prompt().estimate, 0);
    }
}
