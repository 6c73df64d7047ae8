//! The level of a receive window that has stayed the same, and how far it is below. A window counts only from a level: while a kernel
//! raises its limits, and while it takes back what it offered during a burst, it moves for other reasons than unread bytes.

use super::{LARGE_WINDOW_BYTES, MIN_UNREAD_TENTHS, NARROWING_HUNDREDTHS, RECOUNTED_PART, UNREAD_TENTHS, is_narrowing};

/// A window that stays within this part of its width while half of it comes has found its level. Before, it narrows for other reasons
/// than unread bytes: a kernel takes back what it offered during a burst.
const LEVEL_PART: u64 = 16;
/// A window of less than this part of its level, and of less than so many bytes, is nearly closed. Windows were seen to wander between
/// 64 KB and several hundred while everything was read.
const CLOSING_PART: u64 = 4;
const CLOSING_BYTES: u64 = 16 * 1024;
/// All of so many bytes cannot be unread while it stays there, and a program that reads nine tenths of them would narrow it by more.
const SETTLED_BYTES: u64 = 256 * 1024;
/// A window of megabytes stays within so many bytes while [`SETTLED_BYTES`] come, if they are read: a part of its width would be more than
/// that of a program that reads nothing narrows by.
const MAX_WANDER_BYTES: u64 = 64 * 1024;

/// The level of a window that has stayed the same, and how far it is below.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// The window at its level; zero while it has none.
    window: u32,
    /// A window that may be the next level.
    next: u32,
    /// The bytes that had been acknowledged when the window was last at its level, and when it came to the next.
    left_at: u64,
    next_from: u64,
    /// The sum of all by which the window has opened since then.
    opened: u32,
    /// Whether everything had been read there, and the window was not wider since.
    is_proven: bool,
}

impl Level {
    /// Notes that everything was read.
    pub(super) fn prove(&mut self, acked: u64, window: u64) {
        (self.window, self.next) = (window as u32, window as u32);
        (self.left_at, self.next_from, self.opened) = (acked, acked, 0);
        self.is_proven = true;
    }

    /// Notes that the window has opened, so that what had come before is read.
    pub(super) fn open(&mut self, acked: u64) {
        self.left_at = acked;
    }

    /// Notes that the window has left its level since the look before, and is so wide now. Any of the packets of about `packet_bytes` that
    /// came since then may be the first unread one, so it is taken to be the one in the middle, unless the window shows that more are.
    pub(super) fn leave(&mut self, acked: u64, window: u64, packet_bytes: u64) {
        let since = self.since(acked);
        let narrowed = u64::from(self.window).saturating_sub(window);
        let read = since.saturating_sub(packet_bytes) / 2;
        self.left_at += read.min(since.saturating_sub(narrowed * MIN_UNREAD_TENTHS / 10));
    }

    /// Returns whether the window has a level.
    pub(super) fn is_known(&self) -> bool {
        self.window > 0
    }

    /// Returns the window at its level; zero while it has none.
    pub(super) fn window(&self) -> u64 {
        self.window.into()
    }

    /// Returns whether this window is at its level.
    pub(super) fn is_at(&self, window: u64) -> bool {
        self.is_known() && window >= self.window.into()
    }

    /// Returns whether everything had been read while the window was there.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Returns whether the window is further below its level than for any other reason but unread bytes.
    pub(super) fn is_far(&self, window: u64) -> bool {
        window < (self.window - self.window / RECOUNTED_PART as u32).into()
    }

