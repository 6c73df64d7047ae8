//! What one listener got, as far as its stream tells: blocks, and what is missing between them.

use crate::check::ledger::Ledger;
use crate::client::block::Block;
use crate::load::reader::Item;

/// The longest packet of Opus (RFC 6716, section 3.2.5): so many blocks may end in one.
const PACKET_SECONDS: f64 = 0.12;
/// Opus's own clock.
const OPUS_HZ: f64 = 48_000.0;

/// Of a server that is aircheck: how its blocks are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Blocks {
    /// Frames of each.
    pub(crate) frames: u64,
    /// How long one sounds.
    pub(crate) seconds: f64,
    /// Samples of a frame.
    pub(crate) channels: u64,
}

/// The account of one listener.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Ledger,
    blocks: u64,
    block: Option<Blocks>,
    /// How far numbers may lie apart without a loss: more than 1 where a packet ends several blocks.
    stride: u64,
    /// The number after the last one.
    next: Option<u64>,
    /// Of Ogg, in frames at 48 kHz.
    sound_frames: u64,
    hole_frames: u64,
    holes: u64,
}

/// An account in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whole blocks that came.
    pub(crate) blocks: u64,
    /// Blocks that the stream shows to be missing.
    pub(crate) lost: u64,
    /// In how many rows.
    pub(crate) gaps: u64,
    /// Whether the stream contradicted itself: a hole that nothing told of, a gap that was none, a block twice.
    pub(crate) faulty: bool,
}

impl Account {
    /// An empty one. In packets of Opus, not every block's number comes.
    pub(crate) fn new(block: Option<Blocks>, packets: bool) -> Self {
        let in_packet = block.filter(|_| packets).map_or(1.0, |block| PACKET_SECONDS / block.seconds);
        Self {
            ledger: Ledger::default(),
            blocks: 0,
            block,
            stride: in_packet.ceil().max(1.0) as u64,
            next: None,
            sound_frames: 0,
            hole_frames: 0,
            holes: 0,
        }
    }

    /// Enters what a stream says.
    pub(crate) fn enter(&mut self, item: &Item) {
        match *item {
            Item::Block { sequence, position, .. } => self.enter_block(sequence, position),
            Item::Gap(ref gap) => {
                self.ledger.gap(gap);
                self.next = Some(gap.from.saturating_add(gap.blocks));
            }
            Item::Sound { frames } => self.sound_frames += frames,
            Item::Hole { frames } => {
                self.hole_frames += frames;
                self.holes += 1;
            }
            Item::Clock { .. } | Item::Ping(_) | Item::Closed { .. } => {}
        }
    }

    fn enter_block(&mut self, sequence: u64, position: Option<u64>) {
        let first = match self.next {
            // Several packets in one block.
            Some(next) if self.stride > 1 && sequence.saturating_add(1) == next => return,
            Some(next) if (next..next.saturating_add(self.stride)).contains(&sequence) => next,
            _ => sequence,
        };
        for each in first..=sequence {
            let frames = self.block.map_or(1, |block| block.frames);
            // Where the position or the length of blocks is not told, they lie as their numbers say.
            let told = position.filter(|_| self.block.is_some() && each == sequence);
            let position = told.unwrap_or_else(|| each.saturating_mul(frames));
            let before = self.ledger.faults().repeated_blocks;
            self.ledger.block(&Block { sequence: each, position, captured_at: 0.0, frames, samples: Vec::new() });
            self.blocks += u64::from(self.ledger.faults().repeated_blocks == before);
        }
        self.next = self.next.max(Some(sequence.saturating_add(1)));
    }

    /// What it comes to.
    pub(crate) fn standing(&self) -> Standing {
        let packet_blocks =
            |frames: u64| self.block.map_or(0, |block| (frames as f64 / (block.seconds * OPUS_HZ)).floor() as u64);
        Standing {
            blocks: self.blocks + packet_blocks(self.sound_frames),
            lost: self.ledger.lost() + packet_blocks(self.hole_frames),
            gaps: self.ledger.gaps() + self.holes,
            faulty: self.ledger.faults().any(),
        }
    }

    /// Whether anything is missing, be it less than a block.
    pub(crate) fn has_holes(&self) -> bool {
        self.holes > 0 || self.ledger.lost() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block::Gap;

    const BLOCKS: Blocks = Blocks { frames: 480, seconds: 0.01, channels: 2 };

    fn block(sequence: u64) -> Item {
        Item::Block { sequence, position: Some(sequence * 480), captured_at_ns: 0 }
    }

    fn gap(from: u64, blocks: u64) -> Item {
        Item::Gap(Gap { from, blocks, reason: "overflow".to_owned() })
    }

    fn account(packets: bool, items: &[Item]) -> Standing {
        let mut account = Account::new(Some(BLOCKS), packets);
        items.iter().for_each(|item| account.enter(item));
        account.standing()
    }

    #[test]
    fn what_is_told_and_what_is_missing_must_agree() {
        let told = account(false, &[block(7), block(8), gap(9, 3), block(12)]);
        assert_eq!(told, Standing { blocks: 3, lost: 3, gaps: 1, faulty: false });
        let untold = account(false, &[block(7), block(9)]);
        assert_eq!(untold, Standing { blocks: 2, lost: 1, gaps: 1, faulty: true });
        assert!(account(false, &[block(7), gap(8, 3), block(9)]).faulty, "a gap that was none");
        let twice = account(false, &[block(7), block(7)]);
        assert_eq!((twice.blocks, twice.faulty), (1, true));
        let displaced = Item::Block { sequence: 8, position: Some(3841), captured_at_ns: 0 };
        assert!(account(false, &[block(7), displaced]).faulty, "a position that does not follow");
    }

    #[test]
    fn a_packet_may_end_several_blocks_and_a_block_several_packets() {
        let packets = account(true, &[block(7), block(9), block(9), block(11), gap(12, 4), block(17)]);
        assert_eq!(packets, Standing { blocks: 7, lost: 4, gaps: 1, faulty: false });
        let lost = account(true, &[block(7), block(7 + 30)]);
        assert!(lost.faulty && lost.lost == 29, "longer than any packet: {lost:?}");
    }

    #[test]
    fn sound_without_numbers_is_counted_in_blocks() {
        let items = [Item::Sound { frames: 960 }, Item::Hole { frames: 1920 }, Item::Sound { frames: 960 }];
        assert_eq!(account(false, &items), Standing { blocks: 4, lost: 4, gaps: 1, faulty: false });
    }
}
