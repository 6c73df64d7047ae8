//! The model of the receive queue of a listener's machine (`Recv-Q` of `ss`): how many received bytes the listener's program has not
//! read. It is an interval and an estimate within it.
//!
//! - The upper bound is what came after the last proof ([`ReadProof`]), which is a prompt acknowledgement or an answer to a ping. Where
//!   nothing can be proven, it is everything.
//! - The lower bound is what the window shows ([`ReceiveWindow`]), less all that narrows a window for other reasons.
//! - The estimate follows the lower bound, until tests are late. If the window then narrows as it does for a program that reads
//!   nothing, it is all that came since the first late one. If the window opens now and then, the program reads, and how wide it
//!   opens shows how much is left.

use aircheck_engine::Timestamp;

use crate::delivery::socket::ping::Pings;
use crate::delivery::socket::read_proof::{ReadProof, Reading};
use crate::delivery::socket::receive_window::ReceiveWindow;
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
/// A window that opens or narrows by so much shows something. Windows of Linux come in steps of up to 1 KiB.
const CHANGE_BYTES: u64 = 2048;
/// A kernel that counts the memory of segments anew offers this part less, with nothing unread (`scaling_ratio`).
const RECOUNTED_PART: u64 = 4;
/// Shorter packets are copied into the memory of the one before, and leave next to no trace in a window.
const COPIED_BYTES: u64 = 900;
/// A window need not narrow at all: short packets leave no trace, and a program may
/// have set a buffer of megabytes. Then this many tests in a row must be late by the far kernel's timer, each at another moment of the
/// program's own intervals.
const MIN_TESTS: u8 = 80;
/// A window of this width is that of a program that has set a buffer of megabytes. It may widen for minutes while nothing is read.
const LARGE_WINDOW_BYTES: u64 = 512 * 1024;
/// A window that stays within this part of its width while half of it comes has found its level. Before, it narrows for other reasons
/// than unread bytes: a kernel takes back what it offered during a burst.
const LEVEL_PART: u64 = 16;
/// A window of less than this part of its level is nearly closed.
const CLOSING_PART: u64 = 4;
/// All of so many bytes cannot be unread while it stays there, and a program that reads nine tenths of them would narrow it by more.
const SETTLED_BYTES: u64 = 256 * 1024;

/// After so many late tests in a row of packets that were held, a window that narrows is that of a program that reads nothing. One
/// that reads each 100 ms reads one of five of them promptly.
const MIN_HELD_TESTS: u8 = 12;
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
    pub(super) pings: Pings,
    window: ReceiveWindow,
    /// The window when everything had been read, or when it opened since.
    open: u64,
    /// The widest window since everything was read.
    raised: u64,
    /// Acknowledged bytes and the window at the last look.
    last: (u64, u64),
    /// The bytes that had been acknowledged promptly, probably, before acknowledgements came late.
    late_from: Option<u64>,
    /// The bytes that had been acknowledged before those that the window would show, if they are unread.
    narrows_from: u64,
    level: Level,
    /// Acknowledged and unread bytes when the window last opened since the last proof.
    opened: Option<(u64, u64)>,
}

/// The level of a window that has stayed the same, and how far it is below.
#[derive(Debug, Default)]
struct Level {
    /// The window at its level; zero while it has none.
    window: u64,
    /// The bytes that had been acknowledged when it was last there.
    left_at: u64,
    /// A window that may be the next level, and the bytes that had been acknowledged when it came there.
    next: (u64, u64),
}

impl Level {
    /// Notes that everything was read.
    fn prove(&mut self, acked: u64, window: u64) {
        (self.window, self.left_at, self.next) = (window, acked, (window, acked));
    }

    /// Returns whether the window has a level.
    fn is_known(&self) -> bool {
        self.window > 0
    }

    /// Returns whether the window is further below its level than for any other reason but unread bytes.
    fn is_far(&self, window: u64) -> bool {
        window < self.window - self.window / RECOUNTED_PART
    }

    /// Follows the window. Returns whether it has settled at another level.
    fn follow(&mut self, acked: u64, window: u64) -> bool {
        let (next, since) = self.next;
        if window + CHANGE_BYTES > self.window {
            self.left_at = acked;
        }
        if window > self.window + self.window / LEVEL_PART {
            self.window = 0;
        }
        if window.abs_diff(next) > next / LEVEL_PART {
            self.next = (window, acked);
            return false;
        }
        let enough = if self.is_known() { SETTLED_BYTES.max(2 * next) } else { next / 2 };
        let has_settled = acked - since >= enough && window != self.window;
        if has_settled {
            (self.window, self.left_at) = (window, acked);
        }
        has_settled
    }