    /// Follows the window from the one `before`. Returns whether it has settled at another level, or one of megabytes at its first.
    pub(super) fn follow(&mut self, acked: u64, window: u64, before: u64) -> bool {
        let (level, next) = (u64::from(self.window), u64::from(self.next));
        self.opened = self.opened.saturating_add(window.saturating_sub(before) as u32);
        if window >= level {
            self.left_at = acked;
        }
        if window > level {
            self.is_proven = false;
        }
        if window > level + level / LEVEL_PART {
            self.window = 0;
        }
        if self.is_known() && window == level {
            // Another level begins when the window leaves this one.
            self.begin(acked, window);
            return false;
        }
        // One of megabytes would take minutes to find its level by the rules for others.
        let is_large = next >= LARGE_WINDOW_BYTES && !self.is_proven;
        let part = next / LEVEL_PART;
        let (wander, enough) = match self.is_known() {
            _ if is_large => (part.min(MAX_WANDER_BYTES), SETTLED_BYTES),
            true => (part, SETTLED_BYTES.max(2 * next)),
            false => (part, next / 2),
        };
        if window.abs_diff(next) > wander {
            self.begin(acked, window);
            return false;
        }
        let came = acked - self.next_from;
        // The window of a program that reads nothing may hardly narrow where it is wide, but then it does not open either.
        if came < enough || (is_large && u64::from(self.opened) * 100 < came * NARROWING_HUNDREDTHS) {
            return false;
        }
        let is_other = self.is_known() || is_large;
        self.left_at = if is_other { acked } else { self.next_from };
        (self.window, self.is_proven) = (window as u32, false);
        is_other
    }

    /// Takes the window for one that may be the next level.
    fn begin(&mut self, acked: u64, window: u64) {
        (self.next, self.next_from, self.opened) = (window as u32, acked, 0);
    }

    /// Returns whether the window is nearly closed.
    pub(super) fn is_closing(&self, window: u64) -> bool {
        window < (u64::from(self.window) / CLOSING_PART).min(CLOSING_BYTES)
    }

    /// Returns how many bytes have come since the window left its level.
    pub(super) fn since(&self, acked: u64) -> u64 {
        acked.saturating_sub(self.left_at)
    }

    /// Returns how much is unread by how far the window is below its level.
    pub(super) fn unread(&self, acked: u64, window: u64) -> u64 {
        let level = u64::from(self.window);
        let narrowed = level.saturating_sub(window);
        if narrowed <= level / LEVEL_PART {
            return 0;
        }
        let since = self.since(acked).min(2 * level);
        if is_narrowing(narrowed, since) { since } else { (narrowed * UNREAD_TENTHS / 10).min(since) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_narrows_after_a_long_time_at_its_level_has_left_it_and_found_no_other() {
        const WINDOW: u64 = 90_112;
        let mut level = Level::default();
        level.prove(0, WINDOW);
        // For longer than another level needs, without a further proof.
        for acked in (0..=2 * SETTLED_BYTES).step_by(2048) {
            assert!(!level.follow(acked, WINDOW, WINDOW));
        }
        assert!(!level.follow(2 * SETTLED_BYTES + 8192, WINDOW - 5120, WINDOW));
        assert_eq!((level.window(), level.since(2 * SETTLED_BYTES + 8192)), (WINDOW, 8192));
        // It stays there, so nothing was unread.
        assert!(level.follow(3 * SETTLED_BYTES + 8192, WINDOW - 5120, WINDOW - 5120));
        assert_eq!(level.window(), WINDOW - 5120);
    }

    /// Follows a window of megabytes while half a megabyte comes. Returns whether it has found a level.
    fn settles(window: impl Fn(u64) -> u64) -> bool {
        const PACKET: u64 = 960;
        let mut level = Level::default();
        let mut before = window(0);
        for acked in (0..2 * SETTLED_BYTES).step_by(PACKET as usize) {
            level.follow(acked, window(acked), before);
            before = window(acked);
        }
        level.is_known()
    }

    #[test]
    fn a_window_of_megabytes_finds_its_level_if_it_opens_as_far_as_it_narrows() {
        // Of a program that reads each 100 ms, and of ones that read nothing where much or little narrows a window.
        assert!(settles(|acked| (4 << 20) - acked % 9600));
        assert!(!settles(|acked| (4 << 20) - acked * 6 / 10));
        assert!(!settles(|acked| (4 << 20) - acked / 14));
    }
}
