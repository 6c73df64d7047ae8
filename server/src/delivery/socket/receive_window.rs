//! The trace that unread bytes leave in the receive window of a listener's machine.
//!
//! Linux offers what its receive buffer has free, counted as memory: a segment costs more than its bytes, and segments that are merged
//! cost less. It never takes back what it has offered, and rounds up to the unit of its window. So the window of a program
//! that reads nothing narrows by 0.5 to 1 byte for each byte that comes, if its segments are longer than that unit, and not at all if
//! they are shorter. When it is closed, the buffer is full.

/// From this rate on, the kernel is asked at each packet. The receive window of a listener that gets samples as they are can be
/// understood if each change of it is seen; in compressed sound, the window shows next to nothing.
pub(crate) const DENSE_BYTES_PER_SECOND: u64 = 50_000;
/// Windows of Linux come in steps of up to 1 KiB. One that opens or narrows by so much shows something; by less, it is the same.
pub(super) const CHANGE_BYTES: u64 = 2048;
/// A window of this width is that of a program that has set a buffer of megabytes. It may widen for minutes while nothing is read.
pub(super) const LARGE_WINDOW_BYTES: u64 = 512 * 1024;
/// Shorter packets are copied into the memory of the one before, and leave next to no trace in a window.
pub(super) const COPIED_BYTES: u64 = 900;
/// Bytes that a default receive buffer took before its window closed, on Linux 6.18: 123,008 with packets of 1920
/// bytes, 127,488 with 11,520, 143,104 with 960. A machine that offers a smaller window is taken to have a buffer of this
/// size.
pub(super) const DEFAULT_BUFFER_BYTES: u64 = 144 * 1024;
/// A program reads if this many times as much was sent as the window has narrowed by, and the window is more than half
/// open. The window of a frozen program narrowed by at least a fifteenth of what was sent.
const READING_FACTOR: u64 = 32;
/// Packets shorter than an Ethernet segment are packed more tightly than others: a frozen program was sent up to 14 times
/// what its window had narrowed by in packets of 960 bytes, and up to 1.9 times in packets of 1920.
const SEGMENT_BYTES: u64 = 1448;
/// The most bytes that were sent for each byte by which the window narrowed, with such packets.
const SHORT_PACKET_FACTOR: u64 = 15;
/// No default buffer offers less than this at its widest. A program that offers less has set a buffer of its own.
pub(super) const MIN_DEFAULT_WINDOW_BYTES: u64 = 60_000;
/// Such a buffer receives this many times what it offers, at most: 1.0 to 1.2 times was seen with 4 KB, 2.4 times with 16 and 32 KB, on
/// Linux 6.18, in packets of 967 bytes over loopback.
const SMALL_BUFFER_WINDOWS: u64 = 3;
/// The kernel of a program that reads nothing offers its first window for so long, at most: it narrowed after 15 KB of samples.
const FIRST_WINDOW_BYTES: u64 = 32 * 1024;
/// A window that has opened again is the widest if it lacks no more than this part.
const OPEN_PART: u64 = 16;

/// The receive window of one connection, followed from look to look.
#[derive(Debug, Default)]
pub(super) struct ReceiveWindow {
    /// Bytes that had been received when nothing was unread.
    acked: u64,
    /// The window then, and at the last look. A window has 30 bits at most (RFC 7323, section 2.3).
    widest: u32,
    last: u32,
    /// Bytes that had been received when it was last seen closed.
    closed_at: u64,
    /// Whether it has opened since it was the widest, so that something was read.
    has_opened: bool,
}

impl ReceiveWindow {
    /// Notes that everything was read when the machine had acknowledged `acked` bytes and offered `window`.
    pub(super) fn settle(&mut self, acked: u64, window: u64) {
        (self.widest, self.acked, self.last) = (window as u32, acked, window as u32);
        self.has_opened = false;
    }

    /// Returns whether it has narrowed ever since the connection began, by a fourth at least: a busy machine reads late at first, and must not
    /// be accused for that.
    pub(super) fn is_first(&self) -> bool {
        let has_narrowed = self.last <= self.widest - self.widest / 4;
        self.acked <= FIRST_WINDOW_BYTES && !self.has_opened && has_narrowed
    }

