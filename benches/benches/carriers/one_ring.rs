//! One bare rtrb ring of values for one consumer: the floor, which no carrier can beat.

use aircheck_engine::Timestamp;
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Block, BlockReceiver, BlockSender, Ends, Taken, boxed};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    assert_eq!(consumers, 1, "a bare ring has one consumer");
    let (producer, consumer) = RingBuffer::<Block>::new(ring);
    (Box::new(producer), boxed([consumer]))
}

impl BlockSender for Producer<Block> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        // A full ring loses the blocks.
        if let Ok(mut chunk) = self.write_chunk(blocks) {
            let (first, second) = chunk.as_mut_slices();
            first.iter_mut().chain(second).for_each(fill);
            chunk.commit_all();
        }
    }
}

impl BlockReceiver for Consumer<Block> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let Ok(chunk) = self.read_chunk(self.slots()) else { return Taken::default() };
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(read);
        let blocks = chunk.len() as u64;
        chunk.commit_all();
        Taken { blocks, lost: 0 }
    }
}
