//! The receive window of a listener's machine, from which follows how many received bytes the listener's program has not
//! read.
//!
//! The machine of a program that reads everything offers the same window again and again, but for a while at the start. Unread bytes
//! are missing from the window. There may be more: while the buffer fills, Linux packs its content more tightly
//! and offers the room again, so the far edge of the window moves on although the program does not read. With the default
//! receive buffer of 131,072 bytes, the machines of frozen programs received between 123,000 and 143,000 bytes before
//! their window was closed; the window alone showed 70,000 to 110,000 of them, and less with small packets. So the movement
//! of the edge counts as unread too, up to the size of that buffer. For a program that reads nothing this is exact. For
//! one that reads slowly out of a large full buffer, up to a third of its window too much may be reported.

/// Bytes that a default receive buffer took before its window closed, on Linux 6.18: 123,008 with packets of 1920
/// bytes, 127,488 with 11,520, 143,104 with 960. A machine that offers a smaller window is taken to have a buffer of this
/// size.
const DEFAULT_BUFFER_BYTES: u64 = 144 * 1024;
/// A program reads if this many times as much was sent as the window has narrowed by, and the window is more than half
/// open. The missing part of the window then is its new width, or the buffer of a player. The window of a frozen
/// program narrowed by at least a fifteenth of what was sent.
const READING_FACTOR: u64 = 32;
/// Packets shorter than an Ethernet segment are packed more tightly than others: a frozen program was sent up to 14 times
/// what its window had narrowed by in packets of 960 bytes, and up to 1.9 times in packets of 1920.
const SEGMENT_BYTES: u64 = 1448;
/// The most bytes that were sent for each byte by which the window narrowed, with such packets.
const SHORT_PACKET_FACTOR: u64 = 15;
/// The greatest width of a window was brief if no more than this part of it was received meanwhile. The window has settled
/// at another width once as much was received at that.
const BRIEF_PART: u64 = 16;
/// A window whose greatest width was brief may settle at this many tenths of it: a kernel that opened it for a burst of
/// long packets counts the short ones that follow at a higher price. Seen: 86 to 95 hundredths. Until the window has
/// settled, unread bytes in the first three tenths are unknown.
const SETTLED_TENTHS: u64 = 7;
/// No default buffer offers less than this. A program that offers less has set a buffer of its own, which receives hardly
/// more than it offers: at most 7 % more was seen, with buffers of 2 to 16 KB.
const MIN_DEFAULT_WINDOW_BYTES: u64 = 60_000;
/// Shorter packets are copied into the memory of the one before. While they are all read, the first window that a kernel offers
/// narrows as if they were not: by 9 KB of 64 with FLAC in packets of 620 bytes.
pub(super) const COPIED_BYTES: u64 = 900;
/// A window of this width is that of a program that has set a buffer of megabytes. At first it narrows as fast as bytes come, while
/// they are all read: by 720 KB of 4 MB.
const LARGE_WINDOW_BYTES: u64 = 512 * 1024;
/// A window is steady if it does not change while so many bytes come, or half of it.
const STEADY_BYTES: u64 = 64 * 1024;
/// More bytes than this between two looks are a burst, after which a kernel offers less than during it. Seen: windows of 1.2 to
/// 1.9 MB, 4 to 18 KB less. So a burst shows nothing of what follows.
const BURST_BYTES: u64 = 16 * 1024;
/// A window wider than this has grown during a burst. It varies in larger steps, and each byte of them would count as
/// [`SHORT_PACKET_FACTOR`]. So up to this part of it, what is missing says nothing while acknowledgements come promptly.
const GROWN_WINDOW_BYTES: u64 = 2 * DEFAULT_BUFFER_BYTES;
const NOISE_PART: u64 = 64;
/// A window that opens or narrows by so much shows something. Windows of Linux come in steps of up to 1 KiB.
pub(super) const CHANGE_BYTES: u64 = 2048;
/// If fewer of the looks find bytes that wait for their acknowledgement, the machine acknowledges promptly.
const MAX_WAITING: f32 = 0.25;
/// So many looks tell whether acknowledgements are prompt.
const MIN_LOOKS: u8 = 64;

