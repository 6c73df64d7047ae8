//! ringcast: one shared ring of values.

use ::ringcast::{Receiver, RecvError, Sender, bounded};
use aircheck_engine::Timestamp;

use super::{Block, BlockReceiver, BlockSender, Ends, Taken, boxed, take_until_empty};

struct Values {
    sender: Sender<Block>,
    batch: Vec<Block>,
}

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (sender, first) = bounded::<Block>(ring);
    let mut receivers = vec![first];
    receivers.extend((1..consumers).map(|_| sender.subscribe()));
    (Box::new(Values { sender, batch: Vec::new() }), boxed(receivers))
}

impl BlockSender for Values {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        self.batch.resize(blocks, Block::default());
        self.batch.iter_mut().for_each(fill);
        match self.batch.as_slice() {
            [block] => self.sender.send(*block),
            blocks => drop(self.sender.send_batch(blocks)),
        }
    }
}

impl BlockReceiver for Receiver<Block> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(
            || self.try_recv(),
            read,
            |error| match error {
                RecvError::Overrun { lost } => Some(lost as u64),
                _ => None,
            },
        )
    }
}
