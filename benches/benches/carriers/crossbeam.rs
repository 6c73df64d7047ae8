//! crossbeam's bounded channels, one for each consumer.

use std::sync::Arc;

use aircheck_engine::Timestamp;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Block, BlockReceiver, BlockSender, Ends, HandleSender, Pool, Taken, boxed, take_until_empty};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..consumers).map(|_| bounded(ring)).unzip();
    let receivers: Vec<Receiver<Arc<Block>>> = receivers;
    (Box::new(HandleSender { sender: senders, pool: Pool::new(ring) }), boxed(receivers))
}

impl BlockSender for HandleSender<Vec<Sender<Arc<Block>>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            let block = self.pool.fill(&mut *fill);
            for sender in &self.sender {
                // A full channel loses the block: waiting here would be waiting for the slowest consumer.
                let _ = sender.try_send(Arc::clone(&block));
            }
        }
    }
}

impl BlockReceiver for Receiver<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(|| self.try_recv(), read, |_| None)
    }
}
