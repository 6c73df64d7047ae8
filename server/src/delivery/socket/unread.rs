//! How many received bytes a listener's program has not read: the best estimate, and bounds that hold in any case.
//!
//! Two things tell: when its machine acknowledges, and how wide a receive window it offers. A prompt acknowledgement proves that
//! everything was read ([`ReadProof`]), so what came after the last proof is the most that can be unread. The window
//! shows the least: what is missing from it, less what a kernel may keep of bytes that were read. While single packets are
//! acknowledged late, the truth is between. If the window has narrowed as it does for a program that reads nothing, the
//! estimate is everything since the last proof; if it opens now and then, the program reads, and how wide it opens shows
//! how much is left. Where no packet can be a test, the window alone must do ([`ReceiveWindow`]).

use aircheck_engine::Timestamp;

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
/// A window that opens by so much shows that the program has read. Windows of Linux come in steps of up to 1 KiB.
const OPENING_BYTES: u64 = 2048;
/// A window need not narrow at all: packets under 900 bytes are copied into the memory of the one before, and a program may
/// have set a buffer of megabytes. Then this many tests in a row must be late by the far kernel's timer.
const MIN_TESTS: u8 = 40;

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
    window: ReceiveWindow,
    /// The window when everything had been read.
    open: u64,
    /// Acknowledged bytes and the window at the last look.
    last: (u64, u64),
    /// The bytes that had been acknowledged promptly, probably, before acknowledgements came late.
    late_from: Option<u64>,
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
        let was_late = self.proof.timer_acks() > 0;
        if self.proof.judge(socket, now) {
            (self.opened, self.late_from) = (None, None);
            if let Some(window) = window {
                self.open = window;
                self.window.settle(acked, window);
            }
        }
        if !was_late && self.proof.timer_acks() > 0 {
            self.late_from = Some(acked.saturating_sub(self.proof.late_packets() * packet_bytes));
        }
        let most = acked.saturating_sub(self.proof.proven());
        let Some(window) = window else { return Unread { least: 0, estimate: 0, most } };
        let observed = self.window.observe(acked, window, packet_bytes, acked < written);
        let result = self.proof.result();
        // Without proofs, the window may be a fourth narrower than it was, with nothing unread.
        let open = if result.is_some() && self.proof.proofs() > 0 { self.open } else { self.window.widest() * 3 / 4 };
        let narrowed = open.saturating_sub(window);
        let kept = MERGED_PACKETS * packet_bytes * 10 / UNREAD_TENTHS;
        let least = narrowed.saturating_sub(kept).min(most);
        let estimate = match result.filter(|_| self.proof.proofs() > 0) {
            None => observed,
            // It had read everything a moment ago, and the next packet is a test if something seems to be missing.
            Some(Reading::Prompt) => least,
            Some(Reading::Late) => self.estimate(acked, window, packet_bytes, most),
        };
        self.last = (acked, window);
        Unread { least, estimate: estimate.clamp(least, most), most }
    }

    /// Returns how much is unread of the `most` bytes since the last proof, when packets are acknowledged late.
    fn estimate(&mut self, acked: u64, window: u64, packet_bytes: u64, most: u64) -> u64 {
        let narrowed = self.open.saturating_sub(window);
        let of_window = (narrowed * UNREAD_TENTHS / 10).min(most);
        if window >= self.last.1 + OPENING_BYTES && self.last.0 > self.proof.proven() {
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
        // It had read until the first packet that was acknowledged late.
        let late = (self.late_from.map_or(most, |from| acked - from.min(acked))).min(most);
        let is_narrowing = narrowed * 100 >= late.saturating_sub(HIDDEN_BYTES) * NARROWING_HUNDREDTHS;
        if is_narrowing || self.proof.timer_acks() >= MIN_TESTS { late } else { of_window }
    }
}
