//! The blocks between a listener's ring and its connection.

use std::ops::Range;

use aircheck_engine::Gap;

/// Blocks that were taken from the ring and not yet written: the last one, and those before it that an encoder keeps
/// until a packet is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingBlocks {
    /// Sequence numbers that they bring the listener past, including lost ones before them.
    pub numbers: Range<u64>,
    /// Number of blocks.
    pub blocks: u64,
}

impl PendingBlocks {
    /// Adds the block with this sequence number and the gap before it.
    pub fn add(&mut self, gap: Option<Gap>, sequence: u64) {
        let start = if self.blocks > 0 { self.numbers.start } else { gap.map_or(sequence, |gap| gap.from) };
        self.numbers = start..sequence + 1;
        self.blocks += 1;
    }
}
