//! The account of what came and what didn't. It believes the sequence numbers, not what is said about them.

use crate::client::block::{Block, Gap};
use crate::units as words;

/// How many different reasons are told apart, so that a server can't fill our memory with names. aircheck has five.
const MAX_REASONS: usize = 16;
const OTHER: &str = "other";
/// How many stretches of one gap are kept apart until a block ends it; older ones are settled early.
const MAX_STRETCHES: usize = 64;
/// Longest reason shown.
const REASON_CHARS: usize = 24;
/// What a loss is put down to when no gap line announces it.
const UNANNOUNCED: &str = "unannounced";

/// Something that is worth a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A loss that the server told.
    Gap { from: u64, blocks: u64, reason: String },
    /// A hole in the sequence numbers that no gap line announced.
    Unannounced { from: u64, blocks: u64 },
    /// A gap line that the sequence numbers contradict: `blocks` of what it says were not, or not newly, lost.
    Mismatch { blocks: u64, at: u64 },
    /// A block whose number was already passed. It is left out of everything.
    Repeated { sequence: u64, expected: u64 },
    /// A block that doesn't lie where the one before it ended.
    Misplaced { sequence: u64, position: u64, expected: u64 },
}

/// What came and what was lost, in blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Where the stream was asked to start.
    asked_from: Option<u64>,
    /// The sequence number that must come now; `None` before anything did.
    next: Option<u64>,
    /// The one after the last block that came.
    after_block: u64,
    /// The position after the last block that came.
    end_position: Option<u64>,
    /// The gap since the last block, by reason, oldest first: it may still turn out to be shorter than announced.
    open: Vec<(String, u64)>,
    /// Its part that is already in `lost`.
    open_settled: u64,
    lost: Vec<(String, u64)>,
    gaps: u64,
    largest: u64,
    faults: Faults,
}

/// How often the stream contradicted itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Blocks that are missing without a gap line.
    pub(crate) unannounced_blocks: u64,
    /// Gap lines that the sequence numbers contradict.
    pub(crate) mismatched_gaps: u64,
    /// Blocks that came again, or out of order.
    pub(crate) repeated_blocks: u64,
    /// Blocks that don't lie where the one before them ended.
    pub(crate) misplaced_blocks: u64,
}

impl Faults {
    /// Whether there was any.
    pub(crate) fn any(&self) -> bool {
        *self != Self::default()
    }
}

impl Ledger {
    /// An empty account of a stream that was asked to start at `asked_from`, or just now.
    pub(crate) fn new(asked_from: Option<u64>) -> Self {
        Self { asked_from, ..Self::default() }
    }

    /// Enters a gap line.
    pub(crate) fn gap(&mut self, gap: &Gap) -> Vec<Notice> {
        let mut notices = Vec::new();
        let next = self.expect_up_to(gap.from, &mut notices);
        let end = gap.from.saturating_add(gap.blocks);
        let blocks = end.saturating_sub(next);
        if blocks < gap.blocks || gap.blocks == 0 {
            self.faults.mismatched_gaps += 1;
            notices.push(Notice::Mismatch { blocks: gap.blocks - blocks, at: gap.from });
        }
        if blocks > 0 {
            let reason = words::quoted(&gap.reason, REASON_CHARS);
            notices.push(Notice::Gap { from: next, blocks, reason: reason.clone() });
            self.miss(&reason, blocks);
            self.next = Some(end);
        }
        notices
    }

    /// Enters a block. It is to be used unless [`Notice::Repeated`] is among the notices.
    pub(crate) fn block(&mut self, block: &Block) -> Vec<Notice> {
        let mut notices = Vec::new();
        let sequence = block.sequence;
        let next = self.expect_up_to(sequence, &mut notices);
        if sequence < self.after_block {
            self.faults.repeated_blocks += 1;
            return vec![Notice::Repeated { sequence, expected: next }];
        }
        if sequence < next {
            self.faults.mismatched_gaps += 1;
            notices.push(Notice::Mismatch { blocks: next - sequence, at: sequence });
            self.find(next - sequence);
        }
        let after_gap = self.open_blocks() > 0;
        match self.end_position {
            Some(expected) if block.position < expected || (block.position > expected && !after_gap) => {
                self.faults.misplaced_blocks += 1;
                notices.push(Notice::Misplaced { sequence, position: block.position, expected });
            }
            _ => {}
        }
        self.close_gap();
        self.after_block = sequence.saturating_add(1);
        self.next = Some(self.after_block);
        self.end_position = Some(block.position.saturating_add(block.frames));
        notices
    }

    /// How many blocks were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.iter().chain(&self.open).fold(0, |sum, (_, blocks)| sum.saturating_add(*blocks))
    }

    /// Lost blocks by reason, in the order in which the reasons came up.
    pub(crate) fn lost_by_reason(&self) -> Vec<(String, u64)> {
        let mut all = self.lost.clone();
        for (reason, blocks) in &self.open {
            enter(&mut all, reason, *blocks);
        }
        all
    }

    /// How many times in a row blocks were lost: two gap lines without a block between them are one gap.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps + u64::from(self.open_blocks() > 0)
    }

    /// The most blocks lost in a row.
    pub(crate) fn largest(&self) -> u64 {
        self.largest.max(self.open_blocks())
    }

    /// How often the stream contradicted itself.
    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// What must come now, after whatever lies before `sequence` was entered as lost without a word.
    fn expect_up_to(&mut self, sequence: u64, notices: &mut Vec<Notice>) -> u64 {
        let next = *self.next.get_or_insert_with(|| {
            // A server that can't look ahead starts before the one that was asked for, which is no loss.
            let first = self.asked_from.map_or(sequence, |from| from.min(sequence));
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
        match self.open.last_mut() {
            Some((last, count)) if last == reason => *count = count.saturating_add(blocks),
            _ => self.open.push((reason.to_owned(), blocks)),
        }
        if self.open.len() > MAX_STRETCHES {
            let (reason, blocks) = self.open.remove(0);
            self.open_settled = self.open_settled.saturating_add(blocks);
            enter(&mut self.lost, &reason, blocks);
        }
    }

    /// Takes back what came after all, from the newest part of the open gap.
    fn find(&mut self, mut blocks: u64) {
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

    fn open_blocks(&self) -> u64 {
        self.open.iter().fold(self.open_settled, |sum, (_, blocks)| sum.saturating_add(*blocks))
    }

    fn close_gap(&mut self) {
        let blocks = self.open_blocks();
        self.gaps += u64::from(blocks > 0);
        self.largest = self.largest.max(blocks);
        self.open_settled = 0;
        for (reason, blocks) in self.open.drain(..) {
            enter(&mut self.lost, &reason, blocks);
        }
    }
}

fn enter(account: &mut Vec<(String, u64)>, reason: &str, blocks: u64) {
    let known = account.iter().any(|(known, _)| known == reason);
    let reason = if known || account.len() < MAX_REASONS || reason == UNANNOUNCED { reason } else { OTHER };
    match account.iter_mut().find(|(known, _)| known == reason) {
        Some((_, count)) => *count = count.saturating_add(blocks),
        None => account.push((reason.to_owned(), blocks)),
    }
}

#[cfg(test)]
mod tests;
