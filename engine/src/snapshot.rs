//! The account of one consumer at one moment.

use crate::{Loss, LossCounts};

/// The account of a consumer ([`Stats`](crate::Stats)) at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Blocks that the consumer should have received so far, from its first one.
    pub offered: u64,
    /// Blocks that the consumer has taken.
    pub delivered: u64,
    /// Blocks that the consumer never receives, by reason.
    pub lost: LossCounts,
    /// Blocks in the consumer's ring.
    pub queued: u64,
    /// The consumer's first sequence number, the first of an item; 0 before the publisher has admitted it.
    pub first_sequence: u64,
    /// One past the last sequence number that the consumer has taken or skipped; at the start, the first one.
    pub next_sequence: u64,
    /// Distance from `next_sequence` to the live head, in blocks: a position, not a time.
    pub lag_items: u64,
    /// Blocks of requested lag (burst or replay) at the start.
    pub burst_items: u64,
}

/// The counts of a producing end.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Produced {
    pub(crate) attached: bool,
    pub(crate) first: u64,
    pub(crate) burst: u64,
    pub(crate) live: u64,
    pub(crate) overflow: u64,
    pub(crate) source: u64,
    pub(crate) history: u64,
    pub(crate) hop: u64,
    pub(crate) conflated: u64,
    pub(crate) accepted: u64,
}

/// The counts of a consuming end.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Consumed {
    pub(crate) delivered: u64,
    pub(crate) skipped: u64,
    pub(crate) late: u64,
    pub(crate) missed: u64,
}

impl Snapshot {
    pub(crate) fn new(produced: Produced, consumed: Consumed) -> Self {
        let Produced { attached, first, burst, live, overflow, source, history, hop, mut conflated, accepted } =
            produced;
        let Consumed { delivered, skipped, late, missed } = consumed;
        let refused = overflow + source + history + hop;
        let left = delivered + skipped + late + conflated;
        let queued = accepted.saturating_sub(left);
        let mut offered = accepted.max(left) + refused;
        let mut passed = delivered + skipped + late + missed;
        // With the policy `Latest`, an item is counted after it was put in the place of another, because only then does the
        // producer know whether the other one was taken. A reader in between sees more passed than offered, or than fits
        // beside what is queued.
        if queued > 0 {
            passed = passed.min(offered - queued);
        } else if passed > offered {
            conflated += passed - offered;
            offered = passed;
        }
        let mut lost = LossCounts::default();
        lost.add(Loss::Overflow, overflow);
        lost.add(Loss::Source, source);
        lost.add(Loss::History, history);
        lost.add(Loss::Hop, hop);
        lost.add(Loss::Conflated, conflated);
        lost.add(Loss::SkippedToLive, skipped);
        lost.add(Loss::SkippedToNewest, late);
        let next_sequence = first + passed;
        Self {
            offered,
            delivered,
            lost,
            queued,
            first_sequence: first,
            next_sequence,
            lag_items: if attached { live.saturating_sub(next_sequence) } else { 0 },
            burst_items: burst,
        }
    }
}
