//! A block of another server's stream, and the numbers that such blocks get here.

use std::time::Duration;

use crate::final_state::MAX_SEQUENCE;
use crate::{Format, Origin, Timestamp};

/// The most time by which the numbers of another epoch may differ from those that are due here, and be kept. A server that
/// was started anew finds out where its numbers go on before it opens its source, and a microphone takes a while to open.
const MAX_APART: Duration = Duration::from_secs(2);

/// A block that another server has captured. It keeps the number and the time that it has there.
#[derive(Clone, Copy, Debug)]
pub struct RelayedBlock<'s> {
    /// The run of the other server: its numbers begin anew in each.
    pub epoch: u64,
    /// Number of the block in the other server's stream.
    pub sequence: u64,
    /// When its first frame was captured, on the clock of this process.
    pub captured_at: Timestamp,
    /// Where the other server had the sound from.
    pub origin: Origin,
    /// Blocks directly before this one that the other server has sent and that did not come. Any further numbers that are
    /// missing are those that it did not have itself.
    pub lost_on_hop: u64,
    /// Whether the block is older than this stream, and comes for its history: it was not due here when it was captured, so the time since
    /// then is no latency.
    pub is_past: bool,
    /// Interleaved samples, at most a block of them.
    pub samples: &'s [f32],
}

/// The outcome of a relayed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relay {
    /// It goes on to consumers, or found the capture ring full and is counted there.
    Taken {
        /// Its number in the stream here.
        sequence: u64,
    },
    /// Its number, or a later one, was given already: to silence in its place, or to the block itself.
    Late,
    /// It was left out, because the stream goes on without this source, or has another format.
    Refused,
}

/// The mapping of another server's numbers to those of the stream here.
#[derive(Clone, Debug)]
pub(crate) struct Numbering {
    /// [`MAX_APART`] in blocks.
    max_apart: u64,
    epoch: Option<u64>,
    /// Added to the other server's numbers, modulo 2^64.
    shift: u64,
    /// How often there was another epoch than the first.
    changes: u32,
}

impl Numbering {
    pub(crate) fn new(format: Format) -> Self {
        Self { max_apart: format.blocks_in(MAX_APART), epoch: None, shift: 0, changes: 0 }
    }

    /// Returns how often there was another epoch than the first.
    pub(crate) fn changes(&self) -> u32 {
        self.changes
    }

    /// Returns the number of a block. Numbers stay as they are in a stream that has begun with the first of them
    /// (`is_first`), and in another epoch that goes on where the former one was, so that all who take them have the same. In any
    /// other epoch, the block gets the number `due` that it has by its time, so that numbers and times stay one. `None` for
    /// a number that there is not.
    pub(crate) fn number(&mut self, block: &RelayedBlock<'_>, is_first: bool, due: u64) -> Option<u64> {
        if self.epoch != Some(block.epoch) {
            self.changes += u32::from(self.epoch.is_some());
            let goes_on = is_first || block.sequence.abs_diff(due) <= self.max_apart;
            self.shift = if goes_on { 0 } else { due.wrapping_sub(block.sequence) };
            self.epoch = Some(block.epoch);
        }
        Some(block.sequence.wrapping_add(self.shift)).filter(|number| *number < MAX_SEQUENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(epoch: u64, sequence: u64) -> RelayedBlock<'static> {
        let captured_at = Timestamp::default();
        RelayedBlock {
            epoch,
            sequence,
            captured_at,
            origin: Origin::Source,
            lost_on_hop: 0,
            is_past: false,
            samples: &[],
        }
    }

    #[test]
    fn numbers_stay_in_the_first_epoch_and_go_on_in_the_next() {
        let mut numbering = Numbering::new(Format::new(48_000, 1, Duration::from_millis(10)).unwrap());
        assert_eq!(numbering.number(&block(1, 5000), true, 0), Some(5000));
        assert_eq!(numbering.number(&block(1, 5003), false, 5001), Some(5003), "a gap stays a gap");
        assert_eq!(numbering.number(&block(2, 0), false, 5100), Some(5100), "by its time");
        assert_eq!(numbering.number(&block(2, 7), false, 9000), Some(5107));
        assert_eq!(numbering.number(&block(1, 5400), false, 5108), Some(5108), "the first server is back");
        assert_eq!(numbering.number(&block(1, u64::MAX), false, 5109), None);
        assert_eq!(numbering.number(&block(3, 5306), false, 5300), Some(5306), "it goes on where the numbers are");
        assert_eq!(numbering.number(&block(4, 5200), false, 5400), Some(5200), "by two seconds at most");
        assert_eq!(numbering.number(&block(5, 5299), false, 5500), Some(5500));
        assert_eq!(numbering.changes(), 5);
    }
}