/// The receive window of one connection, followed from look to look.
#[derive(Debug, Default)]
pub struct ReceiveWindow {
    /// The window while nothing was unread.
    widest: u64,
    /// Bytes that had been received then.
    acked: u64,
    /// Bytes that had been received when the window became so wide; `None` if it always was.
    widened: Option<u64>,
    /// Whether the greatest width was brief.
    is_brief: bool,
    /// The current window, and the bytes that had been received when it became that.
    held: (u64, u64),
    /// The bytes that had been received at the first look, and at the last.
    first: u64,
    last: u64,
    /// The bytes that had been received when the window became what it is, or at the end of the last burst.
    steady_from: u64,
    /// Whether the window had changed shortly before it began to narrow.
    was_changing: bool,
    /// The part of the last looks that found bytes that wait for their acknowledgement.
    waiting: f32,
    /// The same, of the looks at which the machine did not acknowledge everything at once anyway.
    telling_waiting: f32,
    /// How many looks there were.
    looks: u8,
    /// Whether the machine acknowledges everything at once, so that promptness shows nothing.
    is_quick: bool,
}

impl ReceiveWindow {
    /// Returns the window while nothing was unread, as far as that is known.
    pub fn widest(&self) -> u64 {
        self.widest
    }

    /// Returns the most that can be unread by the promptness of acknowledgements, if that tells: those of a program that
    /// does not read come late once half of its buffer is full, and an offered window is about that. `greatest` is the widest
    /// window of all, because one that settles may do so while much is unread.
    pub fn most(&self, greatest: u64) -> Option<u64> {
        (self.telling_waiting < MAX_WAITING && self.looks >= MIN_LOOKS).then_some(2 * greatest)
    }

    /// Notes whether the machine acknowledges everything at once, as it does after a loss, so that promptness shows nothing.
    pub fn set_quick(&mut self, is_quick: bool) {
        self.is_quick = is_quick;
    }

    /// Notes that everything was read when the machine had acknowledged `acked` bytes and offered `window`.
    pub fn settle(&mut self, acked: u64, window: u64) {
        (self.widest, self.acked, self.held, self.steady_from) = (window, acked, (window, acked), acked);
        (self.widened, self.is_brief, self.was_changing) = (None, false, false);
    }

    /// Returns whether the listener's program has set a smaller buffer than the system's default.
    pub fn is_small(&self) -> bool {
        self.widest < MIN_DEFAULT_WINDOW_BYTES
    }

