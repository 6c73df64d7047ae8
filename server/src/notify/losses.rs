//! The share of blocks that are lost.

use std::collections::VecDeque;
use std::time::Duration;

use aircheck_engine::Timestamp;

/// Time over which the share is taken: long enough that one hiccup of a second is below the limit for most.
const WINDOW: Duration = Duration::from_secs(60);
/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(5);
/// Share of lost blocks that is told.
pub(super) const MAX_SHARE: f64 = 0.01;
/// Fewer lost blocks than this are no trouble, whatever their share: a listener's start counts few blocks.
const MIN_LOST: u64 = 20;

/// The share of blocks that were lost in the last minute.
#[derive(Debug, Default)]
pub(super) struct LossWatch {
    /// When, blocks offered, and blocks lost, from the beginning on.
    readings: VecDeque<(Timestamp, u64, u64)>,
}

impl LossWatch {
    /// Takes the counts since the start. Returns the share in the last minute if it is above the limit.
    pub(super) fn look(&mut self, offered: u64, lost: u64, now: Timestamp) -> Option<f64> {
        if self.readings.back().is_none_or(|(at, ..)| now.since(*at) >= INTERVAL) {
            self.readings.push_back((now, offered, lost));
        }
        // The oldest reading is the last one that is as old as the window.
        while self.readings.get(1).is_some_and(|(at, ..)| now.since(*at) >= WINDOW) {
            self.readings.pop_front();
        }
        let (_, offered_before, lost_before) = *self.readings.front()?;
        let (offered, lost) = (offered.saturating_sub(offered_before), lost.saturating_sub(lost_before));
        let share = lost as f64 / offered.max(1) as f64;
        (lost >= MIN_LOST && share > MAX_SHARE).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_above_the_limit_is_seen_for_a_minute() {
        let (mut watch, start) = (LossWatch::default(), Timestamp::now());
        let mut seen = Vec::new();
        for second in 0..200_u64 {
            let lost = if second < 50 { 0 } else { 150 };
            let now = start + Duration::from_secs(second);
            if let Some(share) = watch.look(second * 100, lost, now) {
                assert!((0.02..=0.031).contains(&share), "{share}");
                seen.push(second);
            }
        }
        assert_eq!((seen[0], seen[seen.len() - 1]), (50, 109));
    }

    #[test]
    fn few_losses_are_no_trouble() {
        let (mut watch, start) = (LossWatch::default(), Timestamp::now());
        assert_eq!(watch.look(0, 0, start), None);
        assert_eq!(watch.look(50, 19, start + Duration::from_secs(5)), None, "few blocks");
        assert_eq!(watch.look(60_000, 600, start + Duration::from_secs(10)), None, "exactly one of a hundred");
        assert!(watch.look(60_000, 601, start + Duration::from_secs(15)).is_some());
    }
}
