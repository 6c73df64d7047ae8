//! The reasons for a consumer's gaps, on their way from the producing to the consuming thread.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::Loss;

/// Gap reasons that wait to be read, each with the item after its gap. The queue fills up only if a consumer has more
/// gaps queued than this; it then still learns of every gap, but the reason of the surplus ones falls back to
/// [`Loss::Overflow`].
const MAX_GAP_REASONS: usize = 16;

/// A short queue of gap reasons. Almost always empty, and without memory until the first gap, while a ring for it would
/// take more than all else of a consumer's ring.
///
/// The producing thread never waits for the consuming one: if that holds the lock, the reason falls back to
/// [`Loss::Overflow`], too.
#[derive(Debug, Default)]
pub(crate) struct GapReasons(Mutex<VecDeque<GapReason>>);

/// The reason why blocks are missing directly before the item whose first sequence number is `before`.
#[derive(Clone, Copy, Debug)]
struct GapReason {
    before: u64,
    reason: Loss,
}

impl GapReasons {
    /// Adds the reason why blocks are missing directly before the item that starts with `before`. Drops it if the queue
    /// is full or locked.
    pub(crate) fn push(&self, before: u64, reason: Loss) {
        if let Ok(mut queue) = self.0.try_lock()
            && queue.len() < MAX_GAP_REASONS
        {
            queue.push_back(GapReason { before, reason });
        }
    }

    /// Returns why blocks are missing directly before the item that starts with `first`, or else why they are before an item
    /// that was skipped on the way to it. Drops all of these reasons. Waits at most for one reason to be added.
    pub(crate) fn take(&self, first: u64) -> Option<Loss> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reason = None;
        while queue.front().is_some_and(|gap| gap.before <= first) {
            reason = queue.pop_front().map(|gap| gap.reason);
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_the_item_after_its_gap() {
        let reasons = GapReasons::default();
        assert_eq!(reasons.0.lock().unwrap().capacity(), 0, "no memory before the first gap");
        for (before, reason) in [(10, Loss::Source), (20, Loss::History), (30, Loss::Source)] {
            reasons.push(before, reason);
        }
        assert_eq!(reasons.take(9), None);
        assert_eq!(reasons.take(20), Some(Loss::History));
        assert_eq!(reasons.take(25), None);
        assert_eq!(reasons.take(29), None);
        assert_eq!(reasons.take(30), Some(Loss::Source));
        assert_eq!(reasons.take(30), None);
    }

    #[test]
    fn surplus_reasons_are_dropped() {
        let reasons = GapReasons::default();
        (0..100).for_each(|before| reasons.push(before, Loss::Source));
        let taken = (0..100).filter(|first| reasons.take(*first).is_some()).count();
        assert_eq!(taken, MAX_GAP_REASONS);
        reasons.push(200, Loss::History);
        assert_eq!(reasons.take(200), Some(Loss::History), "there is room again");
    }

    #[test]
    fn the_producer_does_not_wait_for_the_lock() {
        let reasons = GapReasons::default();
        let held = reasons.0.lock().unwrap();
        reasons.push(1, Loss::Source);
        drop(held);
        assert_eq!(reasons.take(1), None);
    }
}
