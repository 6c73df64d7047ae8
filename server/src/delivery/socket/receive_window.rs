//! What the listener's machine has taken in, but no program there has read: seen from here, by its receive window.
//!
//! A machine whose program reads everything offers the same window again and again. What it has taken in and nobody
//! reads is missing from the window, so that much is known. But not more: while its buffer fills, Linux packs what
//! waits in it more tightly and offers the room again, so the window's far edge moves on although nobody reads. With
//! the default receive buffer of 131,072 bytes, frozen programs had taken in between 123,000 and 143,000 bytes by the
//! time their window was closed, of which the window alone told 70,000 to 110,000, less where packets were small.
//! So the movement of the edge counts as unread as well, up to the size of that buffer. For a program that reads
//! nothing this is exact. One that reads slowly, behind a large buffer that is full, may seem to have up to a
//! third of its window more unread than it has.

/// What a default receive buffer was seen to take in before its window closed, in bytes, on Linux 6.18: 123,008 with
/// packets of 1920 bytes, 127,488 with 11,520, 143,104 with 960. A machine that is ready for less is held to have a
/// buffer of this size behind it.
const DEFAULT_BUFFER: u64 = 144 * 1024;
/// So many times what the window has narrowed by was sent since, and it is still more than half open: then somebody
/// reads, and what is missing from the window is how wide it is now, or kept on purpose, a player's own buffer. Of a
/// frozen program, the window narrowed by at least a fifteenth of what was sent.
const READS: u64 = 32;
/// Packets shorter than a segment of an Ethernet are packed more tightly than others: a frozen program was sent up to
/// 14 times what its window had narrowed by in packets of 960 bytes, and up to 1.9 times in packets of 1920.
const SEGMENT: u64 = 1448;
const SHORT_PACKED: u64 = 15;
/// A window held its greatest width for a moment only if no more than this part of that was taken in meanwhile; and it
/// has settled at another once as much was taken in while it was that.
const MOMENT: u64 = 16;
/// A window that was so wide only for a moment may settle at this many tenths of it: the kernel that had opened it for
/// a burst of long packets counts the short ones that follow at a higher price. Seen: from 86 to 95 hundredths. Until it
/// has settled, what is unread of such a window's first three tenths is not known.
const SETTLES_TENTHS: u64 = 7;
/// Nobody's default buffer offers less than this. A program that offers less has set one itself, which takes in
/// hardly more than it offers: at most 7 % more was seen, with buffers of 2 to 16 KB.
const DEFAULT_WINDOW_LEAST: u64 = 60_000;

/// Follows one connection's receive window.
#[derive(Debug, Default)]
pub struct ReceiveWindow {
    /// The window while nothing was unread.
    widest: u64,
    /// What had been taken in then, in bytes of the stream.
    acked: u64,
    /// What had been taken in when the window became so wide; `None` if it always was.
    widened: Option<u64>,
    /// It was that wide for a moment only.
    brief: bool,
    /// The window, and since how much had been taken in it has been that.
    held: (u64, u64),
}

impl ReceiveWindow {
    /// Whether the listener's program has set itself a smaller buffer than the system's.
    pub fn is_small(&self) -> bool {
        self.widest < DEFAULT_WINDOW_LEAST
    }

    /// Bytes that are unread now, `acked` having been taken in by the listener's machine, which offers `window` more.
    /// They came in packets of some `packet_bytes`.
    pub fn observe(&mut self, acked: u64, window: u64, packet_bytes: u64) -> u64 {
        let before = self.held.0;
        if before != window {
            self.held = (window, acked);
        }
        if window > self.widest && self.widest > 0 {
            self.widened = Some(acked);
        }
        let narrowed = self.widest.saturating_sub(window);
        let sent = acked - self.acked.min(acked);
        let is_read = narrowed <= self.widest / 2 && sent >= narrowed.saturating_mul(READS);
        if narrowed == 0 || is_read {
            (self.widest, self.acked) = (window, acked);
            self.brief = self.widened.is_some_and(|widened| acked.saturating_sub(widened) <= window / MOMENT);
            return 0;
        }
        if self.brief && window * 10 >= self.widest * SETTLES_TENTHS {
            if acked.saturating_sub(self.held.1) > self.widest / MOMENT {
                (self.widest, self.acked, self.brief) = (window, acked, false);
            }
            return 0;
        }
        if window > before && narrowed <= self.widest / 4 {
            // It opens again, so somebody reads, and what the window still misses is all there is.
            self.acked = acked.saturating_sub(narrowed);
            return narrowed.min(acked);
        }
        // How far the window's edge has moved on.
        let moved = sent.saturating_sub(narrowed);
        let hidden = if self.is_small() {
            self.widest / 14
        } else {
            DEFAULT_BUFFER.saturating_sub(self.widest).clamp(self.widest / 4, self.widest * 17 / 16)
        };
        let packed = if packet_bytes < SEGMENT { SHORT_PACKED } else { 1 };
        (narrowed + moved.min(hidden).min(packed * narrowed)).min(acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(unread: &mut ReceiveWindow, acked: u64, window: u64) -> u64 {
        unread.observe(acked, window, 1920)
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
    fn what_a_frozen_program_was_sent_is_unread_to_the_byte() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 384_000, 90_112);
        for (acked, window) in FROZEN {
            assert_eq!(observe(&mut unread, acked, window), acked - 384_000, "{acked} {window}");
        }
        // It stands still, for however long.
        for _ in 0..10_000 {
            assert_eq!(observe(&mut unread, 507_008, 0), 123_008);
        }
        // It reads everything, and its window is wider than ever.
        assert_eq!(observe(&mut unread, 561_664, 650_240), 0);
    }

    #[test]
    fn small_packets_are_packed_tightly_and_count_all_the_same() {
        let mut unread = ReceiveWindow::default();
        unread.observe(192_000, 69_632, 960);
        // As they were recorded, of mono sound in packets of 960 bytes.
        for (acked, window) in
            [(197_760, 68_608), (207_360, 68_608), (221_760, 67_584), (236_160, 66_560), (335_104, 0), (335_104, 0)]
        {
            assert_eq!(unread.observe(acked, window, 960), acked - 192_000, "{acked} {window}");
        }
    }

    #[test]
    fn a_window_that_flickers_on_a_slow_link_is_no_backlog() {
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
    fn a_window_that_was_wide_for_a_moment_settles() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 0, 64_000);
        // Opened for a burst of long packets; what follows is short, and costs more room.
        observe(&mut unread, 60_000, 110_000);
        for n in 0..100 {
            assert_eq!(observe(&mut unread, 61_000 + n * 960, 96_000), 0, "{n}");
        }
        // From there on it is as with any other.
        assert_eq!(observe(&mut unread, 161_000, 92_000), 161_000 - 156_040);
    }

    #[test]
    fn a_small_buffer_takes_in_what_it_offers() {
        let mut unread = ReceiveWindow::default();
        observe(&mut unread, 100_000, 4096);
        assert_eq!(observe(&mut unread, 104_096, 0), 4096);
        // Behind it, a program reads half of what comes.
        for n in 1..1000 {
            assert!(observe(&mut unread, 104_096 + n * 480, 0) <= 4096 + 4096 / 14);
        }
    }

    #[test]
    fn a_slow_program_s_backlog_stays_within_its_buffer() {
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
    fn a_window_that_stays_narrower_is_no_backlog_for_ever() {
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
