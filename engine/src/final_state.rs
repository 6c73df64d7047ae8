//! The end of a consumer's account: written once, by whichever thread ends it first.

use crate::sync::{AtomicU64, Ordering};
use crate::{EndReason, Loss};

/// Bits of the code of a reason, and of the code of a loss.
const CODE_BITS: u32 = 3;
const CODE_MASK: u64 = (1 << CODE_BITS) - 1;
/// The highest number that a sequence may reach: the rest of a word. A block a nanosecond takes nine years to it.
pub(crate) const MAX_SEQUENCE: u64 = u64::MAX >> (2 * CODE_BITS);

/// Why a consumer has ended, where its sequence ended, and why the items before that are missing. All in one word, so
/// that a reader never sees the reason of one thread and the number of another.
#[derive(Debug)]
pub(crate) struct FinalState(AtomicU64);

impl FinalState {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Sets the end, unless it is set already.
    pub(crate) fn set(&self, reason: EndReason, next: u64, tail: Loss) {
        let word = next.min(MAX_SEQUENCE) << (2 * CODE_BITS) | (tail as u64) << CODE_BITS | u64::from(reason.code());
        // Release: the items before the end are visible to a thread that sees it.
        let _ = self.0.compare_exchange(0, word, Ordering::Release, Ordering::Relaxed);
    }

    /// Returns the reason, one past the final sequence number, and the reason for missing items before that.
    pub(crate) fn get(&self) -> Option<(EndReason, u64, Loss)> {
        let word = self.0.load(Ordering::Acquire);
        let reason = EndReason::from_code((word & CODE_MASK) as u8)?;
        let tail = Loss::ALL[(word >> CODE_BITS & CODE_MASK) as usize];
        Some((reason, word >> (2 * CODE_BITS), tail))
    }

    /// Returns whether there is an end.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    pub(crate) fn reason(&self) -> Option<EndReason> {
        self.get().map(|(reason, ..)| reason)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_stays_and_comes_back_as_it_was() {
        for reason in
            [EndReason::Finished, EndReason::TooSlow, EndReason::Closed, EndReason::Left, EndReason::Abandoned]
        {
            for &tail in Loss::ALL {
                for next in [0, 7, MAX_SEQUENCE] {
                    let end = FinalState::new();
                    assert_eq!(end.get(), None);
                    end.set(reason, next, tail);
                    end.set(EndReason::Left, 3, Loss::Source);
                    assert_eq!(end.get(), Some((reason, next, tail)));
                }
            }
        }
    }
}