    /// Returns whether the window is nearly closed.
    fn is_closing(&self, window: u64) -> bool {
        window < self.window / CLOSING_PART
    }

    /// Returns how many bytes have come since the window left its level.
    fn since(&self, acked: u64) -> u64 {
        acked.saturating_sub(self.left_at)
    }

    /// Returns how much is unread by how far the window is below its level.
    fn unread(&self, acked: u64, window: u64) -> u64 {
        let narrowed = self.window.saturating_sub(window);
        if narrowed <= self.window / LEVEL_PART {
            return 0;
        }
        let since = self.since(acked).min(2 * self.window);
        let is_narrowing = narrowed * 100 >= since.saturating_sub(HIDDEN_BYTES) * NARROWING_HUNDREDTHS;
        if is_narrowing { since } else { (narrowed * UNREAD_TENTHS / 10).min(since) }
    }
}

impl ReceiveQueue {
    /// Returns whether the listener's program has set a smaller receive buffer than the system's default.
    pub(super) fn is_small(&self) -> bool {
        self.window.is_small()
    }

    /// Takes what the kernel says now. Packets have about `packet_bytes`.
    pub(super) fn look(&mut self, socket: &TcpInfo, packet_bytes: u64, now: Timestamp) -> Unread {
        let acked = socket.acked_bytes;
        // Packets that were held are one segment.
        let packet_bytes = self.proof.held_bytes().unwrap_or(packet_bytes);
        let has_proof = self.proof.judge(socket, now);
        let most = acked.saturating_sub(self.proof.proven());
        if let Some(window) = socket.window_bytes {
            self.follow(acked, window, packet_bytes, has_proof);
        }
        match (self.pings.is_late(acked, now), socket.window_bytes) {
            (Some(true), _) => Unread { least: 0, estimate: most, most },
            (Some(false), _) | (None, None) => Unread { least: 0, estimate: 0, most },
            (None, Some(window)) => self.unread(acked, window, packet_bytes, most),
        }
    }

    /// Follows the window, and since when acknowledgements come late.
    fn follow(&mut self, acked: u64, window: u64, packet_bytes: u64, has_proof: bool) {
        if has_proof {
            (self.open, self.raised) = (window, window);
            self.window.settle(acked, window);
        }
        if self.proof.lates() == 0 {
            (self.late_from, self.opened, self.narrows_from) = (None, None, acked);
            self.raised = window;
        } else if self.late_from.is_none() {
            // Those before the first test of held ones were acknowledged promptly in any case, and left no trace in the window.
            let is_held = self.proof.held_bytes().is_some();
            let late_from = match (self.proof.has_proof(), is_held) {
                (false, _) => self.proof.proven(),
                (true, true) => self.proof.proven().midpoint(acked),
                (true, false) => acked.saturating_sub(self.proof.late_packets() * packet_bytes),
            };
            self.late_from = Some(late_from.max(self.proof.proven()));
            self.narrows_from = if is_held { acked } else { late_from };
        }
        if window >= self.last.1 + CHANGE_BYTES {
            self.open = window;
        }
        if has_proof {
            self.level.prove(acked, window);
        } else if self.level.follow(acked, window) {
            self.window.settle(acked, window);
        }
    }

    /// Returns what is unread of the `most` bytes since the last proof.
    fn unread(&mut self, acked: u64, window: u64, packet_bytes: u64, most: u64) -> Unread {
        let observed = self.window.observe(acked, window, packet_bytes);
        let least = self.least(window, packet_bytes).min(most);
        let is_late = self.proof.lates() >= MIN_LATE_TESTS || self.level.is_far(window);
        let is_held = self.proof.held_bytes().is_some();
        let is_traceless =
            packet_bytes < COPIED_BYTES || window >= LARGE_WINDOW_BYTES || self.proof.lates() >= MIN_TESTS;
        // What goes out together only because it is late shows as little in a window as it did before.
        let is_paged = self.proof.is_paged() && (!is_held || is_traceless);
        let estimate = match self.proof.result() {
            Some(Reading::Late) if is_paged && self.proof.lates() > 0 => {
                self.estimate(acked, window, packet_bytes, most)
            }
            // It had read everything a moment ago.
            Some(Reading::Prompt) => 0,
            _ if !is_late || !self.level.is_known() || window >= LARGE_WINDOW_BYTES => 0,
            _ if packet_bytes >= COPIED_BYTES && !self.proof.is_paged() => observed.min(self.level.since(acked)),
            _ if packet_bytes >= COPIED_BYTES && !is_held => self.level.unread(acked, window),
            // A window wanders by half, in short packets that are read at intervals.
            _ if self.level.is_closing(window) => self.level.unread(acked, window),
            _ => 0,
        };
        self.last = (acked, window);
        Unread { least, estimate: estimate.clamp(least, most), most }
    }

