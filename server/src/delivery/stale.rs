//! When a WebSocket listener is told that the sound before a block is old: once it comes back after it has fallen behind.

use aircheck_api::Stale;
use aircheck_engine::{Gap, Loss};

/// The state of one listener's notices.
#[derive(Debug, Default)]
pub(super) struct StaleNotices {
    /// Whether it was behind at the last packet.
    was_behind: bool,
    /// Whether it was told since it fell behind.
    is_told: bool,
}

/// A packet that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextPacket {
    /// The gap before it.
    pub(super) gap: Option<Gap>,
    /// The number of its first block.
    pub(super) first: u64,
    /// Whether no newer one waits.
    pub(super) is_newest: bool,
}

impl StaleNotices {
    /// Returns the notice that is due before `packet`. `behind_at` is the live head when the listener was last seen behind, and
    /// `is_behind` whether it still is.
    ///
    /// A listener that is skipped to live gets it at once. One that lost nothing gets it when it has caught up, before the first packet
    /// that is not old: what still waits in its ring until then is old, too.
    pub(super) fn before(&mut self, packet: NextPacket, is_behind: bool, behind_at: u64) -> Option<Stale> {
        if !is_behind {
            if packet.first < behind_at {
                return None;
            }
            let is_due = std::mem::take(&mut self.was_behind) && !self.is_told;
            return is_due.then_some(Stale { before: behind_at });
        }
        self.is_told &= self.was_behind;
        self.was_behind = true;
        let is_skip = packet
            .gap
            .is_some_and(|gap| matches!(gap.reason, Loss::Overflow | Loss::SkippedToLive | Loss::SkippedToNewest));
        if !is_skip || !packet.is_newest {
            return None;
        }
        self.is_told = true;
        Some(Stale { before: packet.first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u64, reason: Option<Loss>) -> NextPacket {
        NextPacket { gap: reason.map(|reason| Gap { from: first - 5, items: 5, reason }), first, is_newest: true }
    }

    #[test]
    fn a_listener_that_keeps_up_is_told_nothing() {
        let mut notices = StaleNotices::default();
        for first in 0..10 {
            assert_eq!(notices.before(packet(first, None), false, 0), None);
        }
        assert_eq!(notices.before(packet(20, Some(Loss::Source)), false, 0), None);
    }

    #[test]
    fn a_listener_that_comes_back_without_a_loss_is_told_once() {
        let mut notices = StaleNotices::default();
        for first in 10..20 {
            assert_eq!(notices.before(packet(first, None), true, 25), None);
        }
        // These were in its ring already.
        for first in 20..25 {
            assert_eq!(notices.before(packet(first, None), false, 25), None);
        }
        assert_eq!(notices.before(packet(25, None), false, 25), Some(Stale { before: 25 }));
        assert_eq!(notices.before(packet(26, None), false, 25), None);
    }

    #[test]
    fn a_listener_that_is_skipped_to_live_is_told_with_the_gap_and_not_again() {
        let mut notices = StaleNotices::default();
        assert_eq!(notices.before(packet(10, None), true, 10), None);
        assert_eq!(notices.before(packet(50, Some(Loss::SkippedToLive)), true, 10), Some(Stale { before: 50 }));
        assert_eq!(notices.before(packet(51, None), true, 50), None);
        assert_eq!(notices.before(packet(52, None), false, 51), None);
        // It falls behind anew.
        assert_eq!(notices.before(packet(53, None), true, 53), None);
        assert_eq!(notices.before(packet(60, None), false, 55), Some(Stale { before: 55 }));
    }

    #[test]
    fn a_gap_before_old_sound_or_in_the_source_is_no_return() {
        let mut notices = StaleNotices::default();
        assert_eq!(notices.before(packet(10, Some(Loss::Source)), true, 10), None);
        let old = NextPacket { is_newest: false, ..packet(20, Some(Loss::Overflow)) };
        assert_eq!(notices.before(old, true, 10), None);
        assert_eq!(notices.before(packet(30, None), false, 25), Some(Stale { before: 25 }));
    }
}
