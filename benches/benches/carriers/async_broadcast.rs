//! async-broadcast: one shared queue of handles.

use std::sync::Arc;

use ::async_broadcast::{Receiver, Sender, TryRecvError, broadcast};
use aircheck_engine::Timestamp;

use super::{Block, BlockReceiver, BlockSender, Ends, HandleSender, Pool, Taken, boxed, take_until_empty};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (mut sender, first) = broadcast::<Arc<Block>>(ring);
    // Its documentation advises this where losing is better than waiting.
    sender.set_overflow(true);
    let mut receivers = vec![first];
    receivers.extend((1..consumers).map(|_| sender.new_receiver()));
    (Box::new(HandleSender { sender, pool: Pool::new(ring) }), boxed(receivers))
}

impl BlockSender for HandleSender<Sender<Arc<Block>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            let _ = self.sender.try_broadcast(self.pool.fill(&mut *fill));
        }
    }
}

impl BlockReceiver for Receiver<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(
            || self.try_recv(),
            read,
            |error| match error {
                TryRecvError::Overflowed(blocks) => Some(blocks),
                TryRecvError::Empty | TryRecvError::Closed => None,
            },
        )
    }
}
