//! Blocks for tests.

use std::time::Duration;

use aircheck_engine::source::Tone;
use aircheck_engine::{Block, Item, Stamp, Stream, StreamOptions, SubscribeOptions, Timestamp};

/// Returns a block of a tone, to be [`numbered`] as often as needed.
pub(super) fn sound(block: Duration) -> Block {
    let options = StreamOptions { block, ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Tone::new(440.0)), options).unwrap();
    let block = stream.subscribe(SubscribeOptions::default()).unwrap().recv().unwrap().item.value.clone();
    stream.stop();
    block
}

/// Returns this sound as the block with the number `sequence`.
pub(super) fn numbered(sound: &Block, sequence: u64) -> Item<Block> {
    let captured_at = Timestamp::from_nanos(1_790_000_000_000_000_000 + 10_000 * sequence);
    let dispatched_at = captured_at + Duration::from_micros(3);
    Item { stamp: Stamp { sequence, preceding: 0, captured_at, dispatched_at }, value: sound.clone() }
}
