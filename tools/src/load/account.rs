//! The account of one listener, as far as its stream tells: blocks, and what is missing between them.

use aircheck_api::{Payload, Rendition, StreamFormat, StreamParam};

use super::plan::Plan;
use super::reader::Item;
use crate::check::Ledger;

/// The longest packet of Opus (RFC 6716, section 3.2.5): so many blocks may end in one.
const PACKET_SECONDS: f64 = 0.12;
/// Opus's own rate.
const OPUS_HZ: f64 = 48_000.0;

/// The account of one listener.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Ledger,
    blocks: u64,
    format: Option<StreamFormat>,
    /// Distance of two numbers that is no loss: more than 1 where a packet ends several blocks.
    stride: u64,
    /// The number after the last one.
    next: Option<u64>,
    /// Blocks that are not at the position that follows from their number.
    misplaced: u64,
    /// Frames of Ogg Opus at 48 kHz.
    sound_frames: u64,
    hole_frames: u64,
    holes: u64,
}

/// An account in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Whole blocks that came.
    pub(crate) blocks: u64,
    /// Blocks that are missing in the stream.
    pub(crate) lost: u64,
    /// Number of gaps.
    pub(crate) gaps: u64,
    /// Whether the stream contradicts itself: a hole without a notice, a notice of blocks that came, a block twice or
    /// at a wrong position.
    pub(crate) is_faulty: bool,
}

impl Account {
    /// Makes an empty account. In packets of Opus, not every block's number comes.
    pub(crate) fn new(plan: &Plan) -> Self {
        let has_packets = plan.url.rendition == Some(Rendition::WebSocket)
            && plan.url.asks_for(StreamParam::Payload, Payload::Opus.name());
        let in_packet = plan.format.filter(|_| has_packets).map_or(1.0, |format| PACKET_SECONDS / format.block_seconds);
        Self {
            ledger: Ledger::default(),
            blocks: 0,
            format: plan.format,
            stride: in_packet.ceil().max(1.0) as u64,
            next: None,
            misplaced: 0,
            sound_frames: 0,
            hole_frames: 0,
            holes: 0,
        }
    }

    /// Enters a finding.
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
        }
    }

    fn enter_block(&mut self, sequence: u64, position: Option<u64>) {
        // Blocks lie on a fixed grid.
        let expected = self.format.map(|format| sequence.saturating_mul(format.block_frames.into()));
        self.misplaced += u64::from(position.is_some() && expected.is_some() && position != expected);
        let first = match self.next {
            // Several packets in one block.
            Some(next) if self.stride > 1 && sequence.saturating_add(1) == next => return,
            Some(next) if (next..next.saturating_add(self.stride)).contains(&sequence) => next,
            _ => sequence,
        };
        for each in first..=sequence {
            let before = self.ledger.faults().repeated_blocks;
            self.ledger.block(each);
            self.blocks += u64::from(self.ledger.faults().repeated_blocks == before);
        }
        self.next = self.next.max(Some(sequence.saturating_add(1)));
    }

    /// Returns the account in numbers.
    pub(crate) fn counts(&self) -> Counts {
        let blocks_of = |frames: u64| {
            self.format.map_or(0, |format| (frames as f64 / (format.block_seconds * OPUS_HZ)).floor() as u64)
        };
        Counts {
            blocks: self.blocks + blocks_of(self.sound_frames),
            lost: self.ledger.lost() + blocks_of(self.hole_frames),
            gaps: self.ledger.gaps() + self.holes,
            is_faulty: self.ledger.faults().any() || self.misplaced > 0,
        }
    }

    /// Returns whether sound is missing, even less than a block.
    pub(crate) fn has_holes(&self) -> bool {
        self.holes > 0 || self.ledger.lost() > 0
    }
}

#[cfg(test)]
mod tests {
    use aircheck_api::GapNotice;

    use super::super::url::LoadUrl;
    use super::*;

    const FORMAT: StreamFormat = StreamFormat { rate_hz: 48_000, channels: 2, block_frames: 480, block_seconds: 0.01 };

    fn block(sequence: u64) -> Item {
        Item::Block { sequence, position: Some(sequence * 480), captured_at_nanos: 0 }
    }

    fn gap(from: u64, blocks: u64) -> Item {
        Item::Gap(GapNotice { from, blocks, reason: "overflow".into() })
    }

    fn account(url: &str, items: &[Item]) -> Counts {
        let mut account = Account::new(&Plan { url: LoadUrl::parse(url).unwrap(), format: Some(FORMAT) });
        items.iter().for_each(|item| account.enter(item));
        account.counts()
    }

    fn blocks(items: &[Item]) -> Counts {
        account("ws://h:1", items)
    }

    fn packets(items: &[Item]) -> Counts {
        account("ws://h:1?payload=opus", items)
    }

    #[test]
    fn notices_and_missing_blocks_must_agree() {
        let told = blocks(&[block(7), block(8), gap(9, 3), block(12)]);
        assert_eq!(told, Counts { blocks: 3, lost: 3, gaps: 1, is_faulty: false });
        let untold = blocks(&[block(7), block(9)]);
        assert_eq!(untold, Counts { blocks: 2, lost: 1, gaps: 1, is_faulty: true });
        assert!(blocks(&[block(7), gap(8, 3), block(9)]).is_faulty, "a notice of blocks that came");
        let twice = blocks(&[block(7), block(7)]);
        assert_eq!((twice.blocks, twice.is_faulty), (1, true));
        let displaced = Item::Block { sequence: 8, position: Some(3841), captured_at_nanos: 0 };
        assert!(blocks(&[block(7), displaced]).is_faulty, "a position that does not follow");
    }

    #[test]
    fn a_packet_may_end_several_blocks_and_a_block_several_packets() {
        let counts = packets(&[block(7), block(9), block(9), block(11), gap(12, 4), block(17)]);
        assert_eq!(counts, Counts { blocks: 7, lost: 4, gaps: 1, is_faulty: false });
        let lost = packets(&[block(7), block(7 + 30)]);
        assert!(lost.is_faulty && lost.lost == 29, "longer than any packet: {lost:?}");
    }

    #[test]
    fn sound_without_numbers_counts_in_blocks() {
        let items = [Item::Sound { frames: 960 }, Item::Hole { frames: 1920 }, Item::Sound { frames: 960 }];
        assert_eq!(blocks(&items), Counts { blocks: 4, lost: 4, gaps: 1, is_faulty: false });
    }
}
