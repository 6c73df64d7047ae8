//! Blocks for tests.

use std::time::Duration;

use aircheck_engine::source::{OnLoss, Source, Supervised, Tone};
use aircheck_engine::{Block, Item, Origin, Stamp, Stream, StreamOptions, SubscribeOptions, Timestamp};

/// Returns a block of a tone, to be [`numbered`] as often as needed.
pub(super) fn sound(block: Duration) -> Block {
    block_of(Box::new(Tone::new(440.0)), block, Origin::Source)
}

/// Returns a block of the same tone, heard in place of a lost source.
pub(super) fn fallback(block: Duration) -> Block {
    let lost = Supervised::waiting("microphone".to_owned(), "there is none".to_owned(), 48_000, 1)
        .on_loss(OnLoss::Fallback { after: Duration::ZERO })
        .fallback(Box::new(|| Ok(Box::new(Tone::new(440.0).into_pull()))));
    block_of(Box::new(lost), block, Origin::Fallback)
}

/// Returns the first block of this origin from a source.
fn block_of(source: Box<dyn Source>, block: Duration, origin: Origin) -> Block {
    let stream = Stream::start(source, StreamOptions { block, ..StreamOptions::default() }).unwrap();
    let mut consumer = stream.subscribe(SubscribeOptions::default()).unwrap();
    let block = loop {
        let block = consumer.recv().unwrap().item.value.clone();
        if block.origin() == origin {
            break block;
        }
    };
    stream.stop();
    block
}

/// Returns this sound as the block with the number `sequence`.
pub(super) fn numbered(sound: &Block, sequence: u64) -> Item<Block> {
    let captured_at = Timestamp::from_nanos(1_790_000_000_000_000_000 + 10_000 * sequence);
    let dispatched_at = captured_at + Duration::from_micros(3);
    Item { stamp: Stamp { sequence, preceding: 0, captured_at, dispatched_at }, value: sound.clone() }
}