    /// Returns the number of unread bytes, after the listener's machine has acknowledged `acked` bytes and offered
    /// `window`; `waits` tells whether more bytes wait for their acknowledgement. The bytes came in packets of about
    /// `packet_bytes`.
    ///
    /// A kernel may offer less and less over seconds to a program that reads everything, after a burst for example. So a window
    /// that narrows counts only if it was steady before, or the first one, or if acknowledgements come late: those of a program that
    /// does not read do, once half of the buffer is full.
    pub fn observe(&mut self, acked: u64, window: u64, packet_bytes: u64, waits: bool) -> u64 {
        let (before, since) = self.held;
        let is_burst = acked.saturating_sub(self.last) > BURST_BYTES;
        self.last = acked;
        if is_burst {
            self.steady_from = acked;
        } else {
            let waits = f32::from(u8::from(waits));
            self.waiting += (waits - self.waiting) / 16.0;
            if !self.is_quick {
                self.telling_waiting += (waits - self.telling_waiting) / 16.0;
            }
        }
        if before != window {
            if before >= self.widest {
                let is_telling = packet_bytes >= COPIED_BYTES && before < LARGE_WINDOW_BYTES;
                let is_first = is_telling && (before == 0 || since == self.first);
                let steady_bytes = STEADY_BYTES.min(self.widest / 2);
                self.was_changing = !is_first && acked.saturating_sub(self.steady_from) < steady_bytes;
            }
            if window > 2 * self.widest {
                // The buffer grows because the program has read a lot.
                (self.waiting, self.telling_waiting) = (0.0, 0.0);
            }
            self.first = if before == 0 { acked } else { self.first };
            self.held = (window, acked);
            self.steady_from = acked;
        }
        self.looks = self.looks.saturating_add(1);
        let unread = self.missing(before, acked, window, packet_bytes);
        let is_prompt = self.waiting < MAX_WAITING;
        let is_open = window >= self.widest / 2;
        if is_prompt && is_open && acked.saturating_sub(self.acked) >= self.widest + self.widest * 3 / 4 {
            self.settle(acked, window);
            self.was_changing = true;
        }
        let narrowed = self.widest.saturating_sub(window);
        let is_grown = self.widest > GROWN_WINDOW_BYTES && packet_bytes < SEGMENT_BYTES;
        let is_noise = is_grown && narrowed <= self.widest / NOISE_PART;
        let is_large = is_open && self.widest >= LARGE_WINDOW_BYTES;
        // A window that is half closed is no noise.
        let tells_nothing =
            (is_prompt && is_open && (self.was_changing || is_noise)) || (is_large && self.was_changing);
        // Of packets that are copied, a step would count as sixteen.
        let is_step = packet_bytes < COPIED_BYTES && narrowed < CHANGE_BYTES && !self.is_small();
        if tells_nothing || is_step { 0 } else { unread }
    }

    /// Returns how many bytes seem to be unread, because they are missing from a window that was `before` at the last look.
    fn missing(&mut self, before: u64, acked: u64, window: u64, packet_bytes: u64) -> u64 {
        if window > self.widest && self.widest > 0 {
            self.widened = Some(acked);
        }
        let narrowed = self.widest.saturating_sub(window);
        let sent = acked - self.acked.min(acked);
        let is_reading = narrowed <= self.widest / 2 && sent >= narrowed.saturating_mul(READING_FACTOR);
        if narrowed == 0 || is_reading {
            (self.widest, self.acked) = (window, acked);
            self.is_brief = self.widened.is_some_and(|widened| acked.saturating_sub(widened) <= window / BRIEF_PART);
            return 0;
        }
        if self.is_brief && window * 10 >= self.widest * SETTLED_TENTHS {
            if acked.saturating_sub(self.held.1) > self.widest / BRIEF_PART {
                (self.widest, self.acked, self.is_brief) = (window, acked, false);
            }
            return 0;
        }
        let is_open_again = window >= before + self.widest / 4 && narrowed <= self.widest / BRIEF_PART;
        if is_open_again && !self.is_small() {
            // It has read everything, and its kernel may offer a little less than before.
            self.settle(acked, window);
            return 0;
        }
        if window > before && narrowed <= self.widest / 4 {
            // The window opens again, so the program reads, and what is missing from the window is all that is unread.
            self.acked = acked.saturating_sub(narrowed);
            return narrowed.min(acked);
        }
        // How far the edge of the window has moved on.
        let moved = sent.saturating_sub(narrowed);
        let hidden = if self.is_small() {
            self.widest / 14
        } else {
            DEFAULT_BUFFER_BYTES.saturating_sub(self.widest).clamp(self.widest / 4, self.widest * 17 / 16)
        };
        let packed = if packet_bytes < SEGMENT_BYTES { SHORT_PACKET_FACTOR } else { 1 };
        (narrowed + moved.min(hidden).min(packed * narrowed)).min(acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(unread: &mut ReceiveWindow, acked: u64, window: u64) -> u64 {
        unread.observe(acked, window, 1920, true)
    }

    #[test]
    fn a_program_that_reads_everything_has_nothing_unread() {
        let mut unread = ReceiveWindow::default();
        for n in 0..100 {
            // The window grows while the connection warms up.
            assert_eq!(observe(&mut unread, n * 1920, 64_000 + n * 10), 0);
        }
    }

    /// Acknowledged bytes and windows of a curl that was stopped after 384,000 bytes, as they were recorded.
    const FROZEN: [(u64, u64); 8] = [
        (395_520, 83_968),
        (405_120, 78_848),
        (414_720, 73_728),
        (433_920, 62_464),
        (462_720, 40_960),
        (470_400, 33_792),
        (504_960, 2048),
        (507_008, 0),
    ];

    #[test]
    fn all_that_a_frozen_program_was_sent_is_unread() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 384_000, 90_112);
        for (acked, window) in FROZEN {
            assert_eq!(observe(&mut unread, acked, window), acked - 384_000, "{acked} {window}");
        }
        // It stands still for long.
        for _ in 0..10_000 {
            assert_eq!(observe(&mut unread, 507_008, 0), 123_008);
        }
        // It reads everything, and its window is wider than ever.
        assert_eq!(observe(&mut unread, 561_664, 650_240), 0);
    }

