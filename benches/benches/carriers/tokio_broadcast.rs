//! tokio's broadcast channel: one shared buffer.

use std::sync::Arc;

use aircheck_engine::Timestamp;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use super::{Block, BlockReceiver, BlockSender, Ends, HandleSender, Pool, Taken, boxed, take_until_empty};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (sender, _) = channel::<Arc<Block>>(ring);
    let receivers = boxed((0..consumers).map(|_| sender.subscribe()).collect::<Vec<_>>());
    (Box::new(HandleSender { sender, pool: Pool::new(ring) }), receivers)
}

impl BlockSender for HandleSender<Sender<Arc<Block>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            // An error means that there are no receivers.
            let _ = self.sender.send(self.pool.fill(&mut *fill));
        }
    }
}

impl BlockReceiver for Receiver<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(
            || self.try_recv(),
            read,
            |error| match error {
                TryRecvError::Lagged(blocks) => Some(blocks),
                TryRecvError::Empty | TryRecvError::Closed => None,
            },
        )
    }
}