    /// Returns how many bytes seem to be unread, after the listener's machine has acknowledged `acked` bytes and offered `window`.
    /// The bytes came in packets of about `packet_bytes`, into a buffer that is smaller than the system's default if it `is_small`.
    pub(super) fn observe(&mut self, acked: u64, window: u64, packet_bytes: u64, is_small: bool) -> u64 {
        let before = u64::from(std::mem::replace(&mut self.last, window as u32));
        // What is received beyond a closed window shows that it was open meanwhile.
        self.has_opened |= window > before || (before == 0 && acked > self.closed_at);
        if window == 0 {
            self.closed_at = acked;
        }
        let widest = u64::from(self.widest);
        let narrowed = widest.saturating_sub(window);
        let sent = acked.saturating_sub(self.acked);
        let is_reading = narrowed <= widest / 2 && sent >= narrowed.saturating_mul(READING_FACTOR);
        let is_open_again = window >= before + widest / 4 && narrowed <= widest / OPEN_PART;
        if narrowed == 0 || is_reading || (is_open_again && !is_small) {
            self.settle(acked, window);
            return 0;
        }
        let is_wide = widest > DEFAULT_BUFFER_BYTES;
        if (window > before && narrowed <= widest / 4) || (window >= before + CHANGE_BYTES && is_wide) {
            // The window opens again, so the program reads, and what is missing from the window is all that is unread.
            self.acked = acked.saturating_sub(narrowed);
            return narrowed.min(acked);
        }
        // How far the edge of the window has moved on.
        let moved = sent.saturating_sub(narrowed);
        let hidden = if is_small && !self.has_opened {
            (SMALL_BUFFER_WINDOWS - 1) * widest
        } else if is_small {
            // Of what it has read since then, the window shows nothing once it is closed again.
            widest / 14
        } else if is_wide {
            // How large that buffer is, is not known.
            moved
        } else {
            DEFAULT_BUFFER_BYTES.saturating_sub(widest).clamp(widest / 4, widest * 17 / 16)
        };
        let packed = if packet_bytes < SEGMENT_BYTES { SHORT_PACKET_FACTOR } else { 1 };
        (narrowed + moved.min(hidden).min(packed * narrowed)).min(acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(unread: &mut ReceiveWindow, acked: u64, window: u64) -> u64 {
        unread.observe(acked, window, 1920, unread.widest < MIN_DEFAULT_WINDOW_BYTES as u32)
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

    #[test]
    fn what_a_busy_machine_reads_late_at_the_start_is_not_all_that_came() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 0, 65_536);
        // The window has narrowed, but as that of a program that begins to read a moment later.
        observe(&mut unread, 15_000, 52_000);
        assert!(!unread.is_first());
        observe(&mut unread, 24_000, 49_000);
        assert!(unread.is_first());
        // It opens, so the program reads.
        observe(&mut unread, 26_000, 52_000);
        observe(&mut unread, 30_000, 46_000);
        assert!(!unread.is_first());
    }

    #[test]
    fn small_packets_count_although_they_are_packed_tightly() {
        let mut unread = ReceiveWindow::default();
        unread.observe(192_000, 69_632, 960, false);
        // As they were recorded, of mono sound in packets of 960 bytes.
        for (acked, window) in
            [(197_760, 68_608), (207_360, 68_608), (221_760, 67_584), (236_160, 66_560), (335_104, 0), (335_104, 0)]
        {
            assert_eq!(unread.observe(acked, window, 960, false), acked - 192_000, "{acked} {window}");
        }
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
    fn a_small_buffer_receives_more_samples_than_it_offers_before_anything_is_read() {
        let mut unread = ReceiveWindow::default();
        unread.observe(197_036, 12_571, 967, true);
        // As they were recorded but for the one before, of a program that has set a receive buffer of 16 KiB and reads nothing.
        for (acked, window) in [(201_689, 11_604), (220_062, 967), (221_029, 967), (221_996, 0)] {
            assert_eq!(unread.observe(acked, window, 967, true), acked - 197_036, "{acked} {window}");
        }
        // It reads a part, and what its window shows from then on is all that is known.
        unread.observe(221_996, 5802, 967, true);
        assert_eq!(unread.observe(227_798, 0, 967, true), 12_571 + 12_571 / 14);
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