    /// As they were recorded, of a program that had read nothing for eight seconds and then read all of it at once.
    const BACK: [(u64, u64); 9] = [
        (447_276, 144_384),
        (575_887, 1_182_720),
        (660_710, 1_182_720),
        (803_132, 1_182_720),
        (879_525, 1_182_720),
        (949_843, 1_182_720),
        (1_018_500, 1_182_720),
        (1_072_925, 1_178_624),
        (1_073_892, 1_178_624),
    ];

    #[test]
    fn a_window_that_was_wide_during_a_burst_is_no_backlog() {
        let mut unread = ReceiveWindow::default();
        unread.observe(292_556, 69_632, 967, false);
        for _ in 0..500 {
            assert_eq!(unread.observe(431_861, 0, 967, true), 139_305);
        }
        for (acked, window) in BACK {
            assert_eq!(unread.observe(acked, window, 967, true), 0, "{acked} {window}");
        }
        for n in 1..400 {
            // Later, it varies.
            let window = if (200..300).contains(&n) { 1_174_528 } else { 1_178_624 };
            assert_eq!(unread.observe(1_073_892 + n * 967, window, 967, n % 8 == 0), 0, "{n}");
        }
        // From there on it is like any other.
        let read = 1_073_892 + 399 * 967;
        let frozen = |n: u64| unread.observe(read + n * 967, 1_178_624 - n * 400, 967, true);
        assert_eq!((1..=50).map(frozen).last(), Some(50 * 967), "acknowledgements come late");
    }

    #[test]
    fn small_packets_count_although_they_are_packed_tightly() {
        let mut unread = ReceiveWindow::default();
        unread.observe(192_000, 69_632, 960, true);
        // As they were recorded, of mono sound in packets of 960 bytes.
        for (acked, window) in
            [(197_760, 68_608), (207_360, 68_608), (221_760, 67_584), (236_160, 66_560), (335_104, 0), (335_104, 0)]
        {
            assert_eq!(unread.observe(acked, window, 960, true), acked - 192_000, "{acked} {window}");
        }
    }

    /// Observes acknowledged bytes and windows as they were recorded from the start of a connection, in packets of `packet_bytes`.
    /// Returns the most that seemed unread.
    fn most_unread(recorded: &[(u64, u64)], packet_bytes: u64, waits: bool) -> u64 {
        let mut unread = ReceiveWindow::default();
        let (mut acked, mut window) = recorded[0];
        let mut most = unread.observe(acked, window, packet_bytes, waits);
        for &(next_acked, next_window) in recorded {
            // One packet after the other: between two of these, the window moved evenly.
            while acked < next_acked {
                let bytes = packet_bytes.min(next_acked - acked);
                let part = bytes as f64 / (next_acked - acked) as f64;
                window = (window as f64 + part * (next_window as f64 - window as f64)) as u64;
                acked += bytes;
                most = most.max(unread.observe(acked, window, packet_bytes, waits));
            }
        }
        most
    }

