//! The capture ring: blocks as words, from the thread that captures to the dispatcher.
//!
//! A block is a [`Header`] and its samples, `f32` as their bits. The ring's capacity is a multiple of that, so no block
//! wraps around its end.

use std::time::Duration;

use crate::poll_schedule::Completion;
use crate::{Format, Timestamp};

/// Length of the ring: a dozen times the longest delay of the dispatcher on a busy machine. For 48 kHz stereo it is 125 KB,
/// which stay in the second-level cache; with a second of sound, the callback took 20 % longer.
pub(crate) const RING_SPAN: Duration = Duration::from_millis(320);
/// Least length of the ring in blocks, for block lengths near 100 ms.
const MIN_RING_BLOCKS: u64 = 8;
/// Words of a [`Header`].
pub(crate) const HEADER_WORDS: usize = 12;

/// Creates the ring of a stream.
///
/// Its memory is in use already. The system gives fresh memory page by page at the first write: on the ring's first lap,
/// blocks of a page each took 14 us at the 99th percentile (docs/PERFORMANCE.md).
pub(crate) fn capture_ring(format: Format) -> (rtrb::Producer<u32>, rtrb::Consumer<u32>) {
    let blocks = format.blocks_in(RING_SPAN).max(MIN_RING_BLOCKS) as usize;
    let words = blocks * block_words(format);
    let (mut ring, mut reader) = rtrb::RingBuffer::new(words);
    // Both chunks are there: the ring is empty, and then full. A whole lap leaves blocks where they fit.
    if let Ok(zeros) = ring.write_chunk(words) {
        zeros.commit_all();
    }
    if let Ok(zeros) = reader.read_chunk(words) {
        zeros.commit_all();
    }
    (ring, reader)
}

/// Returns the words of one block in the ring.
pub(crate) const fn block_words(format: Format) -> usize {
    HEADER_WORDS + format.block_samples()
}

/// What the ring says of a block, before its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sequence: u64,
    pub(crate) captured_at: Timestamp,
    /// Frames of the block, with the [mark](crate::Origin::mark) of their origin.
    pub(crate) length: u32,
    /// The period that completed the block.
    pub(crate) completion: Completion,
    /// Blocks directly before this one that did not come from another server.
    pub(crate) lost_on_hop: u32,
    /// The run of another server that it is of: see [`Block::epoch`](crate::Block::epoch).
    pub(crate) epoch: u32,
    /// Whether it is older than the stream, so that no latency is to be recorded.
    pub(crate) is_past: bool,
}

impl Header {
    pub(crate) fn to_words(self) -> [u32; HEADER_WORDS] {
        let Self { sequence, captured_at, length, completion, lost_on_hop, epoch, is_past } = self;
        let [sequence_low, sequence_high] = halves(sequence);
        let [captured_low, captured_high] = halves(captured_at.as_nanos());
        let [arrived_low, arrived_high] = halves(completion.arrived_at.as_nanos());
        let Completion { period_frames, left_frames, .. } = completion;
        [
            sequence_low,
            sequence_high,
            captured_low,
            captured_high,
            length,
            arrived_low,
            arrived_high,
            period_frames,
            left_frames,
            lost_on_hop,
            epoch,
            is_past.into(),
        ]
    }

    /// Reads the header from the first words of a block.
    pub(crate) fn from_words(words: &[u32; HEADER_WORDS]) -> Self {
        let [
            sequence_low,
            sequence_high,
            captured_low,
            captured_high,
            length,
            arrived_low,
            arrived_high,
            period_frames,
            left_frames,
            lost_on_hop,
            epoch,
            is_past,
        ] = *words;
        let arrived_at = Timestamp::from_nanos(whole([arrived_low, arrived_high]));
        Self {
            sequence: whole([sequence_low, sequence_high]),
            captured_at: Timestamp::from_nanos(whole([captured_low, captured_high])),
            length,
            completion: Completion { arrived_at, period_frames, left_frames },
            lost_on_hop,
            epoch,
            is_past: is_past != 0,
        }
    }
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_out_as_it_went_in() {
        let header = Header {
            sequence: 0x0102_0304_0506_0708,
            captured_at: Timestamp::from_nanos(0x1112_1314_1516_1718),
            length: 0x2122_2324,
            completion: Completion {
                arrived_at: Timestamp::from_nanos(0x3132_3334_3536_3738),
                period_frames: 0x4142_4344,
                left_frames: 0x5152_5354,
            },
            lost_on_hop: 0x6162_6364,
            epoch: 0x7172_7374,
            is_past: true,
        };
        assert_eq!(Header::from_words(&header.to_words()), header);
    }
}
