//! The account of blocks that came and blocks that are missing. It believes the sequence numbers, not the server's notices of gaps.

use aircheck_api::GapNotice;

use crate::sanitize::sanitize;

/// Different reasons that are told apart; later ones count as `other`, so that a server cannot fill our memory. aircheck
/// has six.
const MAX_REASONS: usize = 16;
const OTHER: &str = "other";
/// Stretches of one gap that are kept apart until a block ends it; later ones count together as `other`.
const MAX_STRETCHES: usize = 64;
/// Longest reason that is kept.
const MAX_REASON_CHARS: usize = 24;
/// The reason of a loss without a notice.
const UNANNOUNCED: &str = "unannounced";

/// An entry that is worth a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A loss that the server announced.
    Gap { from: u64, blocks: u64, reason: String },
    /// A hole in the sequence numbers that the server did not announce.
    Unannounced { from: u64, blocks: u64 },
    /// A notice of a gap that the sequence numbers contradict: `blocks` of its blocks were not lost, or were lost
    /// before.
    Mismatch { blocks: u64, at: u64 },
    /// A block whose number was already passed. It must not be used.
    Repeated { sequence: u64, expected: u64 },
}

/// Blocks that came and blocks that were lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// The sequence number of the first block that was requested.
    requested: Option<u64>,
    /// The sequence number that is due; `None` before the first block or notice.
    next: Option<u64>,
    /// The number after that of the last block that came.
    after_block: u64,
    /// The gap since the last block, by reason, oldest first: it may still turn out to be shorter than announced.
    open: Vec<(String, u64)>,
    lost: Vec<(String, u64)>,
    gaps: u64,
    largest: u64,
    faults: Faults,
}

/// How often the stream contradicted itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Blocks that are missing without a notice.
    pub(crate) unannounced_blocks: u64,
    /// Notices of gaps that the sequence numbers contradict.
    pub(crate) mismatched_gaps: u64,
    /// Blocks that came again, or out of order.
    pub(crate) repeated_blocks: u64,
}

impl Faults {
    /// Returns whether there was any.
    pub(crate) fn any(&self) -> bool {
        *self != Self::default()
    }
}

impl Ledger {
    /// Makes an empty account of a stream that was requested from a sequence number on, or from the live head.
    pub(crate) fn new(requested: Option<u64>) -> Self {
        Self { requested, ..Self::default() }
    }

    /// Enters a notice of a gap.
    pub(crate) fn gap(&mut self, gap: &GapNotice) -> Vec<Notice> {
        let mut notices = Vec::new();
        let next = self.expect_up_to(gap.from, &mut notices);
        let end = gap.from.saturating_add(gap.blocks);
        let blocks = end.saturating_sub(next);
        if blocks < gap.blocks || gap.blocks == 0 {
            self.faults.mismatched_gaps += 1;
            notices.push(Notice::Mismatch { blocks: gap.blocks - blocks, at: gap.from });
        }
        if blocks > 0 {
            let reason = sanitize(&gap.reason, MAX_REASON_CHARS);
            notices.push(Notice::Gap { from: next, blocks, reason: reason.clone() });
            self.miss(&reason, blocks);
            self.next = Some(end);
        }
        notices
    }

    /// Enters a block by its number. It is to be used unless [`Notice::Repeated`] is among the notices.
    pub(crate) fn block(&mut self, sequence: u64) -> Vec<Notice> {
        let mut notices = Vec::new();
        let next = self.expect_up_to(sequence, &mut notices);
        if sequence < self.after_block {
            self.faults.repeated_blocks += 1;
            return vec![Notice::Repeated { sequence, expected: next }];
        }
        if sequence < next {
            self.faults.mismatched_gaps += 1;
            notices.push(Notice::Mismatch { blocks: next - sequence, at: sequence });
            self.take_back(next - sequence);
        }
        self.close_gap();
        self.after_block = sequence.saturating_add(1);
        self.next = Some(self.after_block);
        notices
    }

    /// Returns how many blocks were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        total(self.lost.iter().chain(&self.open))
    }

    /// Returns the lost blocks by reason, in the order in which the reasons came up.
    pub(crate) fn lost_by_reason(&self) -> Vec<(String, u64)> {
        let mut all = self.lost.clone();
        for (reason, blocks) in &self.open {
            enter(&mut all, reason, *blocks);
        }
        all
    }

    /// Returns the number of gaps. Two notices without a block between them are one gap.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps + u64::from(total(&self.open) > 0)
    }

    /// Returns the length of the longest gap in blocks.
    pub(crate) fn largest(&self) -> u64 {
        self.largest.max(total(&self.open))
    }

    /// Returns how often the stream contradicted itself.
    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// Enters all that is missing before `sequence` as lost without a notice, and returns the number that is due then.
    fn expect_up_to(&mut self, sequence: u64, notices: &mut Vec<Notice>) -> u64 {
        let next = *self.next.get_or_insert_with(|| {
            // A stream whose first block was requested before its capture starts earlier, which is no loss.
            let first = self.requested.map_or(sequence, |from| from.min(sequence));
            self.after_block = first;
            first
        });
        if sequence <= next {
            return next;
        }
        let blocks = sequence - next;
        self.faults.unannounced_blocks = self.faults.unannounced_blocks.saturating_add(blocks);
        notices.push(Notice::Unannounced { from: next, blocks });
        self.miss(UNANNOUNCED, blocks);
        self.next = Some(sequence);
        sequence
    }

    fn miss(&mut self, reason: &str, blocks: u64) {
        let reason = if self.open.len() + 1 < MAX_STRETCHES { reason } else { OTHER };
        match self.open.last_mut() {
            Some((last, count)) if last == reason => *count = count.saturating_add(blocks),
            _ => self.open.push((reason.to_owned(), blocks)),
        }
    }

    /// Takes back blocks that came after all, from the newest part of the open gap.
    fn take_back(&mut self, mut blocks: u64) {
        while let Some((_, count)) = self.open.last_mut() {
            let found = blocks.min(*count);
            *count -= found;
            blocks -= found;
            if *count > 0 {
                break;
            }
            self.open.pop();
        }
    }

    fn close_gap(&mut self) {
        let blocks = total(&self.open);
        self.gaps += u64::from(blocks > 0);
        self.largest = self.largest.max(blocks);
        for (reason, blocks) in self.open.drain(..) {
            enter(&mut self.lost, &reason, blocks);
        }
    }
}

fn total<'a>(losses: impl IntoIterator<Item = &'a (String, u64)>) -> u64 {
    losses.into_iter().fold(0, |sum, (_, blocks)| sum.saturating_add(*blocks))
}

fn enter(losses: &mut Vec<(String, u64)>, reason: &str, blocks: u64) {
    let known = losses.iter().any(|(known, _)| known == reason);
    let reason = if known || losses.len() < MAX_REASONS || reason == UNANNOUNCED { reason } else { OTHER };
    match losses.iter_mut().find(|(known, _)| known == reason) {
        Some((_, count)) => *count = count.saturating_add(blocks),
        None => losses.push((reason.to_owned(), blocks)),
    }
}

#[cfg(test)]
mod tests;