    #[test]
    fn a_first_window_that_narrows_is_no_backlog_while_acknowledgements_are_prompt() {
        // Of programs that read everything: FLAC over loopback, and samples over 80 ms into a buffer of 4 MB.
        let short = [
            (1085, 65_536),
            (16_653, 63_488),
            (33_488, 62_464),
            (57_168, 62_464),
            (68_385, 59_392),
            (77_111, 58_368),
            (94_578, 56_320),
            (745_000, 56_320),
        ];
        assert_eq!(most_unread(&short, 620, false), 0);
        let large = [
            (0, 4_193_152),
            (28_328, 4_166_912),
            (220_328, 3_987_712),
            (487_208, 3_738_624),
            (794_408, 3_473_408),
            (1_099_688, 3_473_408),
            (1_290_728, 3_812_736),
            (1_481_768, 4_194_816),
            (2_023_208, 5_241_472),
        ];
        assert_eq!(most_unread(&large, 960, false), 0);
        assert_eq!(most_unread(&large, 960, true), 0, "of one that reads at intervals");
        // Of one that reads nothing, whose acknowledgements come late.
        let unread = [41_586, 50_326, 58_437, 66_538, 72_000, 80_000].map(|acked| (acked, 65_536 - acked / 8));
        assert!(most_unread(&unread, 620, true) > 30_000);
    }

    #[test]
    fn a_flickering_window_on_a_slow_link_is_no_backlog() {
        let mut unread = ReceiveWindow::default();
        let mut most = 0;
        for n in 0..10_000_u64 {
            most = most.max(observe(&mut unread, n * 1448, 64_000 - [0, 1024, 2048, 1024, 512][n as usize % 5]));
        }
        assert!(most <= 5 * 1448, "{most}");
        // And one that never comes back to where it was, by a little.
        for n in 10_000..10_100_u64 {
            most = observe(&mut unread, n * 1448, 63_000);
        }
        assert_eq!(most, 0);
    }

    #[test]
    fn a_window_that_was_briefly_wide_settles() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 0, 64_000);
        // Opened for a burst of long packets; what follows is short, and costs more room.
        observe(&mut unread, 60_000, 110_000);
        for n in 0..100 {
            assert_eq!(observe(&mut unread, 61_000 + n * 960, 96_000), 0, "{n}");
        }
        // From there on it is like any other.
        assert_eq!(observe(&mut unread, 161_000, 92_000), 161_000 - 156_040);
    }

    #[test]
    fn a_small_buffer_receives_what_it_offers() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 100_000, 4096);
        assert_eq!(observe(&mut unread, 104_096, 0), 4096);
        // Behind it, a program reads half of what comes.
        for n in 1..1000 {
            assert!(observe(&mut unread, 104_096 + n * 480, 0) <= 4096 + 4096 / 14);
        }
    }

    #[test]
    fn the_backlog_of_a_slow_program_stays_within_its_buffer() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 0, 90_112);
        // It reads half of what comes; its buffer of 123,008 bytes is full after two of these.
        for n in 1..1000_u64 {
            let (acked, read) = (123_008 + n * 960, n * 960);
            let told = observe(&mut unread, acked, 0);
            assert!(told.abs_diff(acked - read) <= 90_112 / 3, "{told} at {n}");
        }
    }

    #[test]
    fn a_window_that_stays_narrow_is_no_backlog_for_ever() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 0, 90_000);
        assert!(observe(&mut unread, 90_000, 60_000) > 0);
        let mut told = 0;
        for n in 0..1200_u64 {
            told = observe(&mut unread, 150_000 + n * 960, 60_000);
        }
        assert_eq!(told, 0);
    }
}