    /// Returns the least that can be unread by what is missing from the window.
    fn least(&self, window: u64, packet_bytes: u64) -> u64 {
        if packet_bytes < COPIED_BYTES || self.proof.lates() < MIN_LATE_TESTS {
            return 0;
        }
        let kept = (MERGED_PACKETS * packet_bytes * 10 / UNREAD_TENTHS).min(self.open / 2);
        self.open.saturating_sub(window).saturating_sub(kept + self.open / RECOUNTED_PART)
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

    /// Returns how much is unread of the `most` bytes since the last proof, when packets are acknowledged late.
    fn estimate(&mut self, acked: u64, window: u64, packet_bytes: u64, most: u64) -> u64 {
        let is_raised = window > self.raised;
        if is_raised {
            // The kernel raises its window, which is no sign that the program reads.
            (self.raised, self.narrows_from) = (window, acked);
            if let Some(opened) = &mut self.opened {
                // Unless it has read before.
                *opened = (acked, 0);
            }
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
        // It had read until the first packet that was acknowledged late.
        let late = (self.late_from.map_or(most, |from| acked - from.min(acked))).min(most);
        if let Some((opened_at, unread)) = self.opened {
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
        if self.proof.held_bytes().is_some() && self.proof.lates() < MIN_HELD_TESTS {
            // A program that reads at its own intervals leaves a few of these segments unread, for a moment.
            return narrowed.saturating_sub(CHANGE_BYTES).min(of_window);
        }
        let is_traceless =
            packet_bytes < COPIED_BYTES || window >= LARGE_WINDOW_BYTES || self.proof.held_bytes().is_some();
        let is_certain = is_traceless && self.proof.lates() >= MIN_TESTS;
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
    use std::time::Duration;

    use super::*;

    const PAGE: u64 = 1250;
    const INTERVAL: Duration = Duration::from_millis(100);

    /// A connection on which pages of 1250 bytes go out each 100 ms, as its sender sees it just before each of them.
    struct Pages {
        queue: ReceiveQueue,
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
            let mut pages = Self { queue: ReceiveQueue::default(), now: Timestamp::from_nanos(1 << 40), socket };
            pages.queue.proof.begin(0, pages.now);
            pages
        }

        /// Sends a page, which is acknowledged after `delay`. Returns what is known before the next one.
        fn page(&mut self, delay: Duration, window: u64) -> Unread {
            self.queue.proof.wrote(self.socket.acked_bytes + PAGE, PAGE, INTERVAL, self.now);
            self.now = self.now + INTERVAL;
            self.socket.acked_bytes += PAGE;
            self.socket.window_bytes = Some(window);
            self.socket.since_ack = INTERVAL - delay;
            self.socket.round_trip = (self.socket.round_trip * 7 + delay) / 8;
            self.queue.look(&self.socket, PAGE, self.now)
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
        assert!(half <= 9 * PAGE, "{half}");
        let most = largest_error(&NINE_TENTHS, PAGE / 10, 21);
        assert!(most <= 5 * PAGE, "{most}");
    }

    #[test]
    fn a_program_that_reads_again_has_nothing_unread() {
        let mut pages = Pages::of_reader();
        for window in FROZEN {
            pages.late(window * 1024);
        }
        // While its window opens there is no test, and the first four prove nothing.
        let seen = [(); 12].map(|()| pages.prompt());
        assert!(seen.iter().all(|seen| seen.estimate == 0), "{seen:?}");
        assert!(seen[11].most <= 4 * PAGE, "{:?}", seen[11]);
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
        // A window that never narrows, as of a program that reads at its own intervals.
        let mut pages = Pages::of_reader();
        assert!((1..=100).skip(3).all(|_| pages.late(76 * 1024).estimate <= PAGE / 2));
        // One of megabytes need not narrow at all.
        let mut pages = Pages::of_reader();
        for page in 1..=100 {
            let seen = pages.late(4 << 20);
            match page {
                4..80 => assert_eq!(seen.estimate, 0, "after {page}"),
                90.. => assert!(seen.estimate.abs_diff(page * PAGE) <= 6 * PAGE, "after {page}: {seen:?}"),
                _ => {}
            }
            assert!(seen.most >= page * PAGE);
        }
        assert_eq!(pages.prompt().estimate, 0);
    }
}
